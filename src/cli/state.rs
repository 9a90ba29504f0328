//! `annals state`: the state of one entity.

use std::io::IsTerminal;

use clap::Args;

use super::{connect::ConnectArgs, error::CliError, json::write_string, output::print};
use crate::{client::EntityState, types::read::AsOf};

/// Print the state of an entity: its events' payloads, merged
#[derive(Debug, Args)]
#[command(after_help = "\
The state is the JSON merge patch (RFC 7396) of the payloads in the order of versions; a payload that is no object \
replaces it. Before the first event it is null.

Examples:
  annals state order-42
  annals state order-42 --as-of v3                      after its third event
  annals state order-42 --as-of 1200                    after position 1200 of the log
  annals state order-42 --as-of 2026-01-31T12:00:00Z    at that time
  annals state order-42 --json | jq .version")]
pub(super) struct StateArgs {
    /// Whose state
    #[arg(value_name = "ENTITY")]
    entity: String,

    /// As it was then: a version like v3, a position like 1200, or a time (RFC 3339)
    #[arg(long, value_name = "POINT")]
    as_of: Option<AsOf>,

    /// One object with entity_id, version, position, head, recorded_at and state
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    connect: ConnectArgs,
}

pub(super) async fn run(args: StateArgs) -> Result<(), CliError> {
    let client = args.connect.client().await?;
    let state = client.state(&args.entity, args.as_of).await?;
    let text = if args.json {
        object(&args.entity, &state)
    } else if std::io::stdout().is_terminal() {
        pretty(&state.state)
    } else {
        format!("{}\n", state.state)
    };
    print(&text)
}

fn object(entity: &str, state: &EntityState) -> String {
    let mut name = Vec::new();
    write_string(entity, &mut name);
    let recorded_at = state
        .recorded_at
        .map_or("null".into(), |time| format!("\"{time}\""));
    format!(
        "{{\"entity_id\":{},\"version\":{},\"position\":{},\"head\":{},\"recorded_at\":{recorded_at},\"state\":{}}}\n",
        String::from_utf8_lossy(&name),
        state.version,
        state.position,
        state.head,
        state.state
    )
}

/// Indented, with numbers as they were written: parsing them would round.
fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut escaped = false;
    let mut chars = json.chars().peekable();
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = c == '\\' && !escaped;
            continue;
        }
        match c {
            c if c.is_ascii_whitespace() => {}
            '{' | '[' => {
                out.push(c);
                while chars.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                out.push(c);
                in_string = true;
            }
            c => out.push(c),
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pretty_text_is_the_same_json() {
        let json = r#"{"a":[1.50,{"b":"x \"{,}\" \\"}],"c":{},"d":[ ],"e":null}"#;
        let text = pretty(json);
        assert_eq!(
            text,
            "{\n  \"a\": [\n    1.50,\n    {\n      \"b\": \"x \\\"{,}\\\" \\\\\"\n    }\n  ],\n  \"c\": {},\n  \"d\": \
             [],\n  \"e\": null\n}\n"
        );
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(value(&text), value(json));
    }
}
