use proptest::prelude::*;

use super::*;

fn read_as(read: fn(&Bytes) -> ApiResult<Lines>, body: &str) -> Lines {
    read(&Bytes::copy_from_slice(body.as_bytes())).unwrap()
}

fn refusals(lines: &Lines) -> Vec<(&'static str, u64, usize)> {
    let all = lines.gathered.refusals.iter();
    all.map(|(reason, refusal)| (reason, refusal.count, refusal.place))
        .collect()
}

#[test]
fn a_line_is_a_sample_and_a_bad_one_is_told_by_its_number() {
    let good = r#"{"service_name": "a", "metric_type": "b", "metric_value": 1, "unit": "", "timestamp": "2026-01-31T12:00:00Z"}"#;
    let long = good.replace("\"b\"", &format!("{:?}", "m".repeat(200)));
    let odd = good
        .replace('1', "\"1\"")
        .replace("unit", "id\": 7, \"unit");
    let body = [
        good,
        "",
        "  \r",
        &long,
        r#"{"service_name": "a", "metric_type": "b", "metric_value": 1, "unit": ""}"#,
        "{",
        r#"{"service_name": "a", "metric_type": "b", "metric_value": NaN, "unit": ""}"#,
        r#"{"service_name": "", "metric_type": "b", "metric_value": "x", "unit": "", "timestamp": "2026-01-31T12:00:00Z"}"#,
        &odd.replace("2026-0\"1\"-3\"1\"T\"1\"2", "2026-01-31T12"),
    ];
    let lines = read_as(ndjson, &body.join("\n"));
    assert_eq!(lines.count, 7);
    assert_eq!(lines.gathered.places, [1, 4, 9]);
    assert_eq!(
        refusals(&lines),
        [("no_timestamp", 1, 5), ("unreadable", 3, 6)]
    );
    assert_eq!(lines.gathered.batch.names().len(), 2);
}

#[test]
fn a_row_is_a_sample_whatever_the_order_of_its_columns() {
    let body = "\u{feff}unit,service_name,metric_type,ignored,metric_value,timestamp,labels,metadata\r\n\
        %,web,cpu,x,1.5,2026-01-31T12:00:00Z,\"{\"\"host\"\": \"\"h\"\"}\",\"{\"\"a\"\": [1]}\"\r\n\
        ,web,\"c\nd\",x,2,2026-01-31 12:00:00,,\r\n\
        ,web,cpu,x,3,2026-01-31 12:00:00,{},\r\n\
        ,web,cpu,x,NaN,2026-01-31T12:00:00Z,,\r\n\
        ,web,cpu,x,1,,,\r\n\
        ,web,cpu\r\n\
        ,web,cpu,x,1,2026-01-31T12:00:00Z,[],\r\n\
        ,web,cpu,x,1,2026-01-31T12:00:00Z,,{\r\n";
    let lines = read_as(csv::rows, body);
    assert_eq!(lines.count, 8);
    assert_eq!(
        lines.gathered.places,
        [2, 5],
        "{}",
        lines.gathered.refusals.summary()
    );
    // A name has no line break; the row has one, and the lines after it are counted as they are in the file.
    assert_eq!(
        refusals(&lines),
        [("no_timestamp", 1, 7), ("unreadable", 5, 3)]
    );
    let batch = &lines.gathered.batch;
    assert_eq!(batch.names()[0].labels["host"], "h");
    assert_eq!(batch.names()[0].unit, "%");
    assert_eq!(batch.samples()[0].metadata.as_deref(), Some(r#"{"a":[1]}"#));
    assert_eq!(batch.names()[1].unit, "");
}

#[test]
fn a_header_without_a_column_is_refused() {
    let body = Bytes::from_static(b"service_name,metric_type,value\na,b,1\n");
    let error = csv::rows(&body).err().unwrap();
    assert_eq!(error.status(), 422);
    let fields: Vec<_> = error
        .errors()
        .iter()
        .map(|error| error.field.as_str())
        .collect();
    assert_eq!(
        fields,
        ["header.metric_value", "header.unit", "header.timestamp"]
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let header = b"service_name,metric_type,metric_value,unit,timestamp,labels\n";
        let _ = ndjson(&Bytes::from(bytes.clone()));
        let _ = csv::rows(&Bytes::from(bytes.clone()));
        let _ = csv::rows(&Bytes::from([&header[..], &bytes].concat()));
    }
}
