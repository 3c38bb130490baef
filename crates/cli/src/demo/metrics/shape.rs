//! What each series looks like: a level, a rhythm, noise, and what went wrong when.

use std::f64::consts::TAU;

use chrono::{DateTime, Datelike as _, NaiveDate, TimeDelta, Timelike as _, Utc};
use rand::{RngExt as _, rngs::StdRng};

pub const SERVICES: [&str; 6] = [
    "insight-engine",
    "block-ingestor",
    "web-api",
    "feature-extractor",
    "alert-dispatcher",
    "chart-renderer",
];

/// What a series measures: how it moves with the traffic, and in an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Latency,
    ErrorRate,
    Throughput,
    QueueDepth,
    Cpu,
    Memory,
}

/// A series.
pub struct Series {
    pub service: &'static str,
    pub name: &'static str,
    pub unit: &'static str,
    pub labels: Vec<(&'static str, &'static str)>,
    kind: Kind,
    level: f64,
}

struct Incident {
    service: &'static str,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    factor: f64,
}

/// Everything that decides what is measured.
pub struct World {
    pub series: Vec<Series>,
    random: StdRng,
    incidents: Vec<Incident>,
    /// A service that reports nothing, from and to.
    gaps: Vec<(&'static str, DateTime<Utc>, DateTime<Utc>)>,
    first: NaiveDate,
}

/// Since when something is wrong that is still wrong.
const WRONG_SINCE: TimeDelta = TimeDelta::hours(7);

impl World {
    pub fn new(mut random: StdRng, first: NaiveDate, as_of: DateTime<Utc>) -> Self {
        let days = (as_of.date_naive() - first).num_days().max(1);
        let mut moment = |length: std::ops::Range<i64>| {
            let from = as_of - TimeDelta::minutes(random.random_range(1_500..days * 1_440 + 1_501));
            let service = SERVICES[random.random_range(0..SERVICES.len())];
            (
                service,
                from,
                from + TimeDelta::minutes(random.random_range(length)),
                random.random_range(1.7..3.4),
            )
        };
        let incidents =
            (0..days / 40 + 2)
                .map(|_| moment(25..300))
                .map(|(service, from, to, factor)| Incident {
                    service,
                    from,
                    to,
                    factor,
                });
        let mut incidents: Vec<_> = incidents.collect();
        let gaps = (0..days / 80 + 2)
            .map(|_| moment(40..500))
            .map(|(service, from, to, _)| (service, from, to))
            .collect();
        for (service, factor) in [("web-api", 2.3), ("insight-engine", 1.8)] {
            incidents.push(Incident {
                service,
                from: as_of - WRONG_SINCE,
                to: as_of,
                factor,
            });
        }
        Self {
            series: series(),
            random,
            incidents,
            gaps,
            first,
        }
    }

    /// What a series is at a time; nothing while its service reports nothing.
    pub fn sample(&mut self, series: usize, at: DateTime<Utc>) -> Option<f64> {
        let one = &self.series[series];
        if self
            .gaps
            .iter()
            .any(|(service, from, to)| *service == one.service && at >= *from && at < *to)
        {
            return None;
        }
        let trouble = self
            .incidents
            .iter()
            .filter(|incident| incident.service == one.service);
        let trouble = trouble.map(|incident| incident.at(at)).fold(1.0, f64::max);
        let noise: f64 = (0..3)
            .map(|_| self.random.random_range(-1.0..1.0))
            .sum::<f64>()
            / 3.0;
        let grown = (at.date_naive() - self.first).num_days() as f64 / 730.0;
        let traffic = traffic(at) * (0.75 + 0.35 * grown);
        let spike = if self.random.random_bool(0.002) {
            1.6
        } else {
            1.0
        };
        let value = one.level * one.kind.factor(traffic, trouble, noise, spike);
        Some(one.kind.rounded(value))
    }
}

impl Incident {
    /// How bad it is at a time: 1 is as ever. It comes within ten minutes.
    fn at(&self, at: DateTime<Utc>) -> f64 {
        if at < self.from || at >= self.to {
            return 1.0;
        }
        let minutes = (at - self.from).num_seconds() as f64 / 60.0;
        1.0 + (self.factor - 1.0) * (minutes / 10.0).min(1.0)
    }
}

impl Kind {
    fn factor(self, traffic: f64, trouble: f64, noise: f64, spike: f64) -> f64 {
        match self {
            Self::Latency => (0.7 + 0.3 * traffic) * trouble * (1.0 + 0.16 * noise) * spike,
            Self::ErrorRate => {
                (trouble.powi(3) * (0.6 + 0.4 * traffic) * (1.0 + 0.7 * noise)).max(0.0)
            }
            Self::Throughput => traffic / trouble.sqrt() * (1.0 + 0.08 * noise),
            Self::QueueDepth => traffic.powi(2) * trouble.powi(4) * (1.0 + 0.4 * noise) * spike,
            Self::Cpu => (0.45 + 0.55 * traffic) * trouble.sqrt() * (1.0 + 0.1 * noise),
            Self::Memory => 0.9 + 0.06 * traffic + 0.05 * (trouble - 1.0) + 0.012 * noise,
        }
    }

    fn rounded(self, value: f64) -> f64 {
        match self {
            Self::QueueDepth => value.max(0.0).round(),
            Self::ErrorRate => (value.min(100.0) * 10_000.0).round() / 10_000.0,
            Self::Cpu => (value.clamp(0.0, 100.0) * 100.0).round() / 100.0,
            _ => (value.max(0.0) * 1_000.0).round() / 1_000.0,
        }
    }
}

/// How much there is to do at a time: most in the afternoon (UTC), less at weekends.
fn traffic(at: DateTime<Utc>) -> f64 {
    let hours = f64::from(at.num_seconds_from_midnight()) / 3_600.0;
    let day =
        1.0 + 0.42 * ((hours - 9.5) / 24.0 * TAU).sin() + 0.1 * ((hours - 2.0) / 12.0 * TAU).sin();
    let week = if at.weekday().num_days_from_monday() >= 5 {
        0.72
    } else {
        1.0
    };
    day * week
}

fn series() -> Vec<Series> {
    let mut all = Vec::new();
    for (number, service) in SERVICES.into_iter().enumerate() {
        let scale = 1.0 + number as f64 * 0.37;
        for (kind, name, unit, level) in [
            (Kind::Latency, "request_latency_p95", "ms", 85.0 * scale),
            (Kind::ErrorRate, "error_rate", "percent", 0.25 * scale),
            (Kind::Throughput, "throughput", "req/s", 310.0 / scale),
            (Kind::QueueDepth, "queue_depth", "items", 18.0 * scale),
            (Kind::Cpu, "cpu_usage", "percent", 34.0 + 4.0 * scale),
            (Kind::Memory, "memory_usage", "MiB", 620.0 * scale),
        ] {
            all.push(Series {
                service,
                name,
                unit,
                labels: Vec::new(),
                kind,
                level,
            });
        }
    }
    for (endpoint, level) in [("/insights", 64.0), ("/charts", 120.0), ("/alerts", 41.0)] {
        all.push(Series {
            service: "web-api",
            name: "endpoint_latency_p95",
            unit: "ms",
            labels: vec![("endpoint", endpoint), ("region", "europe-west1")],
            kind: Kind::Latency,
            level,
        });
    }
    all
}
