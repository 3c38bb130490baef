//! What receivers get, and what becomes of those that do not take it.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::Mutex,
};

use super::*;

#[tokio::test]
async fn one_that_is_down_and_one_that_hangs_keep_the_others_from_nothing_and_get_theirs_later() {
    let mut house = House::new().await;
    let process = house.process(&["webhook", "slack", "manager", "mail"]);
    house.webhook.down().await;
    house.slack.hang(true);
    process.observe(&[wrong("late")], start()).await;
    let began = Instant::now();
    // The log, Alertmanager and two addresses.
    assert_eq!(process.deliver(start()).await, sent(4, 2));
    let took = began.elapsed();
    assert!(took.as_millis() < 3_000, "{took:?}: cut off after a second");
    assert_eq!(
        (house.manager.taken().len(), house.mailbox.mails().len()),
        (1, 2)
    );
    let listed = process.one().await;
    let (webhook, slack) = (
        progress(&listed, "webhook", What::Firing),
        progress(&listed, "slack", What::Firing),
    );
    assert_eq!(
        (webhook.attempts, webhook.failures, webhook.next_at),
        (1, 1, Some(start() + seconds(30)))
    );
    assert!(
        webhook.last_error.as_ref().unwrap().contains("refused"),
        "{webhook:?}"
    );
    assert_eq!(
        slack.last_error.as_deref(),
        Some("it did not answer within 1 s")
    );

    // Back, but busy: tried again after 30 seconds, and after a minute.
    house.webhook.up().await;
    house.webhook.fail(1);
    house.slack.hang(false);
    for (after, expected) in [
        (seconds(30) - MICROSECOND, sent(0, 0)),
        (seconds(30), sent(1, 1)),
        (seconds(90) - MICROSECOND, sent(0, 0)),
        (seconds(90), sent(1, 0)),
        (seconds(91), sent(0, 0)),
    ] {
        assert_eq!(process.deliver(start() + after).await, expected, "{after}");
    }
    assert_eq!(kinds(&house.webhook), ["firing"]);
    assert_eq!(house.slack.taken().len(), 1);
    let listed = process.one().await;
    let webhook = progress(&listed, "webhook", What::Firing);
    assert_eq!(
        (webhook.attempts, webhook.deliveries, webhook.failures),
        (3, 1, 0)
    );
    assert_eq!(
        (&webhook.last_error, webhook.next_at),
        (&None, Some(start() + seconds(90) + minutes(60)))
    );
}

#[tokio::test]
async fn a_receiver_that_was_away_all_the_time_hears_of_the_end() {
    let mut house = House::new().await;
    let process = house.process(&["webhook"]);
    house.webhook.down().await;
    process.observe(&[wrong("late")], start()).await;
    process.deliver(start()).await;
    process.observe(&[], start() + minutes(1)).await;
    assert_eq!(process.deliver(start() + minutes(1)).await, sent(1, 1));
    house.webhook.up().await;
    assert_eq!(process.deliver(start() + minutes(2)).await, sent(1, 0));
    assert_eq!(kinds(&house.webhook), ["resolved"]);
    // Of what somebody had taken before it was told, nobody is told.
    process
        .observe(&[wrong("taken")], start() + minutes(3))
        .await;
    process.acknowledge("taken", start() + minutes(3)).await;
    for now in [start() + minutes(3), start() + minutes(4)] {
        assert_eq!(process.deliver(now).await, sent(0, 0));
        process.observe(&[], now).await;
    }
    // Nor of what was over before anybody could be told.
    process
        .observe(&[wrong("short")], start() + minutes(5))
        .await;
    process.observe(&[], start() + minutes(6)).await;
    assert_eq!(process.deliver(start() + minutes(6)).await, sent(0, 0));
}

#[tokio::test]
async fn the_end_is_given_up_after_a_week() {
    let mut house = House::new().await;
    let process = house.process(&["webhook"]);
    house.webhook.down().await;
    process.observe(&[wrong("late")], start()).await;
    process.deliver(start()).await;
    process.observe(&[], start()).await;
    assert_eq!(process.deliver(start()).await, sent(1, 1));
    let week = start() + TimeDelta::days(7);
    assert_eq!(process.deliver(week - MICROSECOND).await, sent(0, 1));
    assert_eq!(process.deliver(week + minutes(20)).await, sent(0, 0));
}

