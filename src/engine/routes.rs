//! Which lane a device's push takes.

use std::collections::HashMap;
use std::sync::Arc;

use super::lane::Lane;
use crate::call::event::{Device, Environment, EnvironmentChoice, Platform};
use crate::call::payload::{CancelMode, Profile, Profiles};

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
    /// Its lanes to iOS phones.
    pub ios: Option<Arc<IosLanes>>,
    /// Its lane to Android phones.
    pub android: Option<Arc<Lane>>,
}

/// An app's lanes to iOS phones.
#[derive(Debug)]
pub struct IosLanes {
    /// For devices that do not say.
    pub environment: EnvironmentChoice,
    /// Instead of the profile's, if the app says so.
    pub cancel: Option<CancelMode>,
    /// To App Store builds.
    pub production: Arc<Lane>,
    /// To development builds.
    pub sandbox: Arc<Lane>,
}

impl IosLanes {
    /// The lane to one environment.
    #[must_use]
    pub const fn to(&self, environment: Environment) -> &Arc<Lane> {
        match environment {
            Environment::Production => &self.production,
            Environment::Sandbox => &self.sandbox,
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

/// The lanes that a device's push may take.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// To an iOS phone of an environment.
    Ios(EnvironmentChoice, &'a IosLanes),
    /// To an Android phone.
    Android(&'a Lane),
}

/// A device's route: its lanes, and the profile that its payload is made by.
#[derive(Clone, Copy, Debug)]
pub struct Route<'a> {
    /// Where it goes.
    pub target: Target<'a>,
    /// What it says.
    pub profile: &'a Profile,
    /// How a ring on this phone is cancelled if it is an iPhone.
    pub cancel: CancelMode,
    /// Whether a cancel is pushed to this phone at all.
    pub pushes_cancel: bool,
}

impl Routes {
    /// Finds a device's route.
    ///
    /// # Errors
    /// The app, its platform or the profile are not configured.
    pub fn find(&self, profile: Option<&Arc<str>>, device: &Device) -> Result<Route<'_>, NoRoute> {
        let app = self.apps.get(&device.app).ok_or(NoRoute {
            reason: "unknown_app",
            detail: "the app is not in the configuration's [apps]",
        })?;
        let profile = profile.unwrap_or(&app.profile);
        let profile = self.profiles.get(profile).ok_or(NoRoute {
            reason: "unknown_profile",
            detail: "the profile is neither built in nor in profiles.dir",
        })?;
        let (target, cancel) = match device.platform {
            Platform::Ios => {
                let ios = app.ios.as_ref().ok_or(NoRoute {
                    reason: "unknown_app",
                    detail: "the app has no ios section in the configuration",
                })?;
                // What the profile has no words for is not sent.
                let cancel = ios
                    .cancel
                    .filter(|mode| profile.cancels_by(*mode))
                    .unwrap_or(profile.ios_cancel());
                let choice = device.environment.unwrap_or(ios.environment);
                (Target::Ios(choice, ios), cancel)
            }
            Platform::Android | Platform::Unknown => {
                let android = app.android.as_ref().ok_or(NoRoute {
                    reason: "unknown_app",
                    detail: "the app has no android section in the configuration",
                })?;
                (Target::Android(android), CancelMode::None)
            }
        };
        let pushes_cancel = match target {
            Target::Ios(..) => cancel != CancelMode::None,
            Target::Android(_) => profile.pushes_cancel(Platform::Android),
        };
        Ok(Route {
            target,
            profile,
            cancel,
            pushes_cancel,
        })
    }

    /// Every lane, for readiness and the status page.
    pub fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.apps.values().flat_map(|app| {
            let ios = app
                .ios
                .iter()
                .flat_map(|ios| [&ios.production, &ios.sandbox]);
            ios.chain(app.android.iter())
        })
    }
}
