//! Proofs, objects, the database, the place.

use super::*;

#[test]
fn what_is_gone_from_the_store_is_told_as_long_as_it_is() {
    let mut facts = facts(vec![verified(0)]);
    let long = "x".repeat(5_000);
    for (part, key) in [
        (Part::Object, "backups/a.dump.age"),
        (Part::Manifest, "backups/a.json"),
        (Part::Object, &long),
    ] {
        facts.missing.push(Missing {
            part,
            key: key.to_owned(),
        });
    }
    let found = conditions(slot() + minutes(30), &facts, &Settings::default());
    assert_eq!(found[0].key, "backup_object_missing:backups/a.dump.age");
    assert_eq!(found[1].key, "backup_manifest_missing:backups/a.json");
    let sizes = [&found[2].key, &found[2].title, &found[2].detail].map(|text| text.chars().count());
    assert!(
        sizes[0] <= 200 && sizes[1] <= 200 && sizes[2] <= 4_000,
        "{sizes:?}"
    );
    facts.missing.clear();
    assert_eq!(keys_at(slot() + minutes(30), &facts), Vec::<String>::new());
}

#[test]
fn a_proof_that_failed_is_told_until_a_later_one_succeeds() {
    let begun = slot() + minutes(150);
    let failed = Proof {
        ok: false,
        what: "public.feedback differs".to_owned(),
        ..succeeded(begun)
    };
    let running = Proof {
        ended_at: None,
        ..failed.clone()
    };
    let mut facts = facts(vec![verified(0)]);
    facts.proofs = vec![running];
    assert_eq!(keys_at(begun + minutes(1), &facts), Vec::<String>::new());
    facts.proofs = vec![failed, succeeded(begun - TimeDelta::days(7))];
    let found = conditions(begun + minutes(11), &facts, &Settings::default());
    assert_eq!(
        found[0].key,
        "proof_failed:00000000000000000000000000000007"
    );
    assert_eq!(found[0].detail, "public.feedback differs");
    facts.proofs.push(succeeded(begun + minutes(60)));
    assert_eq!(keys_at(begun + minutes(80), &facts), Vec::<String>::new());
}

#[test]
fn a_proof_is_overdue_when_something_waits_for_it_for_eight_days() {
    let key = "proof_overdue";
    let begun = slot() + minutes(150);
    let ended = begun + minutes(10);
    let mut facts = facts((-9..=0).map(verified).collect());
    facts.proofs = vec![succeeded(begun)];
    begins_at(ended + TimeDelta::days(8), &facts, key);
    let daily = Settings {
        proof_within: TimeDelta::days(2),
        ..Settings::default()
    };
    assert_eq!(
        conditions(ended + TimeDelta::days(2), &facts, &daily)[0].key,
        key
    );
    facts.proofs.push(succeeded(begun + TimeDelta::days(8)));
    assert!(!holds(ended + TimeDelta::days(9), &facts, key));
    // Nothing was made since: there is nothing to prove.
    facts.runs = vec![verified(0)];
    facts.proofs = vec![succeeded(begun)];
    assert!(!holds(ended + TimeDelta::days(30), &facts, key));
    // Never proved at all.
    facts.proofs.clear();
    begins_at(slot() + minutes(20) + TimeDelta::days(8), &facts, key);
}

#[test]
fn a_database_that_is_away_for_a_minute_and_two_looks_is_told_also_without_backups() {
    let key = "database_unreachable";
    let mut facts = Facts {
        unreachable: Some(Unreachable {
            since: slot(),
            looks: 2,
        }),
        ..Facts::default()
    };
    begins_at(slot() + minutes(1), &facts, key);
    facts.unreachable = Some(Unreachable {
        since: slot(),
        looks: 1,
    });
    assert!(!holds(slot() + minutes(60), &facts, key));
}

#[test]
fn the_place_and_the_absence_of_settings_are_told() {
    let mut facts = facts(vec![verified(0)]);
    let reason = || "because".to_owned();
    facts.places = vec![
        Place {
            store: "backup_store",
            judgement: Judgement::Same { reason: reason() },
        },
        Place {
            store: "backup_copy",
            judgement: Judgement::CannotJudge { reason: reason() },
        },
        Place {
            store: "third",
            judgement: Judgement::Separate,
        },
    ];
    let found = conditions(slot() + minutes(30), &facts, &Settings::default());
    let told: Vec<(&str, Severity, &str)> = found
        .iter()
        .map(|found| (found.key.as_str(), found.severity, found.detail.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (
                "backup_location_same:backup_store",
                Severity::Critical,
                "because"
            ),
            (
                "backup_location_unknown:backup_copy",
                Severity::Warning,
                "because"
            ),
        ]
    );
    facts.configured_at = None;
    assert_eq!(keys_at(slot(), &facts), ["backups_not_configured"]);
}
