//! All proofs as a table, or as JSON.

use std::io::{self, Write as _};

use comfy_table::{ColumnConstraint, Width};
use serde_json::json;

use super::proof::{Proof, State};
use crate::cli::screen::Screen;
use crate::cli::table::plain;

/// Columns of the first one, `warning` and a gap.
const STATE_WIDTH: u16 = 9;
/// And of what was looked at, at most.
const WHAT_WIDTH: u16 = 34;

/// Shows them, and how many are not in order.
///
/// # Errors
/// Standard output is closed.
pub(super) fn show(proofs: &[Proof], as_json: bool) -> io::Result<()> {
    let count = |state| proofs.iter().filter(|proof| proof.state == state).count();
    let (failed, warnings) = (count(State::Failed), count(State::Warning));
    let mut screen = Screen::stdout();
    if as_json {
        let report = json!({
            "ok": failed == 0,
            "failed": failed,
            "warnings": warnings,
            "proofs": proofs,
        });
        return writeln!(screen, "{report:#}");
    }
    for line in table(proofs, screen.width()).lines() {
        let line = line.trim_end();
        let text = match line.trim_start().split(' ').next() {
            Some(word) if line.starts_with(' ') && !line.starts_with("  ") => {
                let color = match word {
                    "ok" => "32",
                    "warning" => "33",
                    "failed" => "1;31",
                    _ => "2",
                };
                line.replacen(word, &screen.styled(color, word), 1)
            }
            Some(_) | None => line.to_owned(),
        };
        writeln!(screen, "{text}")?;
    }
    let verdict = match (failed, warnings) {
        (0, 0) => screen.styled("1;32", "Everything is in order."),
        (0, warnings) => screen.styled("1;33", &format!("It works; {warnings} warning(s).")),
        (failed, _) => screen.styled("1;31", &format!("{failed} proof(s) failed.")),
    };
    writeln!(screen, "\n{verdict}")
}

fn table(proofs: &[Proof], width: usize) -> String {
    let mut table = plain(width);
    for proof in proofs {
        let mut found = proof.found.clone();
        if let Some(cure) = &proof.cure {
            found.push_str("\n→ ");
            found.push_str(cure);
        }
        table.add_row([proof.state.name(), &proof.what, &found]);
    }
    let widths = [
        ColumnConstraint::Absolute(Width::Fixed(STATE_WIDTH)),
        ColumnConstraint::UpperBoundary(Width::Fixed(WHAT_WIDTH)),
    ];
    for (column, constraint) in table.column_iter_mut().zip(widths) {
        column.set_constraint(constraint);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_its_width_and_loses_no_word() {
        let cure = "put the key there or mend the path of the file in the configuration";
        let proofs = [
            Proof::ok("configuration", "ringpush.toml"),
            Proof::failed("app com.example.calls ios", "no such file ".repeat(9), cure),
        ];
        let text = table(&proofs, 70);
        assert!(
            text.lines().all(|line| line.chars().count() <= 70),
            "{text}"
        );
        assert!(text.lines().next().unwrap().starts_with(" ok "), "{text}");
        for word in cure.split(' ') {
            assert!(text.contains(word), "{word}\n{text}");
        }
    }
}
