//! Rows as a table for people: columns as wide as what is in them, numbers on the right. On a terminal, long cells are
//! shortened until a row fits; where they would say nothing any more, each row becomes a block of lines.
//!
//! Rows are held until there are enough to know how wide columns are; then they pass through.

use arrow::{array::RecordBatch, datatypes::Schema};
use console::{Style, measure_text_width, truncate_str};

use super::super::values::{Values, is_number};

/// Rows that are looked at before the first is written, at most.
const HELD_ROWS_MAX: usize = 1_000;
/// Bytes of them, about.
const HELD_BYTES_MAX: usize = 1 << 20;
/// A text that is cut shorter than this says nothing.
const SHORTEST: usize = 10;
const GAP: &str = "  ";

/// How wide the terminal is, and whether it has colours; not on a terminal, neither.
#[derive(Debug, Clone, Copy, Default)]
pub(in super::super) struct Look {
    pub(in super::super) columns: Option<usize>,
    pub(in super::super) colours: bool,
}

impl Look {
    /// That of standard output.
    pub(in super::super) fn of_stdout(is_terminal: bool) -> Self {
        let terminal = console::Term::stdout();
        Self {
            columns: is_terminal.then(|| terminal.size().1.into()),
            colours: is_terminal && console::colors_enabled(),
        }
    }

    fn style(self, style: Style, text: &str) -> String {
        if self.colours {
            style.force_styling(true).apply_to(text).to_string()
        } else {
            text.to_owned()
        }
    }
}

/// A column: its name, and on which side its values stand.
struct Column {
    name: String,
    is_number: bool,
    width: usize,
}

/// `None` is no value.
type Cell = Option<String>;

enum Layout {
    /// Not known yet.
    Open,
    Rows,
    /// Each row a block of lines.
    Blocks,
}

/// See the module.
pub(super) struct TableWriter {
    look: Look,
    columns: Vec<Column>,
    layout: Layout,
    held: Vec<Vec<Cell>>,
    held_bytes: usize,
    written: u64,
}

/// The column that cannot be shown.
pub(super) struct NotShown(pub(super) String);

impl TableWriter {
    pub(super) fn new(schema: &Schema, look: Look) -> Self {
        let column = |field: &arrow::datatypes::FieldRef| {
            let name = printable(field.name());
            Column {
                width: measure_text_width(&name),
                name,
                is_number: is_number(field.data_type()),
            }
        };
        Self {
            look,
            columns: schema.fields().iter().map(column).collect(),
            layout: Layout::Open,
            held: Vec::new(),
            held_bytes: 0,
            written: 0,
        }
    }

