//! `feedback`: what people are shown, and exports that are whole or not there.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::support::{Service, text};

/// Ratings from 1 to 5 by ten users on two insights, two flags, and a comment that would move the cursor.
const FEEDBACK: &str = r"
    insert into insight_feedback (insight_id, user_id, rating, rated_at, comment, commented_at, flag_type, flag_reason,
                                  flagged_at, created_at, updated_at)
    select 'block ' || i, 'user ' || u, (u + i) % 5 + 1, t, c, case when c is not null then t end, f,
           case when f is not null then 'by ' || u end, case when f is not null then t end, t, t
    from (select i, u, date_trunc('second', clock_timestamp()) + make_interval(secs => u) - interval '1 minute' as t,
                 case when u = 3 then E'=two\nlines \u001b[2J' end as c, case when i = 2 and u < 2 then 'spam' end as f
          from generate_series(1, 2) as i, generate_series(0, 9) as u) as made";

async fn service() -> Service {
    let service = Service::start(&[]).await;
    let admin = service.admin().await;
    admin.batch_execute(FEEDBACK).await.unwrap();
    service
}

/// What is in the test's folder.
fn files(service: &Service) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(service.folder.path())
        .unwrap()
        .map(Result::unwrap)
        // Beside them are the folders of the cold store.
        .filter(|entry| !entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn people_are_shown_tables_and_programs_what_the_service_answers() {
    let service = service().await;
    let ok = async |args: &[&str]| service.ok(&[&["feedback"], args].concat()).await;
    let json = async |args: &[&str]| {
        service
            .json(&[&["feedback"], args, &["--json"]].concat())
            .await
    };

    let stats = ok(&["stats", "block 2"]).await;
    for line in [
        "insight   block 2\n",
        "ratings   10, mean 3.00 (ranked as 3.00, at least ",
        &format!("  5       2  {}\n", "█".repeat(30)),
        "comments  1\n",
        "flags     2 (spam 2)\n",
    ] {
        assert!(stats.contains(line), "{line}: {stats}");
    }
    assert!(!stats.contains("ever"), "{stats}");
    assert_eq!(
        json(&["stats", "block 2"]).await["rating_distribution"]["5"],
        2
    );
    assert!(
        ok(&["stats", "nobody's"])
            .await
            .contains("ratings   none\n")
    );

    let top = ok(&["top", "--ranking", "lower_bound", "--limit", "1"]).await;
    assert_eq!(top.lines().count(), 3, "{top}");
    assert!(
        top.starts_with(
            "INSIGHT  RATINGS  MEAN  BAYESIAN MEAN  LOWER BOUND\nblock 1       10  3.00"
        ),
        "{top}"
    );
    let cursor = top
        .trim_end()
        .rsplit("more: --cursor ")
        .next()
        .unwrap()
        .to_owned();
    let rest = ok(&["top", "--ranking", "lower_bound", "--cursor", &cursor]).await;
    assert!(
        rest.contains("block 2") && !rest.contains("block 1"),
        "{rest}"
    );
    assert_eq!(
        json(&["top", "--min-ratings", "11"]).await["insights"],
        json!([])
    );

    let flagged = ok(&["flagged", "--type", "spam"]).await;
    assert!(
        flagged.contains("block 2  2 flags (spam 2)  10 ratings, mean 3.00  last "),
        "{flagged}"
    );
    assert!(
        flagged.contains("user 1: by 1\n") && flagged.ends_with("1 of 1 insights\n"),
        "{flagged}"
    );

    let trend = ok(&["trend", "block 1"]).await;
    assert_eq!(trend.lines().count(), 32, "{trend}");
    let day = json(&["trend", "--from", "2026-01-01", "--to", "2026-01-03"]).await;
    assert_eq!(day["days"].as_array().unwrap().len(), 2);

    let found = ok(&["search", "--insight", "block 1", "--comment", "true"]).await;
    assert!(
        found.contains("  =two lines \u{fffd}[2J\n") && found.ends_with("1 of 1\n"),
        "{found}"
    );
    let found = json(&[
        "search",
        "--rating",
        "5",
        "--from",
        "2026-01-01",
        "--limit",
        "3",
    ])
    .await;
    assert_eq!(
        (&found["total"], found["feedback"].as_array().unwrap().len()),
        (&json!(4), 3)
    );
    assert!(
        ok(&["search", "--to", "2026-01-01"])
            .await
            .contains("nothing here, 0 in all")
    );
}

#[tokio::test]
async fn an_export_is_a_whole_file_or_none() {
    let service = service().await;
    let file = service.path("feedback.csv");
    let export = ["feedback", "export", "--output", text(&file)];
    let (code, output) = service.run(&export).await;
    assert!(
        code == 0 && output.contains("20 rows in "),
        "{code} {output}"
    );
    let kept = fs::read_to_string(&file).unwrap();
    assert!(
        kept.starts_with("id,insight_id,user_id,rating,") && kept.contains("\"'=two\nlines "),
        "{kept}"
    );

    // It is there already: untouched, unless it may be replaced.
    fs::write(&file, "mine").unwrap();
    let (code, output) = service.run(&export).await;
    assert!(
        code == 1 && output.contains("is there already") && output.contains("--force"),
        "{output}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    let forced = [
        &export[..],
        &["--force", "--format", "ndjson", "--user", "user 3"],
    ]
    .concat();
    assert_eq!(service.run(&forced).await.0, 0);
    let lines = fs::read_to_string(&file).unwrap();
    let users: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((users.len(), &users[0]["user_id"]), (2, &json!("user 3")));

    // To standard output, and to one that nobody reads to its end.
    assert_eq!(
        service
            .ok(&["feedback", "export", "--format", "ndjson"])
            .await
            .lines()
            .count(),
        20
    );
    let many = "insert into insight_feedback (insight_id, user_id, comment, commented_at, created_at, updated_at)
                select 'many', 'u' || n, repeat('c', 1000), t, t, t from (select n, clock_timestamp() as t from generate_series(1, 3000) as n) as made";
    service.admin().await.batch_execute(many).await.unwrap();
    let (code, head, errors) = service.shell("\"$0\" feedback export | head -n 1").await;
    assert_eq!((code, head.lines().count(), errors.as_str()), (0, 1, ""));
    assert_eq!(files(&service), ["feedback.csv"]);
}

/// Answers every request with these bytes, then closes the connection.
async fn straw_service(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 4_096]).await;
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn what_was_cut_off_on_the_way_becomes_no_file() {
    let service = Service::start(&[]).await;
    for (answer, reason) in [
        (
            "HTTP/1.1 200 OK\r\nExport-Rows: 2\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nid\r\n\r\n3\r\n1\r\n\r\n",
            "cut off",
        ),
        // A proxy that took the end of the connection for the end of the file.
        (
            "HTTP/1.1 200 OK\r\nExport-Rows: 2\r\nContent-Length: 7\r\n\r\nid\r\n1\r\n",
            "1 of 2 rows",
        ),
        (
            "HTTP/1.0 200 OK\r\nExport-Rows: 2\r\n\r\nid\r\n1\r\n2",
            "1 of 2 rows",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<p>Hi</p>",
            "is this the service's address?",
        ),
        (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
            "status 502",
        ),
        ("", "is the service running?"),
    ] {
        let url = straw_service(answer).await;
        let file = service.path("cut.csv");
        let args = ["feedback", "export", "--url", &url, "--output", text(&file)];
        let (code, output) = service.run(&args).await;
        assert!(
            code == 1 && output.contains(reason),
            "{answer}: {code} {output}"
        );
        assert_eq!(files(&service), [""; 0], "{answer}");
        let (code, output) = service.run(&args[..4]).await;
        assert!(
            code == 1 && output.contains(reason),
            "{answer}: {code} {output}"
        );
    }
}

