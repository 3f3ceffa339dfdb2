//! The configuration file: TOML, with every key outside `[apps]` also settable
//! from the environment (`RINGPUSH__AMQP__URL`).

mod overlay;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::{Table, Value};

use crate::admin::AdminSettings;
use crate::amqp;
use crate::engine::settings::{RetrySettings, RingSettings, TokenSettings};
use crate::providers::http2::proxy::Proxy;
use crate::providers::{apns, fcm};
use crate::telemetry::LogSettings;
use overlay::Overlay;

/// Everything that can be configured. Paths are absolute or relative to the
/// process once it is loaded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The broker.
    pub amqp: amqp::Settings,
    /// How long a ring lives.
    pub ring: RingSettings,
    /// The back-off inside it.
    pub retry: RetrySettings,
    /// Apple.
    pub apns: apns::Settings,
    /// Google.
    pub fcm: fcm::Settings,
    /// The way out.
    pub proxy: Proxy,
    /// The apps, by the name that events use.
    pub apps: BTreeMap<String, AppSettings>,
    /// Own payload profiles.
    pub profiles: ProfileSettings,
    /// Proofs of credentials without a phone.
    pub canary: CanarySettings,
    /// The brake on mass invalidation.
    pub tokens: TokenSettings,
    /// Health and metrics.
    pub admin: AdminSettings,
    /// Logs.
    pub log: LogSettings,
    #[serde(skip)]
    file: PathBuf,
}

/// `[apps."…"]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSettings {
    /// The payload profile of events that name none.
    #[serde(default = "plain")]
    pub profile: String,
    /// How its iOS phones are reached.
    pub ios: Option<apns::AppSettings>,
    /// How its Android phones are reached.
    pub android: Option<fcm::AndroidSettings>,
}

fn plain() -> String {
    "plain".to_owned()
}

/// `[profiles]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileSettings {
    /// A folder of own profiles, `<name>.json` each.
    pub dir: Option<PathBuf>,
}

/// `[canary]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanarySettings {
    /// How often; off if not set.
    #[serde(with = "humantime_serde")]
    pub every: Option<Duration>,
}

/// A configuration that cannot be used: file, key and cure.
#[derive(Debug)]
pub struct ConfigError {
    file: PathBuf,
    key: Option<String>,
    problem: String,
    /// The variables that the keys come from, if not from the file.
    variables: Vec<String>,
}

impl ConfigError {
    /// About one key of a file; the problem says what to do.
    #[must_use]
    pub fn new(file: &Path, key: Option<String>, problem: impl fmt::Display) -> Self {
        let problem = problem.to_string();
        Self {
            file: file.to_owned(),
            variables: Overlay::of_process().behind(key.as_deref(), &problem),
            key,
            problem,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        f.write_str(&self.problem)?;
        if !self.variables.is_empty() {
            write!(f, "; set by {}", self.variables.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads and checks a file and what the environment lays over it. Files
    /// that it names are not opened, but for that of the broker's address.
    ///
    /// # Errors
    /// The file is missing or not TOML; a key is unknown, of the wrong type or
    /// cannot work. Says which and what to do.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = crate::files::read_text(file).map_err(|error| {
            let cure = "name an existing file with --config; the project's config/ringpush.toml \
                        is a documented example";
            ConfigError::new(file, None, format!("cannot be read ({error}); {cure}"))
        })?;
        Self::parse(&text, file)
    }

    /// The same of a text that was read already; paths in it are relative to `file`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        Self::with(&Overlay::of_process(), text, file)
    }

