//! Columns of text that keep to the width of the terminal.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};

/// A table without lines. Cells that are too long go on in the next line, so
/// nothing is cut off.
pub(super) fn plain(width: usize) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(u16::try_from(width).unwrap_or(100));
    table
}

/// Rows under a header, in lines of at most `width` columns.
pub(super) fn headed<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    width: usize,
) -> String {
    let mut table = plain(width);
    table.add_row(header).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let text = table.to_string();
    let mut lines: Vec<String> = text
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    let widest = lines.iter().map(|line| line.chars().count()).max();
    lines.insert(1, "-".repeat(widest.unwrap_or(0).min(width)));
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_keeps_to_its_width_and_loses_nothing() {
        let long = "0123456789".repeat(20);
        let wide = "漢字 and e\u{301} 🎉 ".repeat(12);
        let row = ["caller_name".to_owned(), long, wide];
        for width in [80, 100, 160] {
            let text = headed(["key", "iOS", "Android"], [row.clone()], width);
            for line in text.lines() {
                let wide = line.chars().filter(|c| !c.is_ascii()).count();
                assert!(
                    line.chars().count() + wide <= width + wide,
                    "{width}: {line}"
                );
            }
            assert_eq!(text.matches(char::is_numeric).count(), 200, "{text}");
            assert_eq!(text.matches('漢').count(), 12, "{text}");
        }
    }

    #[test]
    fn short_columns_are_as_wide_as_they_need() {
        let row = ["1".to_owned(), "two words".to_owned()];
        assert_eq!(
            headed(["a", "b"], [row], 80),
            "a  b\n------------\n1  two words\n"
        );
    }
}
