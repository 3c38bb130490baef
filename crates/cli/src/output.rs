//! Standard output: where answers go.
//!
//! Whoever reads them may stop reading (`| head`), and a disk may be full: both are answers to us, not panics.

use std::io::{self, Write as _};

/// Writes one piece of an answer.
pub fn write(text: std::fmt::Arguments<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_fmt(text)?;
    out.flush()
}

/// Writes a line beside the answer, to standard error; where that is closed there is nobody to tell.
pub fn note(text: impl std::fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether an error only says that nobody reads on.
pub fn nobody_reads(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Text of others, as it may be shown: a control character could move the cursor, or forge a line.
pub fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() {
                char::REPLACEMENT_CHARACTER
            } else {
                c
            }
        })
        .collect()
}

/// As `print!`, an error being the function's.
macro_rules! out {
    ($($argument:tt)*) => { $crate::output::write(format_args!($($argument)*))? };
}

/// As `println!`, an error being the function's.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::output::write(format_args!("{}\n", format_args!($($argument)*)))? };
}

pub(crate) use {out, outln};
