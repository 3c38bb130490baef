//! Where backups lie, and whether that is away from the database (C8.4).
//!
//! # What it guarantees
//!
//! * **A store that is known to share the database's region is found out**, also where it is one of several: a multi-region or a
//!   dual-region that contains the region loses a copy with it, and cannot say which ([`judge`]).
//! * **What cannot be known is said, not guessed.** A folder, a bucket that does not tell where it is, and a database whose region
//!   nobody configured are [`Judgement::CannotJudge`] with the reason; they never become 'separate'.
//! * **Asking refuses nothing.** [`ask`] answers within its time limit, whatever the service does: a refusal, silence and rubbish
//!   are [`Location::Unknown`]. A database that can be backed up but whose bucket cannot be asked is better off backed up.
//!
//! # Why so
//!
//! Names are compared in lower case, a zone counts as its region. What a multi-region contains is taken from the first word of a
//! region's name and not from a list, so that a region that opens tomorrow counts as contained: that errs towards refusing.
//! Google's documentation of bucket locations (<https://cloud.google.com/storage/docs/locations>) excepts London
//! (`europe-west2`) and Zurich (`europe-west6`) from the multi-region `EU`, and names the members of the six predefined
//! dual-regions. A configurable dual-region has the code of its continent or country as its location and its two regions in
//! `customPlacementConfig.dataLocations`; without those two it is not known which ones it is.
//!
//! The names of regions are of one provider each, so a database and a bucket at two providers are always separate.

mod ask;

use std::fmt;

use crate::error::{Error, Result};

pub use ask::ask;

/// A multi-region of Cloud Storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MultiRegion {
    /// The United States.
    Us,
    /// The European Union.
    Eu,
    /// Asia.
    Asia,
}

impl MultiRegion {
    fn of(name: &str) -> Option<Self> {
        match name {
            "us" => Some(Self::Us),
            "eu" => Some(Self::Eu),
            "asia" => Some(Self::Asia),
            _ => None,
        }
    }

    /// Whether data in it may lie in a region.
    fn contains(self, region: &str) -> bool {
        match self {
            Self::Us => region.starts_with("us-") && !is_of_amazon(region),
            Self::Eu => {
                region.starts_with("europe-") && !["europe-west2", "europe-west6"].contains(&region)
            }
            Self::Asia => region.starts_with("asia-"),
        }
    }
}

/// The predefined dual-regions of Cloud Storage and their members.
const DUAL_REGIONS: [(&str, [&str; 2]); 6] = [
    ("asia1", ["asia-northeast1", "asia-northeast2"]),
    ("eur4", ["europe-north1", "europe-west4"]),
    ("eur5", ["europe-west1", "europe-west2"]),
    ("eur7", ["europe-west2", "europe-west3"]),
    ("eur8", ["europe-west3", "europe-west6"]),
    ("nam4", ["us-central1", "us-east1"]),
];

/// The first words of the names of Google's regions: what follows them is a direction and a number.
const CONTINENTS: [&str; 8] = [
    "africa",
    "asia",
    "australia",
    "europe",
    "me",
    "northamerica",
    "southamerica",
    "us",
];

const DIRECTIONS: [&str; 9] = [
    "central",
    "north",
    "northeast",
    "northwest",
    "south",
    "southeast",
    "southwest",
    "east",
    "west",
];

/// The longest name of a region that is taken for one.
const LONGEST_NAME: usize = 40;

/// Where a store of objects lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In one region, of whatever provider.
    Region(String),
    /// Somewhere on a continent.
    MultiRegion(MultiRegion),
    /// In two regions, of a predefined pair or of any.
    DualRegion {
        /// The pair's name, where it is a predefined one.
        name: Option<&'static str>,
        /// Its members.
        regions: [String; 2],
    },
    /// In a folder of this machine, or one that is mounted: where its disks are is not known.
    Folder,
    /// Nobody said.
    Unknown {
        /// Why not, and what to do.
        reason: String,
    },
}

impl Location {
    /// A location as it is configured: a region (`europe-west4`, `eu-central-1`), a multi-region (`EU`), a predefined dual-region
    /// (`EUR4`), or two regions joined by a plus (`us-central1+us-east1`). In any case of letters; a zone counts as its region.
    ///
    /// # Errors
    ///
    /// `invalid_input` where it is none of these: a misspelt region would be separate from every database.
    pub fn parse(text: &str) -> Result<Self> {
        let name = text.trim().to_ascii_lowercase();
        if let Some(multi) = MultiRegion::of(&name) {
            return Ok(Self::MultiRegion(multi));
        }
        if let Some((name, regions)) = DUAL_REGIONS.iter().find(|(known, _)| *known == name) {
            return Ok(Self::DualRegion {
                name: Some(name),
                regions: regions.map(str::to_owned),
            });
        }
        let Some((one, other)) = name.split_once('+') else {
            return region(&name).map(Self::Region);
        };
        let regions = [region(one)?, region(other)?];
        if regions[0] == regions[1] {
            return Err(refused(
                text,
                "is one region twice: name it once, or two that differ",
            ));
        }
        Ok(Self::DualRegion {
            name: None,
            regions,
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Region(region) => write!(f, "region {region}"),
            Self::MultiRegion(multi) => {
                let name = match multi {
                    MultiRegion::Us => "US",
                    MultiRegion::Eu => "EU",
                    MultiRegion::Asia => "ASIA",
                };
                write!(f, "multi-region {name}")
            }
            Self::DualRegion { name, regions } => {
                let [one, other] = regions;
                match name {
                    Some(name) => write!(f, "dual-region {}", name.to_ascii_uppercase())?,
                    None => f.write_str("dual-region")?,
                }
                write!(f, " ({one} and {other})")
            }
            Self::Folder => f.write_str("a folder"),
            Self::Unknown { .. } => f.write_str("unknown"),
        }
    }
}

/// Whether the backups would be lost with the database's region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// They lie elsewhere.
    Separate,
    /// They lie, or may lie, in the same region.
    Same {
        /// Which, and what to do.
        reason: String,
    },
    /// It is not known.
    CannotJudge {
        /// What is not known, and what to do.
        reason: String,
    },
}

