use crate::{AppState, error::ApiResult, routes::Routes};
use chrono::{DateTime, Utc};
use std::sync::Arc;
use utxoiq_store::metrics::{
    DegradationQuery, Degradations, Statistic, degradation::Settings, read::Selector,
};
pub(super) fn add(routes: Routes) -> Routes {
    routes
}
/// What got worse in the last hour, as it was judged in the last minute; `None` where there are too many series to judge at once.
pub(super) async fn degradations(
    state: &AppState,
    now: DateTime<Utc>,
) -> ApiResult<Arc<Option<Degradations>>> {
    let judging = async {
        let look = DegradationQuery {
            selector: Selector::default(),
            hours: 1,
            end: now,
            statistic: Statistic::P95,
            settings: Settings::default(),
        };
        match state.store.metrics().degradations(&look).await {
            Ok(found) => Ok(Arc::new(Some(found))),
            Err(error) if error.code() == "too_many_series_matched" => Ok(Arc::new(None)),
            Err(error) => Err(error),
        }
    };
    let judged = state.live.degradations.try_get_with((), judging).await;
    Ok(judged.map_err(utxoiq_store::Error::shared)?)
}
