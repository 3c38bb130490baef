//! Object stores, where they lie, and the tools of backups.

use utxoiq_store::{
    backup::{region::Judgement, tools::Tools},
    cold,
    config::ObjectStoreSettings,
    db::Dedicated,
};

use super::{Around, Finding, queries};

/// Whether an object can be written, read and removed.
pub async fn probe(around: &Around, settings: ObjectStoreSettings, without: &str) -> Vec<Finding> {
    let check = settings.section;
    let finding = match cold::probe(&settings, around.clock.now()).await {
        Ok(None) => Finding::skipped(check, format!("{check}.url is not set: {without}")),
        Ok(Some(took)) => Finding::ok(
            check,
            format!(
                "an object was written, read and removed in {} ms",
                took.as_millis()
            ),
        ),
        Err(error) if error.code() == "cold_object_remains" => Finding::failed(
            check,
            error.report(),
            "take versioning, soft delete and retention locks off the bucket of archives: docs/operations/archives.md",
        ),
        Err(error) => Finding::failed(
            check,
            error.report(),
            format!(
                "make what {check}.url names, and let this user write, read and delete there: docs/operations/archives.md"
            ),
        ),
    };
    vec![finding]
}

/// Whether backups lie elsewhere than the database.
pub async fn regions(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "backup places";
    const PAGE: &str = "docs/operations/backups.md#where-the-backups-lie-is-not-known";
    let store = match around.store(CHECK) {
        Ok(store) => store,
        Err(skipped) => return skipped,
    };
    let places = store.backups().places().await;
    if places.is_empty() {
        return vec![Finding::skipped(CHECK, "there is no store of backups")];
    }
    let findings = places.into_iter().map(|place| match place.judgement {
        Judgement::Separate => Finding::ok(
            CHECK,
            format!("{} lies in another region than the database", place.store),
        ),
        Judgement::Same { reason } => Finding::failed(
            CHECK,
            format!("{}: {reason}", place.store),
            "use a bucket in another region: docs/operations/backups.md",
        ),
        Judgement::CannotJudge { reason } => Finding::warning(
            CHECK,
            format!("{}: {reason}", place.store),
            format!("set database.region and {}.location: {PAGE}", place.store),
        ),
    });
    findings.collect()
}

/// Whether `pg_dump` and `pg_restore` are as new as the server.
pub async fn tools(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "backup tools";
    const MEND: &str = "install PostgreSQL's client programs of the server's version or a newer one, or set backup.tools_dir";
    let database = &around.config.database;
    if around.config.backup_store.url.is_none() {
        return vec![Finding::skipped(CHECK, "there is no store of backups")];
    }
    let Some(url) = database.backup_url.as_ref().or(database.url.as_ref()) else {
        return vec![Finding::skipped(CHECK, "no address is set")];
    };
    let asked = async {
        let connection = Dedicated::open(url.expose(), "utxoiq-store doctor")
            .await
            .ok()?;
        let row = connection.query_one(queries::SERVER, &[]).await.ok()?;
        row.try_get::<_, i32>("version_number").ok()
    };
    let Some(number) = asked.await else {
        return vec![Finding::skipped(CHECK, "the database does not let one in")];
    };
    let major = u32::try_from(number / 10_000).unwrap_or_default();
    let tools = Tools::new(around.config.backup.tools_dir.clone().map(Into::into));
    let finding = async |found: utxoiq_store::Result<utxoiq_store::backup::tools::Found>,
                         name: &str| match found {
        Ok(found) => Finding::ok(
            CHECK,
            format!("{name} {} in {}", found.version, found.path.display()),
        ),
        Err(error) => Finding::failed(CHECK, error.report(), MEND),
    };
    vec![
        finding(tools.for_dump(major).await, "pg_dump").await,
        finding(tools.for_restore(major, major).await, "pg_restore").await,
    ]
}
