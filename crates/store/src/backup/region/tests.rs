use std::{sync::Arc, time::Duration};

use object_store::{
    StaticCredentialProvider,
    gcp::{GcpCredential, GcpCredentialProvider},
};
use tokio::{net::TcpListener, time::Instant};
use utxoiq_store_testkit::FakeGcs;

use super::*;

fn parsed(text: &str) -> Location {
    Location::parse(text).unwrap()
}

fn judged(database: &str, location: &str) -> &'static str {
    match judge(Some(database), &parsed(location)) {
        Judgement::Separate => "separate",
        Judgement::Same { reason } => {
            assert!(
                reason.contains("use a bucket in another region"),
                "{reason}"
            );
            "same"
        }
        Judgement::CannotJudge { .. } => "unknown",
    }
}

#[test]
fn a_store_in_the_databases_region_or_in_several_that_contain_it_is_the_same() {
    for (database, location, expected) in [
        ("europe-west4", "europe-west4", "same"),
        ("EUROPE-WEST4", "Europe-West4", "same"),
        ("europe-west4-a", "europe-west4", "same"),
        ("europe-west4", "europe-west4-b", "same"),
        ("europe-west1", "europe-west12", "separate"),
        ("europe-west4", "us-central1", "separate"),
        ("europe-west4", "EU", "same"),
        ("europe-west1", "eu", "same"),
        ("europe-west2", "EU", "separate"),
        ("europe-west6", "EU", "separate"),
        ("us-central1", "EU", "separate"),
        ("us-central1", "US", "same"),
        ("northamerica-northeast1", "US", "separate"),
        ("asia-south1", "ASIA", "same"),
        ("australia-southeast1", "ASIA", "separate"),
        ("asia-northeast1", "ASIA1", "same"),
        ("asia-northeast2", "ASIA1", "same"),
        ("asia-northeast3", "ASIA1", "separate"),
        ("europe-north1", "EUR4", "same"),
        ("europe-west4", "EUR4", "same"),
        ("europe-west1", "EUR5", "same"),
        ("europe-west2", "EUR5", "same"),
        ("europe-west2", "EUR7", "same"),
        ("europe-west3", "EUR7", "same"),
        ("europe-west3", "EUR8", "same"),
        ("europe-west6", "EUR8", "same"),
        ("europe-west4", "EUR8", "separate"),
        ("us-central1", "NAM4", "same"),
        ("us-east1", "NAM4", "same"),
        ("us-east4", "NAM4", "separate"),
        ("us-west1", "us-central1+us-west1", "same"),
        ("us-east1", "US-CENTRAL1+US-WEST1", "separate"),
        ("eu-central-1", "eu-central-1", "same"),
        ("eu-central-1a", "eu-central-1", "same"),
        ("eu-central-1", "eu-west-1", "separate"),
        ("us-east-1", "US", "separate"),
        ("us-gov-east-1", "us-gov-west-1", "separate"),
        ("fr-par", "fr-par", "same"),
    ] {
        assert_eq!(
            judged(database, location),
            expected,
            "{database} {location}"
        );
    }
}

#[test]
fn the_reason_names_both_and_says_what_to_do() {
    let Judgement::Same { reason } = judge(Some("europe-west4"), &parsed("eur4")) else {
        panic!("it contains it");
    };
    assert_eq!(
        reason,
        "the backups lie in the dual-region EUR4 (europe-north1 and europe-west4), which contains the database's region europe-west4: both would be lost at once; use a bucket in another region"
    );
}

