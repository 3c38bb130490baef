//! What the service has to do, and whether it does.

use chrono::TimeDelta;
use utxoiq_store::{
    Store,
    alert::{Filter, Severity},
    backup::State,
    retention::Action,
    schedule::{Scheduler, SlotState, runner_name},
    worker,
};

use super::{Around, Finding};

const BACKUPS: &str = "docs/operations/backups.md";

/// How old the newest verified backup, and the newest proof, may be.
const BACKUP_WITHIN: TimeDelta = TimeDelta::hours(28);
const PROOF_WITHIN: TimeDelta = TimeDelta::days(8);

fn unasked(check: &'static str, error: &impl std::fmt::Display) -> Vec<Finding> {
    vec![Finding::skipped(
        check,
        format!("it cannot be asked: {error}"),
    )]
}

/// Tasks that are late, that failed, or that somebody switched off.
pub async fn schedule(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "schedule";
    let store = match around.store(CHECK) {
        Ok(store) => store,
        Err(skipped) => return skipped,
    };
    let scheduler = Scheduler::new(
        store.pool().clone(),
        store.clock(),
        worker::tasks(store),
        store.config().schedule.clone(),
        runner_name(),
    );
    let asked = match scheduler {
        Ok(scheduler) => scheduler.status(store.now()).await,
        Err(error) => Err(error),
    };
    let tasks = match asked {
        Ok(tasks) => tasks,
        Err(error) => return unasked(CHECK, &error),
    };
    let mut findings = Vec::new();
    for task in &tasks {
        let name = task.task;
        if !task.enabled {
            findings.push(Finding::warning(CHECK, format!("{name} is switched off"), format!("`update schedule_tasks set enabled = true where task = '{name}'`, when the reason is gone")));
        } else if task.overdue {
            findings.push(Finding::failed(CHECK, format!("{name} is overdue"), format!("keep `utxoiq-store serve` running, or call `utxoiq-store schedule tick` each minute; now: `utxoiq-store schedule run {name}`")));
        }
        if let Some(last) = task
            .last
            .as_ref()
            .filter(|last| last.state == SlotState::Failed)
        {
            let error = last.error.as_deref().unwrap_or("it does not say why");
            findings.push(Finding::failed(
                CHECK,
                format!("{name} failed: {error}"),
                format!(
                    "`utxoiq-store schedule run {name}` tries it again: docs/operations/schedule.md"
                ),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(
            CHECK,
            format!("{} tasks, none is late and none has failed", tasks.len()),
        ));
    }
    findings
}

/// Alerts that are open.
pub async fn alerts(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "alerts";
    let store = match around.store(CHECK) {
        Ok(store) => store,
        Err(skipped) => return skipped,
    };
    let page = match store
        .alerts()
        .list(store.pool(), Filter::Open, 100, 0)
        .await
    {
        Ok(page) => page,
        Err(error) => return unasked(CHECK, &error),
    };
    if page.alerts.is_empty() {
        return vec![Finding::ok(CHECK, "none is open")];
    }
    let findings = page.alerts.iter().map(|listed| {
        let alert = &listed.alert;
        let mend = format!(
            "{}; `utxoiq-store alert ack {}` says that you take it",
            alert.runbook, alert.key
        );
        match (&alert.acknowledged_by, alert.severity) {
            (Some(by), _) => Finding::warning(
                CHECK,
                format!("{} (taken by {by})", alert.title),
                alert.runbook.clone(),
            ),
            (None, Severity::Critical) => Finding::failed(CHECK, alert.title.clone(), mend),
            (None, Severity::Warning) => Finding::warning(CHECK, alert.title.clone(), mend),
        }
    });
    findings.collect()
}

/// The newest backup, and the newest proof.
pub async fn backups(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "backups";
    let store = match around.store(CHECK) {
        Ok(store) => store,
        Err(skipped) => return skipped,
    };
    if around.config.backup_store.url.is_none() {
        return vec![Finding::skipped(
            CHECK,
            "this process makes none: backup_store.url is not set",
        )];
    }
    match newest(store).await {
        Ok(findings) => findings,
        Err(error) => unasked(CHECK, &error),
    }
}

async fn newest(store: &Store) -> utxoiq_store::Result<Vec<Finding>> {
    const MOST: i64 = 200;
    let now = store.now();
    let backups = store.backups().list(true, MOST, 0).await?;
    let verified = backups
        .iter()
        .filter(|backup| backup.state == State::Verified)
        .filter_map(|backup| backup.verified_at)
        .max();
    let proved = backups.iter().filter_map(|backup| backup.proved_at).max();
    let day = |at: chrono::DateTime<chrono::Utc>| at.format("%Y-%m-%d %H:%M UTC");
    let of_backup = match verified {
        None => Finding::warning(
            "backups",
            "none is verified yet",
            format!("`utxoiq-store backup create` makes one: {BACKUPS}"),
        ),
        Some(at) if now - at > BACKUP_WITHIN => Finding::failed(
            "backups",
            format!("the newest that is verified is of {}", day(at)),
            format!(
                "`utxoiq-store backup list --all` says what became of the later ones, `backup create` makes one: {BACKUPS}"
            ),
        ),
        Some(at) => Finding::ok("backups", format!("the newest was verified on {}", day(at))),
    };
    let of_proof = match proved {
        None => Finding::warning(
            "backup proofs",
            "no backup was restored and compared yet",
            "`utxoiq-store backup drill newest` does it, where the drill key is",
        ),
        Some(at) if now - at > PROOF_WITHIN => Finding::failed(
            "backup proofs",
            format!("the newest is of {}", day(at)),
            "`utxoiq-store backup proofs` says why, `backup drill newest` proves one",
        ),
        Some(at) => Finding::ok(
            "backup proofs",
            format!(
                "the newest backup that was restored and compared was so on {}",
                day(at)
            ),
        ),
    };
    Ok(vec![of_backup, of_proof])
}

/// What should have left the database by yesterday.
pub async fn retention(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "retention";
    let store = match around.store(CHECK) {
        Ok(store) => store,
        Err(skipped) => return skipped,
    };
    let Ok(retention) = store.retention() else {
        return vec![Finding::skipped(
            CHECK,
            "database.retention_url is not set: another process does it",
        )];
    };
    let yesterday = store.now().date_naive() - TimeDelta::days(1);
    let plan = match retention.plan(yesterday).await {
        Ok(plan) => plan,
        Err(error) => return unasked(CHECK, &error),
    };
    let due = plan
        .steps
        .iter()
        .filter(|step| step.action != Action::Keep)
        .count();
    if due > 0 {
        return vec![Finding::failed(
            CHECK,
            format!("{due} days should have left the database or cold storage by yesterday"),
            "`utxoiq-store retention status` says why they have not, `retention run --yes` does it",
        )];
    }
    vec![Finding::ok(CHECK, "everything is where it should be")]
}
