//! What a superuser can do to the log, and what is said of it. That each kind of fault gets its right name in every place
//! is tested beside the code; here it is that the database's rows lead there.

use utxoiq_store::audit::{Anchor, Fault};

use crate::support::TestDb;

fn changed(sequence: i64) -> Vec<Fault> {
    vec![Fault::Changed { sequence }]
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_superuser_does_to_the_rows_is_found_and_named() {
    let db = TestDb::new().await;
    let store = db.store().await;
    super::append(&store, 20).await;
    let head = store.audit().head().await.unwrap();
    let fifteenth = "update audit_head set sequence = 15, hash = (select hash from audit_log where sequence = 15)";
    let cut = format!("delete from audit_log where sequence > 15; {fifteenth}");
    let cases: Vec<(&str, Vec<Fault>)> = vec![
        ("update audit_log set at = at + interval '1 microsecond' where sequence = 7", changed(7)),
        ("alter table audit_log drop constraint audit_log_at_range; update audit_log set at = 'infinity' where sequence = 7", changed(7)),
        ("update audit_log set actor = 'nobody' where sequence = 7", changed(7)),
        ("update audit_log set database_role = 'postgres' where sequence = 1", changed(1)),
        ("update audit_log set action = 'drop' where sequence = 20", changed(20)),
        ("update audit_log set subject = subject || ' ' where sequence = 7", changed(7)),
        ("update audit_log set details = details || ' ' where sequence = 7", changed(7)),
        ("update audit_log set previous_hash = sha256('x') where sequence = 7", changed(7)),
        ("update audit_log set hash = sha256('x') where sequence = 7", changed(7)),
        (
            "alter table audit_log alter hash drop not null; update audit_log set hash = null where sequence = 7",
            changed(7),
        ),
        (
            "update audit_log set details = '{}',
                 hash = audit_hash(previous_hash, sequence, at, actor, database_role, action, subject, '{}') where sequence = 7",
            vec![Fault::Rewritten { sequence: 7 }],
        ),
        ("delete from audit_log where sequence = 7", vec![Fault::Removed { first: 7, last: 7 }]),
        ("delete from audit_log where sequence in (1, 2, 3)", vec![Fault::Removed { first: 1, last: 3 }]),
        (
            "delete from audit_log where sequence = 7;
             update audit_log set sequence = sequence + 1000 where sequence > 7;
             update audit_log set sequence = sequence - 1001 where sequence > 1000",
            vec![Fault::Removed { first: 7, last: 7 }, Fault::Renumbered { first: 7, last: 19, original: 8 }],
        ),
        (
            "update audit_log set sequence = 1000 where sequence = 7;
             update audit_log set sequence = 7 where sequence = 12;
             update audit_log set sequence = 12 where sequence = 1000",
            vec![Fault::Swapped { first: 7, second: 12 }],
        ),
        (
            "update audit_log a set (at, actor, database_role, action, subject, details) =
                 (select b.at, b.actor, b.database_role, b.action, b.subject, b.details from audit_log b where b.sequence = 19 - a.sequence)
             where a.sequence in (7, 12)",
            vec![Fault::Changed { sequence: 7 }, Fault::Changed { sequence: 12 }],
        ),
        (
            "insert into audit_log select 21, at, actor, database_role, action, subject, details, previous_hash, hash
                 from audit_log where sequence = 7",
            vec![Fault::Inserted { sequence: 21 }],
        ),
        (
            "alter table audit_log drop constraint audit_log_pkey; insert into audit_log select * from audit_log where sequence = 7",
            vec![Fault::Inserted { sequence: 7 }],
        ),
        ("delete from audit_log where sequence > 15", vec![Fault::TailCut { first: 16, last: 20 }]),
        ("truncate audit_log", vec![Fault::TailCut { first: 1, last: 20 }]),
        (fifteenth, vec![Fault::HeadDiffers { head: 15, last: 20 }]),
        ("update audit_head set hash = sha256('x')", vec![Fault::HeadDiffers { head: 20, last: 20 }]),
        ("delete from audit_head", vec![Fault::HeadMissing]),
        (&cut, vec![]),
    ];
    let anchor = Anchor {
        found_in: "a manifest".to_owned(),
        ..head.to_string().parse().unwrap()
    };
    for (tampering, expected) in cases {
        // The same entries give the same hashes in every database.
        let copy = TestDb::new().await;
        let tampered = copy.store().await;
        super::append(&tampered, 20).await;
        assert_eq!(tampered.audit().head().await.unwrap(), head);
        copy.admin().await.batch_execute(tampering).await.unwrap();
        let verification = tampered.audit().verify(&[]).await.unwrap();
        assert_eq!(verification.faults, expected, "{tampering}");
        if expected.is_empty() {
            // The end cut off with the head set back is seen by a head that was kept elsewhere.
            let faults = tampered
                .audit()
                .verify(std::slice::from_ref(&anchor))
                .await
                .unwrap()
                .faults;
            let missing = Fault::AnchorMissing {
                sequence: 20,
                found_in: "a manifest".to_owned(),
            };
            assert_eq!(faults, [missing]);
        }
    }
    let verification = store.audit().verify(&[anchor]).await.unwrap();
    assert!(
        verification.is_clean() && verification.anchors_agreed == 1,
        "{verification:?}"
    );
}
