//! The request that the worker would make for one device.

use bytes::Bytes;
use http::Request;
use serde_json::{Map, Value, json};

use crate::call::event::{Device, Environment, EnvironmentChoice, Event, EventKind, Platform};
use crate::call::ids::push_id;
use crate::call::payload::{CancelMode, Payload, Profile, Profiles};
use crate::call::push::{Attempt, Gate, PushKind};
use crate::call::secret::Secret;
use crate::config::Config;
use crate::providers::{apns, fcm};

/// Profiles and settings, those of a file or the default ones.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) profiles: Profiles,
    /// Whether a file was named.
    pub(super) configured: bool,
}

/// What becomes of one device.
pub(super) struct Preview<'a> {
    pub(super) device: &'a Device,
    /// What the provider counts of the payload, at most.
    pub(super) limit: usize,
    pub(super) end: End,
    /// What was assumed because the configuration does not say.
    pub(super) assumed: Option<&'static str>,
}

/// What the worker would do.
pub(super) enum End {
    /// Send this.
    Sent(Box<Sent>),
    /// Send nothing, and all is well.
    Nothing(&'static str),
    /// Report the device as `rejected`.
    Rejected {
        reason: &'static str,
        detail: String,
    },
}

/// A payload and the request that carries it.
pub(super) struct Sent {
    pub(super) payload: Payload,
    pub(super) request: Request<Bytes>,
}

/// Renders an event for a device as if it was taken the moment it was sent.
pub(super) fn preview<'a>(
    setup: &Setup,
    profile: &Profile,
    event: &Event,
    device: &'a Device,
) -> Preview<'a> {
    let limit = profile.limit(device.platform, event.kind());
    let (end, assumed) = match destination(setup, profile, event, device) {
        Ok((kind, token)) => request(setup, profile, event, device, (kind, token)),
        Err(end) => (end, None),
    };
    Preview {
        device,
        limit,
        end,
        assumed,
    }
}

/// As what kind of push it goes out, and to which token.
fn destination<'a>(
    setup: &Setup,
    profile: &Profile,
    event: &Event,
    device: &'a Device,
) -> Result<(PushKind, &'a Secret), End> {
    let app = setup.config.apps.get(&*device.app);
    let configured = match (app, device.platform) {
        (None, _) => !setup.configured,
        (Some(app), Platform::Ios) => app.ios.is_some(),
        (Some(app), Platform::Android) => app.android.is_some(),
        (Some(_), Platform::Unknown) => false,
    };
    if !configured {
        return Err(End::Rejected {
            reason: "unknown_app",
            detail: format!(
                "the configuration has no table [apps.\"{}\".{}]",
                device.app,
                device.platform.name()
            ),
        });
    }
    if event.kind() == EventKind::Ring || device.platform != Platform::Ios {
        return Ok((PushKind::Call, &device.token));
    }
    let own = app.and_then(|app| app.ios.as_ref()?.cancel);
    match own.unwrap_or(profile.ios_cancel()) {
        CancelMode::None => Err(End::Nothing("cancels are not pushed to iOS here")),
        CancelMode::Voip => Ok((PushKind::Call, &device.token)),
        CancelMode::Background => match device.background_token() {
            Ok(token) => Ok((PushKind::Background, token)),
            Err((reason, detail)) => Err(End::Rejected { reason, detail }),
        },
    }
}

fn request(
    setup: &Setup,
    profile: &Profile,
    event: &Event,
    device: &Device,
    (kind, token): (PushKind, &Secret),
) -> (End, Option<&'static str>) {
    let now = event.sent_at;
    let payload = match profile.render(event, device, now) {
        Ok(payload) => payload,
        Err(error) => {
            let (reason, detail) = (error.reason(), error.to_string());
            return (End::Rejected { reason, detail }, None);
        }
    };
    let attempt = Attempt {
        id: push_id(event.event_id, &device.id),
        kind,
        token,
        target: device.target,
        payload: &payload,
        deadline: event.expires_at,
        time_left: event.expires_at.since(now),
        gate: &Gate::default(),
    };
    let (request, assumed) = match device.platform {
        Platform::Ios => ios(setup, device, &attempt),
        Platform::Android | Platform::Unknown => android(setup, device, &attempt),
    };
    let end = request.map_or_else(
        || End::Rejected {
            reason: "invalid_token",
            detail: "token, bundle id or project cannot stand in a request".to_owned(),
        },
        |request| {
            let payload = payload.clone();
            End::Sent(Box::new(Sent { payload, request }))
        },
    );
    (end, assumed)
}

