//! Comparing two sides in rounds, and the table.

use std::{
    io::{Write as _, stdout},
    time::Duration,
};

use hdrhistogram::Histogram;

use super::{Options, driver::Sample};

/// The time that an acceptance criterion allows for an operation.
#[derive(Debug, Clone, Copy)]
pub struct Criterion {
    /// Its number.
    pub name: &'static str,
    /// The most that 99 of 100 operations may take.
    pub limit: Duration,
}

/// The most recent job status is read from the database within 100 ms.
pub const C1_5: Criterion = Criterion {
    name: "C1.5",
    limit: Duration::from_millis(100),
};

/// Progress updates reach percentage and estimate within 5 s: they are one statement.
pub const C1_2: Criterion = Criterion {
    name: "C1.2",
    limit: Duration::from_secs(5),
};

/// A rating is stored within 2 s.
#[allow(dead_code, reason = "not every set of measurements is about feedback")]
pub const C2_1: Criterion = Criterion {
    name: "C2.1",
    limit: Duration::from_secs(2),
};

/// Feedback statistics of an insight within 100 ms.
#[allow(dead_code, reason = "not every set of measurements is about feedback")]
pub const C2_4: Criterion = Criterion {
    name: "C2.4",
    limit: Duration::from_millis(100),
};

/// A 24-hour period of metrics is read within 200 ms.
#[allow(dead_code, reason = "not every set of measurements is about metrics")]
pub const C3_3: Criterion = Criterion {
    name: "C3.3",
    limit: Duration::from_millis(200),
};

/// All rounds of one operation.
pub struct Comparison {
    title: &'static str,
    criterion: Criterion,
    ours: Side,
    theirs: Side,
}

struct Side {
    rates: Vec<f64>,
    latencies: Histogram<u64>,
}

impl Side {
    fn new() -> Self {
        Self {
            rates: Vec::new(),
            latencies: Sample::latencies(),
        }
    }

    fn add(&mut self, sample: &Sample) {
        self.rates.push(sample.rate);
        self.latencies
            .add(&sample.latencies)
            .expect("all histograms grow");
    }

    fn milliseconds(&self, quantile: f64) -> f64 {
        self.latencies.value_at_quantile(quantile) as f64 / 1_000.0
    }
}

/// Measures both sides in turns, who begins alternating; tells how far it is. `None` for what was not asked for.
pub async fn compare(
    options: &Options,
    title: &'static str,
    criterion: Criterion,
    ours: impl AsyncFn() -> Sample,
    theirs: impl AsyncFn() -> Sample,
) -> Option<Comparison> {
    if options
        .only
        .as_ref()
        .is_some_and(|only| !title.contains(only.as_str()))
    {
        return None;
    }
    print!("{title:<40}");
    let mut comparison = Comparison {
        title,
        criterion,
        ours: Side::new(),
        theirs: Side::new(),
    };
    for round in 0..options.rounds {
        for turn in 0..2 {
            if (round + turn) % 2 == 0 {
                comparison.ours.add(&ours().await);
            } else {
                comparison.theirs.add(&theirs().await);
            }
            print!(" .");
            stdout().flush().expect("standard output is open");
        }
    }
    println!(" {:.2}", comparison.ratio());
    Some(comparison)
}

impl Comparison {
    /// Our rate as a part of theirs: the median over the rounds.
    pub fn ratio(&self) -> f64 {
        let both = self.ours.rates.iter().zip(&self.theirs.rates);
        median(both.map(|(ours, theirs)| ours / theirs).collect())
    }

    fn row(&self) -> String {
        let p99 = Duration::from_micros(self.ours.latencies.value_at_quantile(0.99));
        let Criterion { name, limit } = self.criterion;
        let verdict = if p99 <= limit {
            let share = p99.as_secs_f64() / limit.as_secs_f64() * 100.0;
            format!("{name}: {share:.2} % of {} ms", limit.as_millis())
        } else {
            format!("{name}: MISSED, {} ms allowed", limit.as_millis())
        };
        format!(
            "{:<40} {:>9.0} {:>9.0} {:>6.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}  {verdict}",
            self.title,
            median(self.ours.rates.clone()),
            median(self.theirs.rates.clone()),
            self.ratio(),
            self.ours.milliseconds(0.5),
            self.ours.milliseconds(0.99),
            self.theirs.milliseconds(0.5),
            self.theirs.milliseconds(0.99),
        )
    }
}

/// Prints the table; `theirs` names what ours is compared with, in at most 9 characters.
pub fn print_table(theirs: &str, comparisons: impl IntoIterator<Item = Option<Comparison>>) {
    println!(
        "\n{:<40} {:>9} {:>9} {:>6} {:>19} {:>19}  our p99 against",
        "", "ours", theirs, "", "ours", theirs
    );
    println!(
        "{:<40} {:>9} {:>9} {:>6} {:>9} {:>9} {:>9} {:>9}  the criterion",
        "operation", "ops/s", "ops/s", "ratio", "p50 ms", "p99 ms", "p50 ms", "p99 ms"
    );
    for comparison in comparisons.into_iter().flatten() {
        println!("{}", comparison.row());
    }
    println!(
        "rates and ratio: median of the rounds (the ratio is taken in each round); p50 and p99: of all rounds together"
    );
}

/// The middle of some numbers, or between the two that are.
pub fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let middle = numbers.len() / 2;
    if numbers.len() % 2 == 1 {
        numbers[middle]
    } else {
        numbers[middle - 1].midpoint(numbers[middle])
    }
}
