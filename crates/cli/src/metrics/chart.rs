//! A small chart: points as dots of Braille characters, two by four in each.
//!
//! The points are samples, and a series' extremes are among them (the service keeps them when it thins out), so that the
//! figures below the chart are those of all samples.

use chrono::{DateTime, TimeDelta, Utc};

use super::figures::{figure, second};

/// How high a chart is, in lines.
const HEIGHT: usize = 8;

/// The dots of a character, by column and row.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

/// Points this many times further apart than most are not joined: nothing is known of what is between.
const GAP: i64 = 4;

/// A point.
pub type Point = (DateTime<Utc>, f64);

/// How many points fill a chart of a width: the first, last, least and greatest of each column of dots.
pub fn points(width: usize) -> usize {
    4 * 2 * width
}

/// A chart of points in the order of their times, from a time on and before another.
pub fn chart(points: &[Point], range: (DateTime<Utc>, DateTime<Utc>), width: usize) -> String {
    let Some(last) = points.last() else {
        return "no samples\n".to_owned();
    };
    let least = points.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let greatest = points.iter().max_by(|a, b| a.1.total_cmp(&b.1));
    let (least, greatest) = (least.unwrap_or(last), greatest.unwrap_or(last));
    let mut canvas = Canvas::new(width, HEIGHT);
    let place = |point: &Point| canvas.place(point, range, (least.1, greatest.1));
    let places: Vec<_> = points.iter().map(place).collect();
    let far = usual_distance(points).checked_mul(to_i32(GAP));
    for (index, here) in places.iter().enumerate() {
        canvas.dot(*here);
        let Some((next, there)) = points.get(index + 1).zip(places.get(index + 1)) else {
            continue;
        };
        let is_far = far.is_some_and(|far| next.0 - points[index].0 > far);
        if !is_far || there.0.abs_diff(here.0) <= 2 {
            canvas.line(*here, *there);
        }
    }
    let (low, high) = (figure(least.1), figure(greatest.1));
    let margin = low.chars().count().max(high.chars().count());
    let mut text = String::new();
    for (row, line) in canvas.lines().enumerate() {
        let label = match row {
            0 => &*high,
            _ if row == HEIGHT - 1 && low != high => &*low,
            _ => "",
        };
        text.push_str(format!("{label:>margin$} ┤{line}").trim_end());
        text.push('\n');
    }
    text.push_str(&axis(range, margin, width));
    text.push_str(&format!(
        "{:margin$}  min {low} at {}, max {high} at {}, last {} at {}\n",
        "",
        second(least.0),
        second(greatest.0),
        figure(last.1),
        second(last.0)
    ));
    text
}

