//! Samples of 90 days (at full size): a series with one a second, and others with one a minute.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};
use utxoiq_store::metrics::Interval;

use crate::Setting;

/// The samples of a day, so that 90 days have some ten millions.
const A_DAY: i64 = 111_111;

/// Series with a sample a minute.
const SPARSE: i64 = 17;

pub struct Data {
    /// The first day.
    pub from: DateTime<Utc>,
    /// The end of the last one, which is over.
    pub to: DateTime<Utc>,
    pub days: i64,
    /// The series with a sample a second.
    pub dense: i32,
}

impl Data {
    pub async fn make(setting: &Setting) -> Self {
        let began = Instant::now();
        let admin = setting.db.admin().await;
        let days = (setting.options.rows * 10 / A_DAY).clamp(2, 90);
        let to = Interval::Day.floor(setting.store.now());
        let from = to - TimeDelta::days(days);
        let series = "insert into metric_series (service_name, metric_type, unit, labels, created_at)
            select 'bench', case n when 0 then 'dense' else 'sparse' end, 'ms', jsonb_build_object('host', n::text), now()
            from generate_series(0, $1::bigint) n returning id";
        let ids = admin.query(series, &[&SPARSE]).await.unwrap();
        let dense: i32 = ids[0].get(0);
        let fill = "insert into system_metrics (series_id, sampled_at, value)
            select $1 + n, at, 100 + 30 * sin(extract(epoch from at) / 13750.98)::float8 + 10 * random()
            from generate_series(0, $2::bigint) n
            cross join lateral generate_series($3, $3 + interval '1 day - 1 second',
                                               case n when 0 then interval '1 second' else interval '1 minute' end) at
            order by 1, 2";
        let fill = admin
            .prepare(
                &fill
                    .replace("$1 + n", "$1::int4 + n::int4")
                    .replace("$3", "$3::timestamptz"),
            )
            .await
            .unwrap();
        for day in 0..days {
            let start = from + TimeDelta::days(day);
            admin
                .execute(
                    "select metric_make_day($1, $2)",
                    &[&start.date_naive(), &start],
                )
                .await
                .unwrap();
            admin
                .execute(&fill, &[&dense, &SPARSE, &start])
                .await
                .unwrap();
        }
        admin.batch_execute("vacuum analyze").await.unwrap();
        admin.batch_execute("checkpoint").await.unwrap();
        let count: i64 = admin
            .query_one("select count(*) from system_metrics", &[])
            .await
            .unwrap()
            .get(0);
        println!(
            "{count} samples of {days} days made in {:.0} s: {}",
            began.elapsed().as_secs_f64(),
            size(setting).await
        );
        Self {
            from,
            to,
            days,
            dense,
        }
    }
}

/// How much disk a sample takes.
pub async fn size(setting: &Setting) -> String {
    let sql = "select sum(pg_table_size(inhrelid))::float8 / c, sum(pg_indexes_size(inhrelid))::float8 / c
               from pg_inherits, (select count(*)::float8 as c from system_metrics) n
               where inhparent = 'system_metrics'::regclass group by c";
    let row = setting.db.admin().await.query_one(sql, &[]).await.unwrap();
    let (table, indexes): (f64, f64) = (row.get(0), row.get(1));
    format!(
        "{:.1} bytes a sample ({table:.1} and {indexes:.1} of its indexes; goal 88)",
        table + indexes
    )
}
