//! From a configuration to clients, lanes and routes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use super::lanes::{Built, Client, Lanes};
use super::profiles::profiles;
use crate::call::event::Environment;
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
    brakes: Mutex<HashMap<LaneLabels, Arc<Brake>>>,
    budgets: Mutex<HashMap<String, Arc<Semaphore>>>,
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
        let credentials =
            apns::Credentials::load(ios, &self.signers).map_err(|e| config.error(table(), e))?;
        if let Some(problem) = credentials.foreign_to(&ios.bundle_id) {
            tracing::warn!(app = name, problem, "Apple will refuse this app's pushes");
        }
        let files = [
            &ios.key_file,
            &ios.certificate_file,
            &ios.certificate_password_file,
        ];
        let fingerprint = fingerprint(
            (&ios.bundle_id, &ios.team_id, &ios.key_id),
            files.into_iter().flatten().map(AsRef::as_ref),
        );
        let key = (name.to_owned(), "ios");
        let unchanged = before.and_then(|lanes| lanes.of(&key, fingerprint));
        let built = unchanged.map_or_else(
            || self.build_ios(config, name, ios, &credentials, fingerprint),
            Ok,
        )?;
        let [production, sandbox] = &built.lanes[..] else {
            return Ok(None);
        };
        let ios = IosLanes {
            environment: ios.environment.into(),
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
        credentials: &apns::Credentials,
        fingerprint: u64,
    ) -> Result<Built, ConfigError> {
        let mut built = Built {
            fingerprint,
            clients: Vec::new(),
            lanes: Vec::new(),
            expires: credentials.expires(),
        };
        for environment in [Environment::Production, Environment::Sandbox] {
            let client = apns_client(&config.apns, ios, credentials, environment, &self.metrics)
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
        let file = &android.service_account_file;
        let account = fcm::ServiceAccount::load(file, android.project_id.as_deref())
            .map_err(|e| config.error(format!("{}.service_account_file", table()), e))?;
        let fingerprint = fingerprint(&android.project_id, [file.as_path()]);
        let key = (name.to_owned(), "android");
        let unchanged = before.and_then(|lanes| lanes.of(&key, fingerprint));
        let built = unchanged.map_or_else(
            || self.build_android(config, name, &account, fingerprint),
            Ok,
        )?;
        let lane = built.lanes.first().cloned();
        lanes.insert(key, built);
        Ok(lane)
    }

    fn build_android(
        &self,
        config: &Config,
        name: &str,
        account: &fcm::ServiceAccount,
        fingerprint: u64,
    ) -> Result<Built, ConfigError> {
        let tokens = self.token_sources.of(account);
        let client = fcm::Client::new(&config.fcm, account, tokens, &self.metrics)
            .map_err(|e| config.error(format!("apps.\"{name}\".android"), e))?;
        let client = Arc::new(client);
        let labels = LaneLabels {
            app: name.to_owned(),
            platform: "android",
            environment: "",
        };
        let budget = self.budget(account.project_id(), config.fcm.in_flight);
        let push = match self.watch.clone() {
            None => Arc::clone(&client) as Arc<dyn PushClient>,
            Some(watch) => Watched::fcm(Arc::clone(&client), config, account.project_id(), watch),
        };
        Ok(Built {
            fingerprint,
            lanes: vec![self.lane(config, labels, push, budget)],
            clients: vec![Client::Fcm(client)],
            expires: None,
        })
    }

    fn lane(
        &self,
        config: &Config,
        labels: LaneLabels,
        client: Arc<dyn PushClient>,
        budget: Arc<Semaphore>,
    ) -> Arc<Lane> {
        let mut brakes = self.brakes.lock().unwrap_or_else(PoisonError::into_inner);
        let brake = brakes.entry(labels.clone()).or_insert_with(|| {
            let labels = labels.clone();
            Arc::new(Brake::new(config.tokens, labels, &self.metrics))
        });
        let brake = Arc::clone(brake);
        let (retry, metrics) = (config.retry, &self.metrics);
        Arc::new(Lane::new(labels, client, budget, brake, retry, metrics))
    }

    /// In flight per project, whichever apps share it.
    fn budget(&self, project: &str, in_flight: usize) -> Arc<Semaphore> {
        let mut budgets = self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = budgets
            .entry(project.to_owned())
            .or_insert_with(|| Arc::new(Semaphore::new(in_flight)));
        Arc::clone(budget)
    }
}

fn apns_client(
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

/// Tells two sets of credentials apart, by settings and by content of files.
fn fingerprint<'a>(settings: impl Hash, files: impl IntoIterator<Item = &'a Path>) -> u64 {
    let mut hasher = DefaultHasher::new();
    settings.hash(&mut hasher);
    for file in files {
        file.hash(&mut hasher);
        // They have just been read; one that vanished meanwhile differs.
        crate::files::read(file).ok().hash(&mut hasher);
    }
    hasher.finish()
}
