//! `ringpush profiles render`.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::setup::{Setup, SetupArgs};
use crate::call::event::{BadDevice, Device, Event, Platform};
use crate::call::payload::{Payload, Profile};
use crate::cli::preview::{End, Preview, headers, preview};
use crate::cli::screen::Screen;
use crate::cli::table::headed;
use crate::cli::{DONE, FAILED, USAGE};

/// Shows the exact request that each device of an event would get, as if the
/// event was taken the moment it was sent.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush profiles render --profile chime --event ring.json\n  \
                        ringpush profiles render --event ring.json --config ringpush.toml --json"
)]
pub(super) struct Args {
    #[command(flatten)]
    setup: SetupArgs,
    /// The profile; without it the event's, else the app's, else `plain`.
    #[arg(long, value_name = "NAME", allow_hyphen_values = true)]
    profile: Option<String>,
    /// A file with one event.
    #[arg(long, value_name = "FILE")]
    event: PathBuf,
    /// Only this device of the event.
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    device: Option<String>,
    /// Only devices of this platform.
    #[arg(long, value_name = "PLATFORM", value_parser = ["ios", "android"])]
    platform: Option<String>,
    /// One JSON object with everything.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<u8> {
    let setup = args.setup.load()?;
    let named = || args.event.display();
    let bytes = crate::files::read(&args.event)
        .with_context(|| format!("{}: name an existing event file", named()))?;
    let event = Event::decode(&bytes, setup.config.ring.limits())
        .with_context(|| format!("{}: not an event", named()))?;
    let mut previews = Vec::new();
    let mut bad = Vec::new();
    for entry in event.devices() {
        match &entry.device {
            Ok(device) if args.wants(Some(&device.id), device.platform) => {
                let name = profile_of(args, &setup, &event, device);
                let Some(profile) = setup.profiles.get(name) else {
                    return unknown_profile(name, &setup);
                };
                previews.push((&**profile, preview(&setup, profile, &event, device)));
            }
            Err(device) if args.wants(device.id.as_deref(), device.platform) => bad.push(&**device),
            Ok(_) | Err(_) => {}
        }
    }
    if previews.is_empty() && bad.is_empty() {
        let (device, platform) = (args.device.as_deref(), args.platform.as_deref());
        let wanted: Vec<&str> = [device, platform].into_iter().flatten().collect();
        writeln!(
            std::io::stderr(),
            "ringpush: {}: no such device in this event: {}",
            named(),
            wanted.join(", ")
        )?;
        return Ok(USAGE);
    }
    let mut out = Screen::stdout();
    if args.json {
        writeln!(out, "{}", as_json(&event, &previews, &bad))?;
    } else {
        show(&mut out, &event, &previews, &bad)?;
    }
    let refused = previews.iter().any(|(_, preview)| preview.rejected());
    Ok(if refused || !bad.is_empty() {
        FAILED
    } else {
        DONE
    })
}

impl Args {
    fn wants(&self, id: Option<&str>, platform: Platform) -> bool {
        let same_id = self.device.as_deref().is_none_or(|own| Some(own) == id);
        let same_platform = self
            .platform
            .as_deref()
            .is_none_or(|own| own == platform.name());
        same_id && same_platform
    }
}

fn profile_of<'a>(args: &'a Args, setup: &'a Setup, event: &'a Event, device: &Device) -> &'a str {
    let app = setup.config.apps.get(&*device.app);
    let own = args.profile.as_deref().or(event.profile.as_deref());
    own.or(app.map(|app| app.profile.as_str()))
        .unwrap_or("plain")
}

fn unknown_profile(name: &str, setup: &Setup) -> anyhow::Result<u8> {
    let known: Vec<&str> = setup.profiles.names().collect();
    writeln!(
        std::io::stderr(),
        "ringpush: no profile {name:?}; there are {}. Own ones are in profiles.dir of --config",
        known.join(", ")
    )?;
    Ok(USAGE)
}

