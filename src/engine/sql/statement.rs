//! The text of a statement: one that only reads, or it is refused by its name.

use datafusion::{
    execution::context::SQLOptions,
    logical_expr::LogicalPlan,
    sql::{
        parser::{DFParserBuilder, Statement},
        sqlparser::{
            ast,
            keywords::Keyword,
            tokenizer::{Token, TokenWithSpan, Tokenizer},
        },
    },
};

use super::{SqlError, dialect::Annals, size};
use crate::types::limits::SQL_STATEMENT_BYTES_MAX;

/// A statement that only reads, as far as its text tells.
pub(super) struct Parsed(pub(super) Statement);

/// Reads one statement.
pub(super) fn parse(text: &str) -> Result<Parsed, SqlError> {
    if text.len() > SQL_STATEMENT_BYTES_MAX {
        return Err(SqlError::Invalid(format!(
            "it has {} bytes, the most is {SQL_STATEMENT_BYTES_MAX}: pass values as parameters",
            text.len()
        )));
    }
    let mut tokens = Tokenizer::new(&Annals, text)
        .tokenize_with_location()
        .map_err(|e| SqlError::Invalid(e.to_string()))?;
    size::check_words(&tokens)?;
    mark_parameters(&mut tokens);
    let mut statements = DFParserBuilder::new(tokens)
        .with_dialect(&Annals)
        .build()?
        .parse_statements()?;
    let statement = match (statements.pop_front(), statements.len()) {
        (Some(statement), 0) => statement,
        (None, _) => return Err(SqlError::Invalid("there is no statement".to_owned())),
        (Some(_), more) => {
            return Err(SqlError::Invalid(format!(
                "there are {} statements: send them one by one",
                more + 1
            )));
        }
    };
    if let Some(what) = forbidden(&statement) {
        return Err(SqlError::Forbidden { what });
    }
    let mut inner = &statement;
    while let Statement::Explain(explain) = inner {
        inner = &explain.statement;
    }
    if let Statement::Statement(inner) = inner {
        size::check_tables(inner)?;
    }
    Ok(Parsed(statement))
}

/// Refuses a plan that does more than read, whatever its text was.
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<(), SqlError> {
    let reads = SQLOptions::new()
        .with_allow_ddl(false)
        .with_allow_dml(false)
        .with_allow_statements(false);
    Ok(reads.verify_plan(plan)?)
}

/// The name of a statement that does more than read.
fn forbidden(statement: &Statement) -> Option<String> {
    match statement {
        Statement::Statement(statement) => match &**statement {
            ast::Statement::Query(query) => forbidden_query(query),
            ast::Statement::Explain { statement, .. } => match &**statement {
                ast::Statement::Query(query) => forbidden_query(query),
                other => Some(name(other)),
            },
            ast::Statement::ExplainTable { .. }
            | ast::Statement::ShowTables { .. }
            | ast::Statement::ShowColumns { .. }
            | ast::Statement::ShowFunctions { .. } => None,
            other => Some(name(other)),
        },
        Statement::Explain(explain) => forbidden(&explain.statement),
        Statement::CreateExternalTable(_) => Some("CREATE EXTERNAL TABLE".to_owned()),
        Statement::CopyTo(_) => Some("COPY".to_owned()),
        Statement::Reset(_) => Some("RESET".to_owned()),
    }
}

/// Queries in whose place something is written.
fn forbidden_query(query: &ast::Query) -> Option<String> {
    fn of_body(body: &ast::SetExpr) -> Option<String> {
        match body {
            ast::SetExpr::Insert(_) => Some("INSERT".to_owned()),
            ast::SetExpr::Update(_) => Some("UPDATE".to_owned()),
            ast::SetExpr::Delete(_) => Some("DELETE".to_owned()),
            ast::SetExpr::Merge(_) => Some("MERGE".to_owned()),
            ast::SetExpr::Query(query) => forbidden_query(query),
            ast::SetExpr::SetOperation { left, right, .. } => {
                of_body(left).or_else(|| of_body(right))
            }
            ast::SetExpr::Select(select) => select.into.as_ref().map(|_| "SELECT INTO".to_owned()),
            ast::SetExpr::Values(_) | ast::SetExpr::Table(_) => None,
        }
    }
    let with = query.with.iter().flat_map(|with| &with.cte_tables);
    let mut with = with.filter_map(|table| forbidden_query(&table.query));
    with.next().or_else(|| of_body(&query.body))
}

/// The first words of a statement.
fn name(statement: &ast::Statement) -> String {
    let text = statement.to_string();
    let words = text.split_whitespace();
    let mut words = words.take_while(|word| word.bytes().all(|b| b.is_ascii_uppercase()));
    let first = words.next().unwrap_or("the statement").to_owned();
    match (first.as_str(), words.next()) {
        ("CREATE" | "DROP" | "ALTER" | "START" | "SHOW", Some(second)) => {
            format!("{first} {second}")
        }
        _ => first,
    }
}

/// A `?` is a parameter where a value is expected, and an operator of JSON behind one.
fn mark_parameters(tokens: &mut [TokenWithSpan]) {
    let (mut count, mut behind_value) = (0, false);
    for TokenWithSpan { token, .. } in tokens {
        let is_question = match token {
            Token::Question => true,
            Token::Placeholder(name) => name == "?",
            _ => false,
        };
        if is_question && behind_value {
            *token = Token::Question;
        } else if is_question {
            count += 1;
            *token = Token::Placeholder(format!("${count}"));
        }
        match token {
            Token::Whitespace(_) => {}
            Token::Word(word) => {
                behind_value = word.quote_style.is_some()
                    || word.keyword == Keyword::NoKeyword
                    || is_name(&word.value);
            }
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::RParen
            | Token::RBracket
            | Token::Placeholder(_) => behind_value = true,
            _ => behind_value = false,
        }
    }
}

/// Columns of ours whose names are keywords.
fn is_name(word: &str) -> bool {
    ["metadata", "payload", "position", "version", "tags"]
        .iter()
        .any(|name| word.eq_ignore_ascii_case(name))
}
