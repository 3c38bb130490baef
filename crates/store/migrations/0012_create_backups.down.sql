-- The backups and their manifests stay in the object store.
drop table backup_proofs;
drop table backups;