/// Judges where backups lie, given the database's region as it is configured.
pub fn judge(database_region: Option<&str>, location: &Location) -> Judgement {
    let Some(database) = database_region else {
        return unjudged(
            "the database's region is not configured: say where it is, so that the backups' place can be compared with it",
        );
    };
    let Ok(database) = region(&database.trim().to_ascii_lowercase()) else {
        return unjudged(format!(
            "{} is not the name of a region: correct the database's region",
            shown(database)
        ));
    };
    let shares_it = match location {
        Location::Region(region) => *region == database,
        Location::MultiRegion(multi) => multi.contains(&database),
        Location::DualRegion { regions, .. } => regions.contains(&database),
        Location::Folder => {
            return unjudged(
                "the backups lie in a folder, and where its disks are is not known: configure a bucket in another region, or a second copy in one",
            );
        }
        Location::Unknown { reason } => return unjudged(reason.clone()),
    };
    if !shares_it {
        return Judgement::Separate;
    }
    let what = match location {
        Location::Region(_) => {
            format!("the backups lie in {database}, which is the database's region, too")
        }
        several => {
            format!(
                "the backups lie in the {several}, which contains the database's region {database}"
            )
        }
    };
    Judgement::Same {
        reason: format!("{what}: both would be lost at once; use a bucket in another region"),
    }
}

fn unjudged(reason: impl Into<String>) -> Judgement {
    Judgement::CannotJudge {
        reason: reason.into(),
    }
}

/// The region of a name in lower case, which may be a zone's.
fn region(name: &str) -> Result<String> {
    let name = name.trim();
    let region = without_zone(name);
    let is_plain = region.len() <= LONGEST_NAME
        && region.starts_with(|first: char| first.is_ascii_lowercase())
        && region.ends_with(|last: char| last.is_ascii_alphanumeric())
        && region
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && region.contains(|c: char| c.is_ascii_digit() || c == '-');
    if !is_plain {
        return Err(refused(name, "is not the name of a region"));
    }
    let (continent, rest) = region.split_once('-').unwrap_or((region, ""));
    if CONTINENTS.contains(&continent) && !starts_with_direction(rest) {
        return Err(refused(
            name,
            "is not the name of a region: is it misspelt?",
        ));
    }
    let looks_like_a_pair = ["asia", "eur", "nam"].iter().any(|area| {
        region
            .strip_prefix(area)
            .is_some_and(|number| number.chars().all(|c| c.is_ascii_digit()))
    });
    if looks_like_a_pair {
        return Err(refused(
            name,
            "is not a dual-region that is known here: name its two regions, joined by a plus",
        ));
    }
    Ok(region.to_owned())
}

/// A name without what makes it a zone's: `-a` of Google's, `a` of Amazon's.
fn without_zone(name: &str) -> &str {
    let Some(shorter) = name.strip_suffix(|last: char| last.is_ascii_lowercase()) else {
        return name;
    };
    let region = shorter.strip_suffix('-').unwrap_or(shorter);
    if region.ends_with(|last: char| last.is_ascii_digit()) {
        region
    } else {
        name
    }
}

/// Whether what follows the continent is a direction and a number: `west4`, and `east-1` or `gov-east-1` of Amazon's.
fn starts_with_direction(rest: &str) -> bool {
    let rest = rest.strip_prefix("gov-").unwrap_or(rest);
    let word = rest.trim_end_matches(|c: char| c.is_ascii_digit());
    let has_number = word.len() < rest.len();
    has_number && DIRECTIONS.contains(&word.trim_end_matches('-'))
}

/// Amazon's regions have a hyphen before their number, Google's do not.
fn is_of_amazon(region: &str) -> bool {
    region
        .trim_end_matches(|c: char| c.is_ascii_digit())
        .ends_with('-')
}

fn refused(text: &str, what: &str) -> Error {
    Error::field(
        "location",
        format!(
            "{} {what}; a region is europe-west4 or eu-central-1, a multi-region is US, EU or ASIA, and two regions are us-central1+us-east1",
            shown(text)
        ),
    )
}

/// What somebody else wrote, short enough for a message and in one line.
fn shown(text: &str) -> String {
    let short: String = text.trim().chars().take(LONGEST_NAME).collect();
    format!("{short:?}")
}

#[cfg(test)]
mod tests;
