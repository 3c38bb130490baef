//! What users think in all: statistics, the ranking, the trend. None of them names a user.

use axum::{Json, extract::State, response::Response};
use chrono::{Days, NaiveDate};
use utxoiq_store::{
    config::FeedbackSettings,
    error::Error,
    feedback::{MAX_TREND_DAYS, Ranking, Stats},
    token::Scope,
};

use super::{MAX_ID, in_order, insight_id, page, wire};
use crate::{
    AppState,
    api::ready_json,
    error::ApiResult,
    input::Query,
    routes::{Call, Routes},
    version::Seen,
};

const RANKINGS: &[(&str, Ranking); 2] = &[
    ("bayesian_mean", Ranking::BayesianMean),
    ("lower_bound", Ranking::LowerBound),
];

const TOP_LIMIT: i64 = 20;

/// How many days a trend has unless said.
const TREND_DAYS: Days = Days::new(30);

/// Adds the calls.
pub(super) fn add(routes: Routes) -> Routes {
    routes
        .add(
            Call::get("/api/v1/feedback/stats", Scope::StatsRead, "What users think of an insight")
                .describe(
                    "Zeros for an insight that nobody spoke of. May come from a cache and is never more than a second old; \
                     with the `Store-Version` of a write it shows that write.",
                )
                .query::<wire::InsightQuery>()
                .after_version()
                .answers::<wire::Stats>("the statistics"),
            stats,
        )
        .add(
            Call::get("/api/v1/feedback/top", Scope::StatsRead, "The best insights")
                .describe("The formulas of both scores are in the documentation. Insights without ratings are not ranked.")
                .query::<wire::TopQuery>()
                .page(TOP_LIMIT)
                .answers::<wire::Top>("the ranking"),
            top,
        )
        .add(
            Call::get("/api/v1/feedback/trend", Scope::StatsRead, "What users did day by day")
                .describe(
                    "Days are UTC. An act counts on the day it was done, also where it was changed or withdrawn later: the \
                     trend says what happened, the statistics what has remained. At most 1,100 days.",
                )
                .query::<wire::TrendQuery>()
                .answers::<wire::Trend>("every day of the range")
                .refuses(400, "invalid_range", "`to_day` is before `from_day`"),
            trend,
        )
}

async fn stats(
    State(state): State<AppState>,
    Seen(seen): Seen,
    Query(mut query): Query,
) -> ApiResult<Response> {
    let insight = insight_id(&mut query);
    query.finish()?;
    let stats = state.store.feedback().stats_seen(&insight, seen).await?;
    let settings = &state.store.config().feedback;
    Ok(ready_json(stats.rendered(|stats| render(stats, settings))))
}

/// The body of an answer: made once for each value that is cached.
fn render(stats: &Stats, settings: &FeedbackSettings) -> Vec<u8> {
    // Nothing in it can fail to be written: all keys are text.
    serde_json::to_vec(&wire::Stats::new(stats, settings)).unwrap_or_default()
}

async fn top(State(state): State<AppState>, Query(mut query): Query) -> ApiResult<Json<wire::Top>> {
    let ranking = query
        .optional_one_of("ranking", RANKINGS)
        .unwrap_or(Ranking::BayesianMean);
    let min_ratings = query.int_or("min_ratings", 1..=i64::MAX, 1);
    let page = page::read(&mut query, TOP_LIMIT);
    query.finish()?;
    let top = state
        .store
        .feedback()
        .top(ranking, min_ratings, &page)
        .await?;
    Ok(Json(wire::Top {
        ranking: ranking.to_string(),
        min_ratings,
        place: wire::Place::new(&page, top.next.as_ref()),
        insights: top.insights.into_iter().map(Into::into).collect(),
    }))
}

async fn trend(
    State(state): State<AppState>,
    Query(mut query): Query,
) -> ApiResult<Json<wire::Trend>> {
    let insight_id = query.optional_name("insight_id", 1..=MAX_ID);
    let days = (query.optional_day("from_day"), query.optional_day("to_day"));
    query.finish()?;
    let (from_day, to_day) = range(days, state.store.now().date_naive())?;
    let days = state
        .store
        .feedback()
        .trend(insight_id.as_deref(), from_day, to_day)
        .await?;
    Ok(Json(wire::Trend {
        insight_id,
        from_day,
        to_day,
        days: days.iter().map(Into::into).collect(),
    }))
}

