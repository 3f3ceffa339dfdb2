//! How numbers are written, and the summary on a terminal.

use std::io::{self, Write as _};

use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior};
use serde_json::json;

use super::summary::Summary;
use crate::cli::screen::Screen;

const TEXT: &str = include_str!("assets/summary.txt");

impl Summary {
    /// Writes it.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(super) fn show(&self, screen: &mut Screen, json: bool) -> io::Result<()> {
        if json {
            return writeln!(screen, "{:#}", self.document);
        }
        let text = self.text(screen).map_err(io::Error::other)?;
        writeln!(screen, "{}", text.trim_end())
    }

    fn text(&self, screen: &Screen) -> Result<String, Error> {
        let view = json!({"run": self.document, "rows": self.rows()});
        let mut templates = templates();
        let colored = screen.bold("x") != "x";
        templates.add_filter("styled", move |text: String, style: String| {
            if colored {
                format!("\x1b[{style}m{text}\x1b[0m")
            } else {
                text
            }
        });
        templates.add_template("summary.txt", TEXT)?;
        templates.get_template("summary.txt")?.render(Serde(view))
    }
}

/// Room for templates that know how numbers are written: `ms`, `count`, `mib`, and for
/// columns `left` and `right`.
pub(super) fn templates() -> Environment<'static> {
    let mut templates = Environment::new();
    templates.set_auto_escape_callback(|name| {
        if name == "report.html" {
            AutoEscape::Html
        } else {
            AutoEscape::None
        }
    });
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    templates.add_filter("plain", |number: f64| number.to_string());
    templates.add_filter("ms", digits);
    templates.add_filter("count", count_of);
    templates.add_filter("mib", |bytes: f64| {
        format!("{:.0} MiB", bytes / 1_048_576.0)
    });
    templates.add_filter("fixed", |number: f64, places: usize| {
        format!("{number:.places$}")
    });
    templates.add_filter("left", |text: String, width: usize| {
        format!("{text:<width$}")
    });
    templates.add_filter("right", |text: String, width: usize| {
        format!("{text:>width$}")
    });
    templates
}

/// A time in milliseconds with the digits that matter.
pub(super) fn digits(millis: f64) -> String {
    match millis {
        millis if millis < 10.0 => format!("{millis:.2}"),
        millis if millis < 100.0 => format!("{millis:.1}"),
        millis => count_of(millis),
    }
}

/// A number without fractions, its thousands apart.
pub(super) fn count_of(number: f64) -> String {
    let plain = format!("{number:.0}");
    let mut text = String::new();
    for (n, digit) in plain.chars().enumerate() {
        if n > 0 && (plain.len() - n).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_the_digits_that_matter() {
        assert_eq!(digits(0.846), "0.85");
        assert_eq!(digits(12.34), "12.3");
        assert_eq!(digits(12_345.6), "12\u{202f}346");
        assert_eq!(count_of(999.0), "999");
        assert_eq!(count_of(1_234_567.0), "1\u{202f}234\u{202f}567");
    }
}
