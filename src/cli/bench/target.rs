//! Where the load goes.

use std::path::Path;

use anyhow::Context as _;
use http::Uri;
use uuid::Uuid;

use super::args::Args;
use super::simulated::Simulated;
use crate::amqp::Connector;
use crate::call::event::{Environment, EnvironmentChoice, Platform};
use crate::cli::Usage;
use crate::config::{AppSettings, Config};
use crate::providers::apns;

/// Apple's and Google's hosts end so.
const REAL: [&str; 3] = ["apple.com", "googleapis.com", "google.com"];

/// A worker's configuration for one app, and what it points at.
#[derive(Debug)]
pub(super) struct Target {
    /// With this app and these platforms only.
    pub(super) config: Config,
    pub(super) app: String,
    pub(super) profile: String,
    /// What it is, in words.
    pub(super) what: &'static str,
    /// Where each platform's pushes go.
    urls: Vec<(Platform, String)>,
    /// The broker's address, without a login.
    pub(super) broker: Option<String>,
    /// What answers there, if nothing else was named.
    pub(super) simulator: Option<Simulated>,
}

impl Target {
    /// Starts a simulator or reads the configuration, and makes sure that no load
    /// reaches a provider.
    ///
    /// # Errors
    /// The configuration cannot be used for this, or the simulator does not start.
    pub(super) async fn find(args: &Args) -> anyhow::Result<Self> {
        let (mut config, simulator) = if let Some(file) = &args.config {
            (Config::load(file)?, None)
        } else {
            let simulator = Simulated::start(args).await?;
            (of_simulator(&simulator.config)?, Some(simulator))
        };
        if let Some(url) = &args.gateway {
            redirect(&mut config, url, args)?;
        }
        let what = match (&args.gateway, &args.config) {
            (Some(_), _) => "a gateway",
            (None, Some(_)) => "the gateways of a configuration",
            (None, None) => "the simulator",
        };
        let broker = if args.broker {
            own_queues(&mut config, args);
            Some(Connector::new(&config.amqp)?.endpoint())
        } else {
            None
        };
        // Longer than a ring of this run lives, and what the engine keeps of it.
        config.ring.max_ttl = config.ring.max_ttl.max(args.timeout);
        let app = only_app(&mut config, args)?;
        let urls = endpoints(&mut config, &app)?;
        for (platform, url) in &urls {
            refuse_real(*platform, url)?;
        }
        let profile = config.apps.get(&app).map(|app| app.profile.clone());
        Ok(Self {
            config,
            app,
            profile: profile.unwrap_or_default(),
            what,
            urls,
            broker,
            simulator,
        })
    }

    /// Those that get load.
    pub(super) fn platforms(&self) -> Vec<Platform> {
        self.urls.iter().map(|(platform, _)| *platform).collect()
    }

    /// Where a platform's pushes go.
    pub(super) fn url(&self, wanted: Platform) -> Option<&str> {
        let hit = self.urls.iter().find(|(platform, _)| *platform == wanted);
        hit.map(|(_, url)| url.as_str())
    }
}

/// A simulator's configuration. The environment may say how the worker is set,
/// but not where the load goes: in a container it names the way to Apple.
fn of_simulator(file: &Path) -> anyhow::Result<Config> {
    let text = crate::files::read_text(file).context("cannot read what the simulator wrote")?;
    let (mut config, own) = (
        Config::parse(&text, file)?,
        Config::parse_alone(&text, file)?,
    );
    config.apns.production_url = own.apns.production_url;
    config.apns.sandbox_url = own.apns.sandbox_url;
    config.apns.ca_file = own.apns.ca_file;
    config.fcm.url = own.fcm.url;
    config.fcm.ca_file = own.fcm.ca_file;
    Ok(config)
}

/// A broker is everybody's: nothing of a worker that is in use may be touched.
fn own_queues(config: &mut Config, args: &Args) {
    if let Some(url) = args
        .amqp_url
        .as_ref()
        .filter(|url| !url.expose().is_empty())
    {
        config.amqp.url = url.clone();
    }
    config.amqp.prefix = format!("ringpush-bench-{}", Uuid::new_v4().simple());
    config.amqp.declare = true;
}

/// Sends both platforms to another server.
fn redirect(config: &mut Config, url: &str, args: &Args) -> Result<(), Usage> {
    let url = url.trim_end_matches('/');
    let plain = url.starts_with("http://");
    if plain && args.platform.has(Platform::Ios) {
        let problem = "--gateway: APNs is https only; add --platform android, or give an https \
                       address";
        return Err(Usage(problem.to_owned()));
    }
    if args.platform.has(Platform::Ios) {
        let endpoint =
            apns::endpoint(url).map_err(|problem| Usage(format!("--gateway: {problem}")))?;
        config.apns.production_url = endpoint.clone();
        config.apns.sandbox_url = endpoint;
        config.apns.ca_file.clone_from(&args.gateway_ca);
    }
    url.clone_into(&mut config.fcm.url);
    config.fcm.ca_file.clone_from(&args.gateway_ca);
    let valid = config.fcm.validate();
    valid.map_err(|problem| Usage(format!("--gateway: {problem}")))
}

