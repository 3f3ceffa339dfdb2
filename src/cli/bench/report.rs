//! The report: one page with everything in it, for a browser without a network.

use minijinja::Error;
use minijinja::value::Serde;
use serde_json::json;

use super::pictures::pictures;
use super::record::Tally;
use super::show::templates;
use super::summary::Summary;
use crate::admin;
use crate::engine::deadline::wall_clock;

/// Template and styles are part of the program.
const PAGE: &str = include_str!("assets/report.html");
const STYLE: &str = include_str!("assets/report.css");

/// The page.
///
/// # Errors
/// The template is broken; a test finds that first.
pub(super) fn page(summary: &Summary, tally: &Tally) -> Result<String, Error> {
    let settings = &summary.document["settings"];
    let devices = settings["devices"].as_f64().unwrap_or(1.0);
    let due = settings["rate"].as_f64().map(|rate| rate * devices);
    let view = json!({
        "style": format!("{}{STYLE}", admin::STYLE),
        "run": summary.document,
        "rows": summary.rows(),
        "at": wall_clock().to_string(),
        "command": command(std::env::args()),
        "pictures": pictures(tally, due),
    });
    let mut templates = templates();
    templates.add_template("report.html", PAGE)?;
    templates.get_template("report.html")?.render(Serde(view))
}

/// The command as it was given. Of paths only the name, for folders tell of people,
/// and no login.
fn command(arguments: impl Iterator<Item = String>) -> String {
    let words = arguments.map(|word| {
        let word = match word.split_once("://") {
            Some((scheme, rest)) => match rest.rsplit_once('@') {
                Some((_, host)) => format!("{scheme}://…@{host}"),
                None => word,
            },
            None => word.rsplit('/').next().unwrap_or(&word).to_owned(),
        };
        if word.contains(char::is_whitespace) {
            format!("'{word}'")
        } else {
            word
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_shown_without_folders_and_passwords() {
        let words = [
            "/usr/bin/ringpush",
            "bench",
            "--config",
            "/home/alice/a b.toml",
            "--gateway",
            "https://127.0.0.1:1",
            "--amqp-url=amqp://me:hunter2@broker/%2f",
        ];
        assert_eq!(
            command(words.into_iter().map(str::to_owned)),
            "ringpush bench --config 'a b.toml' --gateway https://127.0.0.1:1 \
             --amqp-url=amqp://…@broker/%2f"
        );
    }
}
