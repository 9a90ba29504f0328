//! Where in a statement an error is: DataFusion says `Line: 1, Column: 8`. On a terminal the line is shown, with a mark below.

use std::io::{self, IsTerminal};

use console::measure_text_width;

use super::super::error::{CliError, advice};
use crate::client::ClientError;

/// A line is shown around the place, so much of it.
const SHOWN_CHARS: usize = 72;

/// A place in a text, counted from 1, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
}

/// The error as it is told of this statement.
pub(super) fn told(error: ClientError, statement: &str) -> CliError {
    let text = advice(&error);
    let Some((text, place)) = place_of(&text) else {
        return CliError::Client(error);
    };
    match marked(statement, place).filter(|_| io::stderr().is_terminal()) {
        Some(marked) => CliError::Failed(format!("{text}\n{marked}")),
        None => CliError::Failed(text),
    }
}

/// The place that a text names, and the text with the place as people write it.
fn place_of(text: &str) -> Option<(String, Place)> {
    let (before, rest) = text.split_once("Line: ")?;
    let (line, rest) = number(rest)?;
    let rest = rest.strip_prefix(", Column: ")?;
    let (column, after) = number(rest)?;
    let place = Place { line, column };
    let text = format!("{before}line {line}, column {column}{after}");
    Some((text, place)).filter(|_| line > 0 && column > 0)
}

fn number(text: &str) -> Option<(usize, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    Some((digits.parse().ok()?, rest))
}

/// The line of a place, and a mark below it.
fn marked(statement: &str, place: Place) -> Option<String> {
    let line: Vec<char> = statement.lines().nth(place.line - 1)?.chars().collect();
    // Behind the end is a place too.
    let column = (place.column - 1).min(line.len());
    let start = column.saturating_sub(SHOWN_CHARS / 2);
    let end = (start + SHOWN_CHARS).min(line.len());
    let shown = |from: usize, to: usize| -> String {
        let part = line.get(from..to).unwrap_or_default().iter();
        part.map(|c| if c.is_control() { ' ' } else { *c })
            .collect()
    };
    let indent = measure_text_width(&shown(start, column));
    Some(format!(
        "  {}\n  {}^",
        shown(start, end),
        " ".repeat(indent)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_as_people_write_it() {
        let (text, place) = place_of("no such column at Line: 2, Column: 12: try `x`").unwrap();
        assert_eq!(text, "no such column at line 2, column 12: try `x`");
        assert_eq!(
            place,
            Place {
                line: 2,
                column: 12
            }
        );
        for none in [
            "no place",
            "Line: x, Column: 3",
            "Line: 1",
            "Line: 0, Column: 0",
        ] {
            assert_eq!(place_of(none), None, "{none}");
        }
    }

    #[test]
    fn the_mark_stands_below_what_is_wrong() {
        let place = |line, column| Place { line, column };
        assert_eq!(
            marked("select\n\t'注文', nope", place(2, 8)).unwrap(),
            "   '注文', nope\n           ^"
        );
        assert_eq!(
            marked("select", place(1, 99)).unwrap(),
            "  select\n        ^"
        );
        assert_eq!(marked("select", place(2, 1)), None);
        let long = format!("{}wrong{}", "a".repeat(500), "b".repeat(500));
        let shown = marked(&long, place(1, 501)).unwrap();
        let (line, mark) = shown.split_once('\n').unwrap();
        assert_eq!(&line[mark.len() - 1..][..5], "wrong");
        assert_eq!(line.len(), 2 + SHOWN_CHARS);
    }
}
