//! The wire format of protocol buffers, read field by field without copying.
//!
//! A message of two bytes becomes a structure of a hundred: what is decoded is counted first ([`count`]), so that a body of a
//! few megabytes cannot ask for hundreds of them.

/// What is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Torn;

/// One field's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// The fields of a message, in their order. Ends after the first that cannot be read.
pub(super) struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Torn>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Value<'a>), Torn> {
        let key = u32::try_from(self.varint()?).map_err(|_| Torn)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Torn)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            // Groups are of the last century, and what is left is nothing.
            _ => return Err(Torn),
        };
        match key >> 3 {
            0 => Err(Torn),
            tag => Ok((tag, value)),
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Torn> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Torn)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Torn> {
        self.take(N)?.try_into().map_err(|_| Torn)
    }

    fn varint(&mut self) -> Result<u64, Torn> {
        let mut number = 0;
        for (index, byte) in self.0.iter().enumerate().take(10) {
            number |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                // The tenth byte has one bit to give.
                if index == 9 && *byte > 1 {
                    return Err(Torn);
                }
                self.0 = &self.0[index + 1..];
                return Ok(number);
            }
        }
        Err(Torn)
    }
}

/// Which fields of a message are messages, and of which kind.
pub(super) struct Kind(pub &'static [(u32, &'static Kind)]);

/// How many messages are in a message, itself included; stops where there are more than `most`.
pub(super) fn count(kind: &Kind, message: &[u8], most: usize) -> Result<usize, Torn> {
    count_to(kind, message, most, 0)
}

/// Deeper than any message that is read, since decoders stop at 100, too.
const MAX_DEPTH: usize = 100;

fn count_to(kind: &Kind, message: &[u8], most: usize, depth: usize) -> Result<usize, Torn> {
    let mut messages = 1;
    if depth > MAX_DEPTH {
        return Err(Torn);
    }
    for field in Fields(message) {
        let (tag, value) = field?;
        let inner = kind.0.iter().find(|(known, _)| *known == tag);
        if let (Some((_, inner)), Value::Bytes(bytes)) = (inner, value) {
            messages += count_to(inner, bytes, most.saturating_sub(messages), depth + 1)?;
            if messages > most {
                break;
            }
        }
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_wire_type_is_read() {
        let message = [
            0x08, 0x96, 0x01, // 1: 150
            0x12, 0x02, b'h', b'i', // 2: "hi"
            0x19, 1, 0, 0, 0, 0, 0, 0, 0x80, // 3: fixed64
            0x25, 2, 0, 0, 0, // 4: fixed32
        ];
        let fields: Vec<_> = Fields(&message).map(Result::unwrap).collect();
        let expected = [
            (1, Value::Varint(150)),
            (2, Value::Bytes(b"hi")),
            (3, Value::Fixed64(0x8000_0000_0000_0001)),
            (4, Value::Fixed32(2)),
        ];
        assert_eq!(fields, expected);
        let ends = [0, 3, 7, 16, message.len()];
        for end in 0..message.len() {
            let whole = Fields(&message[..end]).all(|field| field.is_ok());
            assert_eq!(whole, ends.contains(&end), "cut at {end}");
        }
    }

    #[test]
    fn messages_are_counted_before_they_are_decoded() {
        static LEAF: Kind = Kind(&[]);
        static NODE: Kind = Kind(&[(1, &LEAF)]);
        let many: Vec<u8> = [0x0a, 0x00].repeat(1_000);
        assert_eq!(count(&NODE, &many, usize::MAX), Ok(1_001));
        assert_eq!(count(&NODE, &many, 10), Ok(11));
        assert_eq!(count(&LEAF, &many, 10), Ok(1));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let read = Fields(&bytes).flatten().count();
            prop_assert!(read <= bytes.len() / 2);
        }
    }
}
