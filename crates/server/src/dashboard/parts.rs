//! What pages are made of: cards, states, times, numbers, lists.

use chrono::{DateTime, NaiveDate, SecondsFormat, TimeDelta, Utc};
use maud::{Markup, PreEscaped, html};

/// How good something is. Told by a word, a colour and a shape: never by one of them alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Busy,
    Warning,
    Bad,
    Plain,
}

/// A state in a word.
pub(super) fn state(tone: Tone, word: &str) -> Markup {
    let (class, shape) = match tone {
        Tone::Good => ("good", "M2 6.5 5 9.5 10 3"),
        Tone::Busy => ("busy", "M4 2.5 9.5 6 4 9.5z"),
        Tone::Warning => ("warning", "M6 2v5M6 9v1"),
        Tone::Bad => ("bad", "M3 3 9 9M9 3 3 9"),
        Tone::Plain => ("plain", "M3 6H9"),
    };
    html! {
        span class=(format!("state {class}")) {
            svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" { path d=(shape) {} }
            (word)
        }
    }
}

/// A figure on a card of its own.
pub(super) struct Card<'a> {
    /// What it is.
    pub name: &'a str,
    /// Where there is more of it.
    pub link: Option<&'a str>,
    /// The figure.
    pub figure: Markup,
    /// What it means.
    pub note: Markup,
}

impl Card<'_> {
    /// Draws it.
    pub fn draw(self) -> Markup {
        html! {
            section.card.figure {
                h2 { @if let Some(link) = self.link { a href=(link) { (self.name) } } @else { (self.name) } }
                p.big { (self.figure) }
                p.hint { (self.note) }
            }
        }
    }
}

/// A card with a heading.
pub(super) fn card(title: &str, content: &Markup) -> Markup {
    html! { section.card { h2 { (title) } (content) } }
}

/// A table in a box of its own, which scrolls where it is too wide. `columns` are their names; those that begin with `#` are of
/// numbers. On a phone each row of a wide one is a block of named fields.
pub(super) fn table(caption: &str, columns: &[&str], rows: &[Vec<Markup>]) -> Markup {
    drawn_table(caption, columns, rows, columns.len() > 3)
}

/// A table that stays one on a phone, too, because its columns are what it says: a calendar.
pub(super) fn calendar(caption: &str, columns: &[&str], rows: &[Vec<Markup>]) -> Markup {
    drawn_table(caption, columns, rows, false)
}

fn drawn_table(caption: &str, columns: &[&str], rows: &[Vec<Markup>], is_stack: bool) -> Markup {
    let name = |at: usize| {
        columns
            .get(at)
            .map_or("", |name| name.trim_start_matches('#'))
    };
    let is_number = |at: usize| columns.get(at).is_some_and(|name| name.starts_with('#'));
    html! {
        div.scroll tabindex="0" role="region" aria-label=(caption) {
            // The roles are those of the elements, which browsers forget where a stylesheet draws them as blocks.
            table.wide[columns.len() > 3].stack[is_stack] role="table" {
                caption.unseen { (caption) }
                thead role="rowgroup" { tr role="row" {
                    @for at in 0..columns.len() {
                        th scope="col" role="columnheader" .number[is_number(at)] { (name(at)) }
                    }
                } }
                tbody role="rowgroup" {
                    @for row in rows {
                        tr role="row" { @for (at, cell) in row.iter().enumerate() {
                            td role="cell" data-name=(name(at)) .number[is_number(at)] { (cell) }
                        } }
                    }
                }
            }
        }
    }
}

/// What stands where there is nothing: why, and what to do next.
pub(super) fn empty(why: &str, command: &str) -> Markup {
    html! {
        div.empty {
            p { (why) }
            @if !command.is_empty() { pre data-copy { (command) } }
        }
    }
}

/// A time as a distance from now, with the exact time behind it.
pub(super) fn ago(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Secs, true);
    html! { time datetime=(exact) title=(exact_words(at)) { (distance(at, now)) } }
}

/// As [`ago`], where there may be none.
pub(super) fn ago_or(at: Option<DateTime<Utc>>, now: DateTime<Utc>, none: &str) -> Markup {
    at.map_or_else(|| html! { span.hint { (none) } }, |at| ago(at, now))
}

/// A time as it is.
pub(super) fn exactly(at: DateTime<Utc>) -> Markup {
    let exact = at.to_rfc3339_opts(SecondsFormat::Micros, true);
    html! { time datetime=(exact) title=(exact) { (at.format("%Y-%m-%d %H:%M:%S").to_string()) } }
}