#[tokio::test]
async fn a_signature_is_what_the_documentation_says() {
    let house = House::new().await;
    let process = house.process(&["webhook"]);
    process.observe(&[wrong("late")], start()).await;
    process.deliver(start()).await;
    let taken = house.webhook.taken().pop().unwrap();
    assert_eq!(taken.target, format!("/hook/{MARK}?token={MARK}"));
    assert_eq!(taken.headers["content-type"], "application/json");
    let signature = taken.headers["utxoiq-signature"]
        .to_str()
        .unwrap()
        .to_owned();
    let sent: Value = serde_json::from_slice(&taken.body).unwrap();
    // It has the fields of the documented one.
    let document = include_str!("../../../../../docs/operations/alerts.md");
    let block = |kind: &str| {
        document
            .split(&format!("```{kind}\n"))
            .nth(1)
            .unwrap()
            .split("```")
            .next()
            .unwrap()
    };
    let documented: Value = serde_json::from_str(block("json")).unwrap();
    let names = |value: &Value| {
        value
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&sent), names(&documented));
    assert_eq!(names(&sent["alert"]), names(&documented["alert"]));

    // And its Python says that it is ours, within five minutes, unless a byte is another one.
    let check = format!(
        "{}\nimport sys\nbody = sys.stdin.buffer.read()\nsecret, header, now = sys.argv[1:]\n\
         print(is_ours(secret, header, body, float(now)), is_ours(secret, header, body + b' ', float(now)), is_ours(secret + 'x', header, body, float(now)))",
        block("python")
    );
    for (now, said) in [
        (start() + seconds(299), "True False False"),
        (start() + seconds(300), "True False False"),
        (start() + seconds(301), "False False False"),
    ] {
        let mut python = Command::new("python3")
            .args([
                "-c",
                &check,
                SECRET,
                &signature,
                &now.timestamp().to_string(),
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        python.stdin.take().unwrap().write_all(&taken.body).unwrap();
        let output = python.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), said);
    }
}

#[tokio::test]
async fn slack_gets_a_text_in_which_nothing_is_markup() {
    let house = House::new().await;
    let process = house.process(&["slack"]);
    let mut late = wrong("late");
    late.title = "<!channel> & more".to_owned();
    late.detail = "<".repeat(4_000);
    process.observe(&[late], start()).await;
    process.deliver(start()).await;
    let body: Value = serde_json::from_slice(&house.slack.taken()[0].body).unwrap();
    assert_eq!(
        body["text"],
        ":rotating_light: firing critical: &lt;!channel&gt; &amp; more"
    );
    let blocks = body["blocks"].as_array().unwrap();
    assert_eq!(blocks.len(), 3);
    for block in blocks {
        let text = block["text"]["text"]
            .as_str()
            .or(block["elements"][0]["text"].as_str())
            .unwrap();
        assert!(
            text.chars().count() <= 3_000 && !text.contains(['<', '>']),
            "{text}"
        );
        // No half of an escape.
        assert!(
            !text.contains('&') || text.ends_with(';') || text.ends_with(['*', 'd']),
            "{text}"
        );
    }
}

#[tokio::test]
async fn each_address_gets_a_mail_of_its_own_and_is_confirmed_by_itself() {
    let house = House::new().await;
    let process = house.process(&["mail"]);
    house.mailbox.refuse_address(Some(TO[0]));
    process.observe(&[wrong("late")], start()).await;
    assert_eq!(process.deliver(start()).await, sent(2, 1));
    let listed = process.one().await;
    let refused = progress(&listed, "email ops@example.com", What::Firing);
    assert_eq!(
        refused.last_error.as_deref(),
        Some("the mail server answered 550")
    );
    house.mailbox.refuse_address(None);
    // 451 after the whole mail is no confirmation either.
    house.mailbox.refuse(1);
    assert_eq!(process.deliver(start() + seconds(30)).await, sent(0, 1));
    assert_eq!(process.deliver(start() + seconds(90)).await, sent(1, 0));
    process.observe(&[], start() + minutes(2)).await;
    assert_eq!(process.deliver(start() + minutes(2)).await, sent(3, 0));

    let mails = house.mailbox.mails();
    let to: Vec<&str> = mails.iter().map(|mail| mail.to[0].as_str()).collect();
    assert_eq!(to[..2], [TO[1], TO[0]]);
    assert_eq!(mails.len(), 4);
    let id = listed.alert.id;
    for line in [
        "From: \"utxoIQ Store\" <alerts@example.com>",
        "To: night@example.com",
        "Subject: [utxoiq-store] critical: late is wrong",
        "Date: Mon, 23 Nov 2026 01:05:00 +0000",
        &format!("Message-ID: <{id}-firing-1@example.com>"),
        &format!("References: <{id}@example.com>"),
        "since <yesterday> & today",
        "runbook:  docs/operations/alerts.md",
    ] {
        assert!(
            mails[0].data.lines().any(|there| there == line),
            "{line}: {}",
            mails[0].data
        );
    }
    assert!(
        mails[2]
            .data
            .contains("Subject: [utxoiq-store] resolved: late is wrong")
    );
}

