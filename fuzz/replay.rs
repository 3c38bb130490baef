//! Tries known inputs and others like them, in a test: what `./dev fuzz` searches at length, in seconds and the same each time.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// How many changed inputs are tried on each target.
const CHANGED: usize = 3_000;

/// The most bytes of a changed input: what is found, is found in small ones.
const MOST_BYTES: usize = 8_192;

/// What is tried with any bytes.
type Target = fn(&[u8]);

fn corpus(target: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    root.join(target)
}

/// The inputs of a target, by name.
fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(corpus(target));
    let entries = entries.unwrap_or_else(|_| panic!("fuzz/corpus/{target} is missing"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: PathBuf| (path.clone(), fs::read(path).unwrap());
    paths.into_iter().map(read).collect()
}

/// Numbers that look random (xorshift64*), the same ones each time.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, most: usize) -> usize {
        let most = u64::try_from(most.max(1)).unwrap();
        usize::try_from(self.next() % most).unwrap()
    }
}

/// What parsers stumble over.
const WORDS: [&[u8]; 14] = [
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80\0\0\0",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\0",
    b"9223372036854775807",
    b"-1",
    b"1e999",
    b"NaN",
    b"\xed\xa0\x80",
    b"\\ud800",
    b"[[[[[[[[",
    b"\"",
];

fn change(input: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len() + 1);
        match numbers.below(6) {
            0 => bytes.truncate(at),
            1 if at < bytes.len() => bytes[at] ^= 1 << numbers.below(8),
            2 if at < bytes.len() => bytes[at] = numbers.next().to_le_bytes()[0],
            3 => {
                let word = WORDS[numbers.below(WORDS.len())];
                bytes.splice(at..at, word.iter().copied());
            }
            4 => {
                let from = numbers.below(other.len());
                bytes.splice(at.., other[from..].iter().copied());
            }
            _ => {
                let end = (at + numbers.below(16)).min(bytes.len());
                bytes.drain(at..end);
            }
        }
    }
    bytes.truncate(MOST_BYTES);
    bytes
}

/// Tries every input of every target, and changed ones. Says which input it was, and keeps it, where one panics.
pub fn all(targets: &[(&'static str, Target)]) {
    for (name, target) in targets {
        let inputs = inputs(name);
        assert!(!inputs.is_empty(), "fuzz/corpus/{name} has no input");
        for (path, input) in &inputs {
            attempt(name, *target, input, &path.display().to_string());
        }
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for number in 0..CHANGED {
            let (_, input) = &inputs[number % inputs.len()];
            let (_, other) = &inputs[numbers.below(inputs.len())];
            let changed = change(input, other, &mut numbers);
            attempt(name, *target, &changed, "a changed one");
        }
    }
}

#[allow(clippy::print_stderr, reason = "the harness shows it with a failure")]
fn attempt(name: &str, target: Target, input: &[u8], which: &str) {
    if let Err(panic) = std::panic::catch_unwind(|| target(input)) {
        let found = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        let _ = fs::write(&found, input);
        eprintln!("{name} breaks on {which}, kept as {}", found.display());
        std::panic::resume_unwind(panic);
    }
}

/// Writes an input.
#[allow(dead_code, reason = "by what writes them anew")]
pub fn seed(target: &str, name: &str, bytes: &[u8]) {
    fs::create_dir_all(corpus(target)).unwrap();
    fs::write(corpus(target).join(name), bytes).unwrap();
}
