//! Certificate authorities of a test's own, and certificates that are good, expired or for another name.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose,
    date_time_ymd,
};
use tempfile::TempDir;

/// An authority with a key of its own. Its files go with it.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
    issued: AtomicU32,
}

/// A certificate and its key, as files (PEM) that everybody on the machine may read: they secure nothing but tests.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
}

impl Authority {
    /// A new one, trusted by nobody.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("testkit-authority-")
            .tempdir()
            .expect("no temporary folder");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755))
            .expect("cannot open the folder to servers");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let name = format!("testkit authority {}", crate::secret());
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("no key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("cannot sign");
        fs::write(dir.path().join("ca.pem"), issuer.pem()).expect("cannot write the authority");
        Self {
            issuer,
            dir,
            issued: AtomicU32::new(0),
        }
    }

    /// The file of its own certificate, to be trusted.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for these names and addresses, which is valid; the first is the common name too.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 4096)
    }

    /// As [`issue`](Self::issue), and over for years.
    pub fn issue_expired(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 2020)
    }

    fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        let all: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(all).expect("a name that is none");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        if let Some(first) = names.first() {
            params.distinguished_name.push(DnType::CommonName, *first);
        }
        let key = KeyPair::generate().expect("no key");
        let certificate = params.signed_by(&key, &self.issuer).expect("cannot sign");
        let number = self.issued.fetch_add(1, Relaxed);
        let issued = Issued {
            certificate_file: self.dir.path().join(format!("{number}.pem")),
            key_file: self.dir.path().join(format!("{number}.key")),
        };
        fs::write(&issued.certificate_file, certificate.pem()).expect("cannot write a certificate");
        fs::write(&issued.key_file, key.serialize_pem()).expect("cannot write a key");
        fs::set_permissions(&issued.key_file, fs::Permissions::from_mode(0o600))
            .expect("cannot close a key");
        issued
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Issued {
    /// Puts this certificate and key where another pair is, each in one step, as a rotation does.
    pub fn replace(&self, other: &Self) {
        for (from, to) in [
            (&self.key_file, &other.key_file),
            (&self.certificate_file, &other.certificate_file),
        ] {
            let beside = to.with_extension("new");
            fs::copy(from, &beside).expect("cannot copy a certificate");
            fs::rename(&beside, to).expect("cannot replace a certificate");
        }
    }

    /// The same files in another folder.
    pub fn copied_to(&self, dir: &Path) -> Self {
        let copy = |from: &Path, name: &str| {
            let to = dir.join(name);
            fs::copy(from, &to).expect("cannot copy a certificate");
            to
        };
        Self {
            certificate_file: copy(&self.certificate_file, "server.pem"),
            key_file: copy(&self.key_file, "server.key"),
        }
    }
}
