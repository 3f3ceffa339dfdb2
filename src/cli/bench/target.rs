//! Where the load goes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use http::Uri;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::Args;
use crate::call::event::{Environment, EnvironmentChoice, Platform};
use crate::cli::Usage;
use crate::config::{AppSettings, Config};
use crate::providers::apns;
use crate::simulator::Script;

/// The simulator makes an RSA key first, which takes a moment in a debug build.
const START: Duration = Duration::from_secs(60);
/// For the simulator to end by itself.
const END: Duration = Duration::from_secs(2);

/// Apple's and Google's hosts end so.
const REAL: [&str; 3] = ["apple.com", "googleapis.com", "google.com"];

/// A worker's configuration for one app, and what it points at.
#[derive(Debug)]
pub(super) struct Target {
    /// With this app and these platforms only.
    pub(super) config: Config,
    pub(super) app: String,
    pub(super) profile: String,
    pub(super) platforms: Vec<Platform>,
    /// What it is, in words.
    pub(super) what: &'static str,
    /// Where each platform's pushes go.
    pub(super) urls: Vec<(Platform, String)>,
    simulator: Option<Simulator>,
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
            let simulator = Simulator::start(args).await?;
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
            platforms: urls.iter().map(|(platform, _)| *platform).collect(),
            what,
            urls,
            simulator,
        })
    }

    /// The process of the simulator that answers, if it is one's own.
    pub(super) fn simulator_pid(&self) -> Option<u32> {
        self.simulator.as_ref()?.child.id()
    }

    /// Ends the simulator.
    pub(super) async fn close(self) {
        if let Some(simulator) = self.simulator {
            simulator.end().await;
        }
    }
}

/// A simulator's configuration. The environment may say how the worker is set,
/// but not where the load goes: in a container it names the way to Apple.
fn of_simulator(file: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(file).context("cannot read what the simulator wrote")?;
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
    let known: Vec<&str> = config.apps.keys().map(String::as_str).collect();
    let name = match (&args.app, &known[..]) {
        (Some(name), _) => name.clone(),
        (None, [only]) => (*only).to_owned(),
        (None, _) => {
            let known = known.join(", ");
            return Err(Usage(format!("--app: choose one of {known}")));
        }
    };
    let known = known.join(", ");
    let Some(mut app) = config.apps.remove(&name) else {
        let problem = format!("--app: {name} is not configured; there is {known}");
        return Err(Usage(problem));
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

/// A simulator in a process of its own, so that its work is not taken for the
/// worker's.
#[derive(Debug)]
struct Simulator {
    child: Child,
    config: PathBuf,
    // Keys are in here; it goes with the run.
    _dir: TempDir,
}

impl Simulator {
    async fn start(args: &Args) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir().context("no temporary folder for the keys")?;
        let mut command = Command::new(own_program()?);
        command.args(["simulate", "--json", "--quiet", "--until-eof", "--dir"]);
        command.arg(dir.path().join("sim"));
        for script in scripts(args, dir.path())? {
            command.arg("--script").arg(script);
        }
        let mut child = command
            // It ends with this process, however that ends.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C is for this process: what is under way is still answered.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the simulator")?;
        let output = child.stdout.take().context("the simulator has no output")?;
        let mut line = String::new();
        let mut output = BufReader::new(output);
        let hello = timeout(START, output.read_line(&mut line)).await;
        hello.context("the simulator does not come up")??;
        let hello: Value = serde_json::from_str(&line).unwrap_or_default();
        let Some(config) = hello["config"].as_str() else {
            bail!("the simulator ended at once; `ringpush simulate` shows why");
        };
        Ok(Self {
            config: PathBuf::from(config),
            child,
            _dir: dir,
        })
    }

    async fn end(mut self) {
        drop(self.child.stdin.take());
        if timeout(END, self.child.wait()).await.is_err() {
            // It goes when it is dropped.
            tracing::debug!("the simulator did not end by itself");
        }
    }
}

/// This very program, also if its file was replaced meanwhile.
fn own_program() -> anyhow::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() {
        return Ok(running.to_owned());
    }
    std::env::current_exe().context("cannot find the program to start the simulator with")
}

/// The faults that are wanted, and after them the latency of everything else.
/// The scripts that the simulator plays: the user's own, and one that makes
/// Apple and Google slow.
fn scripts(args: &Args, dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut scripts = Vec::new();
    if let Some(file) = &args.script {
        Script::from_file(file).map_err(|error| Usage(format!("--script: {error}")))?;
        scripts.push(file.clone());
    }
    if let Some(latency) = args.latency.filter(|latency| !latency.is_zero()) {
        let delay = humantime::format_duration(latency);
        let slow =
            |server| format!("[[rule]]\nserver = \"{server}\"\nthen = {{ delay = \"{delay}\" }}\n");
        let file = dir.join("latency.toml");
        std::fs::write(&file, slow("apns") + &slow("fcm"))
            .context("cannot write the simulator's script")?;
        scripts.push(file);
    }
    Ok(scripts)
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