    /// The same, whatever the environment says.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse_alone(text: &str, file: &Path) -> Result<Self, ConfigError> {
        Self::with(&Overlay::default(), text, file)
    }

    fn with(overlay: &Overlay, text: &str, file: &Path) -> Result<Self, ConfigError> {
        let table: Table = toml::from_str(text)
            .map_err(|error| ConfigError::new(file, None, without_source(&error, text)))?;
        let unquoted = table.get("apps").and_then(unquoted_app);
        let mut loaded: Self = overlay.read(table).map_err(|(key, problem)| {
            let problem = match unquoted {
                Some((at, right)) if key.as_ref() == Some(&at) => format!(
                    "TOML takes each dot of a name for the beginning of another table; put the \
                     app's name in quotes: {right}"
                ),
                _ => plain_words(&problem),
            };
            ConfigError::new(file, key, problem)
        })?;
        file.clone_into(&mut loaded.file);
        let folder = file.parent().unwrap_or(Path::new(""));
        loaded.resolve_paths(folder);
        loaded.read_address(folder)?;
        loaded.validate()?;
        Ok(loaded)
    }

    /// The file it came from.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// An error about a key of this configuration.
    #[must_use]
    pub fn error(&self, key: impl Into<String>, problem: impl fmt::Display) -> ConfigError {
        ConfigError::new(&self.file, Some(key.into()), problem)
    }

    /// Keeps of `running` what is read at the start only. The tables in which
    /// that differs: they take effect with the next start.
    pub fn keep(&mut self, running: &Self) -> Vec<&'static str> {
        let tables = |config: &Self| {
            [
                (
                    "amqp",
                    format!("{:?} {}", config.amqp, config.amqp.url.expose()),
                ),
                ("ring", format!("{:?}", config.ring)),
                ("retry", format!("{:?}", config.retry)),
                ("apns", format!("{:?}", config.apns)),
                ("fcm", format!("{:?}", config.fcm)),
                ("proxy", config.proxy.exposed()),
                ("tokens", format!("{:?}", config.tokens)),
                ("canary", format!("{:?}", config.canary)),
                ("admin", format!("{:?}", config.admin)),
                ("log.format", format!("{:?}", config.log.format)),
            ]
        };
        let pairs = tables(self).into_iter().zip(tables(running));
        let differ = pairs.filter(|(new, old)| new.1 != old.1);
        let differ = differ.map(|(new, _)| new.0).collect();
        let level = self.log.level;
        *self = Self {
            apps: std::mem::take(&mut self.apps),
            profiles: std::mem::take(&mut self.profiles),
            ..running.clone()
        };
        self.log.level = level;
        differ
    }

    fn resolve_paths(&mut self, folder: &Path) {
        self.amqp.resolve(folder);
        let mut paths: Vec<&mut PathBuf> = Vec::new();
        paths.extend(&mut self.apns.ca_file);
        paths.extend(&mut self.fcm.ca_file);
        paths.extend(&mut self.profiles.dir);
        for app in self.apps.values_mut() {
            paths.extend(app.ios.iter_mut().flat_map(apns::AppSettings::files));
            paths.extend(
                app.android
                    .iter_mut()
                    .flat_map(|a| &mut a.service_account_file),
            );
        }
        for path in paths {
            *path = crate::files::beside(folder, path);
        }
    }

    /// The broker's address, with its password, may be in a file of its own.
    fn read_address(&mut self, folder: &Path) -> Result<(), ConfigError> {
        let Some(path) = self.amqp.url.expose().strip_prefix("file:") else {
            return Ok(());
        };
        let path = folder.join(path);
        let text = crate::files::read_text(&path).map_err(|error| {
            let cure = "mend the path behind \"file:\" or its permissions";
            self.error(
                "amqp.url",
                format!("{} cannot be read ({error}); {cure}", path.display()),
            )
        })?;
        let line = text.lines().next().unwrap_or_default().trim();
        if line.is_empty() {
            let cure = "write the broker's address there";
            let problem = format!("the first line of {} is empty; {cure}", path.display());
            return Err(self.error("amqp.url", problem));
        }
        self.amqp.url = line.into();
        Ok(())
    }

    fn validate(&self) -> Result<(), ConfigError> {
        let whole = |problem: String| ConfigError::new(&self.file, None, problem);
        self.ring.validate().map_err(whole)?;
        self.retry.validate().map_err(whole)?;
        self.tokens.validate().map_err(whole)?;
        self.amqp.validate().map_err(|e| whole(e.to_string()))?;
        self.apns
            .validate()
            .map_err(|e| self.error(format!("apns.{}", e.key), e.cure))?;
        self.fcm.validate().map_err(|e| whole(e.to_string()))?;
        let often = Duration::from_secs(10);
        if self.canary.every.is_some_and(|every| every < often) {
            return Err(self.error("canary.every", "at least 10s; 10m is usual"));
        }
        if self.apps.is_empty() {
            return Err(self.error("apps", "no app; add a table [apps.\"<name in events>\"]"));
        }
        for (name, app) in &self.apps {
            let table = format!("apps.\"{name}\"");
            if app.ios.is_none() && app.android.is_none() {
                return Err(self.error(table, "neither an ios nor an android table; add one"));
            }
            if let Some(ios) = &app.ios {
                ios.validate()
                    .map_err(|e| self.error(format!("{table}.ios"), e))?;
            }
            if let Some(android) = &app.android {
                let key = || format!("{table}.android.restricted_package_name");
                android.check_package().map_err(|e| self.error(key(), e))?;
                android
                    .validate()
                    .map_err(|e| self.error(format!("{table}.android"), e))?;
            }
        }
        Ok(())
    }
}

