//! Standard output for people: colour only on a terminal, lines that fit.

use std::io::{self, Stdout, Write};

use crate::telemetry::in_color;

/// Lines are not broken narrower or wider than this, unless `COLUMNS` says so.
const WIDTHS: (usize, usize) = (60, 110);

/// Where a command writes what people read.
pub(super) struct Screen {
    output: Stdout,
    color: bool,
    width: usize,
}

impl Screen {
    /// Standard output. Colour only if it is a terminal and `NO_COLOR` is unset.
    pub(super) fn stdout() -> Self {
        let output = io::stdout();
        let columns = std::env::var("COLUMNS")
            .ok()
            .and_then(|text| text.parse().ok());
        let width = match columns {
            // What the shell says, or who wants wide tables in a file.
            Some(columns) => usize::clamp(columns, 80, 160),
            None => terminal_size::terminal_size()
                .map_or(100, |(width, _)| usize::from(width.0))
                .clamp(WIDTHS.0, WIDTHS.1),
        };
        Self {
            color: in_color(&output),
            output,
            width,
        }
    }

    /// How many columns a line may have.
    pub(super) const fn width(&self) -> usize {
        self.width
    }

    /// A text with an ANSI style, such as `31` or `1`.
    pub(super) fn styled(&self, style: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{style}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// A text that stands out.
    pub(super) fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    /// A word in the margin and a text beside it, broken to fit.
    pub(super) fn paragraph(&mut self, margin: &str, text: &str) -> io::Result<()> {
        const MARGIN: usize = 14;
        let mut margin = margin;
        for line in broken(text, self.width - MARGIN) {
            let head = self.styled("2", &format!("{margin:<12}"));
            writeln!(self.output, "  {head}{line}")?;
            margin = "";
        }
        Ok(())
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.output.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Breaks a text at spaces; a word that is too long stays whole.
fn broken(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for part in text.lines() {
        let mut line = String::new();
        for word in part.split(' ') {
            if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::broken;

    #[test]
    fn a_text_is_broken_at_spaces_and_keeps_its_own_lines() {
        assert_eq!(broken("aa bb cc\ndd", 5), ["aa bb", "cc", "dd"]);
        assert_eq!(broken("abcdefgh i", 3), ["abcdefgh", "i"]);
    }
}
