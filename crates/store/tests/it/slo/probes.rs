//! Probes: what they try, and what they leave.

use utxoiq_store::worker::criteria;

use super::{lines, store};
use crate::support::TestDb;

#[tokio::test]
async fn a_probe_of_a_sound_product_finds_nothing_wrong() {
    let db = TestDb::new().await;
    let store = store(
        &db,
        &[("UTXOIQ_STORE_DATABASE__DRILL_URL", &db.drill_url())],
    );
    let probe = criteria::probe(&store, "test", store.now()).await.unwrap();
    for step in &probe.steps {
        eprintln!("{step:?}");
    }
    eprintln!("{:?}", probe.error);
    let report = store.slo().report(store.now(), None).await;
    eprintln!("{}", lines(&report));
    assert_eq!(probe.outcome.as_deref(), Some("ok"));
}
