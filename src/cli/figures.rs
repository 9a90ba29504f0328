//! Numbers for people: rates and rounded times. Exactness beyond 2^53 does not matter here.

use std::time::Duration;

use indicatif::HumanCount;

/// How many a second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(1e-9)
}

/// A share.
#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Without its fraction, in groups of three digits.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a figure for people"
)]
pub(super) fn rounded(figure: f64) -> HumanCount {
    HumanCount(figure.round() as u64)
}

/// So many of a thing.
pub(super) fn counted(count: u64, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", HumanCount(count))
}
