//! The service itself, and the token that this shell has.

use serde_json::Value;
use utxoiq_store::Kind;

use super::{Around, Finding};
use crate::client::Api;

/// Whether the service answers that it is ready.
pub async fn ready(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "service";
    let finding = match Api::ready(&around.connection).await {
        Ok((200, body)) => {
            let cache = body["cache"].as_str().unwrap_or("ok");
            if cache == "degraded" {
                Finding::warning(
                    CHECK,
                    "it is ready, and its cache is away",
                    "start Redis: docs/operations/cache.md",
                )
            } else {
                Finding::ok(CHECK, "it is ready")
            }
        }
        Ok((status, body)) => {
            let detail = body["detail"]
                .as_str()
                .unwrap_or("it does not say why")
                .to_owned();
            Finding::failed(
                CHECK,
                format!("it is not ready ({status}): {detail}"),
                "look at its log; `utxoiq-store migrate status` and database.url say most",
            )
        }
        Err(error) => Finding::warning(
            CHECK,
            format!(
                "nobody answers at {}: {error:#}",
                around.connection.address()
            ),
            "start it with `utxoiq-store serve`, or name its address with --url or UTXOIQ_STORE_URL",
        ),
    };
    vec![finding]
}

/// Whether the token is taken, and what it may do.
pub async fn token(around: &Around) -> Vec<Finding> {
    const CHECK: &str = "token";
    const MAKE: &str = "`utxoiq-store token create --name NAME --scopes all` makes one; put it into UTXOIQ_STORE_TOKEN";
    if std::env::var_os("UTXOIQ_STORE_TOKEN").is_none() {
        return vec![Finding::skipped(
            CHECK,
            "UTXOIQ_STORE_TOKEN is not set: commands that ask the service need it",
        )];
    }
    let asked = match Api::connect(&around.connection) {
        Ok(api) => api.get::<Value>("whoami", &[]).await,
        Err(error) => return vec![Finding::failed(CHECK, format!("{error:#}"), MAKE)],
    };
    let finding = match asked {
        Ok(who) => {
            let scopes = who["scopes"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str);
            let scopes: Vec<&str> = scopes.collect();
            let name = who["name"].as_str().unwrap_or("an end user's");
            Finding::ok(CHECK, format!("{name}: {}", scopes.join(", ")))
        }
        Err(error) if error.kind() == Kind::Unavailable => {
            Finding::skipped(CHECK, "the service does not answer")
        }
        Err(error) => Finding::failed(CHECK, format!("it is refused: {error}"), MAKE),
    };
    vec![finding]
}