#[tokio::test]
async fn a_trial_says_of_each_receiver_whether_it_took_it() {
    let mut house = House::new().await;
    let process = house.process(&["webhook", "slack", "manager", "mail"]);
    house.slack.hang(true);
    house.manager.down().await;
    house.webhook.fail(1);
    let tested = process.alerts.test(start()).await;
    let tested: Vec<(&str, bool, Option<&str>)> = tested
        .iter()
        .map(|one| (one.sink.as_str(), one.accepted, one.error.as_deref()))
        .collect();
    assert_eq!(tested[0], ("log", true, None));
    assert_eq!(tested[1], ("webhook", false, Some("it answered 503")));
    assert_eq!(
        tested[2],
        ("slack", false, Some("it did not answer within 1 s"))
    );
    assert_eq!((tested[3].0, tested[3].1), ("alertmanager", false));
    assert_eq!(
        tested[4..],
        [
            ("email ops@example.com", true, None),
            ("email night@example.com", true, None)
        ]
    );
    let tested = process.alerts.test(start()).await;
    assert!(tested[1].accepted && tested[1].took_milliseconds < 1_000);
    assert_eq!(kinds(&house.webhook), ["test"]);
    assert!(process.list(Filter::All).await.is_empty());
}

/// Everything that is logged.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_secret_is_in_a_log_an_error_a_table_or_a_debug_output() {
    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let mut house = House::new().await;
    let all = ["webhook", "slack", "manager", "mail"];
    let config = house.config(&all);
    let process = house.process(&all);
    let mut seen = format!("{config:?}{:?}", process.alerts);
    process.observe(&[wrong("late")], start()).await;
    // Answered with an error, not at all, and away; the mail server refuses, and hangs.
    let mut now = start();
    for round in 0..3 {
        for receiver in [&mut house.webhook, &mut house.slack, &mut house.manager] {
            match round {
                0 => receiver.fail(1),
                1 => receiver.hang(true),
                _ => receiver.down().await,
            }
        }
        match round {
            0 => house.mailbox.refuse(2),
            _ => house.mailbox.hang(true),
        }
        let delivered = process.deliver(now).await;
        assert_eq!(delivered.failed, 5, "{round}");
        let listed = process.one().await;
        assert_eq!(
            listed
                .deliveries
                .iter()
                .filter(|one| one.last_error.is_some())
                .count(),
            5
        );
        seen.push_str(&format!(
            "{listed:?}{}",
            serde_json::to_string(&listed).unwrap()
        ));
        seen.push_str(&format!("{:?}", process.alerts.test(now).await));
        now += minutes(10);
    }
    let refusals = [
        ("SMTP_URL", "smtp://user:s3cr3t-mark@mail.example.com"),
        ("SLACK_URL", "ftp://s3cr3t-mark"),
        ("ALERTMANAGER_URL", "s3cr3t-mark"),
        ("WEBHOOK_SECRET", "s3cr3t-mark"),
    ];
    for (key, value) in refusals {
        let refused = utxoiq_store::config::Loader::default()
            .env([(format!("UTXOIQ_STORE_ALERT__{key}"), value.to_owned())])
            .unwrap()
            .finish();
        seen.push_str(&format!("{:?}", refused.unwrap_err()));
    }
    let logged = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("an alert was not delivered") && logged.contains("late is wrong"));
    // What others log of what they send is theirs, and off by default; ours is what counts.
    let ours: String = logged
        .lines()
        .filter(|line| line.contains("utxoiq_store"))
        .collect();
    assert!(!ours.contains(MARK), "{ours}");
    assert!(!seen.contains(MARK), "{seen}");
    let others: Vec<&str> = logged.lines().filter(|line| line.contains(MARK)).collect();
    assert!(others.is_empty(), "{others:?}");
}
