//! `metrics`: files in, charts and lists out, and rollups verified.

mod busy;

use std::{fs, io::Write as _};

use chrono::{DateTime, Datelike as _, SecondsFormat, TimeDelta, Utc, Weekday};
use serde_json::{Value, json};
use utxoiq_store::clock::{Clock as _, SystemClock};

use crate::support::{Service, text};

/// Midnight some days ago.
fn midnight(days: i64) -> DateTime<Utc> {
    let day = SystemClock.now().date_naive() - TimeDelta::days(days);
    day.and_hms_opt(0, 0, 0).unwrap().and_utc()
}

fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// A line of a file.
fn line(host: &str, at: DateTime<Utc>, value: f64) -> String {
    let metadata = (at.timestamp() % 1_000 == 3).then(|| json!({"a": "b,\"c\""}));
    json!({
        "service_name": "api", "metric_type": "latency", "metric_value": value, "unit": "ms", "timestamp": written(at),
        "labels": {"host": host}, "metric_metadata": metadata,
    })
    .to_string()
}

/// All samples, with all that is kept of them.
async fn stored(service: &Service) -> Vec<String> {
    let sql = "select (service_name, metric_type, unit, labels, sampled_at, value, metadata)::text
               from system_metrics m join metric_series s on s.id = m.series_id order by 1";
    let rows = service.admin().await.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn a_file_is_imported_in_pieces_and_what_comes_out_goes_in_again() {
    let service = Service::start(&[]).await;
    let file = service.path("samples.ndjson");
    let start = midnight(2);
    let lines: Vec<String> = (0..5_000)
        .map(|n| {
            let host = if n % 2 == 0 { "a" } else { "b=,\"" };
            line(host, start + TimeDelta::seconds(n), n as f64)
        })
        .collect();
    fs::write(&file, lines.join("\n")).unwrap();
    let import = ["metrics", "import", "--piece", "16", "--json"];
    let summary = service.json(&[&import[..], &[text(&file)]].concat()).await;
    assert_eq!(
        (&summary["lines"], &summary["stored"], &summary["rejected"]),
        (&json!(5_000), &json!(5_000), &json!([])),
        "{summary}"
    );
    let kept = stored(&service).await;
    assert_eq!(kept.len(), 5_000);

    // Again, from a pipe and compressed: nothing is added, and nothing but text comes out.
    let shell = format!(
        "gzip -c '{0}' | \"$0\" metrics import --parallel 2 - '{0}'",
        text(&file)
    );
    let (code, table, notes) = service.shell(&shell).await;
    assert_eq!(code, 0, "{table} {notes}");
    let expected = "SAMPLES             FIRST\nstored           0\nduplicates  10,000\nconflicts        0\nrejected         0\n";
    assert_eq!(table, expected);
    assert!(
        !notes.contains('\u{1b}') && notes.contains("10,000 samples, "),
        "{notes}"
    );
    assert_eq!(stored(&service).await, kept);

    // Out as a file, and in again where nothing is.
    let range = [
        "--from",
        &written(start),
        "--to",
        &written(start + TimeDelta::days(1)),
    ];
    for format in ["csv", "ndjson"] {
        let out = service.path(&format!("out.{format}"));
        let query = [&["metrics", "query", "--format", format], &range[..]].concat();
        fs::write(&out, service.ok(&query).await).unwrap();
        let admin = service.admin().await;
        admin
            .batch_execute("truncate system_metrics")
            .await
            .unwrap();
        let summary = service
            .json(&["metrics", "import", "--json", "--piece", "64", text(&out)])
            .await;
        assert_eq!(summary["stored"], 5_000, "{summary}");
        assert_eq!(stored(&service).await, kept, "{format}");
    }
}

#[tokio::test]
async fn what_is_refused_is_told_by_the_line_of_its_file() {
    let service = Service::start(&[]).await;
    let file = service.path("some.csv");
    let start = midnight(2);
    let mut csv = "service_name,metric_type,metric_value,unit,timestamp,labels\n".to_owned();
    for number in 2..=2_000_i64 {
        let at = written(start + TimeDelta::seconds(number));
        csv.push_str(&match number {
            700 | 1_300 => format!("api,cpu,lots,%,{at},\n"),
            900 => "api,cpu,1,%,1999-01-01T00:00:00Z,\n".to_owned(),
            1_500 => format!("api,cpu,1,%,{at},\"{{\"\"a\"\":\n\"\"b\"\"}}\"\n"),
            1_600 => "api,cpu,1,%,,\n".to_owned(),
            _ => format!("api,cpu,{number},%,{at},\n"),
        });
    }
    fs::write(&file, &csv).unwrap();
    let args = ["metrics", "import", "--piece", "4", text(&file)];
    let (code, output) = service.run(&args).await;
    assert_eq!(code, 1, "{output}");
    let shown = text(&file);
    for line in [
        "stored      1,995\n".to_owned(),
        "rejected        4\n".to_owned(),
        // One line further, as a row above has a line's end in it.
        format!("  no_timestamp      1  {shown}:1601: timestamp: is required"),
        format!(
            "  too_old           1  {shown}:900: api cpu at 1999-01-01T00:00:00Z: is more than 90 days old"
        ),
        format!("  unreadable        2  {shown}:700: metric_value: "),
    ] {
        let squeezed = |text: &str| {
            text.split(' ')
                .filter(|word| !word.is_empty())
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(
            squeezed(&output).contains(&squeezed(&line)),
            "{line:?} is not in\n{output}"
        );
    }
    // Mended but for one value that differs now: a conflict is not stored either.
    let csv = csv
        .replace("lots", "7")
        .replace("api,cpu,1000,", "api,cpu,-1,");
    fs::write(&file, csv).unwrap();
    let (code, output) = service
        .run(&[&args[..4], &["--json", text(&file)]].concat())
        .await;
    let summary: Value =
        serde_json::from_str(&output[output.find('{').unwrap()..=output.rfind('}').unwrap()])
            .unwrap();
    assert_eq!(
        (code, &summary["stored"], &summary["conflicts"]),
        (1, &json!(2), &json!(1))
    );
    assert_eq!(
        summary["first_conflict"],
        json!({"file": text(&file), "line": 1_000})
    );
}

#[tokio::test]
async fn what_cannot_be_imported_is_refused_with_a_reason() {
    let service = Service::start(&[]).await;
    let write = |name: &str, bytes: &[u8]| {
        let path = service.path(name);
        fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        text(&path).to_owned()
    };
    let picture = write("picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR");
    let torn = write("torn.csv.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\x03torn");
    let folder = text(service.folder.path()).to_owned();
    let empty = write("empty.csv", b"");
    for (args, code, reason) in [
        (&["import"][..], 2, "<FILE>"),
        (
            &["import", "/nowhere.csv"],
            1,
            "/nowhere.csv cannot be read",
        ),
        (&["import", &folder], 1, "is a folder"),
        (&["import", &picture], 1, "header"),
        (&["import", &torn], 1, "cannot be read"),
        (&["import", &empty], 0, "has no samples"),
        (&["import", "--format", "xml", &empty], 2, "ndjson"),
        (&["import", "--parallel", "0", &empty], 2, "1..=32"),
        (
            &["import", "--url", "http://127.0.0.1:1", &picture],
            1,
            "is the service running?",
        ),
        (&["query", "--label", "a"], 2, "such as host=a"),
        (&["query", "--last", "1y"], 2, "such as 24h"),
        (
            &["query", "--last", "1h", "--from", "2026-01-01"],
            2,
            "cannot be used with",
        ),
        (
            &["query", "--from", "yesterday"],
            2,
            "must be a time such as",
        ),
        (
            &["query", "--from", "2026-01-02", "--to", "2026-01-01"],
            1,
            "ends before it begins",
        ),
        (&["query", "--format", "xml"], 2, "ndjson"),
        (&["top", "--by", "median"], 2, "p95"),
        (&["top", "--hours", "0"], 2, "1..=2160"),
        (&["degradations", "--threshold", "0"], 1, "threshold"),
        (&["degradations", "--statistic", "p42"], 2, "p99"),
        (&["verify", "--from", "2026-02-30"], 2, "--from"),
        (
            &["verify", "--from", "2026-03-02", "--to", "2026-03-01"],
            1,
            "days apart",
        ),
        (&["series", "--cursor", "?"], 1, "cursor"),
    ] {
        let (got, output) = service.run(&[&["metrics"], args].concat()).await;
        assert!(
            got == code && output.contains(reason),
            "{args:?}: {got} {output}"
        );
    }
    let reader = [
        "token",
        "create",
        "--name",
        "reader",
        "--scopes",
        "metrics:read",
    ];
    let token = service.ok(&reader).await;
    let token = [("UTXOIQ_STORE_TOKEN", token.trim())];
    let lines = write("one.ndjson", line("a", midnight(1), 1.0).as_bytes());
    for args in [&["import", &*lines][..], &["verify"]] {
        let (code, output) = service
            .run_with(&token, &[&["metrics"], args].concat())
            .await;
        assert!(
            code == 1 && output.contains("scope"),
            "{args:?}: {code} {output}"
        );
    }
    assert!(stored(&service).await.is_empty());
}

/// Two hosts, four samples an hour over 16 days; in the last hour that is over, one is twice as slow.
async fn two_weeks(service: &Service) -> DateTime<Utc> {
    let end = SystemClock.now() - TimeDelta::minutes(3);
    let end = DateTime::from_timestamp(end.timestamp() / 3_600 * 3_600, 0).unwrap();
    let quarters = 16 * 24 * 4;
    let mut lines = Vec::new();
    for host in ["fast", "slow"] {
        for quarter in 1..=quarters {
            let at = end - TimeDelta::minutes(15 * quarter);
            let usual = 100.0 + (quarter * 7 % 11) as f64;
            let factor = if host == "slow" && quarter <= 4 {
                2.0
            } else {
                1.0
            };
            lines.push(line(host, at, usual * factor));
        }
    }
    let file = service.path("weeks.ndjson");
    fs::write(&file, lines.join("\n")).unwrap();
    service.ok(&["metrics", "import", text(&file)]).await;
    service.ok(&["schedule", "run", "roll_up_metrics"]).await;
    end
}

#[tokio::test]
async fn people_are_shown_charts_and_lists_and_programs_what_the_service_answers() {
    let service = Service::start(&[]).await;
    let end = two_weeks(&service).await;
    let ok = async |args: &[&str]| service.ok(&[&["metrics"], args].concat()).await;
    let json = async |args: &[&str]| {
        service
            .json(&[&["metrics"], args, &["--json"]].concat())
            .await
    };

    let series = ok(&["series", "--label", "host=slow"]).await;
    let expected = "ID  SERVICE  TYPE     UNIT  LABELS\n 2  api      latency  ms    host=slow\n";
    assert_eq!(series.replace(" 1  api", " 2  api"), expected);
    assert_eq!(
        json(&["series", "--limit", "1"]).await["series"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        ok(&["series", "--service", "nobody"]).await,
        "no such series\n"
    );
    let services = ok(&["services"]).await;
    assert!(
        services.contains("api           2      1  ") && services.contains("may have 10000 series"),
        "{services}"
    );

    let to = written(end);
    let range = ["--to", &*to, "--last", "2d"];
    let chart = ok(&[
        &["query", "--label", "host=slow", "--width", "40"],
        &range[..],
    ]
    .concat())
    .await;
    let lines: Vec<&str> = chart.lines().collect();
    assert_eq!(
        (lines[0], lines.len()),
        ("api latency{host=slow} [ms]", 13),
        "{chart}"
    );
    let peak: f64 = lines[1].split(' ').next().unwrap().parse().unwrap();
    assert!(
        (200.0..=220.0).contains(&peak) && lines[8].starts_with("100 ┤"),
        "{chart}"
    );
    assert!(
        lines[11].contains("  min 100 at ") && lines[11].contains(&format!("max {peak} at ")),
        "{chart}"
    );
    assert!(!chart.contains('\u{1b}'), "{chart}");
    let both = ok(&[&["query", "--service", "api"], &range[..]].concat()).await;
    assert_eq!(both.matches("api latency{host=").count(), 2);
    let table = ok(&[&["query", "--output", "table", "--limit", "3"], &range[..]].concat()).await;
    assert_eq!(table.lines().count(), 4, "{table}");
    let document = json(&[&["query", "--points", "20"], &range[..]].concat()).await;
    assert_eq!(document["series"].as_array().unwrap().len(), 2);
    let lines = ok(&[&["query", "--format", "ndjson"], &range[..]].concat()).await;
    assert_eq!(lines.lines().count(), 2 * 2 * 24 * 4);

    let top = ok(&["top", "--by", "p95", "--hours", "2"]).await;
    let slowest = top.lines().nth(2).unwrap();
    assert!(
        slowest.starts_with("api latency{host=slow} [ms]") && slowest.ends_with(&"█".repeat(30)),
        "{top}"
    );
    // It is asked up to now: since the samples were made an hour may have ended.
    let most = json(&["top", "--by", "count", "--limit", "1"]).await;
    let start: DateTime<Utc> = most["start_time"].as_str().unwrap().parse().unwrap();
    let hours = (end - start).num_hours();
    assert!((23..=24).contains(&hours), "{most}");
    assert_eq!(most["series"][0]["count"], hours * 4);

    let worse = ok(&["degradations", "--end", &to]).await;
    let lines: Vec<&str> = worse.lines().collect();
    assert!(
        lines[0].contains(": 2 series judged, 0 with too little history"),
        "{worse}"
    );
    assert!(
        lines.len() == 3 && lines[2].starts_with("api latency{host=slow} [ms]"),
        "{worse}"
    );
    assert!(
        ok(&["degradations", "--end", &to, "--direction", "down"])
            .await
            .ends_with("none got worse\n")
    );
    assert_eq!(
        json(&["degradations", "--end", &to]).await["degradations"][0]["labels"]["host"],
        "slow"
    );
}

#[tokio::test]
async fn rollups_are_verified_day_by_day_and_made_again() {
    let service = Service::start(&[]).await;
    two_weeks(&service).await;
    let (code, output) = service.run(&["metrics", "verify"]).await;
    assert!(
        code == 0
            && output.contains("7 days verified, ")
            && output.contains(" rollups compared, 0 differences"),
        "{code} {output}"
    );
    // On a Sunday the week's rollup would differ, too.
    let days = [3, 4].map(|days| midnight(days).date_naive());
    let day = days
        .into_iter()
        .find(|day| day.weekday() != Weekday::Sun)
        .unwrap();
    let admin = service.admin().await;
    let tamper = format!(
        "update metric_rollups set sum = sum + 1 where hours = 24 and bucket = '{day}T00:00:00Z'"
    );
    admin.batch_execute(&tamper).await.unwrap();
    let to = (day + TimeDelta::days(1)).to_string();
    let only = ["metrics", "verify", "--from", &day.to_string(), "--to", &to];
    let (code, output) = service.run(&only).await;
    assert_eq!(code, 1, "{output}");
    let named =
        format!("{day}: series 1, day from {day} 00:00: the rollup has 96 samples, there are 96");
    assert!(
        output.contains(&named) && output.contains("2 differences, 2 left"),
        "{output}"
    );
    let (code, output) = service.run(&[&only[..], &["--repair"]].concat()).await;
    assert!(
        code == 0 && output.contains("2 differences, all made again"),
        "{code} {output}"
    );
    let answers = service.json(&[&only[..], &["--json"]].concat()).await;
    assert_eq!(
        (&answers[0]["differing"], &answers[0]["is_verified"]),
        (&json!(0), &json!(true))
    );
    let far = [
        "metrics",
        "verify",
        "--from",
        "2000-01-01",
        "--to",
        "2000-01-03",
    ];
    assert!(service.ok(&far).await.contains("2 days without samples"));
}