#[tokio::test]
async fn what_may_not_be_read_and_what_makes_no_sense_is_refused_with_a_reason() {
    let service = service().await;
    let plain = service
        .ok(&[
            "token",
            "create",
            "--name",
            "plain",
            "--subject",
            "user 3",
            "--scopes",
            "feedback:read,stats:read",
        ])
        .await;
    let token = [("UTXOIQ_STORE_TOKEN", plain.trim())];
    let file = service.path("refused.csv");
    for args in [
        &["search"][..],
        &["search", "--user", "user 4"],
        &["flagged"],
        &["export"],
        &["export", "--output", text(&file)],
    ] {
        let (code, output) = service
            .run_with(&token, &[&["feedback"], args].concat())
            .await;
        assert!(
            code == 1 && output.contains("feedback:read_all"),
            "{args:?}: {code} {output}"
        );
    }
    let (code, own) = service
        .run_with(&token, &["feedback", "search", "--user", "user 3"])
        .await;
    assert!(code == 0 && own.contains("2 of 2"), "{own}");

    let folder = text(service.folder.path()).to_owned();
    let nowhere = text(Path::new("/nowhere/at/all.csv")).to_owned();
    for (args, code, reason) in [
        (
            &["search", "--from", "yesterday"][..],
            1,
            "from: must be an RFC 3339 time",
        ),
        (
            &["search", "--from", "2026-02-01", "--to", "2026-01-01"],
            1,
            "ends before it begins",
        ),
        (&["search", "--rating", "6"], 2, "6 is not in 1..=5"),
        (
            &["search", "--cursor", "x", "--offset", "1"],
            2,
            "cannot be used with",
        ),
        (&["search", "--cursor", "x"], 1, "cursor"),
        (&["search", "--limit", "101"], 2, "101 is not in 1..=100"),
        (&["top", "--ranking", "mean"], 2, "lower_bound"),
        (
            &["trend", "--from", "2026-1-1"],
            1,
            "from_day: must be a day",
        ),
        (&["trend", "--from", "2020-01-01"], 1, "at most 1100 days"),
        (&["stats"], 2, "<INSIGHT>"),
        (&["stats", ""], 1, "must not be blank"),
        (&["export", "--format", "xml"], 2, "ndjson"),
        (&["export", "--force"], 2, "--output"),
        (&["export", "--output", &folder], 1, "is a folder"),
        (&["export", "--output", &nowhere], 1, "cannot be written"),
        (
            &["stats", "x", "--url", "http://127.0.0.1:1"],
            1,
            "is the service running?",
        ),
    ] {
        let (got, output) = service.run(&[&["feedback"], args].concat()).await;
        assert!(
            got == code && output.contains(reason),
            "{args:?}: {got} {output}"
        );
    }
    assert_eq!(files(&service), [""; 0]);
}