fn to_i32(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// The distance that half of the points have to their neighbours, or less.
fn usual_distance(points: &[Point]) -> TimeDelta {
    let mut all: Vec<TimeDelta> = points.windows(2).map(|two| two[1].0 - two[0].0).collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// The axis of time, with both ends.
fn axis(range: (DateTime<Utc>, DateTime<Utc>), margin: usize, width: usize) -> String {
    let form = if range.1 - range.0 > TimeDelta::days(3) {
        "%Y-%m-%d"
    } else {
        "%m-%d %H:%M"
    };
    let (from, to) = (
        range.0.format(form).to_string(),
        format!("{} UTC", range.1.format(form)),
    );
    let between = width.saturating_sub(from.len() + 1);
    format!(
        "{:margin$} └{}\n{:margin$}  {from} {to:>between$}\n",
        "",
        "─".repeat(width),
        ""
    )
}

/// Dots.
struct Canvas {
    width: usize,
    height: usize,
    cells: Vec<u8>,
}

/// A dot's column and row; row 0 is at the top.
type Place = (usize, usize);

impl Canvas {
    fn new(width: usize, height: usize) -> Self {
        Self {
            width,
            height,
            cells: vec![0; width * height],
        }
    }

    fn place(
        &self,
        point: &Point,
        range: (DateTime<Utc>, DateTime<Utc>),
        values: (f64, f64),
    ) -> Place {
        let (columns, rows) = (2 * self.width - 1, 4 * self.height - 1);
        let length = (range.1 - range.0).num_milliseconds().max(1) as f64;
        let along = (point.0 - range.0).num_milliseconds() as f64 / length;
        // Halves, since the span of very great values is no number.
        let span = values.1 / 2.0 - values.0 / 2.0;
        let up = if span > 0.0 {
            (point.1 / 2.0 - values.0 / 2.0) / span
        } else {
            0.5
        };
        let scaled = |share: f64, most: usize| {
            // Between 0 and the most, also for what is no number.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let place = (share.clamp(0.0, 1.0) * most as f64).round() as usize;
            place
        };
        (scaled(along, columns), rows - scaled(up, rows))
    }

    fn dot(&mut self, (column, row): Place) {
        let cell = self.cells.get_mut(row / 4 * self.width + column / 2);
        if let Some(cell) = cell {
            *cell |= DOTS[column % 2][row % 4];
        }
    }

    /// Dots from one place to another, as many as the longer of both distances has.
    fn line(&mut self, from: Place, to: Place) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1));
        let between = |from: usize, to: usize, step: usize| {
            let moved = (from.abs_diff(to) * step + steps / 2) / steps.max(1);
            if to >= from {
                from + moved
            } else {
                from - moved
            }
        };
        for step in 0..=steps {
            self.dot((between(from.0, to.0, step), between(from.1, to.1, step)));
        }
    }

    fn lines(&self) -> impl Iterator<Item = String> {
        self.cells.chunks(self.width).map(|row| {
            let all = row.iter().map(|dots| match dots {
                0 => ' ',
                dots => char::from_u32(0x2800 + u32::from(*dots)).unwrap_or(' '),
            });
            all.collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        "2026-03-10T00:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::minutes(minute)
    }

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        let rising: Vec<_> = (0..60).map(|n| (at(n), n as f64)).collect();
        let text = chart(&rising, (at(0), at(60)), 40);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), HEIGHT + 3);
        let blank = |line: &str| line.chars().skip(4).take_while(|c| *c == ' ').count();
        let blanks: Vec<usize> = lines[..HEIGHT].iter().map(|line| blank(line)).collect();
        assert!(
            blanks.windows(2).all(|two| two[0] > two[1]) && blanks[HEIGHT - 1] == 0,
            "{text}"
        );
        assert!(
            lines[0].starts_with("59 ┤") && lines[7].starts_with(" 0 ┤"),
            "{text}"
        );
        assert_eq!(lines[8], format!("   └{}", "─".repeat(40)));
        assert!(
            lines[9].starts_with("    03-10 00:00") && lines[9].ends_with("03-10 01:00 UTC"),
            "{text}"
        );
        assert_eq!(
            lines[10],
            "    min 0 at 2026-03-10T00:00:00Z, max 59 at 2026-03-10T00:59:00Z, last 59 at 2026-03-10T00:59:00Z"
        );
    }

    #[test]
    fn what_is_missing_is_not_drawn_and_nothing_makes_it_panic() {
        let range = (at(0), at(100));
        let gap: Vec<_> = (0..100)
            .filter(|n| !(30..70).contains(n))
            .map(|n| (at(n), 1.0))
            .collect();
        let text = chart(&gap, range, 50);
        let middle = text.lines().find(|line| {
            line.contains('⠒') || line.contains('⠤') || line.contains('⠉') || line.contains('⣀')
        });
        let drawn: String = middle
            .unwrap_or_else(|| panic!("{text}"))
            .chars()
            .skip(3)
            .collect();
        assert!(drawn.chars().skip(18).take(14).all(|c| c == ' '), "{text}");
        for points in [
            vec![],
            vec![(at(5), 0.0)],
            vec![(at(5), -1e300), (at(6), 1e300)],
            vec![(at(5), 1e-300), (at(5), -0.0)],
            vec![(at(-5), 1.0), (at(500), 2.0)],
        ] {
            assert!(!chart(&points, range, 20).is_empty());
            assert!(!chart(&points, (at(0), at(0)), 1).is_empty());
        }
    }
}
