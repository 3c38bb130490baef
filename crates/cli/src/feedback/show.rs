//! Feedback for people.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use utxoiq_store_server::api::feedback::wire::{
    Counts, Flagged, FlaggedInsight, Found, Place, Stats, Top, Trend,
};

use crate::{
    output::plain,
    table::{Side, bar, table},
};

/// How much of a text is shown in a table; `--json` has all.
const SHOWN: usize = 60;

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn mean(mean: Option<f64>) -> String {
    mean.map_or_else(|| "-".to_owned(), |mean| format!("{mean:.2}"))
}

/// One line of what somebody wrote.
fn short(text: &str) -> String {
    let line = plain(&text.split_whitespace().collect::<Vec<_>>().join(" "));
    if line.chars().count() <= SHOWN {
        return line;
    }
    let cut: String = line.chars().take(SHOWN - 1).collect();
    format!("{cut}…")
}

fn flags(types: &BTreeMap<String, i64>) -> String {
    let types = types.iter().map(|(kind, count)| format!("{kind} {count}"));
    types.collect::<Vec<_>>().join(", ")
}

/// What an insight's users think.
pub fn stats(stats: &Stats) -> String {
    let live = &stats.live;
    let mut text = format!("insight   {}\n", plain(&stats.insight_id));
    if live.total_ratings == 0 {
        text.push_str("ratings   none\n");
    } else {
        text.push_str(&format!(
            "ratings   {}, mean {:.2} (ranked as {:.2}, at least {:.2})\n",
            live.total_ratings, live.average_rating, stats.bayesian_mean, stats.lower_bound
        ));
        let counts = live.rating_distribution.counts();
        let most = counts.iter().copied().max().unwrap_or_default();
        let width = most.to_string().len();
        for (stars, count) in (1..).zip(counts).collect::<Vec<_>>().iter().rev() {
            let line = format!(
                "  {stars}       {count:>width$}  {}",
                bar(*count as f64, most as f64)
            );
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    text.push_str(&format!("comments  {}\n", live.total_comments));
    let types = match flags(&live.flag_types) {
        types if types.is_empty() => String::new(),
        types => format!(" ({types})"),
    };
    text.push_str(&format!("flags     {}{types}\n", live.total_flags));
    if stats.lifetime != *live {
        text.push_str(&format!("ever      {}\n", in_words(&stats.lifetime)));
    }
    text
}

fn in_words(counts: &Counts) -> String {
    format!(
        "{} ratings, mean {:.2}; {} comments; {} flags",
        counts.total_ratings, counts.average_rating, counts.total_comments, counts.total_flags
    )
}

/// Where the next page begins.
fn next(text: &mut String, place: &Place) {
    if let Some(cursor) = &place.next_cursor {
        text.push_str(&format!("more: --cursor {cursor}\n"));
    }
}

/// Feedback that was searched for.
pub fn found(found: &Found) -> String {
    use Side::{Left, Right};
    if found.feedback.is_empty() {
        return format!("nothing here, {} in all\n", found.total);
    }
    let rows: Vec<_> = found
        .feedback
        .iter()
        .map(|state| {
            let said = &state.feedback;
            let flag = match (&said.flag_type, &said.flag_reason) {
                (Some(kind), Some(reason)) => format!("{kind}: {}", short(reason)),
                (Some(kind), None) => kind.clone(),
                _ => "-".to_owned(),
            };
            [
                time(said.updated_at),
                plain(&said.insight_id),
                plain(&said.user_id),
                said.rating
                    .map_or_else(|| "-".to_owned(), |rating| rating.to_string()),
                flag,
                said.comment
                    .as_deref()
                    .map_or_else(|| "-".to_owned(), short),
            ]
        })
        .collect();
    let mut text = table(
        [
            ("CHANGED", Left),
            ("INSIGHT", Left),
            ("USER", Left),
            ("RATING", Right),
            ("FLAG", Left),
            ("COMMENT", Left),
        ],
        &rows,
    );
    text.push_str(&format!("{} of {}\n", rows.len(), found.total));
    next(&mut text, &found.place);
    text
}

/// The ranking.
pub fn top(top: &Top) -> String {
    use Side::{Left, Right};
    if top.insights.is_empty() {
        return "no insights with so many ratings\n".to_owned();
    }
    let rows: Vec<_> = top
        .insights
        .iter()
        .map(|insight| {
            [
                plain(&insight.insight_id),
                insight.total_ratings.to_string(),
                format!("{:.2}", insight.average_rating),
                format!("{:.3}", insight.bayesian_mean),
                format!("{:.3}", insight.lower_bound),
            ]
        })
        .collect();
    let columns = [
        ("INSIGHT", Left),
        ("RATINGS", Right),
        ("MEAN", Right),
        ("BAYESIAN MEAN", Right),
        ("LOWER BOUND", Right),
    ];
    let mut text = table(columns, &rows);
    next(&mut text, &top.place);
    text
}

/// The review queue.
pub fn flagged(flagged: &Flagged) -> String {
    if flagged.insights.is_empty() {
        return format!(
            "nothing to review here, {} insights in all\n",
            flagged.total
        );
    }
    let mut text = String::new();
    for insight in &flagged.insights {
        text.push_str(&one_flagged(insight));
    }
    let shown = flagged.insights.len();
    text.push_str(&format!("{shown} of {} insights\n", flagged.total));
    next(&mut text, &flagged.place);
    text
}

fn one_flagged(insight: &FlaggedInsight) -> String {
    let mut text = format!(
        "{}  {} flags ({})  {} ratings, mean {}  last {}\n",
        plain(&insight.insight_id),
        insight.total_flags,
        flags(&insight.flag_types),
        insight.total_ratings,
        mean(insight.average_rating),
        time(insight.last_flagged_at),
    );
    for flag in &insight.latest_reasons {
        text.push_str(&format!(
            "    {}  {:<13}  {}: {}\n",
            time(flag.flagged_at),
            flag.flag_type,
            plain(&flag.user_id),
            short(&flag.reason),
        ));
    }
    text
}

/// What users did day by day.
pub fn trend(trend: &Trend) -> String {
    use Side::{Left, Right};
    let most = trend.days.iter().map(|day| day.ratings).max();
    let rows: Vec<_> = trend
        .days
        .iter()
        .map(|day| {
            [
                day.day.to_string(),
                day.ratings.to_string(),
                mean(day.average_rating),
                day.comments.to_string(),
                day.flags.to_string(),
                day.withdrawals.to_string(),
                bar(day.ratings as f64, most.unwrap_or_default() as f64),
            ]
        })
        .collect();
    let columns = [
        ("DAY", Left),
        ("RATINGS", Right),
        ("MEAN", Right),
        ("COMMENTS", Right),
        ("FLAGS", Right),
        ("WITHDRAWN", Right),
        ("", Left),
    ];
    let whose = trend.insight_id.as_deref().map_or_else(
        || "all insights".to_owned(),
        |insight| format!("insight {}", plain(insight)),
    );
    format!("{whose}, days in UTC\n{}", table(columns, &rows))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn statistics_have_a_chart_and_no_forged_lines() {
        let counts = json!({
            "total_ratings": 21, "average_rating": 4.0,
            "rating_distribution": {"1": 1, "2": 0, "3": 0, "4": 10, "5": 10},
            "total_comments": 2, "total_flags": 1, "flag_types": {"spam": 1},
        });
        let mut answer = counts.clone();
        answer["insight_id"] = json!("a\nb");
        answer["bayesian_mean"] = json!(3.8);
        answer["lower_bound"] = json!(3.5);
        answer["lifetime"] = counts;
        let text = stats(&serde_json::from_value(answer.clone()).unwrap());
        let bar = "█".repeat(30);
        let expected = format!(
            "insight   a\u{fffd}b\nratings   21, mean 4.00 (ranked as 3.80, at least 3.50)\n  5       10  {bar}\n  4       10  {bar}\n  \
             3        0\n  2        0\n  1        1  ███\ncomments  2\nflags     1 (spam 1)\n"
        );
        assert_eq!(text, expected);
        answer["lifetime"]["total_comments"] = json!(7);
        let text = stats(&serde_json::from_value(answer).unwrap());
        assert!(text.ends_with("ever      21 ratings, mean 4.00; 7 comments; 1 flags\n"));
    }

    #[test]
    fn long_texts_are_cut_to_one_line() {
        assert_eq!(short("two\r\nlines\u{1b}[2J"), "two lines\u{fffd}[2J");
        let cut = short(&"ü".repeat(100));
        assert_eq!((cut.chars().count(), cut.ends_with('…')), (60, true));
    }
}
