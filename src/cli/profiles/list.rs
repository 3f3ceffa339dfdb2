//! `ringpush profiles list`.

use std::io::Write as _;

use serde_json::json;

use super::setup::{Setup, SetupArgs};
use crate::call::event::Platform;
use crate::call::payload::{Profile, Profiles};
use crate::cli::DONE;
use crate::cli::screen::Screen;
use crate::cli::table::headed;

/// Lists the profiles: built-in ones and, with a configuration, its own.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ringpush profiles list\n  \
                        ringpush profiles list --config ringpush.toml --json")]
pub(super) struct Args {
    #[command(flatten)]
    setup: SetupArgs,
    /// One JSON object per profile.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let setup = args.setup.load()?;
    let mut out = Screen::stdout();
    if args.json {
        for row in rows(&setup) {
            let row = json!({
                "name": row.name, "origin": row.origin, "about": row.profile.about(),
                "ios_cancel": row.profile.ios_cancel().name(),
                "android_cancel": row.profile.pushes_cancel(Platform::Android),
                "apps": row.apps,
            });
            writeln!(out, "{row}")?;
        }
        return Ok(DONE);
    }
    let cells = rows(&setup).map(|row| {
        let android = if row.profile.pushes_cancel(Platform::Android) {
            "pushed"
        } else {
            "none"
        };
        let mut about = row.profile.about().to_owned();
        if !row.apps.is_empty() {
            about = format!("{about} Default of {}.", row.apps.join(", "));
        }
        [
            row.name.to_owned(),
            row.origin.to_owned(),
            format!("iOS {}, Android {android}", row.profile.ios_cancel().name()),
            about.trim_start().to_owned(),
        ]
    });
    let text = headed(["profile", "from", "cancels", "for"], cells, out.width());
    write!(out, "{text}")?;
    Ok(DONE)
}

struct Row<'a> {
    name: &'a str,
    origin: &'static str,
    profile: &'a Profile,
    /// The apps whose default it is.
    apps: Vec<&'a str>,
}

fn rows(setup: &Setup) -> impl Iterator<Item = Row<'_>> {
    // A user's file may have taken the place of a built-in profile.
    let original = Profiles::built_in().unwrap_or_default();
    setup.profiles.names().filter_map(move |name| {
        let profile = setup.profiles.get(name)?;
        let built_in = original
            .get(name)
            .is_some_and(|own| own.is_same_as(profile));
        let apps = setup.config.apps.iter();
        Some(Row {
            name,
            origin: if built_in { "built in" } else { "own file" },
            profile,
            apps: apps
                .filter(|(_, app)| app.profile == name)
                .map(|(app, _)| app.as_str())
                .collect(),
        })
    })
}
