use proptest::prelude::*;

use super::*;

/// A log of so many entries.
fn log(length: i64) -> Vec<Record> {
    let mut previous = GENESIS.to_vec();
    (1..=length)
        .map(|sequence| {
            let mut entry = Record {
                sequence,
                at_microseconds: Some(1_763_000_000_000_000 + sequence),
                actor: "retention".to_owned(),
                database_role: "utxoiq_retention".to_owned(),
                action: "archive".to_owned(),
                subject: format!("metrics day {sequence}"),
                details: format!("{{\"rows\":{sequence}}}"),
                previous_hash: previous.clone(),
                hash: Vec::new(),
            };
            seal(&mut entry);
            previous.clone_from(&entry.hash);
            entry
        })
        .collect()
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap()
}

/// Gives an entry a hash that fits.
fn seal(entry: &mut Record) {
    entry.hash = entry.digest(entry.sequence).to_vec();
}

fn head_of(log: &[Record]) -> Head {
    let last = log.last();
    Head {
        sequence: last.map_or(0, |entry| entry.sequence),
        hash: last.map_or(GENESIS.to_vec(), |entry| entry.hash.clone()),
    }
}

fn anchor(entry: &Record) -> Anchor {
    Anchor {
        sequence: entry.sequence,
        hash: entry.hash.clone(),
        found_in: format!("manifest {}", entry.sequence),
    }
}

/// As the database gives them: in the order of their numbers.
fn verify(head: Option<Head>, mut log: Vec<Record>, anchors: &[Anchor]) -> Verification {
    log.sort_by_key(|entry| entry.sequence);
    let mut verifier = Verifier::new(head, anchors);
    for entry in log {
        verifier.push(entry);
    }
    let verification = verifier.finish();
    for fault in &verification.faults {
        assert!(!fault.to_string().is_empty());
    }
    verification
}

/// What is wrong with a log of 20 entries after `tamper`, the head row being what it was.
fn after(tamper: impl FnOnce(&mut Vec<Record>)) -> Vec<Fault> {
    let mut tampered = log(20);
    let head = head_of(&tampered);
    tamper(&mut tampered);
    verify(Some(head), tampered, &[]).faults
}

fn changed(sequence: i64) -> Vec<Fault> {
    vec![Fault::Changed { sequence }]
}

#[test]
fn what_was_appended_is_clean_with_its_anchors() {
    for length in [0, 1, 2, 300] {
        let log = log(length);
        let anchors: Vec<Anchor> = log.iter().step_by(7).map(anchor).collect();
        let verification = verify(Some(head_of(&log)), log.clone(), &anchors);
        assert!(verification.is_clean(), "{verification:?}");
        assert_eq!(verification.entries, log.len() as u64);
        assert_eq!(verification.anchors_agreed, anchors.len() as u64);
    }
}

#[test]
fn a_change_of_any_field_of_any_entry_is_named() {
    let changes: [fn(&mut Record); 9] = [
        |entry| entry.at_microseconds = entry.at_microseconds.map(|at| at + 1),
        |entry| entry.at_microseconds = None,
        |entry| entry.actor.push('x'),
        |entry| entry.database_role = "postgres".to_owned(),
        |entry| entry.action = "drop".to_owned(),
        |entry| entry.subject = "metrics day 99".to_owned(),
        |entry| entry.details = entry.details.replace(':', ": "),
        |entry| entry.previous_hash[5] ^= 1,
        |entry| entry.hash[31] ^= 1,
    ];
    for change in changes {
        for at in [0, 9, 19] {
            let faults = after(|log| change(&mut log[at]));
            assert_eq!(faults, changed(signed(at) + 1));
        }
    }
    // A character that moves from one field to the next changes the bytes, too.
    let moved = after(|log| {
        let entry = &mut log[9];
        entry.actor.push('u');
        entry.database_role.remove(0);
    });
    assert_eq!(moved, changed(10));
}

#[test]
fn a_change_with_a_hash_that_fits_is_named_by_what_comes_after() {
    for at in [0, 9, 18] {
        let faults = after(|log| {
            log[at].details = "{}".to_owned();
            seal(&mut log[at]);
        });
        let sequence = signed(at) + 1;
        assert_eq!(faults, [Fault::Rewritten { sequence }]);
    }
    let last = after(|log| {
        log[19].details = "{}".to_owned();
        seal(&mut log[19]);
    });
    assert_eq!(last, [Fault::HeadDiffers { head: 20, last: 20 }]);
    // An entry that was replaced by one that follows nothing.
    let replaced = after(|log| {
        log[9].previous_hash = vec![7; 32];
        seal(&mut log[9]);
    });
    let (nine, ten) = (9, 10);
    assert_eq!(
        replaced,
        [
            Fault::Unlinked {
                previous: nine,
                sequence: ten
            },
            Fault::Rewritten { sequence: ten }
        ]
    );
}

#[test]
fn removed_entries_are_named() {
    assert_eq!(
        after(|log| drop(log.remove(0))),
        [Fault::Removed { first: 1, last: 1 }]
    );
    assert_eq!(
        after(|log| drop(log.drain(4..9))),
        [Fault::Removed { first: 5, last: 9 }]
    );
    let renumbered = after(|log| {
        log.remove(4);
        for entry in &mut log[4..] {
            entry.sequence -= 1;
        }
    });
    let expected = [
        Fault::Removed { first: 5, last: 5 },
        Fault::Renumbered {
            first: 5,
            last: 19,
            original: 6,
        },
    ];
    assert_eq!(renumbered, expected);
}

