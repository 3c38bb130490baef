//! One connection to Redis, and what is said over it.
//!
//! A [`Wire`] is one TCP connection to one run of one server: its `run_id` is asked when it is made, and it never
//! reconnects. What is read over it was therefore written during that run, under keys that carry the id: data that a
//! restarted server has loaded from an old file, or that a promoted replica has kept, is under another prefix.
//!
//! Whoever meets an error of the connection or a timeout declares the wire dead, at once and for everybody: that is the
//! breaker. The requests that were waiting lose `redis.response_timeout_milliseconds`, later ones nothing. A task makes
//! the next wire; no request ever does.

use std::{
    fs,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, ProtocolVersion, RedisResult, Script, ScriptInvocation, TlsCertificates,
    aio::MultiplexedConnection,
};
use tracing::Instrument as _;

use crate::{
    config::{RedisSettings, is_loopback},
    error::{Error, Result},
    tls::{is_first_of, use_ring},
    trace,
};

/// How long making a connection may take. Its questions are bound by the response timeout: a server that is too slow for
/// requests is not used.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a fill has for reading the database; later it is refused.
const LEASE: Duration = Duration::from_secs(5);

/// Reads a value, or leaves a lease for a fill. A key of another type is rubbish and goes.
const LOOK: &str = "
    local value = redis.pcall('GET', KEYS[1])
    if type(value) == 'string' then return value end
    if type(value) == 'table' then redis.call('DEL', KEYS[1]) end
    local set = redis.pcall('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
    return set ~= nil and set['ok'] ~= nil and 1 or 0";

/// Stores a value under a lease that nothing has voided.
const FILL: &str = "
    if redis.pcall('GET', KEYS[2]) ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    redis.call('DEL', KEYS[2])
    return 1";

/// Replaces the head, if it is still the one that was read (empty: none). A head of another type is rubbish.
const REPLACE_HEAD: &str = "
    local head = redis.pcall('GET', KEYS[1])
    if type(head) == 'table' then redis.call('DEL', KEYS[1]) end
    if type(head) ~= 'string' then head = '' end
    if head ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[2])
    return 1";

/// Moves the head on, if it still has its generation.
const ADVANCE_HEAD: &str = "
    local head = redis.pcall('GET', KEYS[1])
    if type(head) ~= 'string' or string.sub(head, 1, #ARGV[1] + 1) ~= ARGV[1] .. '|' then return 0 end
    redis.call('SET', KEYS[1], ARGV[2])
    return 1";

/// Some keys of a pattern, and how many milliseconds each has left (-1: for ever).
const LIVES: &str = "
    local found = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 200)
    local lives = {}
    for _, key in ipairs(found[2]) do
        lives[#lives + 1] = key
        lives[#lives + 1] = redis.call('PTTL', key)
    end
    return {found[1], lives}";

/// How often it is looked for keys: a server may be full of others.
const LIVES_ROUNDS: usize = 5;

/// What a look found.
#[derive(Debug)]
pub(crate) enum Looked {
    /// The value's bytes.
    Value(Vec<u8>),
    /// Nothing; a fill under this lease may store it.
    Leased,
    /// Nothing, and nothing can be stored now.
    Nothing,
}

impl FromRedisValue for Looked {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        match value {
            redis::Value::BulkString(bytes) => Ok(Self::Value(bytes)),
            redis::Value::Int(1) => Ok(Self::Leased),
            _ => Ok(Self::Nothing),
        }
    }
}

/// The scripts, their hashes computed once.
struct Scripts {
    look: Script,
    fill: Script,
    replace_head: Script,
    advance_head: Script,
}

/// One connection to one run of a server.
pub(crate) struct Wire {
    connection: MultiplexedConnection,
    timeout: Duration,
    dead: AtomicBool,
    demoted: AtomicBool,
    cause: OnceLock<String>,
    scripts: Arc<Scripts>,
    /// Which run of which server.
    pub run_id: String,
}

/// The wire does not answer; it is dead now.
#[derive(Debug)]
pub(crate) struct Dead;

/// Makes wires to one address.
pub(super) struct Connector {
    client: Client,
    timeout: Duration,
    scripts: Arc<Scripts>,
}

impl Connector {
    /// Fails on an address that is none, and on files of certificates that cannot be read.
    pub fn new(url: &str, settings: &RedisSettings) -> Result<Self> {
        Ok(Self {
            client: client(url, settings)?,
            timeout: Duration::from_millis(settings.response_timeout_milliseconds),
            scripts: Arc::new(Scripts {
                look: Script::new(LOOK),
                fill: Script::new(FILL),
                replace_head: Script::new(REPLACE_HEAD),
                advance_head: Script::new(ADVANCE_HEAD),
            }),
        })
    }

    /// Connects, and asks which run of which server answers.
    pub async fn connect(&self) -> RedisResult<Wire> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(self.timeout));
        let making = self
            .client
            .get_multiplexed_async_connection_with_config(&config);
        let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, making)
            .await
            .map_err(|_| timed_out("connecting took too long"))??;
        let info: String = redis::cmd("INFO")
            .arg("server")
            .query_async(&mut connection)
            .await?;
        let run_id = info
            .lines()
            .find_map(|line| line.trim().strip_prefix("run_id:"))
            .ok_or_else(|| timed_out("INFO has no run_id"))?
            .to_owned();
        for script in [
            &self.scripts.look,
            &self.scripts.fill,
            &self.scripts.replace_head,
            &self.scripts.advance_head,
        ] {
            script.load_async(&mut connection).await?;
        }
        Ok(Wire {
            connection,
            timeout: self.timeout,
            dead: AtomicBool::new(false),
            demoted: AtomicBool::new(false),
            cause: OnceLock::new(),
            scripts: Arc::clone(&self.scripts),
            run_id,
        })
    }
}

