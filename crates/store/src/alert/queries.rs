//! The slice's SQL.

use tokio_postgres::types::Type;

use crate::db::Statement;

/// Every statement of the slice.
pub const ALL: &[&Statement] = &[
    &OBSERVE_SOURCE,
    &OPEN,
    &TELL_AGAIN,
    &RESOLVE,
    &PLAN_DELIVERIES,
    &CLAIM,
    &CONFIRM,
    &FAIL,
    &OPEN_ONES,
    &ADOPT_ALERTS,
    &ADOPT_DELIVERIES,
    &LIST_OPEN,
    &LIST_ALL,
    &DELIVERIES_OF,
    &GET,
    &NEWEST_OF_KEY,
    &ACKNOWLEDGE,
    &PRUNE,
];

/// An alert's columns.
macro_rules! alert {
    () => {
        "a.id, a.key, a.source, a.severity, a.title, a.detail, a.runbook, a.labels, a.opened_at, a.seen_at, a.escalated_at,
         a.resolved_at, a.acknowledged_at, a.acknowledged_by, a.note"
    };
}

/// A delivery's columns.
macro_rules! delivery {
    () => {
        "d.sink, d.what, d.attempts, d.deliveries, d.failures, d.next_at, d.delivered_at, d.last_error"
    };
}

const ALERT: &[(&str, Type)] = &[
    ("id", Type::UUID),
    ("key", Type::TEXT),
    ("source", Type::TEXT),
    ("severity", Type::TEXT),
    ("title", Type::TEXT),
    ("detail", Type::TEXT),
    ("runbook", Type::TEXT),
    ("labels", Type::JSONB),
    ("opened_at", Type::TIMESTAMPTZ),
    ("seen_at", Type::TIMESTAMPTZ),
    ("escalated_at", Type::TIMESTAMPTZ),
    ("resolved_at", Type::TIMESTAMPTZ),
    ("acknowledged_at", Type::TIMESTAMPTZ),
    ("acknowledged_by", Type::TEXT),
    ("note", Type::TEXT),
];

const ALERT_AND_DELIVERY: &[(&str, Type)] = &[
    ("id", Type::UUID),
    ("key", Type::TEXT),
    ("source", Type::TEXT),
    ("severity", Type::TEXT),
    ("title", Type::TEXT),
    ("detail", Type::TEXT),
    ("runbook", Type::TEXT),
    ("labels", Type::JSONB),
    ("opened_at", Type::TIMESTAMPTZ),
    ("seen_at", Type::TIMESTAMPTZ),
    ("escalated_at", Type::TIMESTAMPTZ),
    ("resolved_at", Type::TIMESTAMPTZ),
    ("acknowledged_at", Type::TIMESTAMPTZ),
    ("acknowledged_by", Type::TEXT),
    ("note", Type::TEXT),
    ("sink", Type::TEXT),
    ("what", Type::TEXT),
    ("attempts", Type::INT8),
    ("deliveries", Type::INT8),
    ("failures", Type::INT8),
    ("next_at", Type::TIMESTAMPTZ),
    ("delivered_at", Type::TIMESTAMPTZ),
    ("last_error", Type::TEXT),
];

/// Makes the observers of a source queue, and refuses one that looked earlier than the latest. An observation that is minutes
/// ahead is of a clock that was wrong, and must not silence all that follow.
pub(super) const OBSERVE_SOURCE: Statement = Statement {
    name: "alert.observe_source",
    sql: "insert into alert_sources as s (source, observed_at) values ($1, $2)
          on conflict (source) do update set observed_at = excluded.observed_at
          where s.observed_at <= excluded.observed_at or s.observed_at > excluded.observed_at + interval '5 minutes'
          returning source",
    params: &[Type::TEXT, Type::TIMESTAMPTZ],
    columns: &[("source", Type::TEXT)],
};

