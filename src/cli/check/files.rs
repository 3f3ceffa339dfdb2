//! What can be proved without a network: files, keys, profiles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::proof::Proof;
use crate::call::time::Timestamp;
use crate::config::{AppSettings, Config};
use crate::engine::deadline::wall_clock;
use crate::providers::{apns, fcm, tls};
use crate::trust;

/// A certificate that is about to expire sooner is a warning.
const SOON: i64 = 30;
const DAY: i64 = 24 * 60 * 60 * 1000;

/// Credentials that can be tried on a provider.
pub(super) enum Usable {
    Ios {
        name: String,
        settings: apns::AppSettings,
        credentials: apns::Credentials,
    },
    Android {
        name: String,
        account: Arc<fcm::ServiceAccount>,
    },
}

/// The built-in profiles, one's own, and those that the apps name.
pub(super) fn profiles(config: &Config) -> Vec<Proof> {
    let known = match crate::app::profiles(config) {
        Ok(known) => known,
        Err(error) => {
            let text = error.to_string();
            let unsaid = "docs/profiles.md says what a profile may hold; `ringpush profiles render` \
                          shows what it makes of an event";
            let (found, cure) = text.split_once("; ").unwrap_or((&text, unsaid));
            return vec![Proof::failed("profiles", found, cure)];
        }
    };
    let mut proofs = Vec::new();
    for (name, app) in &config.apps {
        let what = format!("app {name}: profile");
        let Some(profile) = known.get(&app.profile) else {
            let names: Vec<&str> = known.names().collect();
            let found = format!("there is no profile {}", app.profile);
            let cure = format!(
                "choose one of {}, or add it to profiles.dir",
                names.join(", ")
            );
            proofs.push(Proof::failed(what, found, cure));
            continue;
        };
        proofs.push(match profile.check() {
            Ok(()) => Proof::ok(what, format!("{} renders on both platforms", app.profile)),
            Err(error) => Proof::error(what, &error.to_string(), ": "),
        });
    }
    proofs
}

/// An app's keys.
pub(super) fn app(config: &Config, name: &str, app: &AppSettings) -> (Vec<Proof>, Vec<Usable>) {
    let (mut proofs, mut usable) = (Vec::new(), Vec::new());
    if let Some(ios) = &app.ios {
        match apns::Credentials::load(ios, &apns::Signers::default()) {
            Ok(credentials) => {
                proofs.extend(ios_proofs(config, name, ios, &credentials));
                // The worker would not show it to Apple either.
                if credentials.fault().is_none() {
                    usable.push(Usable::Ios {
                        name: name.to_owned(),
                        settings: ios.clone(),
                        credentials,
                    });
                }
            }
            Err(error) => {
                let what = format!("app {name}: iOS credential");
                proofs.push(Proof::error(what, &error.to_string(), "; "));
            }
        }
    }
    if let Some(android) = &app.android {
        let what = format!("app {name}: service account");
        match fcm::ServiceAccount::load(android) {
            Ok(account) => {
                let project = account.project_id().unwrap_or("as that says");
                let found = format!("{}, project {project}", account.who());
                proofs.push(Proof::ok(what.clone(), found));
                let file = android.service_account_file.as_ref();
                proofs.extend(file.and_then(|file| open_to_all(&what, file)));
                usable.push(Usable::Android {
                    name: name.to_owned(),
                    account: Arc::new(account),
                });
            }
            Err(error) => {
                let file = error.file.display();
                let fault = error.fault.to_string();
                let (found, cure) = fault.rsplit_once(": ").unwrap_or((&fault, ""));
                proofs.push(Proof::failed(what, format!("{file} {found}"), cure));
            }
        }
    }
    (proofs, usable)
}

