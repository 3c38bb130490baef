//! How the JSON form of protocol buffers writes what JSON itself cannot: whole numbers of 64 bits are strings or numbers,
//! doubles may be `"NaN"` and `"Infinity"`, bytes are base64, and null is the same as absent.

use std::{fmt, marker::PhantomData};

use base64::{Engine as _, engine::general_purpose};
use serde::{
    Deserialize, Deserializer,
    de::{Error, SeqAccess, Visitor},
};

/// A field that may be null, which is the same as absent.
pub fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// A number in either form.
trait Number: Sized {
    fn of_signed(number: i64) -> Option<Self>;
    fn of_unsigned(number: u64) -> Option<Self>;
    fn of_double(number: f64) -> Option<Self>;
    fn of_text(text: &str) -> Option<Self>;
}

/// Above this a double no longer holds every whole number.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

impl Number for u64 {
    fn of_signed(number: i64) -> Option<Self> {
        number.try_into().ok()
    }

    fn of_unsigned(number: u64) -> Option<Self> {
        Some(number)
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // bounded before
    fn of_double(number: f64) -> Option<Self> {
        (number.fract() == 0.0 && (0.0..MAX_EXACT).contains(&number)).then_some(number as Self)
    }

    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Number for i64 {
    fn of_signed(number: i64) -> Option<Self> {
        Some(number)
    }

    fn of_unsigned(number: u64) -> Option<Self> {
        number.try_into().ok()
    }

    #[allow(clippy::cast_possible_truncation)] // bounded before
    fn of_double(number: f64) -> Option<Self> {
        (number.fract() == 0.0 && number.abs() < MAX_EXACT).then_some(number as Self)
    }

    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Number for f64 {
    #[allow(clippy::cast_precision_loss)]
    fn of_signed(number: i64) -> Option<Self> {
        Some(number as Self)
    }

    #[allow(clippy::cast_precision_loss)]
    fn of_unsigned(number: u64) -> Option<Self> {
        Some(number as Self)
    }

    fn of_double(number: f64) -> Option<Self> {
        Some(number)
    }

    /// `NaN`, `Infinity` and `-Infinity`, too.
    fn of_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A number as a field or an item.
struct Written<T>(T);

impl<'de, T: Number> Deserialize<'de> for Written<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);
        impl<T: Number> Visitor<'_> for Either<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number in range, or one in a string")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
                T::of_signed(number).ok_or_else(|| E::custom("a number is out of range"))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
                T::of_unsigned(number).ok_or_else(|| E::custom("a number is out of range"))
            }

            fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
                T::of_double(number).ok_or_else(|| E::custom("a number is not whole"))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
                T::of_text(text).ok_or_else(|| E::custom("a string is no number in range"))
            }
        }
        deserializer.deserialize_any(Either(PhantomData)).map(Self)
    }
}

fn some<'de, D: Deserializer<'de>, T: Number>(deserializer: D) -> Result<Option<T>, D::Error> {
    let written = Option::<Written<T>>::deserialize(deserializer)?;
    Ok(written.map(|Written(number)| number))
}

/// A whole number of 64 bits.
pub fn unsigned<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    some(deserializer).map(Option::unwrap_or_default)
}

/// A double.
pub fn double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    some(deserializer).map(Option::unwrap_or_default)
}

/// A whole number of 64 bits, or absent.
pub fn some_signed<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    some(deserializer)
}

/// A double, or absent.
pub fn some_double<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    some(deserializer)
}

/// Whole numbers of 64 bits.
pub fn unsigneds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
    list(deserializer)
}

/// Doubles.
pub fn doubles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f64>, D::Error> {
    list(deserializer)
}

fn list<'de, D: Deserializer<'de>, T: Number>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Numbers<T>(PhantomData<T>);
    impl<'de, T: Number> Visitor<'de> for Numbers<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of numbers")
        }

        fn visit_unit<E>(self) -> Result<Vec<T>, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
            let mut numbers = Vec::new();
            while let Some(Written(number)) = items.next_element()? {
                numbers.push(number);
            }
            Ok(numbers)
        }
    }
    deserializer.deserialize_any(Numbers(PhantomData))
}

/// Bytes in base64, in either alphabet, with or without padding; or absent.
pub fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let text = text.trim_end_matches('=');
    general_purpose::STANDARD_NO_PAD
        .decode(text)
        .or_else(|_| general_purpose::URL_SAFE_NO_PAD.decode(text))
        .map(Some)
        .map_err(|_| D::Error::custom("bytes are not base64"))
}
