//! What a chart of a long range is drawn from: of each hour that is rolled up the least, the greatest and the last sample, and
//! all samples of the rest.

use chrono::{DateTime, Utc};

use super::{BEGIN, end_read, parts::Parts, read_state};
use crate::{
    db::{self, Connection, Pool},
    error::Result,
    metrics::{cached::time, chart::Chart, copy::Copied, queries, rollup::Interval},
};

/// The points of one series of a chart, which are samples of it, in the order of their times.
pub(in crate::metrics) async fn chart(
    pool: &Pool,
    id: i32,
    from: i64,
    to: i64,
    points: usize,
) -> Result<Vec<(i64, f64)>> {
    let connection = pool.get().await?;
    connection.batch_execute(BEGIN).await?;
    let drawn = draw(&connection, id, from, to, points).await;
    end_read(&connection, drawn).await
}

async fn draw(
    connection: &Connection,
    id: i32,
    from: i64,
    to: i64,
    points: usize,
) -> Result<Vec<(i64, f64)>> {
    let mut chart = Chart::new(from, to, points);
    let (since, until) = (time(from), time(to));
    let marks = read_state(connection, &[id], since, until).await?;
    let mut parts = Parts::of(&[id], since, until, Interval::Hour, &marks);
    let mut extremes = extremes(connection, id, &parts, since, until)
        .await?
        .into_iter()
        .peekable();
    parts.samples.sort_unstable_by_key(|part| part.1);
    for of_day in parts.samples_by_day() {
        // Parts are read one after the other, so that samples come in order.
        for part in of_day {
            let mut samples = Copied::begin(connection, &queries::copy_parts(&[part])).await?;
            while let Some(mut fields) = samples.next().await? {
                let (_, at, value) = (fields.int4()?, fields.time()?, fields.float8()?);
                while let Some((at, value)) = extremes.next_if(|before| before.0 < at) {
                    chart.push(at, value);
                }
                chart.push(at, value);
            }
        }
    }
    for (at, value) in extremes {
        chart.push(at, value);
    }
    Ok(chart.finish())
}

/// Of each hour that is rolled up, in the order of their times.
async fn extremes(
    connection: &Connection,
    id: i32,
    parts: &Parts,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Result<Vec<(i64, f64)>> {
    let mut found = Vec::new();
    for row in db::query(connection, &queries::READ_EXTREMES, &[&id, &since, &until]).await? {
        if !parts.is_whole(id, row.try_get("bucket")?) {
            continue;
        }
        for (at, value) in [("min_at", "min"), ("max_at", "max"), ("last_at", "last")] {
            let at: DateTime<Utc> = row.try_get(at)?;
            found.push((at.timestamp_micros(), row.try_get::<_, f64>(value)?));
        }
    }
    // One sample may be the least, the greatest and the last.
    found.sort_unstable_by_key(|point| point.0);
    found.dedup_by_key(|point| point.0);
    Ok(found)
}
