//! When what is told.

use super::*;

#[tokio::test]
async fn it_is_repeated_until_it_is_acknowledged_and_a_new_incident_is_told_anew() {
    let house = House::new().await;
    let process = house.process(&["webhook"]);
    let late = [wrong("late")];
    process.observe(&late, start()).await;
    assert_eq!(process.deliver(start()).await, sent(2, 0));
    let hour = start() + minutes(60);
    for (now, told) in [
        (start(), 0),
        (hour - MICROSECOND, 0),
        (hour, 2),
        (hour + MICROSECOND, 0),
        (hour + minutes(60) - MICROSECOND, 0),
        (hour + minutes(60), 2),
    ] {
        process.observe(&late, now).await;
        assert_eq!(process.deliver(now).await, sent(told, 0), "{now}");
    }
    assert_eq!(kinds(&house.webhook), ["firing", "repeated", "repeated"]);

    let taken = hour + minutes(61);
    process.acknowledge("late", taken).await;
    let alert = process.one().await.alert;
    assert_eq!(
        (
            alert.acknowledged_at,
            alert.acknowledged_by.as_deref(),
            alert.note.as_deref()
        ),
        (Some(taken), Some("ann"), Some("on it"))
    );
    // Who has taken it first has it.
    let id = alert.id.to_string();
    let again = process
        .alerts
        .acknowledge(&process.pool, &id, "bob", None, taken + minutes(1));
    assert_eq!(again.await.unwrap(), alert);
    for day in 1..4 {
        let now = taken + TimeDelta::days(day);
        process.observe(&late, now).await;
        assert_eq!(process.deliver(now).await, sent(0, 0));
    }

    let over = taken + TimeDelta::days(4);
    process.observe(&[], over).await;
    assert_eq!(process.deliver(over).await, sent(2, 0));
    assert_eq!(process.deliver(over + minutes(600)).await, sent(0, 0));
    let refused = process
        .alerts
        .acknowledge(&process.pool, "late", "ann", None, over)
        .await;
    assert_eq!(refused.unwrap_err().code(), "alert_resolved");
    let unknown = process
        .alerts
        .acknowledge(&process.pool, "unknown", "ann", None, over)
        .await;
    assert_eq!(unknown.unwrap_err().code(), "no_such_alert");

    let back = over + minutes(1);
    process.observe(&late, back).await;
    assert_eq!(process.deliver(back).await, sent(2, 0));
    assert_eq!(
        kinds(&house.webhook),
        ["firing", "repeated", "repeated", "resolved", "firing"]
    );
    let ids: std::collections::BTreeSet<String> = told(&house.webhook)
        .iter()
        .map(|notice| notice["notice_id"].to_string())
        .collect();
    assert_eq!(ids.len(), 5, "every notice has its own");
}

#[tokio::test]
async fn a_warning_that_becomes_critical_is_told_at_once_and_has_to_be_acknowledged_anew() {
    let house = House::new().await;
    let process = house.process(&["webhook", "manager"]);
    let (warning, critical) = ([condition("late", Severity::Warning)], [wrong("late")]);
    process.observe(&warning, start()).await;
    process.deliver(start()).await;
    process.acknowledge("late", start()).await;
    let worse = start() + minutes(1);
    process.observe(&critical, worse).await;
    assert_eq!(process.deliver(worse).await, sent(3, 0));
    let alert = process.one().await.alert;
    assert_eq!(
        (alert.severity, alert.escalated_at, alert.acknowledged_at),
        (Severity::Critical, Some(worse), None)
    );
    // Told once, however often that is seen, and the gravest it was.
    for now in [worse, worse + minutes(1)] {
        process.observe(&warning, now).await;
        assert_eq!(process.deliver(now).await, sent(0, 0));
    }
    assert_eq!(process.one().await.alert.severity, Severity::Critical);
    // Who tells alerts apart by their labels hears that the warning is over.
    let last = house.manager.taken().pop().unwrap();
    let alerts: Value = serde_json::from_slice(&last.body).unwrap();
    let facts: Vec<_> = alerts
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (&one["labels"]["severity"], &one["startsAt"], &one["endsAt"]))
        .collect();
    let (began, worse, end) = (
        "2026-11-23T01:05:00.000Z".into(),
        "2026-11-23T01:06:00.000Z".into(),
        "2026-11-23T03:16:00.000Z".into(),
    );
    assert_eq!(
        facts,
        [
            (&"critical".into(), &worse, &end),
            (&"warning".into(), &began, &worse)
        ]
    );
}

#[tokio::test]
async fn alertmanager_hears_of_open_alerts_every_five_minutes_and_of_the_end() {
    let house = House::new().await;
    let process = house.process(&["manager"]);
    let late = [wrong("late")];
    process.observe(&late, start()).await;
    process.deliver(start()).await;
    // Acknowledged or not: what it does not hear of it reports as resolved.
    process.acknowledge("late", start()).await;
    for (now, told) in [
        (start() + minutes(5) - MICROSECOND, 0),
        (start() + minutes(5), 1),
        (start() + minutes(5) + MICROSECOND, 0),
    ] {
        assert_eq!(process.deliver(now).await, sent(told, 0), "{now}");
    }
    let over = start() + minutes(7);
    process.observe(&[], over).await;
    assert_eq!(process.deliver(over).await, sent(2, 0));
    assert_eq!(process.deliver(over + minutes(60)).await, sent(0, 0));

    let taken = house.manager.taken();
    let ends: Vec<String> = taken
        .iter()
        .map(|taken| {
            assert_eq!(taken.target, format!("/{MARK}/api/v2/alerts"));
            let alerts: Value = serde_json::from_slice(&taken.body).unwrap();
            let alert = &alerts[0];
            assert_eq!(alert["labels"], serde_json::json!({
                "alertname": "late", "severity": "critical", "source": "test", "service": "utxoiq-store", "the_task": "make_backup",
            }));
            assert_eq!(alert["startsAt"], "2026-11-23T01:05:00.000Z");
            assert_eq!(alert["annotations"]["summary"], "late is wrong");
            alert["endsAt"].as_str().unwrap().to_owned()
        })
        .collect();
    // Beyond two repeats, and then at its end.
    assert_eq!(
        ends,
        [
            "2026-11-23T03:15:00.000Z",
            "2026-11-23T03:20:00.000Z",
            "2026-11-23T01:12:00.000Z"
        ]
    );
}

#[tokio::test]
async fn a_clock_that_jumped_ahead_silences_nothing_when_it_is_right_again() {
    let house = House::new().await;
    let process = house.process(&["webhook"]);
    let late = [wrong("late")];
    process.observe(&late, start()).await;
    process.deliver(start()).await;
    let wrong_clock = start() + TimeDelta::days(365);
    process.observe(&late, wrong_clock).await;
    assert_eq!(process.deliver(wrong_clock).await, sent(2, 0));
    let right = start() + minutes(61);
    process.observe(&late, right).await;
    assert_eq!(
        process.deliver(right).await,
        sent(2, 0),
        "due, since nothing is due in a year"
    );
    assert_eq!(process.deliver(right + minutes(59)).await, sent(0, 0));
    assert_eq!(process.deliver(right + minutes(60)).await, sent(2, 0));
}
