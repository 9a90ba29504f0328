//! What Tab completes at the prompt: words of SQL, tables, columns. Tables and columns are those that the server has when
//! the prompt begins; one that does not answer just has none.

use rustyline::{
    Context, Helper, Result,
    completion::{Completer, Pair},
    highlight::Highlighter,
    hint::Hinter,
    validate::{ValidationContext, ValidationResult, Validator},
};

use super::prompt::is_done;
use crate::client::{Client, PageRequest};

const WORDS: &[&str] = &[
    "all",
    "and",
    "approx_distinct(",
    "array_has(",
    "array_has_any(",
    "as",
    "asc",
    "avg(",
    "between",
    "by",
    "case",
    "cast(",
    "coalesce(",
    "columns",
    "count(",
    "count(*)",
    "cross",
    "current_timestamp",
    "date_bin(",
    "date_trunc(",
    "desc",
    "describe",
    "distinct",
    "else",
    "end",
    "except",
    "exists",
    "explain",
    "extract(",
    "false",
    "filter",
    "first_value(",
    "from",
    "full",
    "group",
    "having",
    "in",
    "inner",
    "intersect",
    "interval",
    "is",
    "join",
    "lag(",
    "last_value(",
    "lead(",
    "left",
    "like",
    "limit",
    "max(",
    "min(",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "over",
    "partition",
    "percentile_cont(",
    "right",
    "row_number()",
    "select",
    "show",
    "sum(",
    "tables",
    "then",
    "true",
    "union",
    "when",
    "where",
    "window",
    "with",
    "within",
];
/// Event types that are completed, at most.
const TYPES_MAX: u32 = 1_000;

/// See the module.
pub(super) struct Completion {
    /// Sorted.
    candidates: Vec<String>,
}

impl Completion {
    /// With what the server has.
    pub(super) async fn of(client: &Client) -> Self {
        let mut candidates: Vec<_> = WORDS.iter().map(|word| (*word).to_owned()).collect();
        for table in ["events", "entities"] {
            candidates.push(table.to_owned());
            let statement = format!("select * from {table} limit 0");
            if let Ok(rows) = client.sql(statement, None).await {
                let columns = rows.schema().fields().iter();
                candidates.extend(columns.map(|field| field.name().clone()));
            }
        }
        let request = PageRequest {
            page_size: Some(TYPES_MAX),
            ..PageRequest::default()
        };
        if let Ok(page) = client.event_types(&request).await {
            let types = page
                .names
                .iter()
                .map(|found| table_of(&found.name.to_string()));
            candidates.extend(types);
        }
        Self::new(candidates)
    }

    fn new(mut candidates: Vec<String>) -> Self {
        candidates.sort();
        candidates.dedup();
        Self { candidates }
    }

    /// Where the word begins that stands before a place, and what it may become.
    fn candidates(&self, line: &str, place: usize) -> (usize, Vec<Pair>) {
        let before = line.get(..place).unwrap_or_default();
        let start = start_of_word(before);
        let word = before.get(start..).unwrap_or_default();
        if word.is_empty() {
            return (place, Vec::new());
        }
        let is_upper = word.chars().all(|c| !c.is_lowercase()) && !word.contains('"');
        let fits = |candidate: &&String| {
            let start = candidate.get(..word.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(word))
        };
        let pair = |candidate: &String| {
            // As it was begun to be typed; names in quotes are as they are.
            let text = if is_upper && !candidate.contains('"') {
                candidate.to_uppercase()
            } else {
                candidate.clone()
            };
            Pair {
                display: text.clone(),
                replacement: text,
            }
        };
        (
            start,
            self.candidates.iter().filter(fits).map(pair).collect(),
        )
    }
}

/// The table of an event type.
fn table_of(event_type: &str) -> String {
    format!("types.\"{}\"", event_type.replace('"', "\"\""))
}

/// Words are of letters, digits, `_` and `.`; what stands in quotes belongs to one, blanks and all.
fn start_of_word(before: &str) -> usize {
    let mut start = 0;
    let mut in_quotes = false;
    for (at, c) in before.char_indices() {
        match c {
            '"' => in_quotes = !in_quotes,
            _ if in_quotes => {}
            _ if c.is_alphanumeric() || c == '_' || c == '.' => {}
            _ => start = at + c.len_utf8(),
        }
    }
    start
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, place: usize, _: &Context<'_>) -> Result<(usize, Vec<Pair>)> {
        Ok(self.candidates(line, place))
    }
}

impl Validator for Completion {
    fn validate(&self, typed: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        Ok(if is_done(typed.input()) {
            ValidationResult::Valid(None)
        } else {
            ValidationResult::Incomplete
        })
    }
}

impl Hinter for Completion {
    type Hint = String;
}

impl Highlighter for Completion {}

impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_tables_and_columns_are_completed_as_they_were_begun() {
        let names = [
            "select",
            "sum(",
            "entity_id",
            "types.\"order paid\"",
            "types.\"seen\"",
        ];
        let completion = Completion::new(names.map(str::to_owned).to_vec());
        let complete = |line: &str| {
            let (start, found) = completion.candidates(line, line.len());
            let found: Vec<_> = found.into_iter().map(|pair| pair.replacement).collect();
            (start, found)
        };
        assert_eq!(
            complete("s"),
            (0, vec!["select".to_owned(), "sum(".to_owned()])
        );
        assert_eq!(complete("SEL"), (0, vec!["SELECT".to_owned()]));
        assert_eq!(
            complete("select max(ent"),
            (11, vec!["entity_id".to_owned()])
        );
        let order = "select 1 from types.\"order p";
        assert_eq!(
            complete(order),
            (14, vec!["types.\"order paid\"".to_owned()])
        );
        assert_eq!(complete("select "), (7, vec![]));
        assert_eq!(complete("注").1, Vec::<String>::new());
    }

    #[test]
    fn the_table_of_a_type_has_its_quotes_doubled() {
        assert_eq!(table_of("a \"b\""), "types.\"a \"\"b\"\"\"");
    }
}