pub(super) fn exact_words(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How far a time is, in words that change seldom.
fn distance(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let away = (now - at).abs();
    let words = lasting(away);
    if away < TimeDelta::seconds(45) {
        "just now".to_owned()
    } else if at > now {
        format!("in {words}")
    } else {
        format!("{words} ago")
    }
}

/// A duration, in its largest fitting unit.
pub(super) fn lasting(long: TimeDelta) -> String {
    let seconds = long.num_seconds().abs();
    let unit =
        |count: i64, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    match seconds {
        0..=89 => format!("{seconds} s"),
        90..=5_399 => format!("{} min", (seconds + 30) / 60),
        5_400..=129_599 => format!("{} h", (seconds + 1_800) / 3_600),
        129_600..=5_183_999 => unit((seconds + 43_200) / 86_400, "day"),
        5_184_000..=63_071_999 => unit(seconds / 2_629_800, "month"),
        _ => unit(seconds / 31_557_600, "year"),
    }
}

/// Milliseconds in the unit that fits.
pub(super) fn milliseconds(millis: i64) -> String {
    match millis {
        ..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{:.1} s", millis as f64 / 1_000.0),
        _ => lasting(TimeDelta::milliseconds(millis)),
    }
}

/// A whole number with its thousands apart.
pub(super) fn count(number: impl TryInto<i64>) -> String {
    let number = number.try_into().unwrap_or(i64::MAX);
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    if number < 0 {
        text.insert(0, '\u{2212}');
    }
    text
}

/// A number with as many digits as say something.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return value.to_string();
    }
    if size != 0.0 && !(1e-4..1e12).contains(&size) {
        return format!("{value:.3e}");
    }
    let places = match size {
        1_000.0.. => 0,
        100.0.. => 1,
        1.0.. => 2,
        _ => 4,
    };
    let text = format!("{value:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        #[allow(clippy::cast_possible_truncation, reason = "it is below 1e12")]
        let whole = value.round() as i64;
        count(whole)
    }
}

/// A share as a percentage.
pub(super) fn percent(share: f64) -> String {
    format!("{} %", number((share * 10_000.0).floor() / 100.0))
}

/// Bytes in the unit that fits.
pub(super) fn bytes(bytes: impl TryInto<u64>) -> String {
    let bytes = bytes.try_into().unwrap_or_default();
    let units = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1_000.0 && unit + 1 < units.len() {
        value /= 1_000.0;
        unit += 1;
    }
    let places = usize::from(unit > 0 && value < 10.0);
    format!("{value:.places$} {}", units[unit])
}

/// A bar that is so full, with the share as text for those who do not see it.
pub(super) fn bar(label: &str, value: f64, of: f64) -> Markup {
    html! { progress max=(of.max(f64::MIN_POSITIVE)) value=(value.clamp(0.0, of.max(0.0))) aria-label=(label) {} }
}

/// What is done by a button: a form that posts, behind a question where it cannot be taken back. Needs no script.
pub(super) fn action(address: &str, word: &str, question: Option<&str>, is_danger: bool) -> Markup {
    let button = html! {
        form method="post" action=(address) { button .danger[is_danger] type="submit" { (word) } }
    };
    match question {
        None => button,
        Some(question) => html! {
            details.confirm data-keep=(format!("{address}-{word}")) {
                summary.button .danger[is_danger] { (word) "…" }
                div.question {
                    p { (question) }
                    form method="post" action=(address) {
                        button .danger[is_danger] type="submit" { "Yes, " (word.to_lowercase()) }
                    }
                }
            }
        },
    }
}

/// Links to the pages of a list, around this one. `conditions` are of the address, without the place.
pub(super) fn pager(
    path: &str,
    conditions: &str,
    earlier: Option<&str>,
    later: Option<&str>,
) -> Markup {
    let address = |place: &str| {
        let both = [conditions, place]
            .into_iter()
            .filter(|part| !part.is_empty());
        let query = both.collect::<Vec<_>>().join("&");
        if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        }
    };
    html! {
        @if earlier.is_some() || later.is_some() {
            nav.pager aria-label="Pages of the list" {
                @if let Some(place) = earlier { a.button rel="prev" href=(address(place)) { "← Back" } }
                @if let Some(place) = later { a.button rel="next" href=(address(place)) { "More →" } }
            }
        }
    }
}

/// A choice of a form.
pub(super) fn choice(name: &str, label: &str, choices: &[(&str, &str)], chosen: &str) -> Markup {
    html! {
        label { span { (label) }
            select name=(name) {
                @for (value, word) in choices { option value=(value) selected[*value == chosen] { (word) } }
            }
        }
    }
}

/// A field of a form.
pub(super) fn field(name: &str, label: &str, kind: &str, value: &str) -> Markup {
    html! { label { span { (label) } input type=(kind) name=(name) value=(value); } }
}

/// Figures of a drawing as a table, for who does not see it, or wants the numbers.
pub(super) fn figures(caption: &str, columns: &[&str], rows: &[Vec<Markup>]) -> Markup {
    html! {
        details.figures data-keep=(caption) {
            summary { "Figures" }
            (table(caption, columns, rows))
        }
    }
}