fn ios_proofs(
    config: &Config,
    name: &str,
    ios: &apns::AppSettings,
    credentials: &apns::Credentials,
) -> Vec<Proof> {
    let what = format!("app {name}: iOS credential");
    let file = ios.key_file.as_ref().or(ios.certificate_file.as_ref());
    if let Some(fault) = credentials.fault() {
        let file = file.map_or(Path::new(""), PathBuf::as_path).display();
        let found = format!("`certificate_file` {file}: {fault}");
        return vec![Proof::error(&what, &found, "; ")];
    }
    let mut proofs = vec![match (credentials.signer(), credentials.expires()) {
        (Some(signer), _) => {
            let (key, team) = (signer.key_id(), signer.team_id());
            Proof::ok(&what, format!("key {key} of team {team}, P-256, signs"))
        }
        (None, Some(expires)) => certificate(&what, expires),
        (None, None) => Proof::ok(&what, "certificate"),
    }];
    proofs.extend(file.and_then(|file| open_to_all(&what, file)));
    let foreign = credentials.foreign_to(&ios.bundle_id);
    proofs.extend(foreign.map(|text| Proof::error(&what, &text, "; ")));
    proofs.extend(other_name(&what, ios));
    proofs.extend(two_teams(config, &what, ios));
    proofs
}

fn certificate(what: &str, expires: Timestamp) -> Proof {
    let days = (expires.millis() - wall_clock().millis()) / DAY;
    let found = format!("certificate, expires {expires} (in {days} days)");
    if days < SOON {
        let cure = "make a new one at developer.apple.com (Certificates), or better a key (.p8), \
                    which does not expire";
        return Proof::warning(what, found, cure);
    }
    Proof::ok(what, found)
}

/// Apple names a key's file after the key.
fn other_name(what: &str, ios: &apns::AppSettings) -> Option<Proof> {
    let file = ios.key_file.as_ref()?.file_stem()?.to_str()?;
    let (id, named) = (ios.key_id.as_ref()?, file.strip_prefix("AuthKey_")?);
    (named != id).then(|| {
        let found = format!("key_id is {id}, but the file is called {file}.p8");
        Proof::warning(
            what,
            found,
            format!("set key_id = \"{named}\", if the file kept its name"),
        )
    })
}

/// A key belongs to one team.
fn two_teams(config: &Config, what: &str, ios: &apns::AppSettings) -> Option<Proof> {
    let (id, team) = (ios.key_id.as_ref()?, ios.team_id.as_ref()?);
    let others = config.apps.values().filter_map(|app| app.ios.as_ref());
    let other = others
        .filter(|other| other.key_id.as_ref() == Some(id))
        .filter_map(|other| other.team_id.as_ref())
        .find(|other| *other != team)?;
    let found = format!("key {id} is said to belong to team {team} here and to {other} elsewhere");
    let cure = "a key belongs to one team; compare team_id with Membership details at \
                developer.apple.com";
    Some(Proof::failed(what, found, cure))
}

/// A secret that everybody on this machine can read.
#[cfg(unix)]
fn open_to_all(what: &str, file: &Path) -> Option<Proof> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(file).ok()?.permissions().mode();
    (mode & 0o004 != 0).then(|| {
        let found = format!("{} can be read by everybody", file.display());
        let cure = "chmod 600 (a Kubernetes secret: defaultMode: 0400)";
        Proof::warning(what, found, cure)
    })
}

#[cfg(not(unix))]
fn open_to_all(_: &str, _: &Path) -> Option<Proof> {
    None
}

/// Whom TLS trusts.
pub(super) fn authorities(config: &Config) -> Vec<Proof> {
    let mut files: Vec<(&str, Option<&PathBuf>)> = Vec::new();
    if config.apps.values().any(|app| app.ios.is_some()) {
        files.push(("apns", config.apns.ca_file.as_ref()));
    }
    if config.apps.values().any(|app| app.android.is_some()) {
        files.push(("fcm", config.fcm.ca_file.as_ref()));
    }
    let environment = trust::check().err().map(|error| {
        // It is trusted beside every `ca_file`, by token requests.
        Proof::error("environment: trusted roots", &error.to_string(), "; ")
    });
    let proofs = files.into_iter().map(|(table, file)| {
        let what = format!("{table}: trusted roots");
        match tls::roots_from(file.map(PathBuf::as_path)) {
            Ok(roots) => {
                let from = file.map_or_else(
                    || "the system's".to_owned(),
                    |file| file.display().to_string(),
                );
                Proof::ok(what, format!("{} of {from}", roots.len()))
            }
            Err(error) => Proof::error(what, &error.in_table(table), "; "),
        }
    });
    environment.into_iter().chain(proofs).collect()
}
