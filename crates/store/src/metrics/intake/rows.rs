//! Rows on their way into the database: in order, each place once, and as COPY takes them. Pure.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::db::POSTGRES_EPOCH;

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum State {
    /// It is to be stored.
    New,
    /// It was stored.
    Stored,
    /// The same was there.
    Duplicate,
    /// Another value was there.
    Conflict(f64),
    /// Its day is archived.
    Archived,
    /// Another row of its load is not accepted, and the load is stored as a whole.
    Withheld,
}

/// A sample with its series' number.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub series_id: i32,
    /// In microseconds since the epoch.
    pub at: i64,
    pub value: f64,
    pub metadata: Option<Box<str>>,
    /// Whether its time was given by the sender; else it may be moved.
    pub is_timed: bool,
    /// Whether it is stored only together with all others of its load.
    pub is_whole: bool,
    pub state: State,
    /// Which of the loads that share a transaction it is of, and which of its samples.
    pub load: u32,
    pub index: u32,
}

impl Row {
    pub fn day(&self) -> i64 {
        self.at.div_euclid(DAY)
    }

    /// Where it lies: no two rows lie at one place.
    pub fn place(&self) -> (i32, i64) {
        (self.series_id, self.at)
    }
}

/// Brings rows into the order in which all writers take places (day, series, time), and decides between those of one
/// place: the first that came wins. Rows without a time of their own are moved to times that `next` gives.
pub(super) fn settle(rows: &mut [Row], mut next: impl FnMut() -> i64) {
    loop {
        rows.sort_unstable_by_key(|row| {
            (
                row.day(),
                row.series_id,
                row.at,
                !row.is_timed,
                row.load,
                row.index,
            )
        });
        let mut has_moved = false;
        let mut first: Option<((i32, i64), f64)> = None;
        for row in rows.iter_mut().filter(|row| row.state == State::New) {
            match first {
                Some((place, _)) if place == row.place() && !row.is_timed => {
                    row.at = next();
                    has_moved = true;
                }
                Some((place, value)) if place == row.place() => {
                    row.state = against(row.value, value);
                }
                _ => first = Some((row.place(), row.value)),
            }
        }
        if !has_moved {
            return;
        }
    }
}

/// What a value is beside the one that is stored at its place.
pub(super) fn against(value: f64, stored: f64) -> State {
    // Both are finite: the same number is the same value.
    if value.to_bits() == stored.to_bits() {
        State::Duplicate
    } else {
        State::Conflict(stored)
    }
}

/// Rows in the binary form of COPY: series_id, sampled_at, value, metadata.
pub(super) fn encode<'a>(rows: impl Iterator<Item = &'a Row>) -> Bytes {
    let mut buffer = BytesMut::with_capacity(64 + 48 * rows.size_hint().1.unwrap_or_default());
    buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
    buffer.put_slice(&[0; 8]);
    for row in rows {
        buffer.put_i16(4);
        buffer.put_i32(4);
        buffer.put_i32(row.series_id);
        buffer.put_i32(8);
        buffer.put_i64(row.at - POSTGRES_EPOCH);
        buffer.put_i32(8);
        buffer.put_f64(row.value);
        match &row.metadata {
            // jsonb in the first version of its form: text.
            Some(text) => {
                buffer.put_i32(i32::try_from(text.len() + 1).unwrap_or(i32::MAX));
                buffer.put_u8(1);
                buffer.put_slice(text.as_bytes());
            }
            None => buffer.put_i32(-1),
        }
    }
    buffer.put_i16(-1);
    buffer.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(series_id: i32, at: i64, value: f64, is_timed: bool, index: u32) -> Row {
        Row {
            series_id,
            at,
            value,
            metadata: None,
            is_timed,
            is_whole: false,
            state: State::New,
            load: 0,
            index,
        }
    }

    fn states(rows: &[Row]) -> Vec<(u32, State)> {
        let mut states: Vec<_> = rows.iter().map(|row| (row.index, row.state)).collect();
        states.sort_by_key(|(index, _)| *index);
        states
    }

    #[test]
    fn of_one_place_the_first_wins_and_the_others_are_told_apart() {
        let mut rows = vec![
            row(2, 5, 1.0, true, 0),
            row(1, DAY, 1.0, true, 1),
            row(2, 5, 2.0, true, 2),
            row(2, 5, 1.0, true, 3),
            row(1, 7, 1.0, true, 4),
        ];
        settle(&mut rows, || unreachable!());
        assert_eq!(
            states(&rows),
            [
                (0, State::New),
                (1, State::New),
                (2, State::Conflict(1.0)),
                (3, State::Duplicate),
                (4, State::New)
            ]
        );
        let order: Vec<_> = rows
            .iter()
            .map(|row| (row.day(), row.series_id, row.at))
            .collect();
        assert!(order.is_sorted(), "{order:?}");
    }

    #[test]
    fn rows_without_a_time_move_out_of_the_way() {
        let mut rows = vec![
            row(1, 5, 1.0, false, 0),
            row(1, 5, 1.0, false, 1),
            row(1, 5, 1.0, true, 2),
        ];
        let mut next = 5;
        settle(&mut rows, || {
            next += 1;
            next
        });
        assert!(rows.iter().all(|row| row.state == State::New));
        let mut places: Vec<_> = rows.iter().map(Row::place).collect();
        places.dedup();
        assert_eq!(places.len(), 3);
        assert_eq!(rows.iter().find(|row| row.index == 2).unwrap().at, 5);
    }

    #[test]
    fn a_replay_of_zero_below_zero_is_the_same_value() {
        assert_eq!(against(0.0, 0.0), State::Duplicate);
        assert_eq!(against(1.0, 1.5), State::Conflict(1.5));
    }
}
