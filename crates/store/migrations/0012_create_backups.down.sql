-- utxoiq: allow drop-table because this takes back what 0012 made; the backups and their manifests stay in the object store
drop table backup_proofs;
drop table backups;
