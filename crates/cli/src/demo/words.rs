//! What insights are called, and what people say of them.

use rand::{Rng, RngExt as _, seq::IndexedRandom as _};

/// A kind of insight, how well it is liked, and what it is about.
pub struct Theme {
    pub name: &'static str,
    pub liking: f64,
    topic: &'static str,
}

const fn theme(name: &'static str, liking: f64, topic: &'static str) -> Theme {
    Theme {
        name,
        liking,
        topic,
    }
}

pub const THEMES: [Theme; 14] = [
    theme("whale-transfer", 4.3, "the whale transfer"),
    theme("mempool-congestion", 4.1, "the mempool backlog"),
    theme("fee-spike", 4.4, "the fee spike"),
    theme("miner-capitulation", 3.4, "miner capitulation"),
    theme("exchange-inflow", 3.9, "the exchange inflow"),
    theme("exchange-outflow", 4.0, "the exchange outflow"),
    theme("dormant-coins-moved", 4.5, "the dormant coins"),
    theme("hashrate-drop", 3.8, "the hash rate"),
    theme("difficulty-forecast", 4.2, "the difficulty forecast"),
    theme("utxo-age-shift", 3.6, "the UTXO age bands"),
    theme("lightning-capacity", 3.3, "Lightning capacity"),
    theme("inscription-wave", 2.7, "the inscription wave"),
    theme("stablecoin-correlation", 2.9, "the correlation"),
    theme("treasury-purchase", 3.7, "the treasury purchase"),
];

const PRAISE: [&str; 9] = [
    "Spot on about {}, I saw the same thing in my own node.",
    "This is why I subscribe. {} was flagged two blocks before anybody else talked about it.",
    "Clear chart and a conclusion one can act on. More about {} please.",
    "Good call on {}; the follow-up a day later would be useful, too.",
    "Saved me from paying 80 sat/vB. Thank you.",
    "The confidence interval makes the difference. Well explained.",
    "Finally somebody who counts change outputs correctly when looking at {}.",
    "Short, sourced, and right. 👍",
    "Checked {} against the raw blocks: the numbers match to the satoshi.",
];

const LUKEWARM: [&str; 8] = [
    "Interesting, but {} needs more context: what is the average over 30 days?",
    "The headline is stronger than the evidence.",
    "Okay. I had hoped for a link to the transactions.",
    "Is {} measured before or after the consolidation at the exchange?",
    "Useful, though it came an hour late for me.",
    "The chart's axis does not start at zero, which makes {} look larger than it is.",
    "Fine for a beginner, too little for a trader.",
    "Would like to see {} by address type (P2TR and P2WPKH apart).",
];

const COMPLAINT: [&str; 8] = [
    "This was an internal transfer of the exchange. {} is not what it says.",
    "Wrong block height; look at the previous one.",
    "Third alert today about {}, please group them.",
    "Correlation is not causation.",
    "The amount in dollars is off by a factor of ten.",
    "Clickbait. Nothing about {} is new.",
    "The address was mislabelled, it belongs to a custodian.",
    "Contradicts what was said about {} yesterday, without a word about it.",
];

/// A flag: its type, and what people write beside it.
pub const FLAGS: [(&str, u32, &[&str]); 5] = [
    (
        "inaccurate",
        45,
        &[
            "the block height is wrong",
            "amount does not match the transaction",
            "the address belongs to somebody else",
            "numbers differ from my own node",
        ],
    ),
    (
        "misleading",
        28,
        &[
            "headline contradicts the chart",
            "an internal transfer is shown as a sale",
            "axis is cut",
        ],
    ),
    (
        "spam",
        12,
        &["same alert for the third time today", "advertises a token"],
    ),
    (
        "inappropriate",
        5,
        &["insults in the text", "names a private person"],
    ),
    (
        "other",
        10,
        &[
            "the link is dead",
            "does not load on a phone",
            "translation is broken",
        ],
    ),
];

/// A comment that goes with a rating.
pub fn comment(random: &mut impl Rng, theme: &Theme, rating: i16) -> String {
    let sentences: &[&str] = match rating {
        4.. => &PRAISE,
        3 => &LUKEWARM,
        _ => &COMPLAINT,
    };
    let sentence = sentences.choose(random).copied().unwrap_or_default();
    let text = sentence.replace("{}", theme.topic);
    // A sentence begins with a capital letter.
    let mut text: String = text
        .chars()
        .enumerate()
        .map(|(at, c)| if at == 0 { c.to_ascii_uppercase() } else { c })
        .collect();
    if random.random_bool(0.2) {
        text.push_str(
            [
                " Thanks!",
                " Just my two sats.",
                " (block explorer open beside it)",
                " Greetings from Lisbon.",
            ][random.random_range(0..4)],
        );
    }
    text
}

/// A flag's type and reason.
pub fn flag(random: &mut impl Rng) -> (&'static str, Option<&'static str>) {
    let mut drawn = random.random_range(0..100);
    for (name, share, reasons) in FLAGS {
        if drawn < share {
            let reason = random
                .random_bool(0.7)
                .then(|| reasons.choose(random).copied());
            return (name, reason.flatten());
        }
        drawn -= share;
    }
    ("other", None)
}
