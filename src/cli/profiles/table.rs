//! Columns of text, as wide as the terminal allows.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Between two columns.
const GAP: &str = "  ";

/// How wide a table may be: what the shell says in `COLUMNS`, at least 80 and
/// at most 160, else 100.
pub(super) fn terminal_width() -> usize {
    let columns = std::env::var("COLUMNS").ok();
    columns
        .and_then(|columns| columns.parse::<usize>().ok())
        .map_or(100, |columns| columns.clamp(80, 160))
}

/// Rows under a header. Cells that are too long go on in the next line, so
/// nothing is cut off.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(header: [&str; N]) -> Self {
        Self {
            rows: vec![header.map(str::to_owned)],
        }
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells);
    }

    /// The whole table in lines of at most `width` columns.
    pub(super) fn text(&self, width: usize) -> String {
        let widths = self.widths(width);
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<Vec<String>> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| wrapped(cell, width))
                .collect();
            let height = cells.iter().map(Vec::len).max().unwrap_or(0);
            for line in 0..height {
                let parts = cells.iter().zip(widths).map(|(cell, width)| {
                    let part = cell.get(line).map_or("", String::as_str);
                    let fill = width.saturating_sub(part.width());
                    format!("{part}{}", " ".repeat(fill))
                });
                let parts: Vec<String> = parts.collect();
                text.push_str(parts.join(GAP).trim_end());
                text.push('\n');
            }
            if index == 0 {
                let total = widths.iter().sum::<usize>() + GAP.len() * (N - 1);
                text.push_str(&"-".repeat(total));
                text.push('\n');
            }
        }
        text
    }

    /// Each column as wide as its longest cell, if there is room; otherwise the
    /// wide ones share what the narrow ones leave.
    fn widths(&self, total: usize) -> [usize; N] {
        let mut wanted = [0; N];
        for row in &self.rows {
            for (wanted, cell) in wanted.iter_mut().zip(row) {
                *wanted = (*wanted).max(cell.width());
            }
        }
        let mut room = total.saturating_sub(GAP.len() * N.saturating_sub(1));
        let mut given = wanted;
        let mut order: Vec<usize> = (0..N).collect();
        order.sort_by_key(|column| wanted[*column]);
        for (done, column) in order.into_iter().enumerate() {
            let share = room / (N - done);
            given[column] = wanted[column].min(share).max(1);
            room = room.saturating_sub(given[column]);
        }
        given
    }
}

/// A text in lines of at most `width` columns: broken at spaces where there
/// are some, anywhere otherwise.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for char in text.chars() {
        let size = char.width().unwrap_or(0);
        if used + size > width && !line.is_empty() {
            // The last word goes along, unless it fills most of the line.
            let cut = line
                .rfind(' ')
                .filter(|at| *at > 0 && *at >= line.len() / 2);
            let rest = cut.map_or_else(String::new, |at| line.split_off(at));
            lines.push(std::mem::replace(&mut line, rest.trim_start().to_owned()));
            used = line.width();
        }
        line.push(char);
        used += size;
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_to_its_width_and_loses_nothing() {
        let mut table = Table::new(["key", "iOS", "Android"]);
        let long = "0123456789".repeat(20);
        let wide = "漢字 and e\u{301} 🎉 ".repeat(12);
        table.row(["caller_name".to_owned(), long.clone(), wide.clone()]);
        for width in [80, 100, 160] {
            let text = table.text(width);
            for line in text.lines() {
                assert!(line.width() <= width, "{width}: {line}");
            }
            assert_eq!(text.matches(char::is_numeric).count(), 200, "{text}");
            assert_eq!(text.matches('漢').count(), 12, "{text}");
        }
    }

    #[test]
    fn short_columns_are_as_wide_as_they_need() {
        let mut table = Table::new(["a", "b"]);
        table.row(["1".to_owned(), "two words".to_owned()]);
        assert_eq!(table.text(80), "a  b\n------------\n1  two words\n");
    }

    #[test]
    fn words_stay_whole_where_there_is_room() {
        assert_eq!(wrapped("one two three", 8), ["one two", "three"]);
        assert_eq!(wrapped("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrapped("", 4), [""]);
    }
}