/// Text that may be long: the rest of it is behind its beginning.
pub(super) fn long_text(text: &str) -> Markup {
    const SHOWN: usize = 110;
    if text.chars().count() <= SHOWN + 20 {
        return html! { div.long { (text) } };
    }
    let begins: String = text.chars().take(SHOWN).collect();
    html! { details.long data-keep=(begins) { summary { (begins) "…" } p { (text) } } }
}

/// So many of something.
pub(super) fn many(number: impl TryInto<i64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(i64::MAX);
    let more = if number == 1 { "" } else { "s" };
    format!("{} {one}{more}", count(number))
}

/// How often a second, in the unit of time that makes it a number to read.
pub(super) fn rate(a_second: f64) -> String {
    let (rate, unit) = match a_second {
        1.0.. => (a_second, "s"),
        0.05.. => (a_second * 60.0, "min"),
        _ => (a_second * 3_600.0, "h"),
    };
    format!("{}/{unit}", number(rate))
}

/// A name as a cell: on one line unless it is a long one.
pub(super) fn name(text: &str) -> Markup {
    let is_short = text.chars().count() <= 36;
    html! { span.one-line[is_short].long[!is_short] { (text) } }
}

/// What a task says of its run: a flat object as words, all else as it is.
pub(super) fn said(outcome: &serde_json::Value) -> String {
    use serde_json::Value;
    let plain = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    };
    let words = outcome.as_object().and_then(|members| {
        let one = |(name, value): (&String, &Value)| {
            Some(format!("{} {}", name.replace('_', " "), plain(value)?))
        };
        members.iter().map(one).collect::<Option<Vec<_>>>()
    });
    words.map_or_else(|| outcome.to_string(), |words| words.join(", "))
}

/// Text as a cell.
pub(super) fn cell(text: impl Into<String>) -> Markup {
    let text: String = text.into();
    html! { (text) }
}

/// A day.
pub(super) fn day(day: NaiveDate) -> String {
    day.format("%Y-%m-%d").to_string()
}

/// When a day begins.
pub(super) fn begin(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// A message as a sentence: messages are lower case. A name that it begins with stays as it is.
pub(super) fn sentence(text: &str) -> String {
    let word = text.split(' ').next().unwrap_or_default();
    let word = word.trim_end_matches([',', ':', '.']);
    let mut sentence = text.to_owned();
    if word.chars().all(char::is_alphabetic) {
        let mut letters = text.chars();
        let first = letters.next().map(char::to_uppercase);
        sentence = first.into_iter().flatten().chain(letters).collect();
    }
    if !sentence.ends_with(['.', '!', '?']) {
        sentence.push('.');
    }
    sentence
}

/// Percent-encodes all but letters, digits, `-`, `_`, `.` and `~`.
pub(super) fn encode(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    encoded.collect()
}

/// An SVG of ours, drawn as text.
pub(super) fn drawing(svg: String) -> Markup {
    PreEscaped(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_as_many_digits_as_say_something() {
        let all = [
            0.0,
            0.123_456,
            1.5,
            12.0,
            123.45,
            12_345.6,
            -7.25,
            1e15,
            f64::NAN,
        ];
        let texts = all.map(number);
        let expected = [
            "0",
            "0.1235",
            "1.5",
            "12",
            "123.5",
            "12\u{202f}346",
            "-7.25",
            "1.000e15",
            "NaN",
        ];
        assert_eq!(texts, expected);
        assert_eq!(
            [count(999), count(1_000), count(-1_234_567)],
            ["999", "1\u{202f}000", "\u{2212}1\u{202f}234\u{202f}567"]
        );
        assert_eq!(
            [bytes(999), bytes(1_000), bytes(12_345_678)],
            ["999 B", "1.0 kB", "12 MB"]
        );
    }

    #[test]
    fn distances_are_in_the_unit_that_fits() {
        let now: DateTime<Utc> = "2026-01-31T12:00:00Z".parse().unwrap();
        let of = |seconds| distance(now - TimeDelta::seconds(seconds), now);
        let texts = [
            0,
            44,
            45,
            89,
            90,
            5_399,
            5_400,
            86_400 * 3,
            -120,
            86_400 * 800,
        ]
        .map(of);
        let expected = [
            "just now",
            "just now",
            "45 s ago",
            "89 s ago",
            "2 min ago",
            "90 min ago",
            "2 h ago",
            "3 days ago",
            "in 2 min",
            "2 years ago",
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn an_outcome_is_told_in_words_where_it_is_flat() {
        let flat = serde_json::json!({"archived": 2, "removed_objects": 0});
        assert_eq!(said(&flat), "archived 2, removed objects 0");
        assert_eq!(said(&serde_json::json!({})), "");
        let deep = serde_json::json!({"steps": [1]});
        assert_eq!(said(&deep), "{\"steps\":[1]}");
    }

    #[test]
    fn messages_become_sentences() {
        assert_eq!(sentence("the job is done"), "The job is done.");
        assert_eq!(sentence("well, it is"), "Well, it is.");
        assert_eq!(sentence("web-api is slow"), "web-api is slow.");
        assert_eq!(sentence(""), ".");
    }
}
