//! Exports.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use tokio_postgres::Client;
use utxoiq_store::{
    Kind, Store,
    feedback::{Entry, Export, Filter, FlagType, Format},
};
use uuid::Uuid;

use super::{entries, insert, random, search, store};
use crate::support::TestDb;

/// Rows with everything in their texts that a format could trip over.
async fn fill(admin: &Client, rows: i64) {
    admin
        .execute(
            r#"insert into insight_feedback (id, insight_id, user_id, rating, comment, flag_type, flag_reason, created_at, updated_at)
               select gen_random_uuid(), 'insight ' || texts[1 + n % 20] || n % 50, texts[1 + n % 19] || n, 1 + n % 5,
                      case when n % 3 > 0 then texts[1 + n % 21] || n % 7 || texts[1 + n % 17] end,
                      case when n % 4 = 0 then 'other' end, case when n % 8 = 0 then texts[1 + n % 20] end,
                      timestamptz '2026-01-01 00:00:00.123456+00' + n / 3 * interval '1 second',
                      timestamptz '2026-01-01 00:00:00.123456+00' + n / 3 * interval '1 second'
               from generate_series(1, $1::bigint) n,
                    (select array['=1+1', '+', '-5', '@x', e'\t=', e'\r', e'\n', '''', '''''', '"', '""', ',', ';', e'a\r\nb',
                            '\', e'\\N', '＝', '𝄞 é', ' =', 'null', '{"a":1}']) as given (texts)"#,
            &[&rows],
        )
        .await
        .unwrap();
}

fn unguarded(text: &str) -> String {
    text.strip_prefix('\'').unwrap_or(text).to_owned()
}

fn read_csv(bytes: &[u8]) -> Vec<Entry> {
    let mut reader = csv::Reader::from_reader(bytes);
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    reader
        .records()
        .map(|record| {
            let record = record.unwrap();
            let get = |name| &record[column(name)];
            let optional = |name| Some(get(name)).filter(|text| !text.is_empty());
            let time = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
            Entry {
                id: get("id").parse().unwrap(),
                insight_id: unguarded(get("insight_id")),
                user_id: unguarded(get("user_id")),
                rating: optional("rating").map(|text| text.parse().unwrap()),
                rated_at: optional("rated_at").map(time),
                comment: optional("comment").map(unguarded),
                commented_at: optional("commented_at").map(time),
                flag_type: optional("flag_type").map(|text| text.parse().unwrap()),
                flag_reason: optional("flag_reason").map(unguarded),
                flagged_at: optional("flagged_at").map(time),
                created_at: time(get("created_at")),
                updated_at: time(get("updated_at")),
            }
        })
        .collect()
}

fn read_ndjson(bytes: &[u8]) -> Vec<Entry> {
    bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| {
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!(line.as_object().unwrap().len(), 12);
            let text = |name: &str| line[name].as_str().map(str::to_owned);
            let time = |name: &str| text(name).map(|at| at.parse::<DateTime<Utc>>().unwrap());
            Entry {
                id: text("id").unwrap().parse().unwrap(),
                insight_id: text("insight_id").unwrap(),
                user_id: text("user_id").unwrap(),
                rating: line["rating"].as_i64().map(|n| i16::try_from(n).unwrap()),
                rated_at: time("rated_at"),
                comment: text("comment"),
                commented_at: time("commented_at"),
                flag_type: text("flag_type").map(|text| text.parse::<FlagType>().unwrap()),
                flag_reason: text("flag_reason"),
                flagged_at: time("flagged_at"),
                created_at: time("created_at").unwrap(),
                updated_at: time("updated_at").unwrap(),
            }
        })
        .collect()
}

/// What is stored, read without any of what is tested.
async fn stored(admin: &Client) -> Vec<Entry> {
    let rows = admin
        .query(
            "select * from insight_feedback order by updated_at desc, id desc",
            &[],
        )
        .await
        .unwrap();
    rows.iter()
        .map(|row| Entry {
            id: row.get("id"),
            insight_id: row.get("insight_id"),
            user_id: row.get("user_id"),
            rating: row.get("rating"),
            rated_at: row.get("rated_at"),
            comment: row.get("comment"),
            commented_at: row.get("commented_at"),
            flag_type: row
                .get::<_, Option<&str>>("flag_type")
                .map(|text| text.parse().unwrap()),
            flag_reason: row.get("flag_reason"),
            flagged_at: row.get("flagged_at"),
            created_at: row.get("created_at"),
            updated_at: row.get("updated_at"),
        })
        .collect()
}

#[tokio::test]
async fn fifty_thousand_entries_with_special_characters_are_read_back_equal() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    fill(&admin, 50_000).await;
    let expected = stored(&admin).await;
    for format in Format::ALL {
        let mut bytes = Vec::new();
        format.header(&mut bytes).unwrap();
        let export = store.feedback().export(&Filter::default()).await.unwrap();
        assert_eq!(export.total(), 50_000);
        let mut chunks = std::pin::pin!(export.into_stream());
        while let Some(chunk) = chunks.try_next().await.unwrap() {
            assert!(chunk.len() <= 1_000, "more than a thousand entries at once");
            format.encode(&chunk, &mut bytes).unwrap();
        }
        let read = match format {
            Format::Csv => read_csv(&bytes),
            Format::Ndjson => read_ndjson(&bytes),
        };
        assert!(read == expected, "{format} was not read back equal");
        if format == Format::Csv {
            no_cell_is_a_formula(&bytes);
        }
    }
}

fn no_cell_is_a_formula(bytes: &[u8]) {
    for record in csv::Reader::from_reader(bytes).records() {
        for cell in &record.unwrap() {
            assert!(
                !cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝']),
                "{cell:?}"
            );
        }
    }
}

#[tokio::test]
async fn an_export_is_of_one_moment_and_holds_no_snapshot() {
    let (db, store) = store().await;
    let admin = db.admin().await;
    fill(&admin, 5_000).await;
    let expected = stored(&admin).await;
    let mut export = store.feedback().export(&Filter::default()).await.unwrap();
    let mut given = export.next().await.unwrap().unwrap();
    admin
        .batch_execute(
            "update insight_feedback set rating = 1 + rating % 5;
             delete from insight_feedback where rating = 2;
             insert into insight_feedback (insight_id, user_id, rating) values ('new', 'new', 1)",
        )
        .await
        .unwrap();
    // Vacuum may take what is dead away, and nothing waits for a reader who is slow.
    let holding = "select count(*) from pg_stat_activity
                   where datname = current_database() and pid <> pg_backend_pid()
                     and (backend_xmin is not null or state like 'idle in transaction%')";
    let holding: i64 = admin.query_one(holding, &[]).await.unwrap().get(0);
    assert_eq!(holding, 0);
    admin
        .batch_execute("vacuum insight_feedback")
        .await
        .unwrap();
    while let Some(chunk) = export.next().await.unwrap() {
        given.extend(chunk);
    }
    assert!(given == expected, "the export is not of one moment");
}

/// Starts an export when a place is free: when the database has seen that the connection of one before has ended.
async fn export_when_free(store: &Store, filter: &Filter) -> Export {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match store.feedback().export(filter).await {
            Err(error) if error.code() == "export_busy" => {
                let now = tokio::time::Instant::now();
                assert!(now < deadline, "the place is never free");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            export => return export.unwrap(),
        }
    }
}

#[tokio::test]
async fn an_export_gives_what_a_search_finds() {
    let (db, store) = store().await;
    let mut random = random();
    let written = entries(&mut random, 400);
    insert(&db.admin().await, &written).await;
    for filter in search::combinations(&mut random, &written)
        .iter()
        .step_by(7)
    {
        let export = export_when_free(&store, filter).await;
        let expected = search::expected(filter, &written);
        assert_eq!(export.total(), i64::try_from(expected.len()).unwrap());
        let given: Vec<Vec<Entry>> = export.into_stream().try_collect().await.unwrap();
        assert_eq!(given.concat(), expected, "{filter:?}");
    }
}

fn store_with_limit(db: &TestDb, rows: &str) -> Store {
    let limit = ("UTXOIQ_STORE_FEEDBACK__MAX_EXPORT_ROWS", rows);
    Store::open(db.settings_with(&[limit])).unwrap()
}

#[tokio::test]
async fn an_export_beyond_the_limit_is_refused_and_never_cut() {
    let db = TestDb::new().await;
    fill(&db.admin().await, 1_001).await;
    let store = store_with_limit(&db, "1000");
    let error = store.feedback().export(&Filter::default()).await;
    let error = error.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Invalid, "export_too_large")
    );
    let store = store_with_limit(&db, "1001");
    let export = store.feedback().export(&Filter::default()).await.unwrap();
    let given: Vec<Vec<Entry>> = export.into_stream().try_collect().await.unwrap();
    let lengths: Vec<usize> = given.iter().map(Vec::len).collect();
    assert_eq!(lengths, [1_000, 1]);
}

#[tokio::test]
async fn two_exports_run_at_once_and_a_third_is_told_to_come_back() {
    let (db, store) = store().await;
    fill(&db.admin().await, 10).await;
    let other = db.store().await;
    let filter = Filter::default();
    let first = store.feedback().export(&filter).await.unwrap();
    let _second = other.feedback().export(&filter).await.unwrap();
    let error = store.feedback().export(&filter).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.code()),
        (Kind::Unavailable, "export_busy")
    );
    drop(first);
    drop(export_when_free(&store, &filter).await);
    // The pool has lost none of its connections.
    let snapshot = store.pool().snapshot(store.now());
    assert_eq!(snapshot.active, 0, "{snapshot:?}");
}

#[test]
fn ids_are_ordered_here_as_in_the_database() {
    let (low, high) = (Uuid::from_u128(1), Uuid::from_u128(u128::MAX));
    assert!(low < high && low.as_bytes() < high.as_bytes());
}