/// An app whose name was left without quotes: the key that its first dot made,
/// and the header of its table as it should be.
fn unquoted_app(apps: &Value) -> Option<(String, String)> {
    fn first_table(value: &Value) -> Option<(&String, &Value)> {
        value.as_table()?.iter().find(|(_, value)| value.is_table())
    }
    let is_app = |app: &Value| {
        let empty = app.as_table().is_some_and(Table::is_empty);
        !empty && app.clone().try_into::<AppSettings>().is_ok()
    };
    apps.as_table()?.iter().find_map(|(name, mut app)| {
        let mut parts = vec![name.as_str()];
        while !is_app(app) {
            let (part, inner) = first_table(app)?;
            parts.push(part);
            app = inner;
        }
        let second = parts.get(1)?;
        let section = first_table(app).map_or_else(String::new, |(key, _)| format!(".{key}"));
        let right = format!("[apps.\"{}\"{section}]", parts.join("."));
        Some((format!("apps.{name}.{second}"), right))
    })
}

/// Where the syntax is wrong, without the line of the file that the library
/// quotes: a password may stand in it.
fn without_source(error: &toml::de::Error, text: &str) -> String {
    let start = error.span().map_or(0, |span| span.start);
    let before = text.get(..start).unwrap_or_default();
    let line = before.split('\n').count();
    let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
    let message = error.message();
    format!("TOML parse error at line {line}, column {column}: {message}")
}

/// With an example where the library's words do not tell the form.
fn plain_words(problem: &str) -> String {
    let endings = [
        ("expected a boolean", ", which is `true` or `false`"),
        ("expected a duration", " such as \"30s\" or \"200ms\""),
        ("expected u16", ", a whole number from 0 to 65535"),
        ("expected u32", ", a whole number from 0 on"),
        ("expected usize", ", a whole number from 0 on"),
        ("expected socket address", ", such as \"127.0.0.1:9464\""),
        (
            "invalid socket address syntax",
            "; write \"127.0.0.1:9464\"",
        ),
    ];
    // The code's own names say nothing to whoever writes the file.
    if let Some((found, _)) = problem.split_once(", expected struct ") {
        return format!("{found}, expected a table with keys of its own");
    }
    let form = endings.iter().find(|(end, _)| problem.ends_with(end));
    problem.to_owned() + form.map_or("", |(_, form)| form)
}

#[cfg(test)]
mod tests {
    use super::*;