#[test]
fn entries_that_changed_places_are_named() {
    for (first, second) in [(5, 6), (5, 15), (1, 20)] {
        let swapped = after(|log| {
            log[first - 1].sequence = signed(second);
            log[second - 1].sequence = signed(first);
        });
        let (first, second) = (signed(first), signed(second));
        assert_eq!(swapped, [Fault::Swapped { first, second }]);
    }
    let far = after(|log| log[4].sequence = 1_000);
    let expected = Fault::Renumbered {
        first: 1_000,
        last: 1_000,
        original: 5,
    };
    assert_eq!(far, [expected]);
}

#[test]
fn entries_slipped_in_are_named() {
    let slip = |log: &mut Vec<Record>, sequence, fits| {
        let mut entry = log[3].clone();
        entry.sequence = sequence;
        entry.details = "{\"rows\":0}".to_owned();
        if fits {
            seal(&mut entry);
        }
        log.push(entry);
    };
    for fits in [false, true] {
        for sequence in [-3, 0, 7] {
            let faults = after(|log| slip(log, sequence, fits));
            assert_eq!(faults, [Fault::Inserted { sequence }], "{fits}");
        }
    }
    assert_eq!(
        after(|log| slip(log, 21, false)),
        [Fault::Inserted { sequence: 21 }]
    );
    for fits in [false, true] {
        let between = after(|log| {
            for entry in &mut log[9..] {
                entry.sequence += 1;
            }
            slip(log, 10, fits);
        });
        let moved = Fault::Renumbered {
            first: 11,
            last: 21,
            original: 10,
        };
        assert_eq!(between, [Fault::Inserted { sequence: 10 }, moved], "{fits}");
    }
}

#[test]
fn a_cut_tail_is_named_by_the_head_or_else_by_an_anchor() {
    assert_eq!(
        after(|log| log.truncate(15)),
        [Fault::TailCut {
            first: 16,
            last: 20
        }]
    );
    assert_eq!(after(Vec::clear), [Fault::TailCut { first: 1, last: 20 }]);
    let whole = log(20);
    let cut = whole[..15].to_vec();
    let anchors = [anchor(&whole[9]), anchor(&whole[17])];
    let verification = verify(Some(head_of(&cut)), cut.clone(), &anchors);
    assert_eq!(verification.anchors_agreed, 1);
    let missing = Fault::AnchorMissing {
        sequence: 18,
        found_in: "manifest 18".to_owned(),
    };
    assert_eq!(verification.faults, [missing]);
    assert!(verify(Some(head_of(&cut)), cut, &[]).is_clean());
}

#[test]
fn a_log_written_anew_is_named_by_an_anchor() {
    let whole = log(20);
    let mut anew = whole.clone();
    anew[11].details = "{\"rows\":1}".to_owned();
    for at in 11..20 {
        anew[at].previous_hash = anew[at - 1].hash.clone();
        let entry = &mut anew[at];
        entry.hash = entry.digest(entry.sequence).to_vec();
    }
    let anchors = [anchor(&whole[9]), anchor(&whole[14])];
    let verification = verify(Some(head_of(&anew)), anew, &anchors);
    let differs = Fault::AnchorDiffers {
        sequence: 15,
        found_in: "manifest 15".to_owned(),
        agreed: 10,
    };
    assert_eq!(verification.faults, [differs]);
}

#[test]
fn a_head_that_was_tampered_with_is_named() {
    let whole = log(20);
    assert_eq!(
        verify(None, whole.clone(), &[]).faults,
        [Fault::HeadMissing]
    );
    let back = Some(head_of(&whole[..15]));
    assert_eq!(
        verify(back, whole.clone(), &[]).faults,
        [Fault::HeadDiffers { head: 15, last: 20 }]
    );
    let mut other = head_of(&whole);
    other.hash[0] ^= 1;
    assert_eq!(
        verify(Some(other), whole, &[]).faults,
        [Fault::HeadDiffers { head: 20, last: 20 }]
    );
}

#[test]
fn however_much_is_wrong_memory_and_answer_stay_small() {
    let mut tampered = log(5_000);
    let head = head_of(&tampered);
    for entry in tampered.iter_mut().step_by(2) {
        entry.actor = "nobody".to_owned();
    }
    let verification = verify(Some(head), tampered, &[]);
    assert!(verification.faults.len() <= MAX_FAULTS);
    assert!(
        verification.faults_total >= 2_400,
        "{}",
        verification.faults_total
    );
}

proptest! {
    #[test]
    fn nothing_that_differs_from_what_was_appended_passes(
        steps in prop::collection::vec((0..5_u8, any::<prop::sample::Index>(), 1..25_i64), 1..4),
    ) {
        let whole = log(20);
        let mut tampered = whole.clone();
        for (step, index, number) in steps {
            if tampered.is_empty() {
                break;
            }
            let at = index.index(tampered.len());
            match step {
                0 => drop(tampered.remove(at)),
                1 => tampered[at].sequence = number,
                2 => {
                    let mut twin = tampered[at].clone();
                    twin.sequence = number;
                    tampered.push(twin);
                }
                3 => {
                    tampered[at].details = format!("{{\"rows\":{number}}}");
                    seal(&mut tampered[at]);
                }
                _ => tampered[at].actor = format!("actor {number}"),
            }
        }
        tampered.sort_by_key(|entry| entry.sequence);
        let is_clean = verify(Some(head_of(&whole)), tampered.clone(), &[]).is_clean();
        prop_assert_eq!(is_clean, tampered == whole);
    }
}
