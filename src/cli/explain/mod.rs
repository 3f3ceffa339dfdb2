//! `ringpush explain`: what a reason means.

mod table;

use std::io::{self, Write};

use serde_json::json;

pub(super) use table::find;
use table::{Entry, all, nearest};

use super::screen::Screen;
use super::{DONE, FAILED};

/// Says what a reason means, what the worker does about it, and what to do.
///
/// Reasons stand in outcomes, token events and logs: Apple's and Google's own
/// words, and ringpush's. Upper and lower case do not matter. Ends with 1 for
/// a word that is not known.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush explain BadDeviceToken\n  ringpush explain lane_paused --json\n  \
                        ringpush explain --list"
)]
pub struct Args {
    /// The reason, as in `BadDeviceToken`, `UNREGISTERED` or `lane_paused`.
    #[arg(value_name = "REASON", required_unless_present = "list")]
    reason: Option<String>,
    /// Every known reason, one a line.
    #[arg(long, conflicts_with = "reason")]
    list: bool,
    /// JSON instead of text.
    #[arg(long)]
    json: bool,
}

/// Explains one reason, or lists all.
///
/// # Errors
/// Standard output is closed.
pub fn run(args: &Args) -> anyhow::Result<u8> {
    let mut screen = Screen::stdout();
    let Some(reason) = &args.reason else {
        list(&mut screen, args.json)?;
        return Ok(DONE);
    };
    let Some(entry) = find(reason) else {
        unknown(&mut screen, reason, args.json)?;
        return Ok(FAILED);
    };
    if args.json {
        writeln!(screen, "{}", serde_json::to_string_pretty(entry)?)?;
    } else {
        write_entry(&mut screen, entry)?;
    }
    Ok(DONE)
}

fn write_entry(screen: &mut Screen, entry: &Entry) -> io::Result<()> {
    let status = entry.status.as_deref();
    let origin = match (entry.from.as_str(), status) {
        ("ringpush", _) => "ringpush's own word".to_owned(),
        (from, Some(status)) => format!("{from}, HTTP {status}"),
        (from, None) => from.to_owned(),
    };
    let word = screen.bold(&entry.word);
    writeln!(screen, "{word}  ({origin})\n")?;
    for (title, text) in [
        ("means", &entry.means),
        ("ringpush", &entry.does),
        ("do", &entry.next),
    ] {
        screen.paragraph(title, text)?;
    }
    Ok(())
}

fn list(screen: &mut Screen, as_json: bool) -> anyhow::Result<()> {
    if as_json {
        writeln!(screen, "{}", serde_json::to_string_pretty(all())?)?;
        return Ok(());
    }
    for entry in all() {
        writeln!(screen, "{:<9} {}", entry.from, entry.word)?;
    }
    Ok(())
}

fn unknown(screen: &mut Screen, word: &str, as_json: bool) -> io::Result<()> {
    let near = nearest(word);
    if as_json {
        return writeln!(screen, "{}", json!({"unknown": word, "nearest": near}));
    }
    writeln!(screen, "{word:?} is not a reason that ringpush knows.")?;
    if near.is_empty() {
        writeln!(screen, "`ringpush explain --list` shows all.")
    } else {
        writeln!(screen, "Did you mean {}?", near.join(", "))
    }
}
