//! From a configuration to clients, lanes and routes.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;

use super::lanes::{Account, Built, Client, Lanes};
use super::profiles::profiles;
use crate::call::event::{Environment, EnvironmentChoice};
use crate::call::outcome::PushResult;
use crate::call::payload::Profiles;
use crate::call::push::PushClient;
use crate::config::{AppSettings, Config, ConfigError};
use crate::engine::lane::Lane;
use crate::engine::routes::{App, IosLanes, Routes};
use crate::engine::tokens::Brake;
use crate::metrics::{LaneLabels, Metrics};
use crate::providers::{apns, fcm, http2, tls};

use super::observe::{Watch, Watched};

/// What outlives a reload: signers, access tokens, brakes, budgets.
#[derive(Debug)]
pub(super) struct Builder {
    metrics: Metrics,
    watch: Option<Watch>,
    signers: apns::Signers,
    token_sources: fcm::TokenSources,
    brakes: Mutex<HashMap<LaneLabels, Weak<Brake>>>,
    budgets: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Builder {
    pub(super) fn new(metrics: Metrics, watch: Option<Watch>) -> Self {
        Self {
            watch,
            signers: apns::Signers::default(),
            token_sources: fcm::TokenSources::new(metrics.clone()),
            metrics,
            brakes: Mutex::default(),
            budgets: Mutex::default(),
        }
    }

    /// Builds all lanes and routes; takes over from `before` what has not
    /// changed, connections and pauses included.
    pub(super) fn build(
        &self,
        config: &Config,
        before: Option<&Lanes>,
    ) -> Result<(Lanes, Routes), ConfigError> {
        let profiles = profiles(config)?;
        let mut lanes = Lanes::default();
        let mut apps = HashMap::new();
        let results = PushResult::ALL.map(PushResult::name);
        for (name, app) in &config.apps {
            if profiles.get(&app.profile).is_none() {
                let known: Vec<&str> = profiles.names().collect();
                let known = known.join(", ");
                let problem = format!("no profile {:?}; known are {known}", app.profile);
                return Err(config.error(format!("apps.\"{name}\".profile"), problem));
            }
            check_cancel(config, name, app, &profiles)?;
            let ios = self.ios(config, name, app, before, &mut lanes)?;
            let android = self.android(config, name, app, before, &mut lanes)?;
            for (there, platform) in [(ios.is_some(), "ios"), (android.is_some(), "android")] {
                if there {
                    self.metrics.begin_app(name, platform, &results);
                }
            }
            let profile = Arc::from(app.profile.as_str());
            apps.insert(
                Arc::from(name.as_str()),
                App {
                    profile,
                    ios,
                    android,
                },
            );
        }
        Ok((lanes, Routes { apps, profiles }))
    }

    fn ios(
        &self,
        config: &Config,
        name: &str,
        app: &AppSettings,
        before: Option<&Lanes>,
        lanes: &mut Lanes,
    ) -> Result<Option<Arc<IosLanes>>, ConfigError> {
        let Some(ios) = &app.ios else { return Ok(None) };
        let table = || format!("apps.\"{name}\".ios");
        let load = |environment| {
            let own = ios.credential(environment);
            let loaded = apns::Credentials::load(&own, &self.signers);
            let credentials = loaded.map_err(|error| config.error(table(), error))?;
            // Once, where both are the same.
            if ios.differs() || environment == Environment::Production {
                warn_of(&credentials, name, ios, environment);
            }
            Ok(credentials)
        };
        let credentials = [load(Environment::Production)?, load(Environment::Sandbox)?];
        let account = Account::Apns(ios.bundle_id.clone(), credentials.clone());
        let key = (name.to_owned(), "ios");
        let unchanged = before.and_then(|lanes| lanes.of(&key, &account));
        let built = unchanged.map_or_else(
            || self.build_ios(config, name, ios, &credentials, account),
            Ok,
        )?;
        let environment = ios.environment.into();
        let used = match environment {
            EnvironmentChoice::Only(Environment::Sandbox) => built.clients.last(),
            EnvironmentChoice::Only(Environment::Production) | EnvironmentChoice::Auto => {
                built.clients.first()
            }
        };
        if let Some(client) = used {
            client.connect();
        }
        let [production, sandbox] = &built.lanes[..] else {
            return Ok(None);
        };
        let ios = IosLanes {
            environment,
            cancel: ios.cancel,
            production: Arc::clone(production),
            sandbox: Arc::clone(sandbox),
        };
        lanes.insert(key, built);
        Ok(Some(Arc::new(ios)))
    }

    fn build_ios(
        &self,
        config: &Config,
        name: &str,
        ios: &apns::AppSettings,
        credentials: &[apns::Credentials; 2],
        account: Account,
    ) -> Result<Built, ConfigError> {
        let mut built = Built {
            account,
            clients: Vec::new(),
            lanes: Vec::new(),
        };
        let environments = [Environment::Production, Environment::Sandbox];
        for (environment, credentials) in environments.into_iter().zip(credentials) {
            let client = apns_client(
                config,
                &config.apns,
                ios,
                credentials,
                environment,
                &self.metrics,
            )
            .map(Arc::new)
            .map_err(|problem| config.error(format!("apps.\"{name}\".ios"), problem))?;
            let labels = LaneLabels {
                app: name.to_owned(),
                platform: "ios",
                environment: environment.name(),
            };
            let budget = Arc::new(Semaphore::new(config.apns.in_flight));
            let push = match self.watch.clone() {
                None => Arc::clone(&client) as Arc<dyn PushClient>,
                Some(watch) => Watched::apns(
                    Arc::clone(&client),
                    environment,
                    config,
                    &ios.bundle_id,
                    watch,
                ),
            };
            built.lanes.push(self.lane(config, labels, push, budget));
            built.clients.push(Client::Apns(client));
        }
        Ok(built)
    }

    fn android(
        &self,
        config: &Config,
        name: &str,
        app: &AppSettings,
        before: Option<&Lanes>,
        lanes: &mut Lanes,
    ) -> Result<Option<Arc<Lane>>, ConfigError> {
        let Some(android) = &app.android else {
            return Ok(None);
        };
        let table = || format!("apps.\"{name}\".android");
        let account = fcm::ServiceAccount::load(android).map_err(|e| {
            let key = match android.credentials {
                fcm::CredentialSource::File => "service_account_file",
                fcm::CredentialSource::Metadata => "credentials",
            };
            config.error(format!("{}.{key}", table()), e)
        })?;
        let key = (name.to_owned(), "android");
        let options = android.options();
        let same = Account::Fcm(account.clone(), options.clone());
        let unchanged = before.and_then(|lanes| lanes.of(&key, &same));
        let build = || self.build_android(config, name, account, options);
        let built = unchanged.map_or_else(build, Ok)?;
        let lane = built.lanes.first().cloned();
        lanes.insert(key, built);
        Ok(lane)
    }

    fn build_android(
        &self,
        config: &Config,
        name: &str,
        account: fcm::ServiceAccount,
        options: fcm::AndroidOptions,
    ) -> Result<Built, ConfigError> {
        let tokens = self.token_sources.of(&account, &config.proxy);
        let client = fcm::Client::new(&config.fcm, &account, tokens, &config.proxy, &self.metrics)
            .map_err(|e| config.error(format!("apps.\"{name}\".android"), e))?;
        let client = Arc::new(client.with(options.clone()));
        let labels = LaneLabels {
            app: name.to_owned(),
            platform: "android",
            environment: "",
        };
        // Without a name it is this machine's own project.
        let project = account.project_id().unwrap_or_default();
        let budget = self.budget(project, config.fcm.in_flight);
        let push = match self.watch.clone() {
            None => Arc::clone(&client) as Arc<dyn PushClient>,
            Some(watch) => Watched::fcm(Arc::clone(&client), config, options.clone(), watch),
        };
        Ok(Built {
            account: Account::Fcm(account, options),
            lanes: vec![self.lane(config, labels, push, budget)],
            clients: vec![Client::Fcm(client)],
        })
    }

    fn lane(
        &self,
        config: &Config,
        labels: LaneLabels,
        client: Arc<dyn PushClient>,
        budget: Arc<Semaphore>,
    ) -> Arc<Lane> {
        let brake = shared(&self.brakes, labels.clone(), || {
            Brake::new(config.tokens, labels.clone())
        });
        let (retry, metrics) = (config.retry, &self.metrics);
        Arc::new(Lane::new(labels, client, budget, brake, retry, metrics))
    }

    /// In flight per project, whichever apps share it.
    fn budget(&self, project: &str, in_flight: usize) -> Arc<Semaphore> {
        shared(&self.budgets, project.to_owned(), || {
            Semaphore::new(in_flight)
        })
    }
}

/// Says what is known to be wrong with a credential before Apple does.
fn warn_of(
    credentials: &apns::Credentials,
    app: &str,
    ios: &apns::AppSettings,
    environment: Environment,
) {
    let environment = environment.name();
    if let Some(problem) = credentials.foreign_to(&ios.bundle_id) {
        tracing::warn!(
            app,
            environment,
            problem,
            "Apple will refuse this app's pushes"
        );
    }
    if let Some(fault) = credentials.fault() {
        tracing::error!(app, environment, %fault, "an app's pushes cannot be sent");
    }
}

/// What there is under this key as long as somebody holds it, else a new one.
fn shared<K: Hash + Eq, V>(
    all: &Mutex<HashMap<K, Weak<V>>>,
    key: K,
    new: impl FnOnce() -> V,
) -> Arc<V> {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(held) = all.get(&key).and_then(Weak::upgrade) {
        return held;
    }
    let new = Arc::new(new());
    all.retain(|_, other| other.strong_count() > 0);
    all.insert(key, Arc::downgrade(&new));
    new
}

fn apns_client(
    config: &Config,
    settings: &apns::Settings,
    ios: &apns::AppSettings,
    credentials: &apns::Credentials,
    environment: Environment,
    metrics: &Metrics,
) -> Result<apns::Client, String> {
    let roots = tls::roots_from(settings.ca_file.as_deref());
    apns::Client::new(apns::Options {
        settings,
        environment,
        bundle_id: &ios.bundle_id,
        credentials,
        roots: roots.map_err(|error| error.in_table("apns"))?,
        proxy: &config.proxy,
        metrics,
        tuning: http2::Tuning::default(),
    })
    .map_err(|error| error.to_string())
}

/// A client with one connection, to see whether an app's credential is taken.
///
/// # Errors
/// What cannot be used, with its cure.
pub fn apns_probe(
    config: &Config,
    ios: &apns::AppSettings,
    credentials: &apns::Credentials,
    environment: Environment,
) -> Result<apns::Client, String> {
    let settings = apns::Settings {
        connections: 1,
        ..config.apns.clone()
    };
    apns_client(
        config,
        &settings,
        ios,
        credentials,
        environment,
        &Metrics::default(),
    )
}

/// An app cannot cancel in a way that its profile has no payload for.
fn check_cancel(
    config: &Config,
    name: &str,
    app: &AppSettings,
    profiles: &Profiles,
) -> Result<(), ConfigError> {
    let mode = app.ios.as_ref().and_then(|ios| ios.cancel);
    let (Some(mode), Some(profile)) = (mode, profiles.get(&app.profile)) else {
        return Ok(());
    };
    if profile.cancels_by(mode) {
        return Ok(());
    }
    let problem = format!(
        "the profile {} has no cancel for the mode {}: that needs a cancel for iOS, for voip one \
         with every key of the ring; choose another mode, or a profile of your own",
        app.profile,
        mode.name()
    );
    Err(config.error(format!("apps.\"{name}\".ios.cancel"), problem))
}
