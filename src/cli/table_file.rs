//! `annals read --format arrow|parquet|csv`: events as a table, in a format that other programs read.

use std::{
    io::{self, Write},
    path::Path,
};

use arrow::{
    array::RecordBatch,
    datatypes::SchemaRef,
    error::ArrowError,
    ipc::writer::{FileWriter, StreamWriter},
    json::writer::{LineDelimited, Writer as JsonWriter, WriterBuilder},
};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

use super::{
    csv::{self, NoCsv},
    error::CliError,
    output::{Output, write_failed},
};
use crate::{
    client::{Client, Scanned},
    types::scan::ScanRequest,
};

/// A row group of Parquet is held in memory until it is full.
const ROW_GROUP_BYTES: usize = 64 << 20;

/// Times of ours are UTC, to the microsecond.
const JSON_TIME: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TableFormat {
    /// Arrow: to a file in its file format (Feather), to standard output as a stream
    Arrow,
    /// Parquet, compressed with zstd
    Parquet,
    /// CSV with a header; lists, such as tags, are JSON
    Csv,
    /// One JSON object a line
    #[value(name = "jsonl")]
    JsonLines,
}

/// Scans and writes, to a file or to standard output.
pub(super) async fn write(
    client: &Client,
    request: &ScanRequest,
    format: TableFormat,
    path: Option<&Path>,
) -> Result<(), CliError> {
    let output = Output::open(path)?;
    let is_seen = output.is_terminal();
    check_terminal(format, &output)?;
    let bar = if is_seen {
        ProgressBar::hidden()
    } else {
        progress_bar()
    };
    let mut scan = client.scan(request).await?;
    let told = |error: WriteError| error.told(path);
    let mut writer = Writer::new(format, output, scan.schema(), path.is_some()).map_err(told)?;
    while let Some(batch) = scan.next().await.transpose() {
        match batch {
            Ok(batch) => {
                writer.write(&batch.rows).map_err(told)?;
                show(&bar, request, &batch);
            }
            Err(error) => {
                writer.give_up().map_err(told)?;
                return Err(error.into());
            }
        }
    }
    bar.finish_and_clear();
    writer.finish().map_err(told)?.finish()
}

/// Refuses to write to a terminal what is no text.
pub(super) fn check_terminal(format: TableFormat, output: &Output) -> Result<(), CliError> {
    let is_text = matches!(format, TableFormat::Csv | TableFormat::JsonLines);
    if is_text || !output.is_terminal() {
        return Ok(());
    }
    let name = format.to_possible_value();
    Err(CliError::Usage(format!(
        "{} is no text for a terminal: name a file with --output FILE, or redirect standard output",
        name.as_ref().map_or("it", |name| name.get_name()),
    )))
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {human_pos}/{human_len} {msg} {eta} left");
    ProgressBar::new(0).with_style(style.expect("the template is right"))
}

fn show(bar: &ProgressBar, request: &ScanRequest, batch: &Scanned) {
    let end = request.through.unwrap_or(batch.head).min(batch.head);
    bar.set_length(end.saturating_sub(request.after));
    bar.set_position(batch.position.unwrap_or(end).saturating_sub(request.after));
    bar.set_message("positions");
}

/// Writes rows in one of the formats.
pub(super) enum Writer {
    ArrowFile(FileWriter<Output>),
    ArrowStream(StreamWriter<Output>),
    Parquet(Box<ArrowWriter<Output>>),
    Csv(Output),
    JsonLines(Box<JsonWriter<Output, LineDelimited>>),
}

/// Why rows could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("{0}")]
    Io(io::Error),
    #[error("{0}")]
    Arrow(ArrowError),
    #[error("{0}")]
    Parquet(ParquetError),
    #[error("{0}")]
    Csv(#[from] NoCsv),
}

impl WriteError {
    pub(super) fn told(self, path: Option<&Path>) -> CliError {
        match (self, path) {
            (Self::Io(error), None) => CliError::Output(error),
            (error, Some(path)) => write_failed(path, &error),
            (error, None) => CliError::Failed(format!("cannot write the table: {error}")),
        }
    }
}

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ArrowError> for WriteError {
    fn from(error: ArrowError) -> Self {
        match error {
            ArrowError::IoError(_, error) => Self::Io(error),
            other => Self::Arrow(other),
        }
    }
}

impl From<ParquetError> for WriteError {
    fn from(error: ParquetError) -> Self {
        match error {
            ParquetError::External(error) => match error.downcast::<io::Error>() {
                Ok(error) => Self::Io(*error),
                Err(other) => Self::Parquet(ParquetError::External(other)),
            },
            other => Self::Parquet(other),
        }
    }
}

impl Writer {
    pub(super) fn new(
        format: TableFormat,
        mut output: Output,
        schema: &SchemaRef,
        is_file: bool,
    ) -> Result<Self, WriteError> {
        Ok(match format {
            TableFormat::Arrow if is_file => Self::ArrowFile(FileWriter::try_new(output, schema)?),
            TableFormat::Arrow => Self::ArrowStream(StreamWriter::try_new(output, schema)?),
            TableFormat::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .build();
                let writer =
                    ArrowWriter::try_new(output, SchemaRef::clone(schema), Some(properties));
                Self::Parquet(Box::new(writer?))
            }
            TableFormat::Csv => {
                csv::write_header(schema, output.buffer());
                Self::Csv(output)
            }
            TableFormat::JsonLines => {
                let writer = WriterBuilder::new()
                    .with_explicit_nulls(true)
                    .with_timestamp_tz_format(JSON_TIME.to_owned())
                    .build(output);
                Self::JsonLines(Box::new(writer))
            }
        })
    }

    pub(super) fn write(&mut self, rows: &RecordBatch) -> Result<(), WriteError> {
        match self {
            // Where the last rows end before the end of the range, no rows come last.
            _ if rows.num_rows() == 0 => Ok(()),
            Self::ArrowFile(writer) => Ok(writer.write(rows)?),
            Self::ArrowStream(writer) => Ok(writer.write(rows)?),
            Self::Parquet(writer) => {
                writer.write(rows)?;
                if writer.in_progress_size() >= ROW_GROUP_BYTES {
                    writer.flush()?;
                }
                Ok(())
            }
            Self::Csv(output) => {
                let mut lines = Vec::new();
                csv::write_rows(rows, &mut lines)?;
                Ok(output.write_all(&lines)?)
            }
            Self::JsonLines(writer) => Ok(writer.write(rows)?),
        }
    }

    /// What arrived before an error is printed before it is told, where half of a table is of use.
    pub(super) fn give_up(self) -> Result<(), WriteError> {
        match self {
            Self::Csv(mut output) => Ok(Write::flush(&mut output)?),
            Self::JsonLines(writer) => Ok(Write::flush(&mut writer.into_inner())?),
            _ => Ok(()),
        }
    }

    /// Ends the table; the output is still to be finished.
    pub(super) fn finish(self) -> Result<Output, WriteError> {
        Ok(match self {
            Self::ArrowFile(writer) => writer.into_inner()?,
            Self::ArrowStream(writer) => writer.into_inner()?,
            Self::Parquet(writer) => writer.into_inner()?,
            Self::Csv(output) => output,
            Self::JsonLines(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
        })
    }
}
