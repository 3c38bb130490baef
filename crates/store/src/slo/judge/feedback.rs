//! Feedback (C2).

use super::{Told, found, guarded, no_rows, of, probed, within};
use crate::{
    measure::Meter,
    slo::{
        Finding, Source, Verdict,
        evidence::{Gathered, Rows},
    },
};

fn entries(gathered: &Gathered, find: impl FnOnce(&Rows) -> Finding) -> Finding {
    found(of(&gathered.rows, Source::Rows).map(find))
}

/// C2.1.
pub fn rating(gathered: &Gathered) -> Verdict {
    let told = Told::milliseconds("ratings", "it is measured when somebody rates");
    let guards = [
        "trigger insight_feedback.insight_feedback_inserted",
        "trigger insight_feedback.insight_feedback_updated",
    ];
    Verdict::of(
        within(gathered, Meter::RatingWrite, told),
        [guarded(gathered, &guards)],
    )
}

/// C2.2.
pub fn comment(gathered: &Gathered) -> Verdict {
    let rows = entries(gathered, |rows| {
        no_rows(
            rows.without_author,
            rows.comments,
            rows.comments_from,
            "comments have no time or no user",
        )
    });
    let guards = [
        "required insight_feedback.user_id",
        "constraint insight_feedback_times_of_facts",
    ];
    Verdict::of(probed(gathered, "C2.2"), [rows, guarded(gathered, &guards)])
}

/// C2.3.
pub fn flag(gathered: &Gathered) -> Verdict {
    let rows = entries(gathered, |rows| {
        no_rows(
            rows.without_type,
            rows.flags,
            rows.flags_from,
            "flags have no time or no type that there is",
        )
    });
    let guards = [
        "constraint insight_feedback_flag_type_known",
        "constraint insight_feedback_times_of_facts",
    ];
    Verdict::of(probed(gathered, "C2.3"), [rows, guarded(gathered, &guards)])
}

/// C2.4: in time, and right.
pub fn statistics(gathered: &Gathered) -> Verdict {
    let told = Told::milliseconds(
        "reads of statistics",
        "it is measured when somebody asks for an insight's statistics",
    );
    Verdict::of(within(gathered, Meter::StatsRead, told), [drift(gathered)])
}

/// Whether the last comparison of all statistics with all rows found a difference.
fn drift(gathered: &Gathered) -> Finding {
    let slot = match super::task(
        gathered,
        "check_feedback_statistics",
        "no process that serves has run here yet",
    ) {
        Ok(task) => task.slot.as_ref(),
        Err(finding) => return finding,
    };
    match slot {
        Some(slot) if slot.state == "failed" => {
            let error = slot.error.as_deref().unwrap_or("it failed");
            Finding::missed(
                Source::Run,
                format!(
                    "the comparison of {}: {error}",
                    slot.at.format("%Y-%m-%d %H:%M UTC")
                ),
            )
        }
        Some(slot) if slot.state == "succeeded" => Finding::met(
            Source::Run,
            format!(
                "the comparison of {} found every insight's statistics equal to its rows",
                slot.at.format("%Y-%m-%d %H:%M UTC")
            ),
        ),
        _ => Finding::unknown(
            Source::Run,
            "statistics were not compared with all rows yet: that is done daily at 04:00 UTC",
        ),
    }
}

/// C2.5.
pub fn search(gathered: &Gathered) -> Verdict {
    let guards = [
        "index insight_feedback_user_updated_idx",
        "index insight_feedback_insight_updated_idx",
        "index insight_feedback_updated_idx",
        "index insight_feedback_rating_updated_idx",
    ];
    Verdict::of(probed(gathered, "C2.5"), [guarded(gathered, &guards)])
}
