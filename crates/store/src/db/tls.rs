//! TLS to PostgreSQL: the one place where a connector is made.
//!
//! # What it guarantees
//!
//! * `verify-full` and `verify-ca` accept a server only with a certificate that a named authority signed, now valid; the
//!   former only under the name that the address has. Until then nothing was said but "TLS, please": a proxy that answers
//!   "no TLS" gets neither user nor password.
//! * `require` and `prefer` encrypt and verify nothing, as in libpq: they protect from those who listen, not from those who
//!   answer in the server's place. The log says so once for each place.
//! * What is wrong with a certificate does not pass by itself: such a failure is never retried, and its message says what
//!   to change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    config::{DatabaseUrl, PasswordSource, Tls, TlsMode},
    error::{Error, Result},
    tls::is_first_of,
};

/// Where systems keep the authorities that they trust, in one file; for PostgreSQL's tools, which look nowhere themselves.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The connector of an address. Its files are read now.
pub(super) fn connector(url: &DatabaseUrl) -> Result<MakeRustlsConnect> {
    client_config(url.tls())
        .map(MakeRustlsConnect::new)
        .map_err(|why| {
            Error::invalid(
                "invalid_config",
                format!("TLS as {} has it: {why}", url.setting()),
            )
        })
}

fn client_config(tls: &Tls) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(tls, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous() // rustls' word for any verifier of one's own
        .with_custom_certificate_verifier(verifier);
    let mut config = match &tls.identity {
        Some((certificate, key)) if tls.mode != TlsMode::Disable => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| format!("the key {} could not be read: {error}", key.display()))?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| format!("the certificate and its key: {error}"))?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

fn verifier(
    tls: &Tls,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    let algorithms = provider.signature_verification_algorithms;
    Ok(match tls.mode {
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => Arc::new(Chain {
            roots: None,
            algorithms,
        }),
        TlsMode::VerifyCa => Arc::new(Chain {
            roots: Some(authorities(tls.ca_file.as_deref())?),
            algorithms,
        }),
        TlsMode::VerifyFull => {
            let roots = Arc::new(authorities(tls.ca_file.as_deref())?);
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
                .build()
                .map_err(|error| error.to_string())?
        }
    })
}

/// Those of a file, or those that the system trusts.
fn authorities(file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = file {
        for certificate in certificates(file)? {
            roots
                .add(certificate)
                .map_err(|error| format!("{}: {error}", file.display()))?;
        }
        return Ok(roots);
    }
    // Some systems list an authority that cannot be read; the others are good.
    let (taken, _) =
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if taken == 0 {
        return Err(
            "the system trusts no authority: install its list (ca-certificates), or name a CA with sslrootcert or database.tls_ca_file"
                .to_owned(),
        );
    }
    Ok(roots)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    match read {
        Ok(all) => {
            let all: Vec<_> = all;
            if all.is_empty() {
                return Err(format!("{} has no certificate", file.display()));
            }
            Ok(all)
        }
        Err(error) => Err(format!("{} could not be read: {error}", file.display())),
    }
}

/// Verifies the chain where there are roots, nothing where there are none, and the name never. In any case the server must
/// hold the key of the certificate that it shows.
#[derive(Debug)]
struct Chain {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            verify_server_cert_signed_by_trust_anchor(
                &ParsedCertificate::try_from(end_entity)?,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What libpq has to be told, so that PostgreSQL's own tools are as careful as we are.
pub fn variables(tls: &Tls) -> Vec<(&'static str, PathBuf)> {
    let mut all = vec![("PGSSLMODE", PathBuf::from(tls.mode.as_str()))];
    if tls.mode == TlsMode::Disable {
        return all;
    }
    let system = || {
        let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let usual = SYSTEM_BUNDLES.iter().map(PathBuf::from);
        named.into_iter().chain(usual).find(|path| path.is_file())
    };
    let roots = tls
        .ca_file
        .clone()
        .or_else(|| tls.mode.is_verified().then(system).flatten());
    if let Some(roots) = roots.filter(|_| tls.mode.is_verified()) {
        all.push(("PGSSLROOTCERT", roots));
    }
    if let Some((certificate, key)) = &tls.identity {
        all.push(("PGSSLCERT", certificate.clone()));
        all.push(("PGSSLKEY", key.clone()));
    }
    all
}

/// Warns, once for each place, where what is said can be read or answered by others.
pub(super) fn warn_once(url: &DatabaseUrl) {
    let mode = url.tls().mode;
    if mode.is_verified() || url.stays_on_this_machine() {
        return;
    }
    let has_password =
        url.config().get_password().is_some() || *url.password_source() != PasswordSource::Url;
    let place = format!("{} {}", url.place(), mode.as_str());
    if !is_first_of(place) {
        return;
    }
    let (setting, mode) = (url.setting(), mode.as_str());
    if url.tls().mode.is_encrypted() {
        tracing::warn!(
            "{setting}: sslmode={mode} encrypts and does not know who answers; say sslmode=verify-full and name the server's CA with sslrootcert"
        );
    } else if has_password {
        tracing::warn!(
            "{setting}: sslmode={mode} leads beyond this machine, and lets the password and all data go in the clear; say sslmode=verify-full and name the server's CA with sslrootcert"
        );
    }
}

/// What was wrong with TLS, and what to do; `None` where the failure is another one, or passes by itself.
pub(super) fn failure(error: &tokio_postgres::Error) -> Option<&'static str> {
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        let found = inner.downcast_ref::<rustls::Error>().or_else(|| {
            inner
                .downcast_ref::<std::io::Error>()
                .and_then(|io| io.get_ref()?.downcast_ref())
        });
        if let Some(found) = found {
            return Some(explained(found));
        }
        // The driver's own words: it has no type for them.
        if inner.to_string() == "server does not support TLS" {
            return Some(
                "the database offers no TLS, which its address asks for: switch it on (ssl = on); if it is on, something between answers in its place",
            );
        }
        cause = inner.source();
    }
    None
}

fn explained(error: &rustls::Error) -> &'static str {
    let rustls::Error::InvalidCertificate(certificate) = error else {
        return match error {
            rustls::Error::AlertReceived(_) => {
                "the database ended the TLS handshake: check that sslcert and sslkey are what it asks for; its log has the reason"
            }
            _ => "TLS with the database could not be agreed on; the log has the cause",
        };
    };
    match certificate {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the database's certificate is of an authority that is not trusted: name the right one with sslrootcert or database.tls_ca_file"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the database's certificate is for another name: connect by a name that is in it, or say sslmode=verify-ca where it cannot have yours"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the database's certificate has expired: renew it on the server"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the database's certificate is not valid yet: check the clocks of both sides"
        }
        _ => "the database's certificate is not acceptable; the log has the cause",
    }
}
