//! The configuration of the worker behind a broker: what was loaded for the
//! load, as a file and variables.

use std::fs;
use std::path::{Path, absolute};

use anyhow::Context as _;
use tokio::process::Command;
use toml::{Table, Value};

use super::target::Target;

/// Writes the file, and sets the variables that say more than it: they came before
/// the file in this process, too.
///
/// # Errors
/// The configuration that it is made from is gone, or the file cannot be written.
pub(super) fn write(target: &Target, file: &Path, command: &mut Command) -> anyhow::Result<()> {
    let config = &target.config;
    let text = crate::files::read_text(config.file()).context("the configuration is gone")?;
    let mut table: Table = toml::from_str(&text)?;
    let folder = config.file().parent().unwrap_or(Path::new(""));
    resolve(&mut table, &absolute(folder).unwrap_or_default());
    only(&mut table, target);
    let (amqp, apns, fcm) = (&config.amqp, &config.apns, &config.fcm);
    let life = humantime::format_duration(config.ring.max_ttl);
    command
        .env("RINGPUSH__AMQP__URL", amqp.url.expose())
        .env("RINGPUSH__AMQP__PREFIX", &amqp.prefix)
        .env("RINGPUSH__AMQP__DECLARE", "true")
        .env(
            "RINGPUSH__APNS__PRODUCTION_URL",
            apns.production_url.to_string(),
        )
        .env("RINGPUSH__APNS__SANDBOX_URL", apns.sandbox_url.to_string())
        .env("RINGPUSH__FCM__URL", &fcm.url)
        .env("RINGPUSH__RING__MAX_TTL", life.to_string())
        .env("RINGPUSH__ADMIN__LISTEN", "127.0.0.1:0");
    // Not to be used at all if there is none.
    for (part, ca_file) in [("apns", &apns.ca_file), ("fcm", &fcm.ca_file)] {
        let variable = format!("RINGPUSH__{part}__CA_FILE").to_uppercase();
        match ca_file {
            Some(file) => command.env(variable, absolute(file)?),
            None => command.env_remove(variable),
        };
        if let Some(Value::Table(part)) = table.get_mut(part) {
            part.remove("ca_file");
        }
    }
    fs::write(file, toml::to_string(&table)?).context("cannot write the worker's configuration")
}

/// Leaves the app and the platforms that get load: what gets none is not
/// connected to either.
fn only(table: &mut Table, target: &Target) {
    let Some(Value::Table(apps)) = table.get_mut("apps") else {
        return;
    };
    apps.retain(|name, _| *name == target.app);
    for (_, app) in apps {
        if let Value::Table(app) = app {
            let loaded = |key: &str| target.platforms().iter().any(|p| p.name() == key);
            app.retain(|key, value| !value.is_table() || loaded(key));
        }
    }
}

/// Makes paths independent of where the file is.
fn resolve(table: &mut Table, folder: &Path) {
    for (key, value) in table {
        if let Value::Table(inner) = value {
            resolve(inner, folder);
        } else if let Some(path) = value
            .as_str()
            .filter(|_| key.ends_with("_file") || key == "dir")
        {
            *value = folder.join(path).display().to_string().into();
        }
    }
}
