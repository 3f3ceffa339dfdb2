//! One profile: read, compiled, rendered, checked.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::error::{PayloadError, ProfileError};
use super::redact::{self, Redact};
use super::render::{self, Shape};
use super::reserved::is_reserved;
use super::scope::Scope;
use super::spec::{CancelMode, Compiled, Spec, compile_aps, compile_trees};
use super::tree::{Node, Rules};
use super::write::Form;
use super::{ANDROID_LIMIT, BACKGROUND_LIMIT, IOS_LIMIT, Payload};
use crate::call::event::{Device, Event, EventKind, Platform};
use crate::call::time::Timestamp;

/// A payload profile, compiled once and rendered for every push.
#[derive(Debug)]
pub struct Profile {
    name: String,
    about: String,
    source: Map<String, Value>,
    aps: Option<Node>,
    ios_cancel: CancelMode,
    redact: Redact,
    example_data: Option<Map<String, Value>>,
    ring: Compiled,
    cancel: Compiled,
}

impl Profile {
    /// Reads a profile whose `extends` has been resolved.
    pub(super) fn new(name: &str, source: Map<String, Value>) -> Result<Self, ProfileError> {
        let spec: Spec = serde_path_to_error::deserialize(Value::Object(source.clone()))
            .map_err(|e| ProfileError::new(name, e.path().to_string(), e.inner().to_string()))?;
        let redact = Redact::new(&spec.redact).map_err(|field| {
            let problem = format!(
                "nothing called `{field}` to hide; there are {}",
                redact::FIELDS
            );
            ProfileError::new(name, "redact", problem)
        })?;
        let mut rules = Rules {
            required: &spec.required,
            uuids: &spec.uuids,
            seen: Vec::new(),
        };
        let ring = compile_trees(name, "ring", &spec.ring, &mut rules)?;
        let cancel = spec.cancel.as_ref().map_or_else(
            || Ok(Compiled::default()),
            |trees| compile_trees(name, "cancel", trees, &mut rules),
        )?;
        for path in spec.required.iter().chain(&spec.uuids) {
            if !rules.seen.contains(path) {
                let problem = "no tree of this profile writes this key";
                return Err(ProfileError::new(name, path, problem));
            }
        }
        let profile = Self {
            name: name.to_owned(),
            aps: compile_aps(name, &spec.aps)?,
            about: spec.about,
            source,
            ios_cancel: spec.ios_cancel,
            redact,
            example_data: spec.example_data,
            ring,
            cancel,
        };
        profile.check_shape()?;
        Ok(profile)
    }

