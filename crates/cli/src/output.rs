//! Standard output: where answers go.
//!
//! Whoever reads them may stop reading (`| head`), and a disk may be full: both are answers to us, not panics.

use std::io::{self, Write as _};

use clap::builder::styling::AnsiColor;

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

/// A colour that means something.
#[derive(Debug, Clone, Copy)]
pub enum Colour {
    Green,
    Yellow,
    Red,
    /// Of what is no matter.
    Grey,
}

/// Text in a colour where it is read on a terminal that has them; as it is elsewhere, and wherever NO_COLOR is set
/// (<https://no-color.org>).
pub fn painted(text: &str, colour: Colour, to: &impl io::IsTerminal) -> String {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if !to.is_terminal() || is_set("NO_COLOR") || is_dumb {
        return text.to_owned();
    }
    let colour = match colour {
        Colour::Green => AnsiColor::Green,
        Colour::Yellow => AnsiColor::Yellow,
        Colour::Red => AnsiColor::Red,
        Colour::Grey => AnsiColor::BrightBlack,
    };
    let style = colour.on_default();
    format!("{style}{text}{style:#}")
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

/// Writes an answer as one value of JSON, over several lines.
pub fn json(answer: &impl serde::Serialize) -> anyhow::Result<()> {
    write(format_args!("{}\n", serde_json::to_string_pretty(answer)?))?;
    Ok(())
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
