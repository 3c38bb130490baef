//! Conditions on labels, as a query has them: `host=a,region=b`.

use std::collections::BTreeMap;

const FORM: &str = "must be labels with their values, such as host=a,region=b; a comma, an equals sign or a backslash in one is \
                    written with a backslash before it";

/// Reads labels, each named once.
pub(in crate::api::metrics) fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut labels = BTreeMap::new();
    let (mut name, mut word) = (None, String::new());
    let mut characters = text.chars();
    loop {
        match characters.next() {
            Some('\\') => match characters.next() {
                Some(escaped @ ('\\' | ',' | '=')) => word.push(escaped),
                _ => return Err(FORM.into()),
            },
            Some('=') if name.is_none() && !word.is_empty() => {
                name = Some(std::mem::take(&mut word));
            }
            Some('=') => return Err(FORM.into()),
            end @ (Some(',') | None) => {
                let name: String = name.take().ok_or(FORM)?;
                if labels.contains_key(&name) {
                    return Err(format!("names {name:?} twice"));
                }
                labels.insert(name, std::mem::take(&mut word));
                if end.is_none() {
                    return Ok(labels);
                }
            }
            Some(other) => word.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = String::new();
        for character in text.chars() {
            if matches!(character, '\\' | ',' | '=') {
                out.push('\\');
            }
            out.push(character);
        }
        out
    }

    proptest! {
        #[test]
        fn whatever_labels_there_are_can_be_asked_for(labels in prop::collection::btree_map(".{1,9}", ".{0,9}", 1..5)) {
            let written: Vec<String> =
                labels.iter().map(|(name, value)| format!("{}={}", escaped(name), escaped(value))).collect();
            prop_assert_eq!(parse(&written.join(",")), Ok(labels));
        }
    }

    #[test]
    fn what_is_no_list_of_labels_is_refused() {
        for text in [
            "", "a", ",", "=", "=a", "a=b,", "a=b,c", "a=b=c", r"a=b\", r"a\b=c", "a=b,a=c",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
        let found = parse("host=a,region=").unwrap();
        assert_eq!(found["host"], "a");
        assert_eq!(found["region"], "");
    }
}
