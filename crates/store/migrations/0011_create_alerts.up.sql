-- Alerts: what is wrong, since when, who knows of it, and what each receiver was told.
-- created: 2026-11-23T15:35:00Z
--
-- Several processes watch the same things. What one observes is written under the row of its source, so that they queue, and an
-- observation that is older than the latest one changes nothing. What is sent is claimed first, so that one of them sends it.

create table alert_sources (
    source      text        not null,
    -- The time of the latest observation.
    observed_at timestamptz not null,
    constraint alert_sources_pkey primary key (source),
    constraint alert_sources_source_length check (char_length(source) between 1 and 50)
);

create table alerts (
    id              uuid        not null,
    -- What is wrong, by a name that stays the same as long as it is the same thing.
    key             text        not null,
    -- Who watches it, and says when it is over.
    source          text        not null,
    severity        text        not null,
    title           text        not null,
    detail          text        not null,
    runbook         text        not null,
    -- As they were when it was opened: collectors tell alerts apart by them.
    labels          jsonb       not null,
    opened_at       timestamptz not null,
    seen_at         timestamptz not null,
    -- When a warning became critical.
    escalated_at    timestamptz,
    resolved_at     timestamptz,
    acknowledged_at timestamptz,
    acknowledged_by text,
    note            text,
    constraint alerts_pkey primary key (id),
    constraint alerts_key_length check (char_length(key) between 1 and 200),
    constraint alerts_source_length check (char_length(source) between 1 and 50),
    constraint alerts_severity_known check (severity in ('warning', 'critical')),
    constraint alerts_title_length check (char_length(title) between 1 and 200),
    constraint alerts_detail_length check (char_length(detail) <= 4000),
    constraint alerts_runbook_length check (char_length(runbook) <= 200),
    constraint alerts_labels_are_an_object check (jsonb_typeof(labels) = 'object'),
    constraint alerts_seen_after_opened check (seen_at >= opened_at),
    constraint alerts_resolved_after_opened check (resolved_at >= opened_at),
    constraint alerts_acknowledged_by_somebody check ((acknowledged_at is null) = (acknowledged_by is null)),
    constraint alerts_acknowledged_by_length check (char_length(acknowledged_by) between 1 and 200),
    constraint alerts_only_acknowledged_has_a_note check (note is null or acknowledged_at is not null),
    constraint alerts_note_length check (char_length(note) between 1 and 1000)
);

-- One thing that is wrong is one open alert, however many see it.
create unique index alerts_one_open_a_key on alerts (key) where resolved_at is null;
-- The list, newest first.
create index alerts_newest on alerts (opened_at desc, id desc);
-- What has ended, for its last notice and for its removal.
create index alerts_resolved on alerts (resolved_at) where resolved_at is not null;

create table alert_deliveries (
    alert_id      uuid        not null,
    -- A receiver, as the configuration of the sending process names it.
    sink          text        not null,
    what          text        not null,
    -- How often sending began, how often it succeeded, and how often in a row it has failed since.
    attempts      bigint      not null,
    deliveries    bigint      not null,
    failures      bigint      not null,
    -- When it is to be sent next; null when nothing is left to send.
    next_at       timestamptz,
    delivered_at  timestamptz,
    -- Until then one process is sending it.
    claimed_until timestamptz,
    last_error    text,
    constraint alert_deliveries_pkey primary key (alert_id, sink, what),
    constraint alert_deliveries_alert_exists foreign key (alert_id) references alerts (id) on delete cascade,
    constraint alert_deliveries_sink_length check (char_length(sink) between 1 and 200),
    constraint alert_deliveries_what_known check (what in ('firing', 'resolved')),
    constraint alert_deliveries_counts_not_negative check (attempts >= 0 and deliveries >= 0 and failures >= 0),
    constraint alert_deliveries_delivered_has_a_time check ((deliveries > 0) = (delivered_at is not null)),
    constraint alert_deliveries_last_error_length check (char_length(last_error) between 1 and 1000)
);
-- What is due to a receiver.
create index alert_deliveries_due on alert_deliveries (sink, next_at) where next_at is not null;

comment on table alert_sources is 'When each source was last observed.';
comment on table alerts is 'What was or is wrong: at most one open alert a key.';
comment on table alert_deliveries is 'What each receiver was told of an alert, and what is still to be sent.';

-- Processes that serve watch and send. What went is told by the receivers: these rows are how nothing is sent twice, no evidence.
grant select, insert, update (observed_at) on alert_sources to utxoiq_app;
grant select, insert, delete on alerts to utxoiq_app;
grant update (severity, title, detail, runbook, seen_at, escalated_at, resolved_at, acknowledged_at, acknowledged_by, note)
    on alerts to utxoiq_app;
grant select, insert on alert_deliveries to utxoiq_app;
grant update (attempts, deliveries, failures, next_at, delivered_at, claimed_until, last_error) on alert_deliveries to utxoiq_app;