/// Opens what is new, and brings what is open up to date. One that became critical has to be acknowledged anew.
pub(super) const OPEN: Statement = Statement {
    name: "alert.open",
    sql: "insert into alerts as a (id, key, source, severity, title, detail, runbook, labels, opened_at, seen_at)
          select c.id, c.key, $8, c.severity, c.title, c.detail, c.runbook, c.labels, $9, $9
          from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[])
               as c (id, key, severity, title, detail, runbook, labels)
          on conflict (key) where resolved_at is null do update set
              severity = case a.severity when 'critical' then 'critical' else excluded.severity end,
              title = excluded.title, detail = excluded.detail, runbook = excluded.runbook,
              seen_at = greatest(a.seen_at, excluded.seen_at),
              escalated_at = case when a.severity = 'warning' and excluded.severity = 'critical' then excluded.seen_at else a.escalated_at end,
              acknowledged_at = case when a.severity = 'warning' and excluded.severity = 'critical' then null else a.acknowledged_at end,
              acknowledged_by = case when a.severity = 'warning' and excluded.severity = 'critical' then null else a.acknowledged_by end,
              note = case when a.severity = 'warning' and excluded.severity = 'critical' then null else a.note end
          where a.source = excluded.source
          returning a.id, a.escalated_at",
    params: &[
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::JSONB_ARRAY,
        Type::TEXT,
        Type::TIMESTAMPTZ,
    ],
    columns: &[("id", Type::UUID), ("escalated_at", Type::TIMESTAMPTZ)],
};

/// What became critical is told at once, to whom it was not told since.
pub(super) const TELL_AGAIN: Statement = Statement {
    name: "alert.tell_again",
    sql: "update alert_deliveries set next_at = $2
          where alert_id = any($1) and what = 'firing' and delivered_at < $2",
    params: &[Type::UUID_ARRAY, Type::TIMESTAMPTZ],
    columns: &[],
};

pub(super) const RESOLVE: Statement = Statement {
    name: "alert.resolve",
    sql: "update alerts set resolved_at = greatest($3, opened_at)
          where source = $1 and resolved_at is null and not key = any($2)",
    params: &[Type::TEXT, Type::TEXT_ARRAY, Type::TIMESTAMPTZ],
    columns: &[],
};

/// What is to be told to these receivers: what is wrong, to all; that it is over, to whom it was tried to tell before. After a
/// week nobody needs to hear of an end.
pub(super) const PLAN_DELIVERIES: Statement = Statement {
    name: "alert.plan_deliveries",
    sql: "insert into alert_deliveries (alert_id, sink, what, attempts, deliveries, failures, next_at)
          select a.id, sink.name, 'firing', 0, 0, 0, $2
          from alerts a cross join unnest($1::text[]) as sink (name)
          where a.resolved_at is null
            and not exists (select from alert_deliveries d
                            where d.alert_id = a.id and d.sink = sink.name and d.what = 'firing')
          union all
          select a.id, told.sink, 'resolved', 0, 0, 0, $2
          from alerts a join alert_deliveries told on told.alert_id = a.id
          where a.resolved_at > $2::timestamptz - interval '7 days' and told.what = 'firing' and told.attempts > 0 and told.sink = any($1)
            and not exists (select from alert_deliveries d
                            where d.alert_id = a.id and d.sink = told.sink and d.what = 'resolved')
          on conflict do nothing",
    params: &[Type::TEXT_ARRAY, Type::TIMESTAMPTZ],
    columns: &[],
};

