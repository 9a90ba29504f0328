//! How often criterion measures, and for how long.

use criterion::Criterion;

/// Shorter than criterion's own: what is appended stays, and memory holds an index of it.
pub(crate) fn criterion() -> Criterion {
    let times = std::time::Duration::from_millis;
    Criterion::default()
        .sample_size(20)
        .warm_up_time(times(500))
        .measurement_time(times(2000))
        .configure_from_args()
}
