//! What users think of insights: more of them each month, most on workdays and in the evening, and most of it on what is new.

use std::collections::HashSet;

use chrono::{DateTime, Datelike as _, NaiveDate, NaiveTime, TimeDelta, Utc};
use rand::{Rng, RngExt as _};
use serde::Serialize;
use tokio_postgres::types::Json;
use utxoiq_store::db;

use super::{
    Demo, Written, queries,
    words::{self, THEMES, Theme},
};

/// The statement that writes them takes so many at once.
const AT_ONCE: usize = 4_000;

/// How much older than two years the oldest are: so much has left the database, and is in the sums of all time.
const BEYOND_TWO_YEARS: i64 = 14;

/// From how many days on a history has something that is older than two years.
const TWO_YEARS: i64 = 730;

/// What Monday to Sunday bring, and each hour of a day.
const WEEK: [f64; 7] = [1.05, 1.1, 1.08, 1.06, 0.95, 0.62, 0.55];
const HOURS: [u32; 24] = [
    3, 2, 2, 1, 1, 2, 4, 7, 9, 10, 10, 9, 11, 12, 12, 12, 11, 10, 11, 13, 14, 12, 9, 6,
];

#[derive(Debug, Clone, Serialize)]
struct Row {
    insight_id: String,
    user_id: String,
    rating: Option<i16>,
    rated_at: Option<DateTime<Utc>>,
    comment: Option<String>,
    commented_at: Option<DateTime<Utc>>,
    flag_type: Option<&'static str>,
    flag_reason: Option<&'static str>,
    flagged_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

struct Insight {
    id: String,
    theme: &'static Theme,
    /// How far above or below its theme it is liked.
    merit: f64,
    published: i64,
}

struct Crowd<R> {
    random: R,
    first: NaiveDate,
    days: i64,
    insights: Vec<Insight>,
    seen: HashSet<(usize, u32)>,
}

/// Writes it.
pub async fn lay(demo: &Demo, written: &mut Written) -> anyhow::Result<()> {
    let (first, days) = span(demo);
    let mut random = demo.random(1);
    let insights = insights(&mut random, first, days);
    written.insights = insights.len() as u64;
    let mut crowd = Crowd {
        random,
        first,
        days,
        insights,
        seen: HashSet::new(),
    };
    let mut rows = Vec::new();
    for day in 0..=days {
        crowd.day(day, demo.as_of, &mut rows);
    }
    rows.sort_by_key(|row| row.updated_at);
    let (again, unflagged) = crowd.second_thoughts(&rows, demo.as_of);
    let step = demo
        .progress
        .begin("feedback", rows.len().div_ceil(AT_ONCE) as u64 + 1);
    let connection = demo.store.pool().get().await?;
    for piece in rows.chunks(AT_ONCE) {
        db::execute(&connection, &queries::INSERT_FEEDBACK, &[&Json(piece)]).await?;
        step.done("");
    }
    db::execute(&connection, &queries::RATE_AGAIN, &[&Json(&again)]).await?;
    db::execute(&connection, &queries::UNFLAG, &[&Json(&unflagged)]).await?;
    drop(connection);
    demo.store.feedback().fold().await?;
    written.feedback = rows.len() as u64;
    step.finish(format_args!(
        "{} of {} insights, {} changed or withdrawn since",
        rows.len(),
        written.insights,
        again.len() + unflagged.len()
    ));
    Ok(())
}

fn span(demo: &Demo) -> (NaiveDate, i64) {
    let more = if demo.days >= TWO_YEARS {
        BEYOND_TWO_YEARS
    } else {
        0
    };
    (demo.first_day() - TimeDelta::days(more), demo.days + more)
}

/// One every two days or so.
fn insights(random: &mut impl Rng, first: NaiveDate, days: i64) -> Vec<Insight> {
    let mut insights = Vec::new();
    let mut day = 0;
    while day <= days {
        let theme = &THEMES[random.random_range(0..THEMES.len())];
        let date = first + TimeDelta::days(day);
        let id = format!("{}-{date}", theme.name);
        if !insights.iter().any(|one: &Insight| one.id == id) {
            insights.push(Insight {
                id,
                theme,
                merit: random.random_range(-0.7..0.5),
                published: day,
            });
        }
        day += random.random_range(0..=4);
    }
    insights
}

impl<R: Rng> Crowd<R> {
    fn day(&mut self, day: i64, as_of: DateTime<Utc>, rows: &mut Vec<Row>) {
        let date = self.first + TimeDelta::days(day);
        let grown = day as f64 / self.days.max(1) as f64;
        let weekday = WEEK[date.weekday().num_days_from_monday() as usize];
        // Some days the whole world talks about Bitcoin.
        let talk = if self.random.random_bool(0.02) {
            2.4
        } else {
            1.0
        };
        let usual = (45.0 + 190.0 * grown.powf(1.3)) * weekday * talk;
        let count = usual * self.random.random_range(0.8..1.2);
        let newest = self
            .insights
            .partition_point(|insight| insight.published <= day);
        if newest == 0 {
            return;
        }
        for _ in 0..count as u32 {
            let at = date.and_time(NaiveTime::MIN).and_utc() + self.time_of_day();
            if at >= as_of {
                continue;
            }
            if let Some(row) = self.row(newest, grown, at) {
                rows.push(row);
            }
        }
    }