/// A client of an address; over TLS, one that verifies the server's certificate and host name.
fn client(url: &str, settings: &RedisSettings) -> Result<Client> {
    // The errors are left out: they may quote the address, which holds the password.
    let no_address = |_| {
        Error::invalid(
            "invalid_config",
            "redis.url is not an address that can be used: redis://:password@host:port/0, rediss://… for TLS, or unix:///path",
        )
    };
    let info = url.into_connection_info().map_err(no_address)?;
    let redis = info
        .redis_settings()
        .clone()
        .set_protocol(ProtocolVersion::RESP3);
    let info = info.set_redis_settings(redis);
    if let Some(place) = place_of_clear_password(&info)
        && is_first_of(format!("redis {place}"))
    {
        tracing::warn!(
            place,
            "redis.url leads beyond this machine, and lets the password and all data go in the clear; say rediss:// and name the server's CA with redis.tls_ca_file"
        );
    }
    if !matches!(info.addr(), ConnectionAddr::TcpTls { .. }) {
        return Client::open(info).map_err(no_address);
    }
    use_ring();
    let read = |name: &str, path: &Option<String>| match path {
        None => Ok(None),
        Some(path) => fs::read(path).map(Some).map_err(|error| {
            Error::invalid(
                "invalid_config",
                format!("{name}: {path} could not be read: {error}"),
            )
        }),
    };
    let certificate = read("redis.tls_certificate_file", &settings.tls_certificate_file)?;
    let key = read("redis.tls_key_file", &settings.tls_key_file)?;
    let root_cert = read("redis.tls_ca_file", &settings.tls_ca_file)?;
    let client_tls = certificate
        .zip(key)
        .map(|(client_cert, client_key)| ClientTlsConfig {
            client_cert,
            client_key,
        });
    let certificates = TlsCertificates {
        client_tls,
        root_cert,
    };
    Client::build_with_tls(info, certificates).map_err(|_| {
        Error::invalid(
            "invalid_config",
            "redis.tls_ca_file, redis.tls_certificate_file or redis.tls_key_file is no PEM file of what it should be",
        )
    })
}

/// Where a password would go over a network in clear text.
fn place_of_clear_password(info: &ConnectionInfo) -> Option<String> {
    let ConnectionAddr::Tcp(host, port) = info.addr() else {
        return None;
    };
    let has_password = info.redis_settings().password().is_some();
    (has_password && !is_loopback(host)).then(|| format!("{host}:{port}"))
}

