//! What can be proved without a network: files, keys, profiles.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::proof::Proof;
use crate::call::event::Environment;
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
        settings: Box<apns::AppSettings>,
        credentials: Vec<(Environment, apns::Credentials)>,
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
        let (found, credentials) = ios_credentials(config, name, ios);
        proofs.extend(found);
        usable.push(Usable::Ios {
            name: name.to_owned(),
            settings: Box::new(ios.clone()),
            credentials,
        });
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

/// What an app shows to Apple, in each environment if they differ, and what of
/// it can be tried there.
fn ios_credentials(
    config: &Config,
    name: &str,
    ios: &apns::AppSettings,
) -> (Vec<Proof>, Vec<(Environment, apns::Credentials)>) {
    let (mut proofs, mut usable) = (Vec::new(), Vec::new());
    let same = !ios.differs();
    for environment in [Environment::Production, Environment::Sandbox] {
        let mut what = format!("app {name}: iOS credential");
        if !same {
            what = format!("{what} {}", environment.name());
        }
        let own = ios.credential(environment);
        let found = match apns::Credentials::load(&own, &apns::Signers::default()) {
            Ok(credentials) => {
                let found = ios_proofs(config, &what, &ios.bundle_id, &own, &credentials);
                // The worker would not show another one to Apple either.
                if credentials.fault().is_none() {
                    usable.push((environment, credentials));
                }
                found
            }
            Err(error) => vec![Proof::error(what, &error.to_string(), "; ")],
        };
        if !same || environment == Environment::Production {
            proofs.extend(found);
        }
    }
    (proofs, usable)
}

fn ios_proofs(
    config: &Config,
    what: &str,
    bundle_id: &str,
    own: &apns::CredentialSettings,
    credentials: &apns::Credentials,
) -> Vec<Proof> {
    let file = own.key_file.as_ref().or(own.certificate_file.as_ref());
    if let Some(fault) = credentials.fault() {
        let file = file.map_or(Path::new(""), PathBuf::as_path).display();
        let found = format!("`certificate_file` {file}: {fault}");
        return vec![Proof::error(what, &found, "; ")];
    }
    let mut proofs = vec![match (credentials.signer(), credentials.expires()) {
        (Some(signer), _) => {
            let (key, team) = (signer.key_id(), signer.team_id());
            Proof::ok(what, format!("key {key} of team {team}, P-256, signs"))
        }
        (None, Some(expires)) => certificate(what, expires),
        (None, None) => Proof::ok(what, "certificate"),
    }];
    proofs.extend(file.and_then(|file| open_to_all(what, file)));
    let foreign = credentials.foreign_to(bundle_id);
    proofs.extend(foreign.map(|text| Proof::error(what, &text, "; ")));
    proofs.extend(other_name(what, own));
    proofs.extend(two_teams(config, what, own));
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
fn other_name(what: &str, ios: &apns::CredentialSettings) -> Option<Proof> {
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
fn two_teams(config: &Config, what: &str, own: &apns::CredentialSettings) -> Option<Proof> {
    let (id, team) = (own.key_id.as_ref()?, own.team_id.as_ref()?);
    let apps = config.apps.values().filter_map(|app| app.ios.as_ref());
    let mut others = apps.flat_map(|ios| {
        [Environment::Production, Environment::Sandbox].map(|each| ios.credential(each))
    });
    let other = others.find_map(|other| {
        let team_of = other.team_id.filter(|other| other != team);
        team_of.filter(|_| other.key_id.as_ref() == Some(id))
    })?;
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
