//! Bars and lines of blocks, as wide as a terminal.
//!
//! Of our own: the libraries for it draw lines and points, or bring whole programs along; none that is kept draws bars
//! with names and numbers beside them.

use console::{measure_text_width, truncate_str};

/// What a bar is drawn of: eighths of a character, the empty one first.
const EIGHTHS: [&str; 8] = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const GAP: &str = "  ";

/// A name, a number as text, and the number; `None` is no bar.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) text: String,
    pub(super) value: Option<f64>,
}

/// A line for each: label, number, bar. With negative numbers, bars go to both sides of a zero that they share.
pub(super) fn bars(bars: &[Bar], columns: usize, out: &mut Vec<u8>) {
    let widest =
        |text: fn(&Bar) -> &str| bars.iter().map(|bar| measure_text_width(text(bar))).max();
    let number_width = widest(|bar| &bar.text).unwrap_or_default();
    let label_width = widest(|bar| &bar.label).unwrap_or_default();
    // A bar of some length comes before the whole of a long name.
    let label_width = label_width.min((columns / 2).max(8));
    let room = columns.saturating_sub(label_width + number_width + 2 * GAP.len());
    let room = room.max(1);
    let values = || bars.iter().filter_map(|bar| bar.value);
    let most = values().fold(0.0, f64::max);
    let least = values().fold(0.0, f64::min);
    let scale = Scale::new(least, most, room);
    for bar in bars {
        let label = truncate_str(&bar.label, label_width, "…");
        let label_padding = " ".repeat(label_width.saturating_sub(measure_text_width(&label)));
        let number_padding = " ".repeat(number_width - measure_text_width(&bar.text));
        let drawn = bar.value.map_or_else(String::new, |value| scale.bar(value));
        let line = format!(
            "{label}{label_padding}{GAP}{number_padding}{}{GAP}{drawn}",
            bar.text
        );
        out.extend(line.trim_end().as_bytes());
        out.push(b'\n');
    }
}

/// How long bars are.
struct Scale {
    /// Characters left of zero.
    left: usize,
    /// Eighths of a character for a unit.
    per_unit: f64,
}

impl Scale {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "widths of a terminal are small"
    )]
    fn new(least: f64, most: f64, room: usize) -> Self {
        let span = most - least;
        if !(span > 0.0 && span.is_finite()) {
            return Self {
                left: 0,
                per_unit: 0.0,
            };
        }
        let left = ((-least / span) * room as f64).ceil() as usize;
        let left = left.min(room.saturating_sub(usize::from(most > 0.0)));
        // The longer side sets the scale, so that neither is cut.
        let right_units = (room - left) as f64 / most;
        let left_units = left as f64 / -least;
        let per_unit = match (least < 0.0, most > 0.0) {
            (true, true) => right_units.min(left_units),
            (true, false) => left_units,
            _ => right_units,
        };
        Self {
            left,
            per_unit: per_unit * 8.0,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a bar is no longer than a terminal is wide"
    )]
    fn bar(&self, value: f64) -> String {
        let eighths = (value.abs() * self.per_unit).round() as usize;
        // What is not nothing is seen.
        let eighths = if value == 0.0 { 0 } else { eighths.max(1) };
        if value < 0.0 {
            // Blocks that fill from the right come in halves only.
            let (whole, half) = (eighths / 8, eighths % 8 >= 4 || eighths < 8);
            let drawn = format!("{}{}", if half { "▐" } else { "" }, "█".repeat(whole));
            let width = whole + usize::from(half);
            return format!("{}{drawn}", " ".repeat(self.left.saturating_sub(width)));
        }
        let rest = EIGHTHS.get(eighths % 8).unwrap_or(&"");
        format!("{}{}{rest}", " ".repeat(self.left), "█".repeat(eighths / 8))
    }
}

/// Counts side by side, each as high as its share of the highest of all; neighbours share a character where there are more
/// than fit.
pub(super) fn heights(counts: &[u64], highest: u64, columns: usize) -> String {
    let columns = columns.clamp(1, counts.len().max(1));
    let per_column = counts.len().div_ceil(columns).max(1);
    let height = |counts: &[u64]| {
        let count = counts.iter().copied().max().unwrap_or_default();
        if count == 0 {
            return ' ';
        }
        let heights = u128::from(count) * HEIGHTS.len() as u128;
        let nth = heights.div_ceil(u128::from(highest.max(1))) - 1;
        *HEIGHTS.get(nth as usize).unwrap_or(&'█')
    };
    counts.chunks(per_column).map(height).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(values: &[(&str, f64)], columns: usize) -> String {
        let bar = |(label, value): &(&str, f64)| Bar {
            label: (*label).to_owned(),
            text: value.to_string(),
            value: Some(*value),
        };
        let mut out = Vec::new();
        bars(
            &values.iter().map(bar).collect::<Vec<_>>(),
            columns,
            &mut out,
        );
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn bars_are_as_long_as_their_share_of_the_longest() {
        assert_eq!(
            drawn(&[("a", 8.0), ("bcd", 4.5), ("e", 0.0), ("f", 0.001)], 20),
            "a        8  ████████\nbcd    4.5  ████▌\ne        0\nf    0.001  ▏\n"
        );
    }

    #[test]
    fn negative_numbers_go_to_the_left_of_a_shared_zero() {
        assert_eq!(
            drawn(&[("up", 4.0), ("down", -4.0), ("half", -2.0)], 18),
            "up     4      ████\ndown  -4  ████\nhalf  -2    ██\n"
        );
        assert_eq!(drawn(&[("a", -1.0)], 12), "a  -1  █████\n");
        assert_eq!(drawn(&[("none", 0.0)], 12), "none  0\n");
    }

    #[test]
    fn names_are_shortened_before_bars_go_and_wide_ones_take_two_columns() {
        assert_eq!(
            drawn(&[("a very long name indeed", 2.0), ("注文", 1.0)], 20),
            "a very lo…  2  █████\n注文        1  ██▌\n"
        );
        // However narrow.
        assert_eq!(drawn(&[("a very long name", 1.0)], 3), "a very …  1  █\n");
    }

    #[test]
    fn heights_are_shares_of_the_highest() {
        assert_eq!(heights(&[0, 1, 500, 1000], 1000, 80), " ▁▄█");
        assert_eq!(heights(&[0, 0], 0, 80), "  ");
        // Two share a character: the higher one is seen.
        assert_eq!(heights(&[0, 8, 0, 0, 1, 2], 8, 3), "█ ▂");
    }
}
