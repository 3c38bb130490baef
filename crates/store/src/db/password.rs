//! Passwords that are not in an address: a file's, or the platform's short-lived token.
//!
//! A password is asked for at each connection, since what was right for the last one may be over: a secret was rotated, a
//! token has expired. A file is read each time. A token is kept until shortly before its end, for all pools and sessions of
//! the process, or until the database refuses it. None of them is in a log, an error or `Debug`.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::Path,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use serde::Deserialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    time::Instant,
};
use tokio_postgres::{Config, NoTls, config::SslMode};

use crate::{
    config::{PasswordSource, Secret, TokenAddress},
    error::causes,
    tls::use_ring,
};

/// How long a token service may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest password file, and the longest answer of a token service.
const MOST_BYTES: usize = 64 * 1024;

/// How long before its end a token is not used any more, at most: connecting takes time, and clocks differ.
const MARGIN: Duration = Duration::from_mins(1);

/// The longest time that a token is used for, whatever its service says: it is a short-lived one, or none for here.
const LONGEST: Duration = Duration::from_hours(24);

/// Why there is no password; safe to be shown.
#[derive(Debug)]
pub(super) struct NoPassword(String);

impl fmt::Display for NoPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoPassword {}

impl NoPassword {
    /// As the driver's error, which is all that a pool can pass on: it has no way to make one, so that the driver is given a
    /// connection that fails like this.
    pub async fn into_driver_error(self) -> tokio_postgres::Error {
        let mut config = Config::new();
        config.user("nobody").ssl_mode(SslMode::Disable);
        match config.connect_raw(Broken(Some(self)), NoTls).await {
            Err(error) => error,
            Ok(_) => tokio_postgres::Error::__private_api_timeout(),
        }
    }

    /// Whether it is this that a connection failed of.
    pub fn in_error(error: &tokio_postgres::Error) -> Option<&Self> {
        let source = std::error::Error::source(error)?;
        source
            .downcast_ref::<io::Error>()?
            .get_ref()?
            .downcast_ref()
    }
}

/// A connection that fails at once.
struct Broken(Option<NoPassword>);

impl Broken {
    fn fail(&mut self) -> io::Error {
        self.0
            .take()
            .map_or_else(|| io::ErrorKind::BrokenPipe.into(), io::Error::other)
    }
}

impl AsyncRead for Broken {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(Err(self.fail()))
    }
}

impl AsyncWrite for Broken {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(self.fail()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A password, and whether it was asked for just now.
pub(super) struct Found {
    pub password: Secret,
    /// Kept from before: where it is refused, another one may be had.
    pub is_kept: bool,
}

/// The password of a source; `None` where the address has what there is.
pub(super) async fn find(source: &PasswordSource) -> Result<Option<Found>, NoPassword> {
    match source {
        PasswordSource::Url => Ok(None),
        PasswordSource::File(path) => read(path).await.map(Some),
        PasswordSource::Token(address) => token(address).await.map(Some),
    }
}

/// Lets a kept token go that the database did not accept.
pub(super) async fn forget(source: &PasswordSource, refused: &Secret) {
    let PasswordSource::Token(address) = source else {
        return;
    };
    let kept = kept(address.expose());
    let mut kept = kept.lock().await;
    // Another session may have asked for a newer one already.
    if kept.as_ref().is_some_and(|token| token.secret == *refused) {
        *kept = None;
    }
}

async fn read(path: &Path) -> Result<Found, NoPassword> {
    let failed = |why: &dyn fmt::Display| {
        NoPassword(format!(
            "the password file {} could not be read: {why}",
            path.display()
        ))
    };
    let file = tokio::fs::File::open(path)
        .await
        .map_err(|error| failed(&error))?;
    let mut text = String::new();
    let most = u64::try_from(MOST_BYTES).unwrap_or(u64::MAX);
    file.take(most)
        .read_to_string(&mut text)
        .await
        .map_err(|error| failed(&error))?;
    // Editors and `echo` end a line; a password does not.
    let password = text.trim_end_matches(['\n', '\r']);
    if password.is_empty() {
        return Err(failed(&"it is empty"));
    }
    Ok(Found {
        password: Secret::new(password),
        is_kept: false,
    })
}

struct Token {
    secret: Secret,
    until: Instant,
}

type Kept = Arc<tokio::sync::Mutex<Option<Token>>>;

/// The place of one service's token; who waits for it waits for one question, not for many.
fn kept(address: &str) -> Kept {
    static ALL: Mutex<BTreeMap<String, Kept>> = Mutex::new(BTreeMap::new());
    let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(all.entry(address.to_owned()).or_default())
}

async fn token(address: &TokenAddress) -> Result<Found, NoPassword> {
    let kept = kept(address.expose());
    let mut kept = kept.lock().await;
    if let Some(token) = kept.as_ref().filter(|token| Instant::now() < token.until) {
        return Ok(Found {
            password: token.secret.clone(),
            is_kept: true,
        });
    }
    let asked_at = Instant::now();
    let answer = ask(address.expose())
        .await
        .map_err(|why| NoPassword(format!("no token could be had from {address}: {why}")))?;
    let password = Secret::new(answer.access_token);
    *kept = Some(Token {
        secret: password.clone(),
        until: asked_at + usable(answer.expires_in),
    });
    Ok(Found {
        password,
        is_kept: false,
    })
}

/// For how long a token is used that is good for so many seconds.
fn usable(seconds: u64) -> Duration {
    let life = Duration::from_secs(seconds).min(LONGEST);
    life.saturating_sub(MARGIN.min(life / 10))
}

/// What Google's metadata server answers.
#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u64,
}

async fn ask(address: &str) -> Result<Answer, String> {
    static HTTP: LazyLock<Result<reqwest::Client, String>> = LazyLock::new(|| {
        use_ring();
        reqwest::Client::builder()
            .timeout(PATIENCE)
            // Elsewhere than where it was meant to be asked, nobody is to be believed.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())
    });
    let http = HTTP.as_ref().map_err(Clone::clone)?;
    let mut response = http
        .get(address)
        .header("Metadata-Flavor", "Google")
        .send()
        .await
        .map_err(|error| causes(&error.without_url()))?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    let mut body = Vec::new();
    while let Some(piece) = response
        .chunk()
        .await
        .map_err(|error| causes(&error.without_url()))?
    {
        body.extend_from_slice(&piece);
        if body.len() > MOST_BYTES {
            return Err("its answer is too long".to_owned());
        }
    }
    // The parser's own message may quote the token.
    let answer: Answer = serde_json::from_slice(&body)
        .map_err(|_| "its answer has no access_token and expires_in".to_owned())?;
    if answer.access_token.is_empty() {
        return Err("its token is empty".to_owned());
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_used_for_a_day_at_most_and_not_to_its_very_end() {
        for (said, seconds) in [
            (0, 0),
            (10, 9),
            (3_599, 3_539),
            (86_400, 86_340),
            (u64::MAX, 86_340),
        ] {
            assert_eq!(usable(said), Duration::from_secs(seconds), "{said}");
        }
    }
}
