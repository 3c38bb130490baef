drop function slo_overdue;
drop table slo_changes;
drop table slo_states;
drop table slo_probes;
drop table slo_facts;
