//! The certificate that is served, and its change without a restart.
//!
//! Both files are read again at intervals, and compared by content: that also sees a link that points elsewhere, which is
//! how mounted secrets change. What cannot be used (a key of another certificate, half a rotation) leaves the old one in
//! place, is told of once, and tried again when the files have changed again. Connections that are open go on.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio::time::MissedTickBehavior;
use tokio_rustls::TlsAcceptor;
use utxoiq_store::{Error, config::ServerSettings, error::Result};

/// What new connections are served with.
pub(super) struct ServedTls {
    certificate_file: PathBuf,
    key_file: PathBuf,
    every: Duration,
    current: RwLock<Arc<ServerConfig>>,
}

/// The files' content.
#[derive(PartialEq, Eq)]
struct Content {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl ServedTls {
    /// Reads the files; `None` where plain HTTP is served.
    pub async fn open(settings: &ServerSettings) -> Result<Option<(Self, Seen)>> {
        let (Some(certificate), Some(key)) =
            (&settings.tls_certificate_file, &settings.tls_key_file)
        else {
            return Ok(None);
        };
        let (certificate_file, key_file) = (PathBuf::from(certificate), PathBuf::from(key));
        let content = read(&certificate_file, &key_file).await.map_err(refused)?;
        let current = RwLock::new(Arc::new(content.config().map_err(refused)?));
        let served = Self {
            certificate_file,
            key_file,
            every: Duration::from_secs(settings.tls_reload_seconds),
            current,
        };
        Ok(Some((served, Seen(content))))
    }

    /// For one handshake.
    pub fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }

    /// Looks at the files for ever.
    pub async fn follow(&self, mut seen: Seen) {
        let mut ticks = tokio::time::interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        let mut is_unreadable = false;
        loop {
            ticks.tick().await;
            let content = match read(&self.certificate_file, &self.key_file).await {
                Ok(content) => content,
                Err(why) => {
                    if !std::mem::replace(&mut is_unreadable, true) {
                        kept(&why);
                    }
                    continue;
                }
            };
            is_unreadable = false;
            if content == seen.0 {
                continue;
            }
            match content.config() {
                Ok(config) => {
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) =
                        Arc::new(config);
                    tracing::info!("the served certificate has changed");
                }
                Err(why) => kept(&why),
            }
            seen = Seen(content);
        }
    }
}

/// What was read last, so that only a change is looked at.
pub(super) struct Seen(Content);

fn kept(why: &str) {
    tracing::warn!(
        "the served certificate stays as it is, since the new one cannot be used: {why}"
    );
}

fn refused(why: String) -> Error {
    Error::invalid("invalid_config", why)
}

async fn read(certificate: &PathBuf, key: &PathBuf) -> Result<Content, String> {
    let read = async |name: &str, path: &PathBuf| {
        tokio::fs::read(path)
            .await
            .map_err(|error| format!("{name}: {} could not be read: {error}", path.display()))
    };
    Ok(Content {
        certificate: read("server.tls_certificate_file", certificate).await?,
        key: read("server.tls_key_file", key).await?,
    })
}

impl Content {
    fn config(&self) -> Result<ServerConfig, String> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("server.tls_certificate_file is no PEM file: {error}"))?;
        if chain.is_empty() {
            return Err("server.tls_certificate_file has no certificate".to_owned());
        }
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| format!("server.tls_key_file has no key: {error}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| {
                format!("server.tls_certificate_file and server.tls_key_file do not go together: {error}")
            })?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}
