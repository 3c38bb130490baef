-- The audit log is lost: `utxoiq-store audit export` first.
-- utxoiq: allow ownership because only its owner may drop it
set local role utxoiq_audit;
drop function audit_append;
drop function audit_hash;
drop function audit_field;
drop table audit_head;
drop table audit_log;
-- utxoiq: allow ownership because the migrator goes on as who it was
set local role utxoiq_owner;