fn as_json(event: &Event, previews: &[(&Profile, Preview<'_>)], bad: &[&BadDevice]) -> Value {
    let mut devices = Vec::new();
    for (profile, preview) in previews {
        let mut object = preview.json();
        object["profile"] = json!(profile.name());
        devices.push(object);
    }
    for device in bad {
        devices.push(json!({
            "device": device.id,
            "platform": device.platform.name(),
            "app": device.app,
            "rejected": {"reason": device.reason, "detail": device.error.to_string()},
        }));
    }
    json!({
        "event": event.kind().name(),
        "call_id": event.call_id,
        "call_uuid": event.call_uuid,
        "at": event.sent_at.to_string(),
        "devices": devices,
    })
}

fn show(
    out: &mut Screen,
    event: &Event,
    previews: &[(&Profile, Preview<'_>)],
    bad: &[&BadDevice],
) -> std::io::Result<()> {
    writeln!(
        out,
        "{}, as if taken when it was sent: {}\ncall {:?}\n",
        event.kind().name(),
        event.sent_at,
        event.call_id
    )?;
    let first = |platform| {
        let mut all = previews.iter().map(|(_, preview)| preview);
        all.find(|p| p.device.platform == platform && p.payload().is_some())
    };
    let pair = (first(Platform::Ios), first(Platform::Android));
    if let (Some(ios), Some(android)) = pair {
        let table = side_by_side(ios, android, out.width());
        writeln!(out, "{table}")?;
    }
    for (profile, preview) in previews {
        show_one(out, profile, preview)?;
    }
    for device in bad {
        let id = device.id.as_deref().unwrap_or("(no id)");
        writeln!(
            out,
            "== {id}\nrejected: {} ({})\n",
            device.reason, device.error
        )?;
    }
    Ok(())
}

/// Key by key, in the order of the iOS payload.
fn side_by_side(ios: &Preview<'_>, android: &Preview<'_>, width: usize) -> String {
    let heads = [ios, android].map(|p| format!("{} {}", p.device.platform.name(), p.device.id));
    let mut rows = vec![["(size)".to_owned(), size(ios), size(android)]];
    let [left, right] = [ios, android].map(|preview| preview.payload().unwrap_or_default());
    let more = right.keys().filter(|key| !left.contains_key(*key));
    for key in left.keys().chain(more) {
        let ios = left.get(key).map_or_else(String::new, Value::to_string);
        // Android's are all texts; in quotes, JSON in them could not be read.
        let android = right.get(key).and_then(Value::as_str).unwrap_or_default();
        rows.push([key.clone(), ios, android.to_owned()]);
    }
    headed(["", &heads[0], &heads[1]], rows, width)
}

fn size(preview: &Preview<'_>) -> String {
    match &preview.end {
        End::Sent(sent) => {
            let (size, limit) = (sent.payload.size(), preview.limit);
            format!("{size} of {limit} bytes ({} %)", size * 100 / limit)
        }
        End::Nothing(_) | End::Rejected { .. } => String::new(),
    }
}

fn show_one(out: &mut Screen, profile: &Profile, preview: &Preview<'_>) -> std::io::Result<()> {
    let device = preview.device;
    writeln!(
        out,
        "== {} ({}, {}, profile {})",
        device.id,
        device.platform.name(),
        device.app,
        profile.name()
    )?;
    if let Some(ignored) = &device.ignored {
        writeln!(out, "{ignored}")?;
    }
    match &preview.end {
        End::Sent(sent) => {
            let request = &sent.request;
            let counted = match sent.payload {
                Payload::Ios(_) => "payload",
                Payload::Android(_) => "data",
            };
            writeln!(out, "{counted}: {}", size(preview))?;
            if let Some(assumed) = preview.assumed {
                writeln!(out, "note: {assumed}")?;
            }
            writeln!(out, "\n{} {}", request.method(), request.uri())?;
            for (name, value) in headers(request) {
                writeln!(out, "{name}: {value}")?;
            }
            writeln!(out, "authorization: (added when it is sent)\n")?;
            out.write_all(request.body())?;
            writeln!(out, "\n")
        }
        End::Nothing(why) => writeln!(out, "nothing is sent: {why}\n"),
        End::Rejected { reason, detail } => writeln!(out, "rejected: {reason} ({detail})\n"),
    }
}
