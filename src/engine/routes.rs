//! Which lane a device's push takes.

use std::collections::HashMap;
use std::sync::Arc;

use super::lane::Lane;
use super::tokens::{Brake, Change};
use crate::call::event::{Device, Environment, EnvironmentChoice, Platform};
use crate::call::payload::{CancelMode, Profile, Profiles};
use crate::call::secret::Secret;
use crate::metrics::{LaneLabels, Metrics};

/// Everything that the configuration says about apps and profiles. Replaced as
/// a whole when it is read again.
#[derive(Debug)]
pub struct Routes {
    /// The apps by their name in events.
    pub apps: HashMap<Arc<str>, App>,
    /// The profiles by name.
    pub profiles: Profiles,
}

/// One app.
#[derive(Debug)]
pub struct App {
    /// The profile of events that name none.
    pub profile: Arc<str>,
    /// Its way to iOS phones.
    pub ios: Option<Arc<IosRoutes>>,
    /// Its way to Android phones.
    pub android: Option<Arc<Route>>,
}

/// An app's ways to iOS phones.
#[derive(Debug)]
pub struct IosRoutes {
    /// For devices that do not say.
    pub environment: EnvironmentChoice,
    /// Instead of the profile's, if the app says so.
    pub cancel: Option<CancelMode>,
    /// To App Store builds.
    pub production: Arc<Route>,
    /// To development builds.
    pub sandbox: Arc<Route>,
}

impl IosRoutes {
    /// The way to one environment.
    #[must_use]
    pub const fn to(&self, environment: Environment) -> &Arc<Route> {
        match environment {
            Environment::Production => &self.production,
            Environment::Sandbox => &self.sandbox,
        }
    }
}

/// A lane and the brake on its token verdicts.
#[derive(Debug)]
pub struct Route {
    /// Sends the pushes.
    pub lane: Lane,
    /// Outlives the lane when credentials change.
    pub brake: Arc<Brake>,
    metrics: Metrics,
}

impl Route {
    /// A way over this lane.
    #[must_use]
    pub fn new(lane: Lane, brake: Arc<Brake>, metrics: Metrics) -> Self {
        metrics
            .token_brake
            .get_or_create(lane.labels())
            .set(i64::from(brake.is_on()));
        Self {
            lane,
            brake,
            metrics,
        }
    }

    /// Counts an accepted push to this token.
    pub fn token_accepted(&self, token: &Secret) {
        self.brake_changed(self.brake.accepted(token));
    }

    /// Counts an answer that blames this token.
    pub fn token_bad(&self, token: &Secret) {
        self.brake_changed(self.brake.bad(token));
    }

    /// Lets the brake recover without traffic.
    pub fn tick(&self) {
        self.lane.note_pause();
        self.brake_changed(self.brake.tick());
    }

    fn brake_changed(&self, change: Change) {
        let LaneLabels {
            app,
            platform,
            environment,
        } = self.lane.labels();
        let gauge = self.metrics.token_brake.get_or_create(self.lane.labels());
        match change {
            Change::None => {}
            Change::On => {
                gauge.set(1);
                tracing::warn!(
                    app,
                    platform,
                    environment,
                    "token brake on: the share of bad tokens jumped, every verdict is suspect now; \
                     check the environment, the bundle id and the key before deleting any token"
                );
            }
            Change::Off => {
                gauge.set(0);
                tracing::warn!(
                    app,
                    platform,
                    environment,
                    "token brake off: verdicts count again"
                );
            }
        }
    }
}

/// Why a device has no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoute {
    /// Our own word for it.
    pub reason: &'static str,
    /// A sentence for people.
    pub detail: &'static str,
}

/// The ways that a device's push may take.
#[derive(Clone, Debug)]
pub enum Way {
    /// To an iOS phone of an environment.
    Ios {
        /// Which to try.
        choice: EnvironmentChoice,
        /// The app's ways.
        routes: Arc<IosRoutes>,
    },
    /// To an Android phone.
    Android(Arc<Route>),
}

/// A device's way and the profile that its payload is made by.
#[derive(Clone, Debug)]
pub struct Direction {
    /// Where it goes.
    pub way: Way,
    /// What it says.
    pub profile: Arc<Profile>,
    /// How a ring on this phone is cancelled if it is an iPhone.
    pub cancel: CancelMode,
    /// Whether a cancel is pushed to this phone at all.
    pub pushes_cancel: bool,
}

impl Routes {
    /// Finds a device's way.
    ///
    /// # Errors
    /// The app, its platform or the profile are not configured.
    pub fn find(&self, profile: Option<&Arc<str>>, device: &Device) -> Result<Direction, NoRoute> {
        let app = self.apps.get(&device.app).ok_or(NoRoute {
            reason: "unknown_app",
            detail: "the app is not in the configuration's [apps]",
        })?;
        let profile = profile.unwrap_or(&app.profile);
        let profile = self.profiles.get(profile).ok_or(NoRoute {
            reason: "unknown_profile",
            detail: "the profile is neither built in nor in profiles.dir",
        })?;
        let (way, cancel) = match device.platform {
            Platform::Ios => {
                let ios = app.ios.as_ref().ok_or(NoRoute {
                    reason: "unknown_app",
                    detail: "the app has no ios section in the configuration",
                })?;
                let way = Way::Ios {
                    choice: device.environment.unwrap_or(ios.environment),
                    routes: Arc::clone(ios),
                };
                // What the profile has no words for is not sent.
                let cancel = ios
                    .cancel
                    .filter(|mode| profile.cancels_by(*mode))
                    .unwrap_or(profile.ios_cancel());
                (way, cancel)
            }
            Platform::Android | Platform::Unknown => {
                let android = app.android.as_ref().ok_or(NoRoute {
                    reason: "unknown_app",
                    detail: "the app has no android section in the configuration",
                })?;
                (Way::Android(Arc::clone(android)), CancelMode::None)
            }
        };
        let pushes_cancel = match &way {
            Way::Ios { .. } => cancel != CancelMode::None,
            Way::Android(_) => profile.pushes_cancel(Platform::Android),
        };
        Ok(Direction {
            way,
            profile: Arc::clone(profile),
            cancel,
            pushes_cancel,
        })
    }

    /// Every route, for readiness, ticks and the status page.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.apps.values().flat_map(|app| {
            let ios = app
                .ios
                .iter()
                .flat_map(|ios| [&ios.production, &ios.sandbox]);
            ios.chain(app.android.iter())
        })
    }
}