/// Claims what is due, a few for each receiver, and gives it with its alert.
///
/// Parameters: the receivers, the time, until when it is claimed, those that are told of acknowledged alerts, too, and the
/// latest time at which anything can be due next. What is later than that, or claimed for longer, was written by a clock that was wrong.
/// The end is not told while the beginning is being sent.
pub(super) const CLAIM: Statement = Statement {
    name: "alert.claim",
    sql: concat!(
        "update alert_deliveries d set attempts = d.attempts + 1, claimed_until = $3
         from unnest($1::text[]) as sink (name)
         cross join lateral (
             select d.alert_id, d.what
             from alert_deliveries d join alerts a on a.id = d.alert_id
             where d.sink = sink.name and (d.next_at <= $2 or d.next_at > $5)
               and (d.claimed_until is null or d.claimed_until <= $2 or d.claimed_until > $5)
               and case d.what
                   when 'firing' then a.resolved_at is null and (a.acknowledged_at is null or d.sink = any($4))
                   else a.resolved_at > $2::timestamptz - interval '7 days'
                        and not exists (select from alert_deliveries f
                                        where f.alert_id = d.alert_id and f.sink = d.sink and f.what = 'firing'
                                          and f.claimed_until > $2 and f.claimed_until <= $5)
                   end
             order by d.next_at
             limit 16
             for update of d skip locked) as due, alerts a
         where d.alert_id = due.alert_id and d.sink = sink.name and d.what = due.what and a.id = d.alert_id
         returning ",
        alert!(),
        ", ",
        delivery!()
    ),
    params: &[
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TEXT_ARRAY,
        Type::TIMESTAMPTZ,
    ],
    columns: ALERT_AND_DELIVERY,
};

/// The receiver took it. Where the alert became critical while it was sent, it is sent again at once. Does nothing where the
/// claim had ended and somebody else has sent it.
pub(super) const CONFIRM: Statement = Statement {
    name: "alert.confirm",
    sql: "update alert_deliveries d set deliveries = d.deliveries + 1, failures = 0, delivered_at = $5, claimed_until = null,
              last_error = null,
              next_at = case when a.escalated_at is distinct from $7 and d.what = 'firing' then $5 else $6 end
          from alerts a
          where d.alert_id = $1 and d.sink = $2 and d.what = $3 and d.attempts = $4 and a.id = d.alert_id",
    params: &[
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
        Type::TIMESTAMPTZ,
    ],
    columns: &[],
};

pub(super) const FAIL: Statement = Statement {
    name: "alert.fail",
    sql: "update alert_deliveries set failures = failures + 1, next_at = $5, claimed_until = null, last_error = $6
          where alert_id = $1 and sink = $2 and what = $3 and attempts = $4",
    params: &[
        Type::UUID,
        Type::TEXT,
        Type::TEXT,
        Type::INT8,
        Type::TIMESTAMPTZ,
        Type::TEXT,
    ],
    columns: &[],
};

/// Every open alert with what these receivers were told of it.
pub(super) const OPEN_ONES: Statement = Statement {
    name: "alert.open_ones",
    sql: concat!(
        "select ",
        alert!(),
        ", ",
        delivery!(),
        " from alerts a
          left join alert_deliveries d on d.alert_id = a.id and d.sink = any($1) and d.what = 'firing'
          where a.resolved_at is null order by a.id"
    ),
    params: &[Type::TEXT_ARRAY],
    columns: ALERT_AND_DELIVERY,
};

/// Alerts that began without the database. Where one of the same key is open by now, it is that.
pub(super) const ADOPT_ALERTS: Statement = Statement {
    name: "alert.adopt_alerts",
    sql: "insert into alerts (id, key, source, severity, title, detail, runbook, labels, opened_at, seen_at, escalated_at, resolved_at)
          select * from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::jsonb[],
                               $9::timestamptz[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[])
          on conflict do nothing",
    params: &[
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::JSONB_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
    ],
    columns: &[],
};

