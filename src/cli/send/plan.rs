//! What is to be sent: the arguments, checked against the configuration.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use crate::call::event::{Environment, EnvironmentChoice, Platform, TargetKind};
use crate::call::secret::Secret;
use crate::cli::{ConfigArgs, Usage};
use crate::config::{AppSettings, Config};

/// Sends one test ring to one phone, through the code that the worker sends
/// with, and says what the answer means and what to do.
///
/// Shows the request (the token shortened, no credential), the payload, the
/// answer, and how long each phase took. Ends with 0 if the provider took it, 3
/// if the token is dead or suspect, 4 if the credentials are at fault, 5 if the
/// payload is refused, 6 if it could not be delivered in time, 2 for a wrong
/// configuration and 1 for anything else.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  ringpush send --app com.example.calls --platform ios --token 80f1… --environment auto\n  \
                        ringpush send --app com.example.calls --platform android --token fGz… --validate-only\n  \
                        ringpush send --app com.example.calls --platform ios --token 80f1… --event ring.json --dry-run"
)]
#[allow(clippy::struct_excessive_bools, reason = "each is an option")]
pub struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The app's name in the configuration: `[apps."NAME"]`.
    #[arg(long, allow_hyphen_values = true, value_name = "NAME")]
    pub(super) app: String,
    /// The phone's platform.
    #[arg(long)]
    pub(super) platform: PlatformArg,
    /// The device token: `PushKit`'s in hexadecimal, or FCM's registration token.
    #[arg(
        long,
        allow_hyphen_values = true,
        env = "RINGPUSH_TOKEN",
        hide_env_values = true,
        required_unless_present = "fid"
    )]
    token: Option<String>,
    /// The Firebase installation id of an Android phone, in the token's place.
    #[arg(
        long,
        allow_hyphen_values = true,
        env = "RINGPUSH_FID",
        hide_env_values = true,
        conflicts_with = "token"
    )]
    fid: Option<String>,
    /// Which half of `APNs`; auto tries production, then the sandbox. Without it
    /// what the configuration says.
    #[arg(long)]
    pub(super) environment: Option<EnvironmentArg>,
    /// The payload profile, instead of the app's.
    #[arg(long, allow_hyphen_values = true, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// An event to take everything but device and times from.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["caller_name", "caller_id", "handle", "video"])]
    pub(super) event: Option<PathBuf>,
    /// The caller's name on the screen.
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "NAME",
        default_value = "ringpush test"
    )]
    pub(super) caller_name: String,
    /// The caller's id.
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "ID",
        default_value = "ringpush-send"
    )]
    pub(super) caller_id: String,
    /// The caller's address, such as a telephone number.
    #[arg(long, allow_hyphen_values = true, value_name = "TEXT")]
    pub(super) handle: Option<String>,
    /// A video call.
    #[arg(long)]
    pub(super) video: bool,
    /// Delivers nothing: FCM checks the push itself; for iOS key, signature, TLS
    /// and payload are checked here.
    #[arg(long)]
    pub(super) validate_only: bool,
    /// Connects to nobody: shows the request that would be made.
    #[arg(long, conflicts_with = "validate_only")]
    pub(super) dry_run: bool,
    /// One JSON object instead of text.
    #[arg(long)]
    pub(super) json: bool,
    /// When it is given up; also how long the ring lives.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(super) timeout: Duration,
}

/// `--platform`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PlatformArg {
    Ios,
    Android,
}

/// `--environment`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum EnvironmentArg {
    Production,
    Sandbox,
    Auto,
}

/// What is to be sent, checked against the configuration.
pub(super) struct Plan {
    /// Holds this app and platform only.
    pub(super) config: Config,
    pub(super) args: Args,
}

impl Plan {
    pub(super) fn new(args: Args) -> anyhow::Result<Self> {
        let mut config = Config::load(&args.config.config)?;
        let Some(mut app) = config.apps.remove(&args.app) else {
            let known: Vec<String> = config.apps.into_keys().collect();
            let known = known.join(", ");
            let problem = format!("--app: {} is not configured; there is {known}", args.app);
            return Err(Usage(problem).into());
        };
        let there = match args.platform {
            PlatformArg::Ios => app.ios.is_some(),
            PlatformArg::Android => app.android.is_some(),
        };
        if !there {
            let (app, platform) = (&args.app, args.platform());
            let problem = format!(
                "--platform: add [apps.\"{app}\".{}] to the file",
                platform.name()
            );
            return Err(Usage(problem).into());
        }
        if args.platform == PlatformArg::Android && args.environment.is_some() {
            return Err(Usage("--environment: Android has none; leave it out".to_owned()).into());
        }
        let is_fid = args.target().0 == TargetKind::Fid;
        if args.platform == PlatformArg::Ios && is_fid {
            return Err(Usage("--fid: iOS has none; give --token".to_owned()).into());
        }
        // Another app's broken key must not stand in the way.
        match args.platform {
            PlatformArg::Ios => app.android = None,
            PlatformArg::Android => app.ios = None,
        }
        config.apps = [(args.app.clone(), app)].into();
        // The ring lives as long as this command waits.
        config.ring.max_ttl = config.ring.max_ttl.max(args.timeout);
        Ok(Self { config, args })
    }

    pub(super) fn app(&self) -> Option<&AppSettings> {
        self.config.apps.get(&self.args.app)
    }

    /// What will be tried; production on Android, where it means nothing.
    pub(super) fn choice(&self) -> EnvironmentChoice {
        match self.args.environment {
            Some(EnvironmentArg::Production) => EnvironmentChoice::Only(Environment::Production),
            Some(EnvironmentArg::Sandbox) => EnvironmentChoice::Only(Environment::Sandbox),
            Some(EnvironmentArg::Auto) => EnvironmentChoice::Auto,
            None => self
                .app()
                .and_then(|app| app.ios.as_ref())
                .map_or(EnvironmentChoice::Only(Environment::Production), |ios| {
                    ios.environment.into()
                }),
        }
    }

    pub(super) fn profile(&self) -> &str {
        let own = self.app().map_or("plain", |app| app.profile.as_str());
        self.args.profile.as_deref().unwrap_or(own)
    }

    pub(super) fn token(&self) -> Secret {
        Secret::from(self.args.target().1)
    }
}

impl Args {
    /// Whom to push to: one of the two is there.
    pub(super) fn target(&self) -> (TargetKind, &str) {
        match (&self.token, &self.fid) {
            (_, Some(fid)) => (TargetKind::Fid, fid),
            (token, None) => (TargetKind::Token, token.as_deref().unwrap_or_default()),
        }
    }

    pub(super) const fn platform(&self) -> Platform {
        match self.platform {
            PlatformArg::Ios => Platform::Ios,
            PlatformArg::Android => Platform::Android,
        }
    }
}
