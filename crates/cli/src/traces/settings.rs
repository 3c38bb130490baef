//! The standard variables, as far as the SDK does not read them itself.
//!
//! The SDK reads endpoints, headers, samplers, limits and the resource's attributes. An empty variable is one that is not set.

use std::time::Duration;

/// How traces are sent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `OTEL_BSP_MAX_QUEUE_SIZE`: so many spans may wait; more are dropped.
    pub queue: usize,
    /// `OTEL_BSP_MAX_EXPORT_BATCH_SIZE`: so many are sent together.
    pub batch: usize,
    /// `OTEL_BSP_SCHEDULE_DELAY`: so long a span waits for others.
    pub linger: Duration,
    /// `OTEL_EXPORTER_OTLP_TIMEOUT`: so long the collector may take.
    pub timeout: Duration,
    /// `OTEL_EXPORTER_OTLP_CERTIFICATE`: a file with the authorities of the collector's certificate.
    pub certificate: Option<String>,
    /// Whether the environment gives the service's name.
    pub is_named: bool,
}

/// What the environment asks for.
#[derive(Debug)]
pub enum Asked {
    /// No traces.
    Off,
    /// No traces, though somebody wants them; the sentence says what to do.
    Unable(String),
    /// Traces.
    On(Settings),
}

impl Settings {
    /// Reads the variables.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Asked {
        let get = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        // The variable of traces wins over the one of all signals.
        let of_traces = |rest: &str| {
            get(&format!("OTEL_EXPORTER_OTLP_TRACES_{rest}"))
                .or_else(|| get(&format!("OTEL_EXPORTER_OTLP_{rest}")))
        };
        if get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Asked::Off;
        }
        match get("OTEL_TRACES_EXPORTER").as_deref() {
            Some("otlp") => {}
            None if of_traces("ENDPOINT").is_some() => {}
            None | Some("none") => return Asked::Off,
            Some(_) => return unable("OTEL_TRACES_EXPORTER", "otlp, or none"),
        }
        if of_traces("PROTOCOL").is_some_and(|value| value != "http/protobuf") {
            return unable(
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "http/protobuf, which collectors take at port 4318",
            );
        }
        let number = |name: &str, default: u64| {
            let given = get(name).and_then(|value| value.trim().parse().ok());
            given.unwrap_or(default)
        };
        let millis = |value: Option<String>| value.and_then(|value| value.trim().parse().ok());
        let queue = number("OTEL_BSP_MAX_QUEUE_SIZE", 2_048).clamp(1, 1_000_000);
        let batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512).clamp(1, queue);
        let in_usize = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let is_of_resource = |value: String| {
            let mut pairs = value.split(',');
            pairs.any(|pair| pair.trim_start().starts_with("service.name="))
        };
        Asked::On(Self {
            queue: in_usize(queue),
            batch: in_usize(batch),
            linger: Duration::from_millis(number("OTEL_BSP_SCHEDULE_DELAY", 5_000).max(1)),
            timeout: Duration::from_millis(millis(of_traces("TIMEOUT")).unwrap_or(10_000)),
            certificate: of_traces("CERTIFICATE"),
            is_named: get("OTEL_SERVICE_NAME").is_some()
                || get("OTEL_RESOURCE_ATTRIBUTES").is_some_and(is_of_resource),
        })
    }
}

fn unable(name: &str, expected: &str) -> Asked {
    Asked::Unable(format!(
        "no traces: {name} is not what this program does; set it to {expected}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Asked {
        Settings::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn traces_are_off_unless_a_collector_is_named_and_nothing_forbids_them() {
        const PLACE: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        for off in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
            &[("OTEL_SERVICE_NAME", "store")],
            &[PLACE, ("OTEL_SDK_DISABLED", "TRUE")],
            &[PLACE, ("OTEL_TRACES_EXPORTER", "none")],
        ] {
            assert!(matches!(read(off), Asked::Off), "{off:?}");
        }
        for unable in [
            &[PLACE, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")][..],
            &[PLACE, ("OTEL_TRACES_EXPORTER", "zipkin")],
        ] {
            assert!(matches!(read(unable), Asked::Unable(_)), "{unable:?}");
        }
        for on in [
            &[PLACE][..],
            &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1/x")],
            &[("OTEL_TRACES_EXPORTER", "otlp")],
            &[PLACE, ("OTEL_SDK_DISABLED", "false")],
            &[
                PLACE,
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
            ],
        ] {
            assert!(matches!(read(on), Asked::On(_)), "{on:?}");
        }
    }

    #[test]
    fn numbers_that_are_none_or_beyond_reason_become_ones_that_work() {
        let Asked::On(settings) = read(&[
            ("OTEL_TRACES_EXPORTER", "otlp"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "900"),
            ("OTEL_BSP_SCHEDULE_DELAY", "soon"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "7"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "8"),
            ("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=mine"),
        ]) else {
            panic!("traces are on");
        };
        assert_eq!((settings.queue, settings.batch), (10, 10));
        assert_eq!(settings.linger, Duration::from_secs(5));
        assert_eq!(settings.timeout, Duration::from_millis(8));
        assert!(settings.is_named);
    }
}