    const APP: &str = r#"
[apps."com.Example.calls"]
[apps."com.Example.calls".android]
service_account_file = "sa.json"
"#;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(
            &format!("{text}\n{APP}"),
            Path::new("/etc/ringpush/ringpush.toml"),
        )
        .map_err(|error| error.to_string())
    }

    #[test]
    fn an_app_alone_is_enough_and_paths_are_relative_to_the_file() {
        let config = parse("").unwrap();
        let app = &config.apps["com.Example.calls"];
        assert_eq!(app.profile, "plain");
        let account = &app.android.as_ref().unwrap().service_account_file;
        assert_eq!(account.as_deref(), Some(Path::new("/etc/ringpush/sa.json")));
        assert_eq!(config.ring.ttl.as_secs(), 45);
    }

    #[test]
    fn mistakes_are_named_with_file_and_key() {
        for (text, wanted) in [
            ("[amqp]\nprefech = 3", "amqp.prefech: unknown field"),
            ("[amqp]\nprefetch = \"many\"", "amqp.prefetch: invalid type"),
            (
                "[ring]\nttl = \"soon\"",
                "expected a duration such as \"30s\"",
            ),
            (
                "[ring]\nttl = \"500s\"",
                "ring.max_ttl: must not be shorter",
            ),
            (
                "[tokens]\nbrake_share = 3",
                "tokens.brake_share: must be above 0",
            ),
            ("[nonsense]", "nonsense: unknown field"),
            (
                "[log]\nlevel = \"loud\"",
                "log.level: unknown variant `loud`, expected one of `error`",
            ),
            ("[amqp]\nprefetch = 1.5", "amqp.prefetch: invalid type"),
            ("[amqp]\nprefetch = 65536", "a whole number from 0 to 65535"),
            (
                "[admin]\nlisten = \"9464\"",
                "admin.listen: invalid socket address syntax; write",
            ),
            ("[apns]\nconnections = 0", "apns.connections: must be 1 to"),
            (
                "[admin]\nlisten = \"127.0.0.1:84430\"",
                "admin.listen: invalid socket address syntax",
            ),
            (
                "[apns]\nsandbox_url = \"https://gw:84430\"",
                "apns.sandbox_url: names the port 84430; a port is",
            ),
            (
                "[fcm]\nurl = \"https://gw:84430\"",
                "fcm.url names the port 84430; a port is",
            ),
            (
                "amqp = 5",
                "amqp: invalid type: integer `5`, expected a table",
            ),
            ("[amqp]\ndeclare = 1", "expected a boolean, which is `true`"),
            ("[amqp", "TOML parse error at line 1"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(
                error.starts_with("/etc/ringpush/ringpush.toml: "),
                "{error}"
            );
            assert!(error.contains(wanted), "{wanted} is not in: {error}");
        }
    }

    /// Without quotes each dot makes a table of its own.
    #[test]
    fn an_app_without_quotes_is_shown_with_them() {
        let quotes = |right: &str| format!("put the app's name in quotes: {right}");
        for (text, wanted) in [
            (
                "[apps.com.example.calls.android]\nservice_account_file = \"x\"",
                quotes("[apps.\"com.example.calls\".android]"),
            ),
            (
                "[apps.com.calls]\nprofile = \"plain\"",
                quotes("[apps.\"com.calls\"]"),
            ),
            (
                "[apps.calls.web]\nkey = 1",
                "unknown field `web`".to_owned(),
            ),
            ("[apps.calls.web]", "unknown field `web`".to_owned()),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with("/etc/ringpush/ringpush.toml: apps.c"));
            assert!(error.contains(&wanted), "{wanted} is not in: {error}");
        }
    }

    #[test]
    fn what_needs_a_restart_is_told_from_what_does_not() {
        let before = parse("").unwrap();
        let text =
            "[log]\nlevel = \"debug\"\n[amqp]\nurl = \"amqp://other\"\n[ring]\nmax_ttl = \"50s\"";
        for _ in 0..2 {
            let mut after = parse(text).unwrap();
            assert_eq!(after.keep(&before), ["amqp", "ring"]);
            assert_eq!(after.ring.max_ttl, before.ring.max_ttl, "not in force");
            assert_ne!(after.log.level, before.log.level, "in force");
            assert_eq!(after.keep(&before), Vec::<&str>::new());
        }
    }

    #[test]
    fn a_mistake_in_the_syntax_is_not_quoted_for_a_password_may_stand_there() {
        for url in [
            "\"amqp://u:hunter2@h/%2f",
            "amqp://u:hunter2@h/%2f",
            "[hunter2]",
        ] {
            let error = parse(&format!("[amqp]\nurl = {url}")).unwrap_err();
            assert!(error.contains("TOML parse error at line 2"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_address_in_the_wrong_place_is_not_quoted() {
        let url = "amqp://u:hunter2@h/%2f";
        for text in [
            format!("amqp = \"{url}\""),
            format!("[amqp]\nprefetch = \"{url}\""),
            format!("[amqp]\ncancels = \"{url}\""),
            format!("[amqp]\nurl = [\"{url}\"]"),
            format!("[ring]\nttl = \"{url}\""),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(", expected "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn an_app_without_a_platform_is_refused() {
        let error = Config::parse("[apps.\"a.b\"]\nprofile = \"x\"", Path::new("c.toml"));
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("c.toml: apps.\"a.b\": neither")
        );
    }
}
