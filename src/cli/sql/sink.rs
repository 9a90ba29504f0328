//! Where the rows of a result go, batch by batch: to a table, a plot, or one of the formats that programs read.

use std::path::Path;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    compute::cast,
    datatypes::{DataType, Float64Type, Schema, SchemaRef},
};
use clap::{ValueEnum, builder::PossibleValue};

use super::{
    super::{
        error::CliError,
        output::Output,
        plot::{self, Bar},
        table_file::{self, TableFormat},
        values::{Values, is_number},
    },
    table::{Look, NotShown, TableWriter, printable},
};

/// Lines of a plot: more than anyone looks at, and all are held to find the longest.
const PLOT_ROWS_MAX: usize = 10_000;
/// Where it is not known.
const TERMINAL_COLUMNS: usize = 80;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Format {
    /// For people.
    Table,
    /// For programs.
    File(TableFormat),
}

impl ValueEnum for Format {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Table,
            Self::File(TableFormat::Csv),
            Self::File(TableFormat::JsonLines),
            Self::File(TableFormat::Arrow),
            Self::File(TableFormat::Parquet),
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Table => {
                let help =
                    "Columns side by side, for people; on a terminal long cells are shortened";
                Some(PossibleValue::new("table").help(help))
            }
            Self::File(format) => format.to_possible_value(),
        }
    }
}

/// See the module.
pub(in super::super) struct Sink {
    form: Form,
    rows: u64,
}

enum Form {
    Table(TableWriter, Output),
    File(Box<table_file::Writer>),
    Plot(Plot, Output),
}

impl Sink {
    pub(in super::super) fn new(
        format: Format,
        path: Option<&Path>,
        schema: &SchemaRef,
    ) -> Result<Self, CliError> {
        let output = Output::open(path)?;
        let form = match format {
            Format::Table => {
                let look = Look::of_stdout(output.is_terminal());
                Form::Table(TableWriter::new(schema, look), output)
            }
            Format::File(format) => {
                table_file::check_terminal(format, &output)?;
                let writer = table_file::Writer::new(format, output, schema, path.is_some());
                Form::File(Box::new(writer.map_err(|e| e.told(path))?))
            }
        };
        Ok(Self { form, rows: 0 })
    }

    /// Draws one column of numbers beside one of names.
    pub(in super::super) fn plot(schema: &Schema) -> Result<Self, CliError> {
        let output = Output::stdout()?;
        let columns = Look::of_stdout(output.is_terminal()).columns;
        let plot = Plot::new(schema, columns.unwrap_or(TERMINAL_COLUMNS))?;
        Ok(Self {
            form: Form::Plot(plot, output),
            rows: 0,
        })
    }

    pub(in super::super) fn write(
        &mut self,
        rows: &RecordBatch,
        path: Option<&Path>,
    ) -> Result<(), CliError> {
        self.rows += rows.num_rows() as u64;
        match &mut self.form {
            Form::Table(table, output) => {
                table.write(rows, output.buffer()).map_err(|error| {
                    let NotShown(column) = error;
                    CliError::Failed(format!(
                        "column `{column}` has a type that is not shown: cast it to varchar"
                    ))
                })?;
                output.written()
            }
            Form::File(writer) => writer.write(rows).map_err(|e| e.told(path)),
            Form::Plot(plot, _) => plot.take(rows),
        }
    }

    /// Writes the rest, and says how many rows there were.
    pub(in super::super) fn finish(self, path: Option<&Path>) -> Result<u64, CliError> {
        match self.form {
            Form::Table(mut table, mut output) => {
                table.finish(output.buffer());
                output.finish()?;
            }
            Form::File(writer) => writer.finish().map_err(|e| e.told(path))?.finish()?,
            Form::Plot(plot, mut output) => {
                plot::bars(&plot.bars, plot.columns, output.buffer());
                output.finish()?;
            }
        }
        Ok(self.rows)
    }

    /// What arrived before an error is shown before it is told, where half of it is of use.
    pub(in super::super) fn give_up(self, path: Option<&Path>) -> Result<(), CliError> {
        match self.form {
            Form::Table(mut table, mut output) if path.is_none() => {
                // Nothing but the names of columns helps nobody.
                if self.rows > 0 {
                    table.finish(output.buffer());
                }
                output.flush()
            }
            Form::Table(..) | Form::Plot(..) => Ok(()),
            Form::File(writer) => writer.give_up().map_err(|e| e.told(path)),
        }
    }
}

/// Bars to be drawn.
struct Plot {
    /// Which column has the numbers; the other one has the names, if there is one.
    number: usize,
    label: Option<usize>,
    columns: usize,
    bars: Vec<Bar>,
}

impl Plot {
    fn new(schema: &Schema, columns: usize) -> Result<Self, CliError> {
        let is_number: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| is_number(field.data_type()))
            .collect();
        let (number, label) = match is_number.as_slice() {
            [true] => (0, None),
            [_, true] => (1, Some(0)),
            [true, false] => (0, Some(1)),
            _ => {
                return Err(CliError::Usage(
                    "--plot draws one column of numbers beside one of names: select these two"
                        .to_owned(),
                ));
            }
        };
        Ok(Self {
            number,
            label,
            columns,
            bars: Vec::new(),
        })
    }

    fn take(&mut self, rows: &RecordBatch) -> Result<(), CliError> {
        if self.bars.len() + rows.num_rows() > PLOT_ROWS_MAX {
            let told = format!("a plot has at most {PLOT_ROWS_MAX} rows: add a LIMIT, or group");
            return Err(CliError::Failed(told));
        }
        let schema = rows.schema();
        let values = |column: usize| {
            let field = schema.fields().get(column);
            field.and_then(|field| Values::of(field, rows.column(column)))
        };
        let not_drawn = || CliError::Failed("a column has a type that is not drawn".to_owned());
        let mut numbers = values(self.number).ok_or_else(not_drawn)?;
        let mut labels = self.label.map(|label| values(label).ok_or_else(not_drawn));
        let mut labels = labels.take().transpose()?;
        let lengths =
            cast(rows.column(self.number), &DataType::Float64).map_err(|_| not_drawn())?;
        let lengths = lengths.as_primitive::<Float64Type>();
        for row in 0..rows.num_rows() {
            let label = labels
                .as_mut()
                .map_or_else(String::new, |labels| text(labels, row));
            let value = lengths.is_valid(row).then(|| lengths.value(row));
            self.bars.push(Bar {
                label,
                text: text(&mut numbers, row),
                value: value.filter(|value| value.is_finite()),
            });
        }
        Ok(())
    }
}

fn text(values: &mut Values<'_>, row: usize) -> String {
    if values.is_null(row) {
        return "NULL".to_owned();
    }
    let mut text = Vec::new();
    values.write(row, &mut text);
    printable(&String::from_utf8_lossy(&text))
}