    /// What can be seen to be wrong without an event.
    fn check_shape(&self) -> Result<(), ProfileError> {
        let error =
            |key: String, problem: &'static str| Err(ProfileError::new(&self.name, key, problem));
        let (Some(ios), Some(android)) = (&self.ring.ios, &self.ring.android) else {
            return error("ring".to_owned(), "needs `both`, or `ios` and `android`");
        };
        for (kind, tree) in [
            ("ring", Some(android)),
            ("cancel", self.cancel.android.as_ref()),
        ] {
            let reserved = tree.and_then(|tree| tree.names().find(|name| is_reserved(name)));
            if let Some(key) = reserved {
                let problem = "FCM reserves this key for itself; choose another name";
                return error(format!("{kind}.android.{key}"), problem);
            }
        }
        match (&self.cancel.ios, self.ios_cancel) {
            (None, CancelMode::Voip | CancelMode::Background) => error(
                "cancel.ios".to_owned(),
                "`ios_cancel` pushes a cancel, so there must be one",
            ),
            (Some(cancel), CancelMode::Background) if cancel.writes("aps") => error(
                "cancel.ios.aps".to_owned(),
                "the worker writes the `aps` of a background push itself; leave it out",
            ),
            (Some(cancel), CancelMode::Voip) => match ios.names().find(|key| !cancel.writes(key)) {
                Some(key) => error(
                    format!("cancel.ios.{key}"),
                    "a VoIP cancel must have every key of the ring, or the app rings a ghost",
                ),
                None => Ok(()),
            },
            (None | Some(_), CancelMode::None) | (Some(_), CancelMode::Background) => Ok(()),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is for, in a sentence; may be empty.
    #[must_use]
    pub fn about(&self) -> &str {
        &self.about
    }

    /// How a cancel reaches an iOS app.
    #[must_use]
    pub const fn ios_cancel(&self) -> CancelMode {
        self.ios_cancel
    }

    /// Whether this profile can cancel on iOS in a mode, its own or another
    /// that an app prefers: there is a cancel, and it says what that mode
    /// needs.
    #[must_use]
    pub fn cancels_by(&self, mode: CancelMode) -> bool {
        match (mode, &self.cancel.ios, &self.ring.ios) {
            (CancelMode::None, _, _) => true,
            (CancelMode::Background, Some(cancel), _) => !cancel.writes("aps"),
            (CancelMode::Voip, Some(cancel), Some(ring)) => {
                ring.names().all(|key| cancel.writes(key))
            }
            (CancelMode::Background | CancelMode::Voip, _, _) => false,
        }
    }

    /// Whether a cancel is pushed to this platform at all.
    #[must_use]
    pub const fn pushes_cancel(&self, platform: Platform) -> bool {
        match platform {
            Platform::Ios => !matches!(self.ios_cancel, CancelMode::None),
            Platform::Android => self.cancel.android.is_some(),
            Platform::Unknown => false,
        }
    }

    /// The most bytes that a payload may have.
    #[must_use]
    pub const fn limit(&self, platform: Platform, kind: EventKind) -> usize {
        limit(platform, kind, self.ios_cancel)
    }

    /// Whether both were made from the same file.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.name == other.name && self.source == other.source
    }

    pub(super) const fn source(&self) -> &Map<String, Value> {
        &self.source
    }

    /// What fills the keys that only an event's own `data` can fill, in examples.
    #[must_use]
    pub const fn example_data(&self) -> Option<&Map<String, Value>> {
        self.example_data.as_ref()
    }

    /// Renders the payload of an event for one of its devices at this moment.
    ///
    /// # Errors
    /// There is none that the provider would take or the apps could read.
    pub fn render(
        &self,
        event: &Event,
        device: &Device,
        now: Timestamp,
    ) -> Result<Payload, PayloadError> {
        self.render_by(event, device, now, self.ios_cancel)
    }

    /// The same for an app that cancels on iOS in a mode of its own.
    ///
    /// # Errors
    /// As [`Profile::render`].
    pub fn render_by(
        &self,
        event: &Event,
        device: &Device,
        now: Timestamp,
        mode: CancelMode,
    ) -> Result<Payload, PayloadError> {
        let trees = match event.kind() {
            EventKind::Ring => &self.ring,
            EventKind::Cancel => &self.cancel,
        };
        let (tree, shape) = match device.platform {
            Platform::Ios => {
                let aps = match (event.kind(), mode) {
                    (EventKind::Cancel, CancelMode::Background) => Some(&*BACKGROUND_APS),
                    (EventKind::Ring | EventKind::Cancel, _) => self.aps.as_ref(),
                };
                let form = Form::Json;
                let limit = limit(Platform::Ios, event.kind(), mode);
                (&trees.ios, Shape { form, aps, limit })
            }
            Platform::Android => {
                let form = Form::Text;
                let limit = ANDROID_LIMIT;
                (
                    &trees.android,
                    Shape {
                        form,
                        aps: None,
                        limit,
                    },
                )
            }
            Platform::Unknown => return Err(PayloadError::UnknownPlatform),
        };
        let tree = tree.as_ref().ok_or(PayloadError::NoCancel)?;
        let scope = Scope::new(event, device, now, &self.redact);
        match &device.sealed {
            Some(sealed) => render::sealed(&shape, sealed, event, &scope),
            None => render::open(&shape, tree, &scope),
        }
    }
}

const fn limit(platform: Platform, kind: EventKind, mode: CancelMode) -> usize {
    match (platform, kind, mode) {
        (Platform::Ios, EventKind::Cancel, CancelMode::Background) => BACKGROUND_LIMIT,
        (Platform::Ios, _, _) => IOS_LIMIT,
        (Platform::Android | Platform::Unknown, _, _) => ANDROID_LIMIT,
    }
}

/// Apple drops a background push without `content-available` ("Pushing
/// background updates to your App"), so that one is not left to profiles.
static BACKGROUND_APS: LazyLock<Node> = LazyLock::new(|| Node::Literal {
    json: "{\"content-available\":1}".to_owned(),
    text: String::new(),
});