/// Leaves one app, and of it the platforms that are wanted.
fn only_app(config: &mut Config, args: &Args) -> Result<String, Usage> {
    let known: Vec<String> = config.apps.keys().cloned().collect();
    let only = known.first().filter(|_| known.len() == 1);
    let name = args.app.as_ref().or(only);
    let Some((name, mut app)) = name.and_then(|name| config.apps.remove_entry(name)) else {
        let known = known.join(", ");
        return Err(Usage(format!("--app: choose one of {known}")));
    };
    // What is not loaded is not connected to either.
    app.ios = app.ios.filter(|_| args.platform.has(Platform::Ios));
    app.android = app.android.filter(|_| args.platform.has(Platform::Android));
    if app.ios.is_none() && app.android.is_none() {
        let problem = format!("--platform: {name} has no such table in the configuration");
        return Err(Usage(problem));
    }
    config.apps = [(name.clone(), app)].into();
    Ok(name)
}

/// Where pushes will go. The environment of `APNs` that is not used is pointed at
/// the one that is: connections are opened to both.
fn endpoints(config: &mut Config, app: &str) -> anyhow::Result<Vec<(Platform, String)>> {
    let AppSettings { ios, android, .. } = config.apps.get(app).context("no app")?;
    let mut urls = Vec::new();
    if let Some(ios) = ios {
        let used = match EnvironmentChoice::from(ios.environment) {
            EnvironmentChoice::Only(environment) => environment,
            EnvironmentChoice::Auto => Environment::Production,
        };
        let used = config.apns.endpoint(used).clone();
        urls.push((Platform::Ios, used.to_string()));
        config.apns.production_url = used.clone();
        config.apns.sandbox_url = used;
    }
    if android.is_some() {
        urls.push((Platform::Android, config.fcm.url.clone()));
    }
    Ok(urls)
}

/// Tokens are made up: a provider that gets thousands of them throttles or revokes
/// the key that they come with.
fn refuse_real(platform: Platform, url: &str) -> Result<(), Usage> {
    let uri: Option<Uri> = url.parse().ok();
    let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let real = |suffix: &&str| {
        let rest = host.strip_suffix(*suffix);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if !REAL.iter().any(real) {
        return Ok(());
    }
    let (owner, key) = match platform {
        Platform::Ios => ("Apple", "apns.production_url and apns.sandbox_url"),
        Platform::Android | Platform::Unknown => ("Google", "fcm.url"),
    };
    Err(Usage(format!(
        "{host} is {owner}'s own: thousands of made-up tokens would get your key throttled or \
         revoked. Leave out --config to load a simulator, name your own server with --gateway, \
         or set {key} to it; for one real push use `ringpush send`"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apple_and_google_get_no_load() {
        for url in [
            "https://api.push.apple.com",
            "https://api.sandbox.push.apple.com:2197",
            "https://API.Push.Apple.Com.",
            "https://fcm.googleapis.com",
            "https://google.com/x",
        ] {
            let refusal = refuse_real(Platform::Ios, url).unwrap_err().to_string();
            for word in ["throttled", "--gateway", "simulator", "ringpush send"] {
                assert!(refusal.contains(word), "{word}: {refusal}");
            }
        }
        for url in [
            "https://127.0.0.1:8443",
            "https://[::1]:8443",
            "https://pineapple.com",
            "https://api.push.apple.com.example.net",
            "http://localhost:1",
        ] {
            assert!(refuse_real(Platform::Android, url).is_ok(), "{url}");
        }
    }

    #[test]
    fn the_environment_that_is_not_used_is_not_connected_to() {
        let text = "[apns]\nsandbox_url = \"https://127.0.0.1:1\"\n[apps.a.ios]\n\
                    bundle_id = \"a\"\nenvironment = \"sandbox\"\nteam_id = \"ABCDE12345\"\n\
                    key_id = \"FGHIJ67890\"\nkey_file = \"k.p8\"\n";
        let mut config = Config::parse(text, Path::new("c.toml")).unwrap();
        let urls = endpoints(&mut config, "a").unwrap();
        assert_eq!(urls, [(Platform::Ios, "https://127.0.0.1:1".to_owned())]);
        assert_eq!(config.apns.production_url.to_string(), urls[0].1);
    }
}