#[test]
fn what_is_not_known_cannot_be_judged() {
    let unknown = Location::Unknown {
        reason: "nobody said".to_owned(),
    };
    for (database, location, expected) in [
        (None, parsed("EU"), "not configured"),
        (Some("somewhere"), parsed("EU"), "not the name of a region"),
        (
            Some("europe-wset4"),
            parsed("EU"),
            "not the name of a region",
        ),
        (Some("europe-west4"), Location::Folder, "folder"),
        (Some("europe-west4"), unknown, "nobody said"),
    ] {
        let Judgement::CannotJudge { reason } = judge(database, &location) else {
            panic!("{database:?} {location} was judged");
        };
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn rubbish_is_refused_as_a_location() {
    let long = "a-".repeat(30);
    for rubbish in [
        "",
        " ",
        "europe",
        "global",
        "auto",
        "europe-wset4",
        "europe-west",
        "us-",
        "-us",
        "eur6",
        "NAM5",
        "asia2",
        "us+eu",
        "us-central1+",
        "+us-east1",
        "us-central1+us-central1",
        "us-central1+us-east1+us-west1",
        "us central1",
        "us_central1",
        "https://x",
        "é-west1",
        "1-west",
        long.as_str(),
    ] {
        let error = Location::parse(rubbish).expect_err(rubbish);
        assert_eq!(error.code(), "invalid_input");
        assert!(error.to_string().contains("europe-west4"), "{error}");
    }
    assert_eq!(parsed(" Us-Central1\n"), parsed("us-central1"));
}

fn token(bearer: &str) -> GcpCredentialProvider {
    Arc::new(StaticCredentialProvider::new(GcpCredential {
        bearer: bearer.to_owned(),
    }))
}

async fn asked(gcs: &FakeGcs) -> Location {
    ask(
        "the-backups",
        Some(&gcs.url()),
        &token("a-token"),
        Duration::from_secs(5),
    )
    .await
}

#[tokio::test]
async fn cloud_storage_is_asked_where_the_bucket_is_with_the_clients_token() {
    let gcs = FakeGcs::start().await;
    gcs.place("EUROPE-WEST4", "region", &[]);
    assert_eq!(asked(&gcs).await, parsed("europe-west4"));
    assert_eq!(gcs.asked_with().as_deref(), Some("Bearer a-token"));
    gcs.place("EU", "multi-region", &[]);
    assert_eq!(asked(&gcs).await, Location::MultiRegion(MultiRegion::Eu));
    gcs.place("EUR4", "dual-region", &[]);
    assert_eq!(asked(&gcs).await, parsed("eur4"));
    gcs.place("US", "dual-region", &["US-CENTRAL1", "US-WEST1"]);
    assert_eq!(asked(&gcs).await, parsed("us-central1+us-west1"));
    gcs.place(
        "AU",
        "dual-region",
        &["AUSTRALIA-SOUTHEAST1", "AUSTRALIA-SOUTHEAST2"],
    );
    assert_eq!(
        asked(&gcs).await,
        parsed("australia-southeast1+australia-southeast2")
    );
    gcs.place("US-CENTRAL1", "zone", &["US-CENTRAL1-A"]);
    assert_eq!(asked(&gcs).await, parsed("us-central1"));
    let none = ask("b", Some(&gcs.url()), &token(""), Duration::from_secs(5)).await;
    assert_eq!(none, parsed("us-central1"));
    assert_eq!(gcs.asked_with(), None, "an empty token is not sent");
}

#[tokio::test]
async fn a_refusal_and_rubbish_are_unknown_with_a_reason() {
    let gcs = FakeGcs::start().await;
    let long = format!("{{\"location\": \"{}\"}}", "a".repeat(100_000));
    for (status, body, expected) in [
        (403, "{}", "storage.buckets.get"),
        (401, "{}", "storage.buckets.get"),
        (404, "{}", "no such bucket"),
        (500, "{}", "answered 500"),
        (302, "{}", "answered 302"),
        (200, "<html>", "not the description of a bucket"),
        (200, "{}", "not the description of a bucket"),
        (200, r#"{"location": 4}"#, "not the description of a bucket"),
        (200, long.as_str(), "not the description of a bucket"),
        (
            200,
            r#"{"location": "EUR9", "locationType": "dual-region"}"#,
            "\"EUR9\"",
        ),
        (
            200,
            r#"{"location": "US", "locationType": "dual-region"}"#,
            "not told",
        ),
    ] {
        gcs.answer_location(status, body);
        let Location::Unknown { reason } = asked(&gcs).await else {
            panic!("{status} {expected} was believed");
        };
        assert!(reason.contains(expected), "{reason}");
        assert!(reason.contains("the-backups") && reason.contains("configure its location"));
    }
}

#[tokio::test]
async fn silence_nobody_and_no_address_are_unknown_in_bounded_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = |listener: &TcpListener| format!("http://{}", listener.local_addr().unwrap());
    let bases = [url(&silent), url(&nobody), "no address".to_owned()];
    drop(nobody);
    for base in bases {
        let begun = Instant::now();
        let told = ask("b", Some(&base), &token("t"), Duration::from_millis(300)).await;
        assert!(matches!(told, Location::Unknown { .. }), "{base} {told}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{base}");
    }
}
