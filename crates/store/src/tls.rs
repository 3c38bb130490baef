//! The cryptography of this process, and what it says where there is none.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, NaiveDateTime, Utc};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// The HTTP client of this build brings no cryptography of its own, and cannot be made before the process has chosen one;
/// another part of it may have done that before.
pub fn use_ring() {
    // Refused where there is one: then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Whether this is the first time that it is asked: many pools and sessions of a process lead to one place, and one warning
/// of it is enough.
pub(crate) fn is_first_of(place: String) -> bool {
    static TOLD: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    TOLD.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(place)
}

/// Until when the first certificate of a file (PEM) is valid; else why that is not known.
pub fn valid_until(file: &Path) -> Result<DateTime<Utc>, String> {
    let certificate = CertificateDer::from_pem_file(file).map_err(|error| {
        format!(
            "{} has no certificate that can be read: {error}",
            file.display()
        )
    })?;
    end_of(certificate.as_ref())
        .ok_or_else(|| format!("{} has a certificate without an end", file.display()))
}

/// The end of a certificate's validity (RFC 5280, 4.1.2.5): the second time of the fifth field of its first field, or the fourth
/// where it names no version.
fn end_of(der: &[u8]) -> Option<DateTime<Utc>> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let (_, certificate, _) = element(der)?;
    let (_, mut fields, _) = element(certificate)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields)?.2;
    }
    // Its number, how it is signed, and by whom.
    for _ in 0..3 {
        fields = element(fields)?.2;
    }
    let (tag, validity, _) = element(fields)?;
    if tag != SEQUENCE {
        return None;
    }
    let (_, _, after) = element(validity)?;
    let (tag, end, _) = element(after)?;
    time_of(tag, end)
}

/// An element's tag and content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// A time with two digits for the year, which then lies between 1950 and 2049, or with four.
fn time_of(tag: u8, text: &[u8]) -> Option<DateTime<Utc>> {
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        0x17 => {
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            format!("{century}{text}")
        }
        0x18 => text.to_owned(),
        _ => return None,
    };
    let time = NaiveDateTime::parse_from_str(&text, "%Y%m%d%H%M%SZ").ok()?;
    Some(time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_has_no_end_and_stops_nothing() {
        for der in [
            &[][..],
            &[0x30],
            &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff],
            &[0x30, 0x02, 0x30, 0x00],
        ] {
            assert_eq!(end_of(der), None);
        }
        assert!(valid_until(Path::new("/nowhere/at/all.pem")).is_err());
    }

    #[test]
    fn years_of_two_digits_lie_around_the_year_2000() {
        let year = |tag, text: &str| time_of(tag, text.as_bytes()).map(|time| time.to_rfc3339());
        assert_eq!(
            year(0x17, "491231235959Z").as_deref(),
            Some("2049-12-31T23:59:59+00:00")
        );
        assert_eq!(
            year(0x17, "500101000000Z").as_deref(),
            Some("1950-01-01T00:00:00+00:00")
        );
        assert_eq!(
            year(0x18, "20501231235959Z").as_deref(),
            Some("2050-12-31T23:59:59+00:00")
        );
        assert_eq!(year(0x0c, "20501231235959Z"), None);
    }
}
