//! Migrations (C5).

use std::{fs, path::Path};

use tempfile::TempDir;

use super::{Seen, Trial, expect};
use crate::{
    clock::Clock,
    db::migrate::{Applied, DownOptions, Migration, Migrator, new_pair},
};

/// Makes the schema from nothing; nothing else can be tried without.
pub(super) async fn try_up(trial: &mut Trial<'_>, url: &str, clock: &dyn Clock) -> Option<()> {
    trial
        .step("C5.3", "apply all migrations, in order", all(url, clock))
        .await
}

/// What can be done with a schema that is there.
pub(super) async fn try_rest(
    trial: &mut Trial<'_>,
    url: &str,
    clock: &dyn Clock,
    spoil: Option<fn(&Path)>,
) {
    trial
        .step("C5.1", "look up what was applied", recorded(url))
        .await;
    trial
        .step("C5.5", "apply all migrations again", again(url, clock))
        .await;
    let folder = trial
        .step("C5.2", "make a new migration", async {
            new_one(clock, spoil)
        })
        .await;
    if let Some(folder) = folder {
        trial
            .step(
                "C5.3",
                "apply the new one",
                new_applied(url, clock, folder.path()),
            )
            .await;
    }
    trial
        .step(
            "C5.4",
            "roll the newest back, and apply it again",
            back(url, clock),
        )
        .await;
}

async fn all(url: &str, clock: &dyn Clock) -> Seen<(String, ())> {
    let ours = Migrator::embedded()?;
    let applied = ours.up(url, clock).await?;
    let numbers =
        |applied: &[Applied]| -> Vec<i32> { applied.iter().map(|one| one.number).collect() };
    let wanted: Vec<i32> = ours.migrations().iter().map(|one| one.number).collect();
    expect("what was applied", &numbers(&applied), &wanted)?;
    Ok((format!("{} were applied, in order", applied.len()), ()))
}

async fn recorded(url: &str) -> Seen<(String, ())> {
    let ours = Migrator::embedded()?;
    let status = ours.status(url).await?;
    let labels: Vec<String> = status
        .applied
        .iter()
        .map(crate::db::migrate::Record::label)
        .collect();
    let wanted: Vec<String> = ours.migrations().iter().map(Migration::label).collect();
    expect("what the table of migrations has", &labels, &wanted)?;
    expect("what is pending", &status.pending, &Vec::new())?;
    Ok((format!("schema_migrations has {} rows", labels.len()), ()))
}

async fn again(url: &str, clock: &dyn Clock) -> Seen<(String, ())> {
    let applied = Migrator::embedded()?.up(url, clock).await?;
    let labels: Vec<String> = applied.into_iter().map(|one| one.name).collect();
    expect("what was applied twice", &labels, &Vec::new())?;
    Ok(("nothing was applied twice".to_owned(), ()))
}

/// All of ours in a folder, and one that is made there.
fn new_one(clock: &dyn Clock, spoil: Option<fn(&Path)>) -> Seen<(String, TempDir)> {
    let folder = TempDir::new()?;
    let ours = Migrator::embedded()?;
    for migration in ours.migrations() {
        for (script, way) in [(&migration.up, "up"), (&migration.down, "down")] {
            let file = format!("{}.{way}.sql", migration.label());
            fs::write(folder.path().join(file), &script.sql)?;
        }
    }
    if let Some(spoil) = spoil {
        spoil(folder.path());
    }
    let now = clock.now();
    let [up, down] = new_pair(folder.path(), "create_probe", now)?;
    let last = ours.migrations().last().map_or(0, |one| one.number);
    let name = up
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    expect(
        "the new one's file",
        &name,
        &Some(format!("{:04}_create_probe.up.sql", last + 1)),
    )?;
    let stamp = format!("-- created: {}", now.format("%Y-%m-%dT%H:%M:%SZ"));
    for path in [&up, &down] {
        if !fs::read_to_string(path)?.contains(&stamp) {
            return Err(format!("{} has no line {stamp:?}", path.display()).into());
        }
    }
    fs::write(
        &up,
        format!(
            "{stamp}\ncreate table probe (id integer not null, constraint probe_pkey primary key (id));\n"
        ),
    )?;
    fs::write(&down, "drop table probe;\n")?;
    Ok((
        format!("it got the number {:04} and its time", last + 1),
        folder,
    ))
}

/// The new one alone is applied, and taken back.
async fn new_applied(url: &str, clock: &dyn Clock, folder: &Path) -> Seen<(String, ())> {
    let migrator = Migrator::from_dir(folder)?;
    let applied = migrator.up(url, clock).await?;
    let names: Vec<&str> = applied.iter().map(|one| one.name.as_str()).collect();
    expect("what was applied", &names, &vec!["create_probe"])?;
    let back = migrator.down(url, DownOptions::default()).await?;
    expect(
        "what was rolled back",
        &back.map(|one| one.name),
        &Some("create_probe".to_owned()),
    )?;
    Ok(("only the new one was applied".to_owned(), ()))
}

async fn back(url: &str, clock: &dyn Clock) -> Seen<(String, ())> {
    let ours = Migrator::embedded()?;
    let newest = ours.migrations().last().map(|one| one.number);
    let back = ours.down(url, DownOptions::default()).await?;
    expect("what was rolled back", &back.map(|one| one.number), &newest)?;
    let status = ours.status(url).await?;
    expect("how many are pending", &status.pending.len(), &1)?;
    let applied = ours.up(url, clock).await?;
    expect(
        "what was applied again",
        &applied.first().map(|one| one.number),
        &newest,
    )?;
    Ok((
        format!(
            "{:04} was rolled back and applied again",
            newest.unwrap_or_default()
        ),
        (),
    ))
}
