//! Strips: what of a range is in which state, as a row of coloured pieces.

use maud::{Markup, html};

/// A piece of a strip, by the class of its colour.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// Where it begins, from 0 to 1.
    pub from: f64,
    /// Where it ends.
    pub to: f64,
    /// The name of its look.
    pub class: &'static str,
    /// What it is, shown when pointed at.
    pub title: String,
}

const WIDTH: f64 = 1_000.0;

/// Draws a strip that is as wide as there is room. Pieces that would be too thin to be seen are drawn thin, but drawn.
pub(super) fn strip(label: &str, pieces: &[Piece]) -> Markup {
    html! {
        svg.strip viewBox="0 0 1000 28" preserveAspectRatio="none" shape-rendering="crispEdges" role="img" aria-label=(label) {
            title { (label) }
            rect.rest x="0" y="0" width="1000" height="28" {}
            @for piece in pieces {
                @let width = ((piece.to - piece.from) * WIDTH).max(1.5);
                @let x = (piece.from * WIDTH).min(WIDTH - width);
                rect class=(piece.class) x=(format!("{x:.2}")) y="0" width=(format!("{width:.2}")) height="28" {
                    title { (piece.title) }
                }
            }
        }
    }
}

/// What the looks of a strip mean.
pub(super) fn legend(looks: &[(&'static str, &str)]) -> Markup {
    html! {
        ul.legend {
            @for (class, word) in looks {
                li {
                    svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" { rect class=(class) width="12" height="12" rx="3" {} }
                    (word)
                }
            }
        }
    }
}