fn timed_out(why: &'static str) -> redis::RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, why).into()
}

impl Wire {
    /// Whether nobody has declared it dead.
    pub fn is_alive(&self) -> bool {
        !self.dead.load(SeqCst)
    }

    /// Whether the server took no writes: it has become a replica of another.
    pub fn is_demoted(&self) -> bool {
        self.demoted.load(SeqCst)
    }

    /// What it died of, for the log.
    pub fn cause_of_death(&self) -> String {
        self.cause
            .get()
            .cloned()
            .unwrap_or_else(|| "it refused a deletion".to_owned())
    }

    /// Declares it dead, for everybody.
    pub fn declare_dead(&self) {
        self.dead.store(true, SeqCst);
    }

    /// Waits for an answer as long as a request may. An error that the server answers (no memory, a wrong type) is an
    /// answer: `None`.
    async fn ask<T>(
        &self,
        command: &'static str,
        question: impl Future<Output = RedisResult<T>>,
    ) -> Result<Option<T>, Dead> {
        if !self.is_alive() {
            return Err(Dead);
        }
        let span = trace::redis(command);
        let answering = tokio::time::timeout(self.timeout, question);
        let why = match answering.instrument(span.clone()).await {
            Ok(Ok(answer)) => return Ok(Some(answer)),
            Ok(Err(error)) if is_an_answer(&error) => {
                tracing::debug!(%error, "Redis refused a command");
                trace::failed(&span, "refused");
                return Ok(None);
            }
            Ok(Err(error)) => {
                let demoted = redis::ErrorKind::Server(redis::ServerErrorKind::ReadOnly);
                self.demoted.fetch_or(error.kind() == demoted, SeqCst);
                error.to_string()
            }
            Err(_) => "no answer in time".to_owned(),
        };
        trace::failed(&span, "dead");
        self.cause.get_or_init(|| why);
        self.declare_dead();
        Err(Dead)
    }

    /// Runs a script; `None` where the server refused it.
    pub async fn run<T: FromRedisValue>(
        &self,
        name: &'static str,
        call: &ScriptInvocation<'_>,
    ) -> Result<Option<T>, Dead> {
        let mut connection = self.connection.clone();
        self.ask(name, call.invoke_async(&mut connection)).await
    }

    /// Asks something; `None` where the server refused it.
    pub async fn tell<T: FromRedisValue>(&self, command: &redis::Cmd) -> Result<Option<T>, Dead> {
        let mut connection = self.connection.clone();
        self.ask("tell", command.query_async(&mut connection)).await
    }

    /// Asks whether it is there.
    pub async fn ping(&self) -> Result<(), Dead> {
        let mut connection = self.connection.clone();
        let pong = async { redis::cmd("PING").exec_async(&mut connection).await };
        self.ask("PING", pong).await.map(|_| ())
    }

    /// Reads a value, or leaves a lease.
    pub async fn look(&self, value: &str, lease: &str, token: &str) -> Result<Looked, Dead> {
        let mut connection = self.connection.clone();
        let mut call = self.scripts.look.key(value);
        call.key(lease)
            .arg(token)
            .arg(u64::try_from(LEASE.as_millis()).unwrap_or(u64::MAX));
        let looked = self.ask("look", call.invoke_async(&mut connection)).await?;
        Ok(looked.unwrap_or(Looked::Nothing))
    }

    /// Some of the keys that begin with a prefix, and how many milliseconds each has left; -1: for ever.
    pub async fn lives(&self, prefix: &str) -> Result<Vec<(String, i64)>, Dead> {
        let script = Script::new(LIVES);
        let (mut cursor, mut found) = ("0".to_owned(), Vec::new());
        for _ in 0..LIVES_ROUNDS {
            let mut call = script.prepare_invoke();
            call.arg(&cursor).arg(format!("{prefix}*"));
            let lives: Option<(String, Vec<(String, i64)>)> = self.run("lives", &call).await?;
            let Some((next, lives)) = lives else {
                break;
            };
            found.extend(lives);
            if next == "0" || !found.is_empty() {
                break;
            }
            cursor = next;
        }
        Ok(found)
    }

