//! The summary on a terminal, and how numbers are written.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::summary::Summary;
use crate::cli::screen::Screen;

impl Summary {
    /// Writes it.
    ///
    /// # Errors
    /// Standard output is closed.
    pub(super) fn show(&self, screen: &mut Screen, json: bool) -> io::Result<()> {
        if json {
            let value = serde_json::to_value(self).unwrap_or(Value::Null);
            return writeln!(screen, "{value:#}");
        }
        self.heading(screen)?;
        writeln!(screen)?;
        self.times(screen)?;
        writeln!(screen)?;
        for line in self.costs() {
            screen.paragraph(line.0, &line.1)?;
        }
        for hindrance in &self.hindrances {
            screen.paragraph("trouble", hindrance)?;
        }
        if self.behind > 0 {
            let text = format!(
                "{} rings that were due were not sent: too many others were still under way",
                self.behind
            );
            screen.paragraph("behind", &text)?;
        }
        if let Some(report) = &self.report {
            screen.paragraph("report", &report.display().to_string())?;
        }
        Ok(())
    }

    fn heading(&self, screen: &mut Screen) -> io::Result<()> {
        let title = format!("{} accepted a second", count_of(self.rate));
        let title = screen.bold(&title);
        let early = if self.stopped { ", ended early" } else { "" };
        writeln!(
            screen,
            "{title}: {} of {} pushes in {:.1} s to {}{early}",
            self.accepted, self.sent, self.seconds, self.target.what
        )?;
        for end in &self.results {
            let reason = end.reason.as_deref().unwrap_or_default();
            let style = if end.result == "accepted" { "32" } else { "31" };
            let result = screen.styled(style, &format!("{:<16}", end.result));
            let (count, platform) = (end.count, end.platform);
            writeln!(screen, "  {count:>9}  {platform:<8} {result} {reason}")?;
        }
        if self.repeated > 0 {
            let (repeated, attempts) = (self.repeated, self.attempts);
            writeln!(
                screen,
                "  {repeated:>9}  took more than one attempt ({attempts} attempts in all)"
            )?;
        }
        Ok(())
    }

    fn times(&self, screen: &mut Screen) -> io::Result<()> {
        let names = ["p50", "p90", "p95", "p99", "p99.9", "longest"];
        let head = format!("  {:<22}{}", "milliseconds", in_columns(names));
        let head = screen.styled("2", &head);
        writeln!(screen, "{head}")?;
        let rows = [
            ("iOS, due to accepted", self.latency.ios),
            ("Android, the same", self.latency.android),
            ("iOS, one attempt", self.attempt.ios),
            ("Android, one attempt", self.attempt.android),
            ("due to taken", self.late),
        ];
        for (name, times) in rows {
            let Some(t) = times else { continue };
            let times = [t.p50, t.p90, t.p95, t.p99, t.p99_9, t.max].map(digits);
            writeln!(screen, "  {name:<22}{}", in_columns(times))?;
        }
        Ok(())
    }

    fn costs(&self) -> Vec<(&'static str, String)> {
        let cost = &self.cost;
        let mut lines = Vec::new();
        if let (Some(cpu), Some(each)) = (cost.cpu_seconds, cost.cpu_seconds_per_10000) {
            let memory = cost.peak_memory_bytes.map_or(String::new(), |bytes| {
                format!(", {} of memory at most", mebibytes(bytes))
            });
            let text = format!("{cpu:.2} s of CPU, {each:.2} s for 10 000 pushes{memory}");
            lines.push(("worker", text));
        }
        if let Some(cpu) = cost.simulator_cpu_seconds {
            let text = format!("{cpu:.2} s of CPU in a process of its own");
            lines.push(("simulator", text));
        }
        lines
    }
}

fn in_columns(texts: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    texts.into_iter().fold(String::new(), |mut line, text| {
        // Writing to a string does not fail.
        let _ = write!(line, "{text:>10}");
        line
    })
}

/// A time in milliseconds with the digits that matter.
pub(super) fn digits(millis: f64) -> String {
    match millis {
        millis if millis < 10.0 => format!("{millis:.2}"),
        millis if millis < 100.0 => format!("{millis:.1}"),
        millis => count_of(millis),
    }
}

/// The same with its unit.
pub(super) fn millis(span: Duration) -> String {
    format!("{} ms", digits(span.as_secs_f64() * 1_000.0))
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

#[allow(clippy::cast_precision_loss)] // rounded anyway
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.0} MiB", bytes as f64 / 1_048_576.0)
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