/// What receivers were told without the database, of the alert of that id, or else of the open one of that key.
pub(super) const ADOPT_DELIVERIES: Statement = Statement {
    name: "alert.adopt_deliveries",
    sql: "insert into alert_deliveries as d
              (alert_id, sink, what, attempts, deliveries, failures, next_at, delivered_at, last_error)
          select coalesce(same.id, open.id), t.sink, t.what, t.attempts, t.deliveries, t.failures, t.next_at, t.delivered_at, t.last_error
          from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                      $8::timestamptz[], $9::timestamptz[], $10::text[])
               as t (id, key, sink, what, attempts, deliveries, failures, next_at, delivered_at, last_error)
          left join alerts same on same.id = t.id
          left join alerts open on open.key = t.key and open.resolved_at is null and same.id is null
          where coalesce(same.id, open.id) is not null
          on conflict (alert_id, sink, what) do update set
              attempts = greatest(d.attempts, excluded.attempts), deliveries = greatest(d.deliveries, excluded.deliveries),
              failures = excluded.failures, last_error = excluded.last_error, claimed_until = null,
              next_at = case when excluded.next_at is null then null else greatest(d.next_at, excluded.next_at) end,
              delivered_at = greatest(d.delivered_at, excluded.delivered_at)",
    params: &[
        Type::UUID_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::INT8_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TIMESTAMPTZ_ARRAY,
        Type::TEXT_ARRAY,
    ],
    columns: &[],
};

pub(super) const LIST_OPEN: Statement = Statement {
    name: "alert.list_open",
    sql: concat!(
        "select ",
        alert!(),
        " from alerts a where a.resolved_at is null order by a.opened_at desc, a.id desc limit $1 offset $2"
    ),
    params: &[Type::INT8, Type::INT8],
    columns: ALERT,
};

pub(super) const LIST_ALL: Statement = Statement {
    name: "alert.list_all",
    sql: concat!(
        "select ",
        alert!(),
        " from alerts a order by a.opened_at desc, a.id desc limit $1 offset $2"
    ),
    params: &[Type::INT8, Type::INT8],
    columns: ALERT,
};

pub(super) const DELIVERIES_OF: Statement = Statement {
    name: "alert.deliveries_of",
    sql: concat!(
        "select d.alert_id, ",
        delivery!(),
        " from alert_deliveries d where d.alert_id = any($1) order by d.alert_id, d.sink, d.what"
    ),
    params: &[Type::UUID_ARRAY],
    columns: &[
        ("alert_id", Type::UUID),
        ("sink", Type::TEXT),
        ("what", Type::TEXT),
        ("attempts", Type::INT8),
        ("deliveries", Type::INT8),
        ("failures", Type::INT8),
        ("next_at", Type::TIMESTAMPTZ),
        ("delivered_at", Type::TIMESTAMPTZ),
        ("last_error", Type::TEXT),
    ],
};

pub(super) const GET: Statement = Statement {
    name: "alert.get",
    sql: concat!("select ", alert!(), " from alerts a where a.id = $1"),
    params: &[Type::UUID],
    columns: ALERT,
};

/// The open one of a key, or else the newest.
pub(super) const NEWEST_OF_KEY: Statement = Statement {
    name: "alert.newest_of_key",
    sql: concat!(
        "select ",
        alert!(),
        " from alerts a where a.key = $1 order by a.resolved_at is not null, a.opened_at desc limit 1"
    ),
    params: &[Type::TEXT],
    columns: ALERT,
};

/// The first one who takes it has it.
pub(super) const ACKNOWLEDGE: Statement = Statement {
    name: "alert.acknowledge",
    sql: concat!(
        "update alerts a set acknowledged_at = $2, acknowledged_by = $3, note = $4
         where a.id = $1 and a.resolved_at is null and a.acknowledged_at is null returning ",
        alert!()
    ),
    params: &[Type::UUID, Type::TIMESTAMPTZ, Type::TEXT, Type::TEXT],
    columns: ALERT,
};

/// With an alert goes what was told of it.
pub(super) const PRUNE: Statement = Statement {
    name: "alert.prune",
    sql: "delete from alerts where resolved_at < $1",
    params: &[Type::TIMESTAMPTZ],
    columns: &[],
};
