//! What the measurements share: a database with a million jobs, a driver of concurrent clients, the same SQL by
//! pgbench, and the table at the end.
//!
//! A machine is seldom quiet, so no figure stands alone: each is measured in rounds beside what it is compared with,
//! in turns, both at the same concurrency, for the same time, after the same warm-up. What disturbs one then most
//! likely disturbs the other, too, and their ratio holds.

pub mod driver;
pub mod fixture;
pub mod pgbench;
pub mod report;

use std::time::Duration;

/// How long, how often, and on how much.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a round measures.
    pub measured: Duration,
    /// How long a round runs before it measures.
    pub warm_up: Duration,
    /// How many rounds each side has.
    pub rounds: usize,
    /// How many clients work at once, each on a connection of its own.
    pub clients: usize,
    /// How many jobs there are.
    pub rows: i64,
    /// Only operations with this in their title.
    pub only: Option<String>,
}

impl Options {
    /// `--seconds`, `--rounds`, `--clients`, `--rows` and a part of a title, of the command line.
    pub fn from_args() -> Self {
        let mut options = Self {
            measured: Duration::from_secs(10),
            warm_up: Duration::from_secs(2),
            rounds: 3,
            clients: 16,
            rows: 1_000_000,
            only: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            if name == "--bench" {
                continue; // Added by cargo.
            }
            if !name.starts_with("--") {
                options.only = Some(name);
                continue;
            }
            let number = args.next().and_then(|text| text.parse::<u32>().ok());
            let number = number.filter(|&number| number > 0);
            match (name.as_str(), number) {
                ("--seconds", Some(number)) => {
                    options.measured = Duration::from_secs(number.into());
                }
                ("--rounds", Some(number)) => options.rounds = number as usize,
                ("--clients", Some(number)) => options.clients = number as usize,
                ("--rows", Some(number)) => options.rows = number.into(),
                _ => panic!(
                    "unknown argument {name}; the arguments are --seconds, --rounds, --clients and --rows, each with a number, and a part of an operation's title"
                ),
            }
        }
        assert!(
            options.rows >= fixture::MIN_ROWS,
            "--rows: at least {} are needed",
            fixture::MIN_ROWS
        );
        assert!(
            options.clients <= fixture::CLAIMS,
            "--clients: at most {}, as many as there are claims",
            fixture::CLAIMS
        );
        options
    }

    /// Says what is about to be measured.
    pub fn announce(&self, theirs: &str) {
        println!(
            "{} clients; {} rounds of {} s a side, after {} s of warm-up; ours beside {theirs}, and their ratio:",
            self.clients,
            self.rounds,
            self.measured.as_secs(),
            self.warm_up.as_secs()
        );
    }
}
