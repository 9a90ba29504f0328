//! How large a statement is to plan. A plan is walked and dropped by recursion, and tables that are named in `WITH` are put
//! in wherever they are used: a short text can be a deep plan, or one that no memory holds.

use std::{collections::HashMap, ops::ControlFlow, ptr};

use datafusion::sql::sqlparser::{
    ast::{Expr, ObjectName, Query, Statement, Visit, Visitor},
    tokenizer::{Token, TokenWithSpan},
};

use super::SqlError;
use crate::types::limits::{SQL_TABLES_MAX, SQL_WORDS_MAX};

/// Refuses a text of too many words and operators: each may be a level of the plan. Values do not count.
pub(super) fn check_words(tokens: &[TokenWithSpan]) -> Result<(), SqlError> {
    let is_word = |token: &&TokenWithSpan| {
        !matches!(
            token.token,
            Token::Whitespace(_)
                | Token::Comma
                | Token::LParen
                | Token::RParen
                | Token::Number(..)
                | Token::SingleQuotedString(_)
        )
    };
    let words = tokens.iter().filter(is_word).count();
    if words <= SQL_WORDS_MAX {
        return Ok(());
    }
    Err(SqlError::Invalid(format!(
        "it has {words} words and operators, the most is {SQL_WORDS_MAX}: divide it, or pass lists of values with IN"
    )))
}

/// Refuses a statement that reads too many tables, each counted as often as it is put in.
pub(super) fn check_tables(statement: &Statement) -> Result<(), SqlError> {
    let mut tables = Tables::default();
    match statement.visit(&mut tables) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(SqlError::Invalid(format!(
            "it reads more than {SQL_TABLES_MAX} tables, those of WITH counted wherever they are used: divide it"
        ))),
    }
}

#[derive(Default)]
struct Tables {
    /// The tables that each name of `WITH` stands for, wherever it was given.
    named: HashMap<String, usize>,
    /// Queries that have a name.
    names: HashMap<*const Query, String>,
    /// The tables of each query that is being looked at.
    open: Vec<usize>,
}

impl Tables {
    fn add(&mut self, tables: usize) -> ControlFlow<()> {
        match self.open.last_mut() {
            Some(sum) => {
                *sum = sum.saturating_add(tables);
                if *sum > SQL_TABLES_MAX {
                    return ControlFlow::Break(());
                }
                ControlFlow::Continue(())
            }
            None => ControlFlow::Continue(()),
        }
    }
}

impl Visitor for Tables {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        for table in query.with.iter().flat_map(|with| &with.cte_tables) {
            let name = table.alias.name.value.to_lowercase();
            self.names.insert(ptr::from_ref(&*table.query), name);
        }
        self.open.push(1);
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        let tables = self.open.pop().unwrap_or_default();
        match self.names.remove(&ptr::from_ref(query)) {
            Some(name) => {
                let known = self.named.entry(name).or_default();
                *known = tables.max(*known);
                ControlFlow::Continue(())
            }
            None => self.add(tables),
        }
    }

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let tables = self.named.get(&relation.to_string().to_lowercase());
        let tables = tables.copied().unwrap_or(1);
        self.add(tables)
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}