    fn time_of_day(&mut self) -> TimeDelta {
        let mut drawn = self.random.random_range(0..HOURS.iter().sum());
        let hour = HOURS.iter().position(|share| {
            let is_here = drawn < *share;
            drawn = drawn.saturating_sub(*share);
            is_here
        });
        let hour = i64::try_from(hour.unwrap_or_default()).unwrap_or_default();
        TimeDelta::microseconds(hour * 3_600_000_000 + self.random.random_range(0..3_600_000_000))
    }

    fn row(&mut self, newest: usize, grown: f64, at: DateTime<Utc>) -> Option<Row> {
        let which = if self.random.random_bool(0.06) {
            self.random.random_range(0..newest)
        } else {
            let back = -self.random.random_range(f64::EPSILON..1.0).ln() * 4.0;
            newest.checked_sub(1 + back as usize)?
        };
        // Few rate much, and many little.
        let known = 300.0 + 5_700.0 * grown;
        let user = (self.random.random_range(0.0_f64..1.0).powf(2.2) * known) as u32;
        if !self.seen.insert((which, user)) {
            return None;
        }
        let insight = &self.insights[which];
        let theme = insight.theme;
        let is_rated = self.random.random_bool(0.985);
        let rating = rating(&mut self.random, theme.liking + insight.merit);
        let comments = if is_rated { 0.045 } else { 0.6 };
        let comment = self
            .random
            .random_bool(comments)
            .then(|| words::comment(&mut self.random, theme, rating));
        let flags = if rating == 1 { 0.06 } else { 0.004 };
        let flag = self
            .random
            .random_bool(flags)
            .then(|| words::flag(&mut self.random));
        let said = is_rated || comment.is_some() || flag.is_some();
        said.then(|| Row {
            insight_id: insight.id.clone(),
            user_id: user_name(user),
            rating: is_rated.then_some(rating),
            rated_at: is_rated.then_some(at),
            commented_at: comment.is_some().then_some(at),
            comment,
            flag_type: flag.map(|flag| flag.0),
            flag_reason: flag.and_then(|flag| flag.1),
            flagged_at: flag.map(|_| at),
            created_at: at,
            updated_at: at,
        })
    }

    /// Ratings that are changed or withdrawn some days later, and flags that are taken back.
    fn second_thoughts(&mut self, rows: &[Row], as_of: DateTime<Utc>) -> (Vec<Row>, Vec<Row>) {
        let (mut again, mut unflagged) = (Vec::new(), Vec::new());
        for row in rows {
            let later = row.updated_at + TimeDelta::seconds(self.random.random_range(600..400_000));
            if later >= as_of {
                continue;
            }
            let mut row = Row {
                updated_at: later,
                ..row.clone()
            };
            if row.flag_type.is_some() && self.random.random_bool(0.12) {
                unflagged.push(row);
            } else if row.rating.is_some() && self.random.random_bool(0.014) {
                let withdrawn = self.random.random_bool(0.25);
                row.rating = (!withdrawn).then(|| self.random.random_range(2..=5));
                row.rated_at = (!withdrawn).then_some(later);
                again.push(row);
            }
        }
        (again, unflagged)
    }
}

/// A rating by how well something is liked: near it mostly, with some who hate everything.
fn rating(random: &mut impl Rng, liking: f64) -> i16 {
    if random.random_bool(0.05) {
        return 1;
    }
    let spread: f64 = (0..3).map(|_| random.random_range(-0.9..0.9)).sum();
    (liking + 0.35 + spread).round().clamp(1.0, 5.0) as i16
}

/// A user's name as an identity provider gives it: no meaning, always the same.
fn user_name(number: u32) -> String {
    let mut mixed = (u64::from(number) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let letters = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz23456789";
    (0..20)
        .map(|_| {
            mixed ^= mixed >> 29;
            mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
            char::from(letters[(mixed >> 40) as usize % letters.len()])
        })
        .collect()
}
