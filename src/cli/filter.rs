//! Which events, and a point of the past, as arguments.

use clap::Args;

use crate::types::{
    read::{AsOf, Filter, TimeRange},
    text::Text,
    time::{InvalidTimestamp, Timestamp},
};

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Which events (all that are given must hold)")]
pub(super) struct FilterArgs {
    /// Of this entity; repeat it for any of several
    #[arg(long, value_name = "ENTITY")]
    entity: Vec<String>,

    /// Of this type; repeat it for any of several
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Vec<String>,

    /// Of types that start with this
    #[arg(
        long,
        value_name = "PREFIX",
        default_value = "",
        hide_default_value = true
    )]
    type_prefix: String,

    /// With this tag; repeat it for all of several
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,

    /// In this partition, counted from 0; repeat it for any of several
    #[arg(long, value_name = "N")]
    partition: Vec<u32>,

    /// Recorded at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,

    /// Recorded before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,

    /// Occurred at or after this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    occurred_since: Option<Timestamp>,

    /// Occurred before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    occurred_until: Option<Timestamp>,
}

impl FilterArgs {
    pub(super) fn filter(self) -> Filter {
        let texts = |texts: Vec<String>| texts.into_iter().map(Text::from).collect();
        Filter {
            entity_ids: texts(self.entity),
            event_types: texts(self.event_type),
            event_type_prefix: self.type_prefix.into(),
            tags: texts(self.tag),
            partitions: self.partition,
            recorded: TimeRange {
                since: self.since,
                until: self.until,
            },
            occurred: TimeRange {
                since: self.occurred_since,
                until: self.occurred_until,
            },
            ..Filter::default()
        }
    }
}

/// `v3`: version 3. `1200`: position 1,200. `2026-01-31T12:00:00Z`: that time.
pub(super) fn parse_as_of(text: &str) -> Result<AsOf, InvalidAsOf> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(version) = text.strip_prefix('v').filter(|rest| digits(rest)) {
        return version
            .parse()
            .map(AsOf::Version)
            .map_err(|_| InvalidAsOf::Number);
    }
    if digits(text) {
        return text
            .parse()
            .map(AsOf::Position)
            .map_err(|_| InvalidAsOf::Number);
    }
    text.parse()
        .map(AsOf::RecordedAt)
        .map_err(|InvalidTimestamp| InvalidAsOf::Other)
}

/// The text is no point of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidAsOf {
    #[error("the number is too large")]
    Number,
    #[error(
        "a point of the past is a version like v3, a position like 1200, or a time like 2026-01-31T12:00:00Z"
    )]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_of_the_past_is_a_version_a_position_or_a_time() {
        assert_eq!(parse_as_of("v3"), Ok(AsOf::Version(3)));
        assert_eq!(parse_as_of("1200"), Ok(AsOf::Position(1200)));
        let time = "2026-01-31T12:00:00Z";
        assert_eq!(
            parse_as_of(time),
            Ok(AsOf::RecordedAt(time.parse().unwrap()))
        );
        for wrong in [
            "",
            "v",
            "v3a",
            "3v",
            "-1",
            "2026-01-31",
            "99999999999999999999",
        ] {
            assert!(parse_as_of(wrong).is_err(), "{wrong}");
        }
    }
}
