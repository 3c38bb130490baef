drop table cache_outbox_horizon;
drop table cache_outbox;