    /// Appends what can be written.
    pub(super) fn write(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), NotShown> {
        let schema = rows.schema();
        let columns = schema.fields().iter().zip(rows.columns());
        let mut columns = columns
            .map(|(field, column)| {
                Values::of(field, column).ok_or_else(|| NotShown(field.name().clone()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..rows.num_rows() {
            let cells = columns.iter_mut().map(|values| self.cell(values, row));
            let cells = cells.collect::<Vec<_>>();
            if matches!(self.layout, Layout::Open) {
                self.hold(cells);
                if self.held.len() >= HELD_ROWS_MAX || self.held_bytes >= HELD_BYTES_MAX {
                    self.begin(out);
                }
            } else {
                self.write_row(&cells, out);
            }
        }
        Ok(())
    }

    /// Appends the rest.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if matches!(self.layout, Layout::Open) {
            self.begin(out);
        }
    }

    fn cell(&self, values: &mut Values<'_>, row: usize) -> Cell {
        if values.is_null(row) {
            return None;
        }
        let mut bytes = Vec::new();
        values.write(row, &mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        Some(match self.look.columns {
            // No more than a line of it is seen; a character that is two wide is counted as one here.
            Some(width) => printable(&text.chars().take(width + 1).collect::<String>()),
            None => printable(&text),
        })
    }

    fn hold(&mut self, cells: Vec<Cell>) {
        for (column, cell) in self.columns.iter_mut().zip(&cells) {
            column.width = column.width.max(measure_text_width(shown(cell)));
            self.held_bytes += cell.as_ref().map_or(0, String::len);
        }
        self.held.push(cells);
    }

    /// Settles the layout, and appends what is held.
    fn begin(&mut self, out: &mut Vec<u8>) {
        self.layout = if self.fit() {
            self.write_header(out);
            Layout::Rows
        } else {
            Layout::Blocks
        };
        for cells in std::mem::take(&mut self.held) {
            self.write_row(&cells, out);
        }
    }

    /// Narrows columns of text until a row fits; false if it cannot.
    fn fit(&mut self) -> bool {
        let Some(room) = self.look.columns else {
            return true;
        };
        let gaps = GAP.len() * self.columns.len().saturating_sub(1);
        let width_at = |cap: usize| {
            let width = |column: &Column| {
                if column.is_number {
                    column.width
                } else {
                    column.width.min(cap)
                }
            };
            gaps + self.columns.iter().map(width).sum::<usize>()
        };
        let cap = match self.columns.len() {
            1 => room,
            _ => match (SHORTEST..=room).rev().find(|cap| width_at(*cap) <= room) {
                Some(cap) => cap,
                None => return false,
            },
        };
        for column in self.columns.iter_mut().filter(|column| !column.is_number) {
            column.width = column.width.min(cap);
        }
        true
    }

    fn write_header(&self, out: &mut Vec<u8>) {
        let names = self
            .columns
            .iter()
            .map(|column| (column, column.name.as_str()));
        self.write_line(names, &Style::new().bold(), out);
        let rules: Vec<_> = self
            .columns
            .iter()
            .map(|column| "─".repeat(column.width))
            .collect();
        out.extend(rules.join(GAP).as_bytes());
        out.push(b'\n');
    }

    fn write_row(&mut self, cells: &[Cell], out: &mut Vec<u8>) {
        self.written += 1;
        if let Layout::Blocks = self.layout {
            self.write_block(cells, out);
        } else {
            let cells = self.columns.iter().zip(cells.iter().map(shown));
            self.write_line(cells, &Style::new(), out);
        }
    }

    fn write_line<'a>(
        &self,
        cells: impl Iterator<Item = (&'a Column, &'a str)>,
        style: &Style,
        out: &mut Vec<u8>,
    ) {
        let mut line = String::new();
        for (nth, (column, text)) in cells.enumerate() {
            if nth > 0 {
                line.push_str(GAP);
            }
            let text = match self.look.columns {
                Some(_) => truncate_str(text, column.width.max(1), "…"),
                None => text.into(),
            };
            let padding = column.width.saturating_sub(measure_text_width(&text));
            let padding = " ".repeat(padding);
            let text = self.look.style(style.clone(), &text);
            let is_last = nth + 1 == self.columns.len();
            match (column.is_number, is_last) {
                (true, _) => line.extend([padding.as_str(), &text]),
                (false, true) => line.push_str(&text),
                (false, false) => line.extend([&text, padding.as_str()]),
            }
        }
        out.extend(line.trim_end().as_bytes());
        out.push(b'\n');
    }

    fn write_block(&self, cells: &[Cell], out: &mut Vec<u8>) {
        let room = self.look.columns.unwrap_or(usize::MAX);
        let names = self
            .columns
            .iter()
            .map(|column| measure_text_width(&column.name));
        let widest = names.max().unwrap_or_default().min(room / 2);
        let title = format!("── row {} ", self.written);
        let rule = "─".repeat(room.min(40).saturating_sub(measure_text_width(&title)));
        out.extend(format!("{title}{rule}\n").as_bytes());
        for (column, cell) in self.columns.iter().zip(cells) {
            let name = truncate_str(&column.name, widest, "…");
            let padding = " ".repeat(widest.saturating_sub(measure_text_width(&name)));
            let room = room.saturating_sub(widest + GAP.len()).max(1);
            let value = truncate_str(shown(cell), room, "…");
            let name = self.look.style(Style::new().bold(), &name);
            out.extend(format!("{name}{padding}{GAP}{value}\n").as_bytes());
        }
    }
}

fn shown(cell: &Cell) -> &str {
    cell.as_deref().unwrap_or("NULL")
}

/// On one line, and without what a terminal would take for a command.
pub(in super::super) fn printable(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line
}