/// The days that are meant, half-open: the last thirty, today included, unless said.
fn range(
    (from, to): (Option<NaiveDate>, Option<NaiveDate>),
    today: NaiveDate,
) -> ApiResult<(NaiveDate, NaiveDate)> {
    let to = to.or_else(|| today.succ_opt()).unwrap_or(today);
    let from = from
        .or_else(|| to.checked_sub_days(TREND_DAYS))
        .unwrap_or(to);
    in_order(Some(&from), Some(&to))?;
    if to.signed_duration_since(from).num_days() > MAX_TREND_DAYS {
        let message = format!("must be at most {MAX_TREND_DAYS} days after from_day");
        return Err(Error::field("to_day", message).into());
    }
    Ok((from, to))
}

#[cfg(test)]
mod tests {
    use utxoiq_store::feedback::Counts;

    use super::*;

    #[test]
    fn a_trend_has_the_last_thirty_days_unless_said() {
        let day = |text: &str| text.parse::<NaiveDate>().unwrap();
        let today = day("2026-03-01");
        let of = |from: Option<&str>, to: Option<&str>| range((from.map(day), to.map(day)), today);
        let plain = of(None, None).unwrap();
        assert_eq!(plain, (day("2026-01-31"), day("2026-03-02")));
        let ended = of(None, Some("2026-01-31")).unwrap();
        assert_eq!(ended, (day("2026-01-01"), day("2026-01-31")));
        let begun = of(Some("2026-03-02"), None).unwrap();
        assert_eq!(begun, (day("2026-03-02"), day("2026-03-02")));
        assert_eq!(of(Some("2026-03-03"), None).unwrap_err().status(), 400);
        let longest = of(Some("2023-02-26"), Some("2026-03-02")).unwrap();
        assert_eq!((longest.1 - longest.0).num_days(), MAX_TREND_DAYS);
        let longer = of(Some("2023-02-25"), Some("2026-03-02")).unwrap_err();
        assert_eq!(longer.errors()[0].field, "to_day");
    }

    #[test]
    fn statistics_are_rendered_in_the_contracts_shape_with_scores_and_lifetime() {
        let live = Counts {
            ratings: [0, 0, 1, 0, 1],
            comments: 4,
            flags: [0, 1, 1, 0, 0],
        };
        let retired = Counts {
            ratings: [1, 0, 0, 0, 1],
            comments: 1,
            flags: [0, 0, 1, 0, 2],
        };
        let stats = Stats {
            insight_id: "a \"quoted\" id".to_owned(),
            live,
            retired,
        };
        let settings = utxoiq_store::config::Loader::default()
            .finish()
            .unwrap()
            .feedback;
        let body: serde_json::Value = serde_json::from_slice(&render(&stats, &settings)).unwrap();
        let scores = (body["bayesian_mean"].as_f64(), body["lower_bound"].as_f64());
        // (3 · 10 + 8) / (10 + 2), and the formula of the documentation with n = 2.
        let (p, q): (f64, f64) = ((15.0 + 8.0) / 7.0, (55.0 + 9.0 + 25.0) / 7.0);
        let bound = p - 1.65 * ((q - p * p) / 8.0).sqrt();
        for (got, expected) in [(scores.0, 38.0 / 12.0), (scores.1, bound)] {
            assert!((got.unwrap() - expected).abs() < 1e-12, "{got:?}");
        }
        let expected = serde_json::json!({
            "insight_id": "a \"quoted\" id",
            "total_ratings": 2, "average_rating": 4.0,
            "rating_distribution": {"1": 0, "2": 0, "3": 1, "4": 0, "5": 1},
            "total_comments": 4, "total_flags": 2, "flag_types": {"misleading": 1, "spam": 1},
            "bayesian_mean": scores.0, "lower_bound": scores.1,
            "lifetime": {
                "total_ratings": 4, "average_rating": 3.5,
                "rating_distribution": {"1": 1, "2": 0, "3": 1, "4": 0, "5": 2},
                "total_comments": 5, "total_flags": 5, "flag_types": {"misleading": 1, "spam": 2, "other": 2},
            },
        });
        assert_eq!(body, expected);
    }
}
