//! Which events, as arguments.

use clap::Args;

use crate::types::{
    read::{Filter, TimeRange},
    text::Text,
    time::Timestamp,
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