    /// Stores a value if the lease still holds; says whether it did.
    pub async fn fill(
        &self,
        value: &str,
        lease: &str,
        token: &str,
        bytes: &[u8],
        ttl: Duration,
    ) -> Result<bool, Dead> {
        let mut connection = self.connection.clone();
        let mut call = self.scripts.fill.key(value);
        call.key(lease)
            .arg(token)
            .arg(bytes)
            .arg(u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
        let filled: Option<i64> = self.ask("fill", call.invoke_async(&mut connection)).await?;
        Ok(filled == Some(1))
    }

    /// The head; empty where there is none that can be read.
    pub async fn head(&self, key: &str) -> Result<Vec<u8>, Dead> {
        let mut connection = self.connection.clone();
        let get = async {
            redis::cmd("GET")
                .arg(key)
                .query_async(&mut connection)
                .await
        };
        let head: Option<Option<Vec<u8>>> = self.ask("GET", get).await?;
        Ok(head.flatten().unwrap_or_default())
    }

    /// Replaces the head if it is still the one that was read; says whether it did.
    pub async fn replace_head(&self, key: &str, read: &[u8], head: &str) -> Result<bool, Dead> {
        let call = &self.scripts.replace_head;
        let replaced = self.set_head(call.key(key).arg(read).arg(head)).await?;
        Ok(replaced == Some(true))
    }

    /// Moves the head of a generation on; says whether it is still that generation's. `None` where there is no memory for
    /// it.
    pub async fn advance_head(
        &self,
        key: &str,
        generation: &str,
        head: &str,
    ) -> Result<Option<bool>, Dead> {
        let call = &self.scripts.advance_head;
        self.set_head(call.key(key).arg(generation).arg(head)).await
    }

    async fn set_head(&self, call: &ScriptInvocation<'_>) -> Result<Option<bool>, Dead> {
        let mut connection = self.connection.clone();
        let set: Option<i64> = self.ask("head", call.invoke_async(&mut connection)).await?;
        Ok(set.map(|set| set == 1))
    }

    /// Deletes a key; nothing waits for its success.
    pub async fn delete(&self, key: &str) -> Result<(), Dead> {
        let mut connection = self.connection.clone();
        let delete = async {
            redis::cmd("UNLINK")
                .arg(key)
                .exec_async(&mut connection)
                .await
        };
        self.ask("UNLINK", delete).await.map(|_| ())
    }

    /// Deletes all of these keys, or is dead: what cannot be deleted must not be read.
    pub async fn delete_all(&self, keys: &[String]) -> Result<(), Dead> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut connection = self.connection.clone();
        let delete = async {
            redis::cmd("UNLINK")
                .arg(keys)
                .exec_async(&mut connection)
                .await
        };
        if self.ask("UNLINK", delete).await?.is_none() {
            self.declare_dead();
            return Err(Dead);
        }
        Ok(())
    }
}

/// Whether the server has answered, with an error, and the connection is good. A server that loads its data, lost its
/// primary or became a replica answers too, but is of no use.
fn is_an_answer(error: &redis::RedisError) -> bool {
    use redis::{ErrorKind, ServerErrorKind as Server};
    !error.is_unrecoverable_error()
        && matches!(
            error.kind(),
            ErrorKind::Server(Server::ResponseError | Server::ExecAbort | Server::NoScript)
                | ErrorKind::Extension
                | ErrorKind::UnexpectedReturnType
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_clear_text_is_told_of_where_it_leaves_the_machine() {
        for (url, place) in [
            ("redis://:s3cret@10.1.2.3:6379/0", Some("10.1.2.3:6379")),
            (
                "redis://u:s3cret@redis.internal",
                Some("redis.internal:6379"),
            ),
            ("redis://10.1.2.3", None),
            ("redis://:s3cret@localhost", None),
            ("redis://:s3cret@127.0.0.1:7000", None),
            ("redis://:s3cret@[::1]", None),
            ("rediss://:s3cret@10.1.2.3", None),
            ("unix:///run/redis?pass=s3cret", None),
        ] {
            let info = url.into_connection_info().unwrap();
            assert_eq!(place_of_clear_password(&info).as_deref(), place, "{url}");
        }
    }
}