type Built = (Option<Request<Bytes>>, Option<&'static str>);

fn ios(setup: &Setup, device: &Device, attempt: &Attempt<'_>) -> Built {
    let app = setup.config.apps.get(&*device.app);
    let settings = app.and_then(|app| app.ios.as_ref());
    let default = settings.map(|settings| settings.environment.into());
    // What is `auto` is tried in production first.
    let environment = match device.environment.or(default) {
        Some(EnvironmentChoice::Only(environment)) => environment,
        Some(EnvironmentChoice::Auto) | None => Environment::Production,
    };
    let bundle_id = settings.map_or(&*device.app, |settings| &settings.bundle_id);
    let request = apns::exact_request(&setup.config.apns, environment, bundle_id, attempt);
    let assumed = "the app's name is taken for its bundle id; --config FILE has the real one";
    (request, settings.is_none().then_some(assumed))
}

fn android(setup: &Setup, device: &Device, attempt: &Attempt<'_>) -> Built {
    let app = setup.config.apps.get(&*device.app);
    let settings = app.and_then(|app| app.android.as_ref());
    let project = settings.and_then(|settings| {
        // The key file may be somewhere else than whoever renders.
        let account = fcm::ServiceAccount::load(settings).ok();
        let id = account.and_then(|account| account.project_id().map(str::to_owned));
        id.or_else(|| settings.project_id.clone())
    });
    let name = project.as_deref().unwrap_or("PROJECT");
    let options = settings.map(fcm::AndroidSettings::options);
    let options = options.unwrap_or_default();
    let request = fcm::exact_request(&setup.config.fcm, name, &options, false, attempt);
    let assumed = "PROJECT stands for the id in the service account's file (or the machine's own); --config FILE names it";
    (request, project.is_none().then_some(assumed))
}

impl Preview<'_> {
    /// The payload as JSON: the dictionary, or `data`.
    pub(super) fn payload(&self) -> Option<Map<String, Value>> {
        let End::Sent(sent) = &self.end else {
            return None;
        };
        match &sent.payload {
            Payload::Ios(body) => serde_json::from_slice(body).ok(),
            Payload::Android(data) => serde_json::from_str(data.as_json()).ok(),
        }
    }

    /// Whether the device would be reported as rejected.
    pub(super) const fn rejected(&self) -> bool {
        matches!(self.end, End::Rejected { .. })
    }

    /// Everything, for programs.
    pub(super) fn json(&self) -> Value {
        let mut object = json!({
            "device": self.device.id,
            "platform": self.device.platform.name(),
            "app": self.device.app,
        });
        match &self.end {
            End::Sent(sent) => {
                let request = &sent.request;
                object["size"] = json!(sent.payload.size());
                object["limit"] = json!(self.limit);
                object["method"] = json!(request.method().as_str());
                object["url"] = json!(request.uri().to_string());
                object["headers"] = headers(request)
                    .map(|(name, value)| (name.to_owned(), json!(value)))
                    .collect::<Map<_, _>>()
                    .into();
                object["body"] = json!(String::from_utf8_lossy(request.body()));
                object["payload"] = json!(self.payload());
            }
            End::Nothing(why) => object["nothing"] = json!(why),
            End::Rejected { reason, detail } => {
                object["rejected"] = json!({"reason": reason, "detail": detail});
            }
        }
        if let Some(assumed) = self.assumed {
            object["assumed"] = json!(assumed);
        }
        if let Some(ignored) = &self.device.ignored {
            object["ignored"] = json!(ignored);
        }
        object
    }
}

/// Names and values as they go out.
pub(super) fn headers(request: &Request<Bytes>) -> impl Iterator<Item = (&str, &str)> {
    let headers = request.headers().iter();
    headers.map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
}
