//! libFuzzer on one of the targets of the store and the server: the one that `UTXOIQ_FUZZ_TARGET` names.
//!
//! It also measures how much memory an input takes: more than [`most_bytes`] ends the search, as a panic does.

#![no_main]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    env, panic, process,
    sync::{
        LazyLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use libfuzzer_sys::fuzz_target;

static NOW: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, with a count.
struct Counting;

impl Counting {
    fn more(bytes: usize) {
        let now = NOW.fetch_add(bytes, Relaxed).wrapping_add(bytes);
        MOST.fetch_max(now, Relaxed);
    }
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::more(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::more(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most memory that an input may take: some megabytes that any may, and some thousand times its own size, for maps of small
/// things.
fn most_bytes(input: &[u8]) -> usize {
    (16 << 20) + 2_000 * input.len()
}

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = env::var("UTXOIQ_FUZZ_TARGET").unwrap_or_default();
    let mut all = utxoiq_store::fuzz::TARGETS
        .iter()
        .chain(utxoiq_store_server::fuzz::TARGETS);
    match all.clone().find(|(name, _)| *name == wanted) {
        Some((_, target)) => *target,
        None => {
            // One a line, for `./dev fuzz`.
            all.by_ref().for_each(|(name, _)| println!("{name}"));
            process::exit(if wanted.is_empty() { 0 } else { 2 });
        }
    }
});

/// A panic ends the search. The decoder of Parquet, which is not ours, panics on some files whose bytes are changed; its thread
/// ends and the reader is told so, which is what the target `archive` tries.
fn let_decoders_panic() {
    let end = panic::take_hook();
    let is_archive = env::var("UTXOIQ_FUZZ_TARGET").is_ok_and(|target| target == "archive");
    panic::set_hook(Box::new(move |panicked| {
        let place = panicked.location();
        let is_of_others = place.is_some_and(|place| place.file().contains("/registry/"));
        if !(is_archive && is_of_others) {
            end(panicked);
        }
    }));
}

// The target is looked for at once, before libFuzzer has begun: a list of targets is no crash.
fuzz_target!(init: { LazyLock::force(&TARGET); let_decoders_panic() }, |input: &[u8]| {
    let target = *TARGET;
    let before = NOW.load(Relaxed);
    MOST.store(before, Relaxed);
    target(input);
    let took = MOST.load(Relaxed).saturating_sub(before);
    assert!(
        took <= most_bytes(input),
        "{} bytes took {took} bytes of memory",
        input.len()
    );
});
