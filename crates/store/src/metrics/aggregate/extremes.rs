//! What a chart of a long range is drawn from: of each hour that is rolled up the least, the greatest and the last sample, and
//! all samples of the rest.

use chrono::{DateTime, Utc};

use super::{BEGIN, parts::Parts, read_state};
use crate::{
    db::{self, Connection, Copied, OpenTransaction, Pool},
    error::Result,
    metrics::{
        cached::{HOUR, time},
        chart::{Chart, POINTS_A_SLOT},
        cold::{ColdReads, parts::ColdParts},
        queries,
        rollup::Interval,
    },
};

/// The points of one series of a chart, which are samples of it, in the order of their times. Takes the samples it looks at
/// from `left`; `None` where these do not suffice.
pub(in crate::metrics) async fn chart(
    pool: &Pool,
    cold: &ColdReads,
    id: i32,
    range: (i64, i64),
    points: usize,
    left: &mut i64,
) -> Result<Option<Vec<(i64, f64)>>> {
    let mut at_hand = ColdParts::of_at_most(*left);
    loop {
        let open = OpenTransaction::begin(pool, BEGIN).await?;
        let mut looked_at = *left;
        let drawn = draw(
            open.connection()?,
            &mut at_hand,
            id,
            range,
            points,
            &mut looked_at,
        );
        let drawn = match drawn.await {
            // What was not read to its end is not worth its connection.
            Ok(Drawn::TooMany) => return Ok(None),
            drawn => open.end(drawn).await?,
        };
        if let Drawn::Points(points) = drawn {
            *left = looked_at;
            return Ok(Some(points));
        }
        if !at_hand.fetch(cold).await? {
            return Ok(None);
        }
    }
}

/// What an attempt gave.
enum Drawn {
    Points(Vec<(i64, f64)>),
    /// More samples than may be looked at.
    TooMany,
    /// Samples of archives are lacking.
    Lacking,
}

async fn draw(
    connection: &Connection,
    cold: &mut ColdParts<Vec<(i64, f64)>>,
    id: i32,
    (from, to): (i64, i64),
    points: usize,
    left: &mut i64,
) -> Result<Drawn> {
    let mut chart = of_whole_hours(from, to, points);
    let (since, until) = (time(from), time(to));
    let marks = read_state(connection, &[id], since, until).await?;
    let parts = Parts::of(&[id], since, until, Interval::Hour, &marks);
    if parts.lack(cold) {
        return Ok(Drawn::Lacking);
    }
    let extremes = extremes(connection, id, &parts, since, until).await?;
    let mut extremes = extremes.into_iter().peekable();
    for (archive, of_day) in parts.samples_by_day() {
        let mut day = match archive {
            Some(archive) => cold.of_day(archive, &of_day).concat(),
            None => Vec::new(),
        };
        *left = left.saturating_sub(i64::try_from(day.len()).unwrap_or(i64::MAX));
        if archive.is_none() {
            let mut samples = Copied::begin(connection, &queries::copy_parts(&of_day)).await?;
            while let Some(mut fields) = samples.next().await? {
                let (_, at, value) = (fields.int4()?, fields.time()?, fields.float8()?);
                day.push((at, value));
                *left -= 1;
                if *left < 0 {
                    return Ok(Drawn::TooMany);
                }
            }
        }
        if *left < 0 {
            return Ok(Drawn::TooMany);
        }
        day.sort_unstable_by_key(|sample| sample.0);
        for (at, value) in day {
            while let Some((at, value)) = extremes.next_if(|before| before.0 < at) {
                chart.push(at, value);
            }
            chart.push(at, value);
        }
    }
    for (at, value) in extremes {
        chart.push(at, value);
    }
    Ok(Drawn::Points(chart.finish()))
}

/// A chart whose slots are whole hours, as many of them as there are points for: an hour's extremes then are its slot's.
fn of_whole_hours(from: i64, to: i64, points: usize) -> Chart {
    let first = from.div_euclid(HOUR);
    let hours = (to.saturating_sub(1).div_euclid(HOUR) + 1 - first).max(1);
    let slots = i64::try_from(points / POINTS_A_SLOT)
        .unwrap_or(i64::MAX)
        .max(1);
    let hours_a_slot = (hours + slots - 1) / slots;
    let slots = (hours + hours_a_slot - 1) / hours_a_slot;
    let (start, end) = (first * HOUR, (first + slots * hours_a_slot) * HOUR);
    let points = usize::try_from(slots).unwrap_or(1) * POINTS_A_SLOT;
    Chart::new(start, end, points)
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
