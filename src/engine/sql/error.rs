//! Why a statement of SQL fails, in one line that says what to do.

use std::{error::Error, time::Duration};

use datafusion::{error::DataFusionError, sql::sqlparser::parser::ParserError};

use crate::types::{kind::Kind, read::ReadError};

/// Why a statement failed. It changed nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// The text is no statement, or names what is not there.
    #[error("invalid SQL: {0}")]
    Invalid(String),
    /// Statements that do more than read.
    #[error(
        "{what} is not allowed: SQL only reads here; what is allowed is SELECT, WITH, VALUES, EXPLAIN, DESCRIBE, \
         SHOW TABLES and SHOW COLUMNS"
    )]
    Forbidden {
        /// The statement, by its first words.
        what: String,
    },
    /// No table has the name.
    #[error("there is no table `{name}`: {hint}")]
    NoSuchTable {
        /// The name as it was given.
        name: String,
        /// Which tables there are.
        hint: String,
    },
    /// A value that the statement computes is none, such as a division by zero or a text that is no number.
    #[error("the statement failed: {0}")]
    Failed(String),
    /// It would hold more memory than it may.
    #[error(
        "the statement needs more memory than the {bytes_max} bytes of `{setting}`: select, sort or group less, or raise it"
    )]
    Memory {
        /// Which bound it is.
        setting: &'static str,
        /// The bound.
        bytes_max: usize,
    },
    /// It takes longer than it may.
    #[error(
        "the statement took longer than the {} s of `limits.sql_query_seconds`: select less, take rows faster, or raise it",
        after.as_secs()
    )]
    Time {
        /// The bound.
        after: Duration,
    },
    /// It gives more rows than it may.
    #[error(
        "the statement gives more than the {max} rows of `limits.sql_result_rows_max`: add a LIMIT, or raise it"
    )]
    Rows {
        /// The bound.
        max: u64,
    },
    /// As many statements run as may.
    #[error(
        "{max} statements run already, as many as `limits.sql_queries_max` allows: retry, or raise it"
    )]
    Busy {
        /// The bound.
        max: usize,
        /// When to retry.
        retry_after: Duration,
    },
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A bug, here or in DataFusion.
    #[error("the statement failed inside the server: {0}")]
    Internal(String),
}

impl SqlError {
    /// What the caller should do.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Invalid(_) | Self::Forbidden { .. } | Self::Failed(_) => Kind::Invalid,
            Self::NoSuchTable { .. } => Kind::NotFound,
            Self::Memory { .. } | Self::Time { .. } | Self::Rows { .. } | Self::Busy { .. } => {
                Kind::Exhausted
            }
            Self::Read(error) => error.kind(),
            Self::Internal(_) => Kind::Internal,
        }
    }

    /// A stable name for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "INVALID_SQL",
            Self::Forbidden { .. } => "SQL_ONLY_READS",
            Self::NoSuchTable { .. } => "NO_SUCH_TABLE",
            Self::Failed(_) => "SQL_FAILED",
            Self::Memory { .. } => "SQL_MEMORY",
            Self::Time { .. } => "SQL_TIME",
            Self::Rows { .. } => "SQL_ROWS",
            Self::Busy { .. } => "SQL_BUSY",
            Self::Read(error) => error.reason(),
            Self::Internal(_) => "SQL_INTERNAL",
        }
    }
}

/// Errors of ours come through DataFusion as they are.
impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        Self::External(Box::new(error))
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let place = place_of(&error);
        let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
        while let Some(now) = cause {
            if let Some(ours) = now.downcast_ref::<Self>() {
                return ours.clone();
            }
            if let Some(read) = now.downcast_ref::<ReadError>() {
                return Self::Read(read.clone());
            }
            if let Some(parser) = now.downcast_ref::<ParserError>() {
                return Self::Invalid(told_of(parser));
            }
            cause = now.source();
        }
        let root = error.find_root();
        let told = one_line(&root.message());
        match root {
            DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::Configuration(_)
            | DataFusionError::NotImplemented(_) => Self::Invalid(format!("{told}{place}")),
            DataFusionError::Execution(_) | DataFusionError::ArrowError(..) => Self::Failed(told),
            // Which bound it was is told by who knows it (`workers`).
            DataFusionError::ResourcesExhausted(_) => Self::Memory {
                setting: "limits.sql_query_memory_bytes",
                bytes_max: 0,
            },
            // Without a request to file a bug elsewhere.
            DataFusionError::Internal(told) => Self::Internal(one_line(told)),
            _ => Self::Internal(told),
        }
    }
}

/// Whether DataFusion was refused memory.
pub(super) fn is_memory(error: &SqlError) -> bool {
    matches!(error, SqlError::Memory { .. })
}

fn told_of(error: &ParserError) -> String {
    match error {
        ParserError::TokenizerError(told) | ParserError::ParserError(told) => one_line(told),
        ParserError::RecursionLimitExceeded => "it is nested too deep".to_owned(),
    }
}

/// Where in the text, if DataFusion knows.
fn place_of(error: &DataFusionError) -> String {
    let span = error.diagnostic().and_then(|diagnostic| diagnostic.span);
    span.map_or_else(String::new, |span| {
        format!(
            " at Line: {}, Column: {}",
            span.start.line, span.start.column
        )
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
