//! Which page of a list is wanted.

use utxoiq_store::feedback::{Cursor, MAX_PAGE, Page, Start};

use crate::input::Input;

/// No cursor is longer.
const MAX_CURSOR: usize = 600;

/// Reads `limit`, and `offset` or `cursor`. A cursor of another list is refused where it is used.
pub(super) fn read(query: &mut Input, default_limit: i64) -> Page {
    let limit = query.int_or("limit", 1..=MAX_PAGE, default_limit);
    let offset = query.optional_int("offset", 0..=i64::MAX);
    let start = match (cursor(query), offset) {
        (Some(_), Some(_)) => {
            query.refuse(
                "cursor",
                "says where the page begins, and so does offset: leave one of them out",
            );
            Start::Offset(0)
        }
        (Some(cursor), None) => Start::After(cursor),
        (None, offset) => Start::Offset(offset.unwrap_or_default()),
    };
    Page { limit, start }
}

fn cursor(query: &mut Input) -> Option<Cursor> {
    let text = query.optional_text("cursor", 1..=MAX_CURSOR)?;
    let read = text.parse::<Cursor>();
    if let Err(error) = &read {
        for wrong in error.field_errors() {
            query.refuse("cursor", wrong.message.as_str());
        }
    }
    read.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields that are refused, or the page.
    fn page(text: &str) -> Result<Page, Vec<String>> {
        let mut query = Input::query(text).unwrap();
        let page = read(&mut query, 20);
        let named = |error: crate::error::ApiError| {
            let fields = error.errors().iter().map(|error| error.field.clone());
            fields.collect()
        };
        query.finish().map(|()| page).map_err(named)
    }

    #[test]
    fn a_page_begins_at_an_offset_or_after_a_cursor_but_not_both() {
        assert_eq!(page(""), Ok(Page::first(20)));
        let start = Start::Offset(i64::MAX);
        assert_eq!(
            page("limit=100&offset=9223372036854775807"),
            Ok(Page { limit: 100, start })
        );
        for (text, field) in [
            ("limit=0", "limit"),
            ("limit=101", "limit"),
            ("offset=-1", "offset"),
            ("offset=9223372036854775808", "offset"),
            ("cursor=", "cursor"),
            ("cursor=nonsense", "cursor"),
            ("cursor=AAAA&offset=0", "cursor"),
        ] {
            assert_eq!(page(text), Err(vec![field.to_owned()]), "{text}");
        }
        // An act's: the version, the kind, its number.
        let cursor = "AQMAAAAAAAAABw";
        let after = page(&format!("cursor={cursor}")).unwrap();
        assert_eq!(after, Page::after(20, cursor.parse().unwrap()));
        let both = page(&format!("cursor={cursor}&offset=0"));
        assert_eq!(both, Err(vec!["cursor".to_owned()]));
    }
}
