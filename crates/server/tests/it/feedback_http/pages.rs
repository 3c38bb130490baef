//! Pages: by cursor each item once whatever is written meanwhile, by offset as the contract has it.

use serde_json::{Value, json};

use super::{Caller, each};
use crate::live::Live;

/// Each list with its call, its items' member, and how an item is known.
const LISTS: [(&str, &str, &[&str]); 6] = [
    ("comments?insight_id=busy", "comments", &["user_id"]),
    ("user?", "feedback", &["insight_id"]),
    ("search?", "feedback", &["user_id", "insight_id"]),
    ("history?", "acts", &["insight_id", "fact"]),
    ("flagged?", "insights", &["insight_id"]),
    ("top?", "insights", &["insight_id"]),
];

fn known(item: &Value, fields: &[&str]) -> String {
    let parts = fields.iter().map(|field| item[*field].as_str().unwrap());
    parts.collect::<Vec<_>>().join(" / ")
}

/// Seven comments on one insight between ratings without one, seven insights of one user, all flagged.
async fn filled(live: &Live) {
    for index in 0..7 {
        let user = Caller::of(live, &format!("user {index}"));
        user.comment("busy", &format!("comment {index}")).await;
        Caller::of(live, &format!("silent {index}"))
            .rate("busy", 3)
            .await;
        let own = Caller::of(live, "reader");
        let insight = format!("insight {index}");
        own.rate(&insight, index % 5 + 1).await;
        let flag = json!({"insight_id": insight, "flag_type": "other"});
        own.write("flag", flag).await;
    }
}

#[tokio::test]
async fn every_list_is_paged_by_cursor_and_by_offset_alike() {
    let live = Live::new(&[]).await;
    filled(&live).await;
    let reader = Caller::of(&live, "reader");
    for (call, list, fields) in LISTS {
        let whole = reader.read(&format!("{call}&limit=100")).await;
        let all: Vec<_> = whole[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| known(item, fields))
            .collect();
        assert!(all.len() >= 7, "{call}: {whole}");
        assert_eq!(
            (&whole["next_cursor"], &whole["offset"], &whole["limit"]),
            (&Value::Null, &json!(0), &json!(100))
        );
        let total = whole.get("total").cloned();
        assert!(
            total.as_ref().is_none_or(|total| *total == all.len()),
            "{call}: {whole}"
        );

        let (mut by_cursor, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let at = cursor
                .as_ref()
                .map_or_else(String::new, |cursor| format!("&cursor={cursor}"));
            let page = reader.read(&format!("{call}&limit=3{at}")).await;
            assert_eq!(page["offset"].is_null(), cursor.is_some(), "{call}");
            assert_eq!(
                page.get("total"),
                total.as_ref(),
                "{call}: the total is that of all pages"
            );
            let items = page[list].as_array().unwrap();
            by_cursor.extend(items.iter().map(|item| known(item, fields)));
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                break;
            }
            assert_eq!(items.len(), 3, "{call}: a page before the last is full");
        }
        assert_eq!(by_cursor, all, "{call} by cursor");

        let mut by_offset = Vec::new();
        for offset in (0..all.len()).step_by(2) {
            let page = reader
                .read(&format!("{call}&limit=2&offset={offset}"))
                .await;
            assert_eq!(page["offset"], offset, "{call}");
            by_offset.extend(
                page[list]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|item| known(item, fields)),
            );
        }
        assert_eq!(by_offset, all, "{call} by offset");
        let beyond = reader
            .read(&format!("{call}&offset=9223372036854775807"))
            .await;
        assert_eq!(
            (&beyond[list], beyond.get("total")),
            (&json!([]), total.as_ref()),
            "{call}"
        );
    }
}

#[tokio::test]
async fn by_cursor_what_is_written_meanwhile_shifts_nothing() {
    let live = Live::new(&[]).await;
    filled(&live).await;
    let reader = Caller::of(&live, "reader");
    let first = reader.read("comments?insight_id=busy&limit=3").await;
    assert_eq!(
        each(&first, "comments", "comment"),
        ["comment 6", "comment 5", "comment 4"]
    );
    Caller::of(&live, "newcomer")
        .comment("busy", "meanwhile")
        .await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = reader
        .read(&format!("comments?insight_id=busy&limit=3&cursor={cursor}"))
        .await;
    assert_eq!(
        each(&second, "comments", "comment"),
        ["comment 3", "comment 2", "comment 1"]
    );
    assert_eq!(second["total"], 8);
    // By offset the newcomer pushes one over the edge.
    let shifted = reader
        .read("comments?insight_id=busy&limit=3&offset=3")
        .await;
    assert_eq!(
        each(&shifted, "comments", "comment"),
        ["comment 4", "comment 3", "comment 2"]
    );
}

#[tokio::test]
async fn a_cursor_goes_with_its_own_list_and_without_an_offset() {
    let live = Live::new(&[]).await;
    filled(&live).await;
    let reader = Caller::of(&live, "reader");
    let mut cursors = Vec::new();
    for (call, _, _) in LISTS {
        let page = reader.read(&format!("{call}&limit=1")).await;
        cursors.push(page["next_cursor"].as_str().unwrap().to_owned());
    }
    for (index, (call, _, _)) in LISTS.into_iter().enumerate() {
        for (of, cursor) in cursors.iter().enumerate() {
            let answer = reader.get(&format!("{call}&cursor={cursor}")).await;
            // The caller's feedback is a search for it: their cursors are of one kind.
            if of == index || [(1, 2), (2, 1)].contains(&(of, index)) {
                assert_eq!(answer.status, 200, "{call}: {answer:?}");
            } else {
                assert_eq!(answer.problem(422), "invalid_input", "{call} {of}");
                assert_eq!(answer.fields(), ["cursor"], "{call} {of}");
            }
        }
        let both = reader
            .get(&format!("{call}&offset=0&cursor={}", cursors[index]))
            .await;
        assert_eq!(
            (both.problem(422), both.fields()),
            ("invalid_input".into(), vec!["cursor".to_owned()])
        );
    }
    // A cursor of one ranking is none of the other.
    let other = reader
        .get(&format!("top?ranking=lower_bound&cursor={}", cursors[5]))
        .await;
    assert_eq!(other.fields(), ["cursor"]);
}
