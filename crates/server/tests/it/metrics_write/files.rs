//! Imports.

use utxoiq_store_server::api::metrics::wire::MetricsImported;

use super::*;

const IMPORT: &str = "/api/v1/monitoring/metrics/import";
const NDJSON: &str = "application/x-ndjson";

async fn import(live: &Live, content_type: &str, encoding: &str, body: Vec<u8>) -> MetricsImported {
    let imported = answer(typed(live, IMPORT, content_type, encoding, body)).await;
    assert_eq!(imported.status, 200, "{imported:?}");
    serde_json::from_value(imported.json()).unwrap()
}

#[tokio::test]
async fn what_is_right_of_a_file_is_stored_and_the_rest_is_told_by_its_line() {
    let live = Live::new(&[]).await;
    let mut lines: Vec<String> = (0..1_000)
        .map(|n| metric(n, Some(ago(n))).to_string())
        .collect();
    lines[10] = metric(1, None).to_string();
    lines[20] = "{".into();
    lines[30] = metric(1, Some(ago(100 * 86_400))).to_string();
    lines[31] = lines[30].clone();
    lines[40] = metric(-1, Some(ago(41))).to_string();
    let body = lines.join("\n").into_bytes();
    let first = import(&live, NDJSON, "gzip", gzip(&body)).await;
    let told: Vec<_> = first
        .rejected
        .iter()
        .map(|one| (one.reason.as_str(), one.count, one.first_line))
        .collect();
    assert_eq!(
        told,
        [
            ("no_timestamp", 1, 11),
            ("too_old", 2, 31),
            ("unreadable", 1, 21)
        ]
    );
    assert_eq!((first.lines, first.rejected_lines), (1_000, 4));
    assert_eq!(
        (first.stored, first.duplicates, first.conflicts),
        (995, 0, 1)
    );
    assert_eq!(count(&live).await, 995);
    let again = import(&live, NDJSON, "", body).await;
    assert_eq!(
        (again.stored, again.duplicates, again.conflicts),
        (0, 995, 1)
    );
    assert_eq!(count(&live).await, 995);
}

#[tokio::test]
async fn a_table_is_imported_by_the_names_of_its_columns() {
    let live = Live::new(&[]).await;
    let at = ago(60).to_rfc3339();
    let body = format!(
        "timestamp,service_name,metric_type,metric_value,unit,labels,metadata\r\n\
         {at},web,cpu,1.5,%,\"{{\"\"host\"\": \"\"h\"\"}}\",\"{{\"\"a\"\": [1]}}\"\r\n\
         {at},web,{},2,,,\r\n\
         {at},web,cpu,Infinity,%,,\r\n",
        "m".repeat(200)
    );
    let imported = import(&live, "text/csv; charset=utf-8", "", body.into()).await;
    assert_eq!((imported.lines, imported.stored), (3, 2));
    assert_eq!(imported.rejected[0].first_line, 4);
    let all = stored(&live).await;
    assert_eq!(
        (all[0].3.clone(), all[0].6.clone()),
        (json!({"host": "h"}), Some(json!({"a": [1]})))
    );
    assert_eq!((all[0].5, all[1].5), (1.5, 2.0));
}
