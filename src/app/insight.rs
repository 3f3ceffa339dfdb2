//! What the admin pages say of a running worker.

use std::sync::Arc;

use tokio::sync::watch;

use super::App;
use super::canary::Canary;
use super::lanes::Client;
use crate::admin::status::{self, Connections, Credential, Lane, Status};
use crate::admin::{Insight, Readiness};
use crate::amqp::BrokerState;
use crate::call::time::Timestamp;
use crate::engine::deadline::wall_clock;
use crate::engine::history::History;
use crate::engine::lane::{Lane as EngineLane, LaneStatus};
use crate::metrics::{CredentialLabels, LaneGauges, LaneLabels};
use crate::providers::{apns, fcm};

/// The view of a worker that the admin pages get.
#[derive(Debug)]
pub struct AppInsight {
    app: Arc<App>,
    broker: Option<watch::Receiver<BrokerState>>,
    started: Timestamp,
}

impl AppInsight {
    /// Of a worker on a broker, or on standard input, that starts now.
    #[must_use]
    pub fn new(app: Arc<App>, broker: Option<watch::Receiver<BrokerState>>) -> Self {
        Self {
            app,
            broker,
            started: wall_clock(),
        }
    }
}

impl Insight for AppInsight {
    fn readiness(&self) -> Readiness {
        let mut problems = Vec::new();
        let mut connected = true;
        if let Some(broker) = &self.broker {
            let broker = broker.borrow();
            connected = broker.connected;
            if !connected {
                let why = broker.error.as_deref().unwrap_or("connecting");
                problems.push(format!("broker: {why}"));
            } else if broker.blocked.is_some() {
                problems.push("broker: blocks publishing, reports wait".to_owned());
            }
        }
        let mut can_send = false;
        for (lane, _) in self.app.lanes().by_label() {
            let LaneLabels {
                app,
                platform,
                environment,
            } = lane.labels();
            let mut name = |why: &str| {
                problems.push(format!("lane {app} {platform} {environment}: {why}"));
            };
            if lane.is_used() {
                match lane.why_not_ready() {
                    None => can_send = true,
                    Some(why) => name(&why),
                }
            }
            let refused = self
                .app
                .canary
                .of(lane.labels())
                .and_then(|proven| proven.refused);
            if let Some(reason) = refused {
                name(&format!("the canary was refused: {reason}"));
            }
        }
        Readiness {
            ready: connected && can_send,
            problems,
        }
    }

    fn metrics(&self) -> String {
        let gauges = LaneGauges::default();
        let status = self.status();
        for lane in &status.lanes {
            let labels = LaneLabels {
                app: lane.app.clone(),
                platform: lane.platform,
                environment: lane.environment,
            };
            let paused = i64::from(lane.paused.is_some());
            gauges.paused.get_or_create(&labels).set(paused);
            let brake = i64::from(lane.brake);
            gauges.token_brake.get_or_create(&labels).set(brake);
            if let Some(canary) = &lane.canary {
                let ok = i64::from(canary.refused.is_none());
                gauges.credential_ok.get_or_create(&labels).set(ok);
            }
            if let Some(expires) = lane.credential.expires() {
                let LaneLabels { app, platform, .. } = labels;
                let labels = CredentialLabels { app, platform };
                let left = (expires.millis() - status.now.millis()) / 1000;
                let all = &gauges.credential_expiry_seconds;
                // Of two environments the one that ends first.
                let first = all.get(&labels).map_or(left, |other| other.get().min(left));
                all.get_or_create(&labels).set(first);
            }
        }
        self.app.metrics().render(&gauges)
    }

    fn status(&self) -> Status {
        let lanes = self.app.lanes().by_label();
        Status {
            started: self.started,
            now: wall_clock(),
            under_way: self.app.dispatcher().in_flight(),
            reports_lost: self.app.metrics().reports_lost.get(),
            broker: self.broker.as_ref().map(|state| state.borrow().clone()),
            lanes: lanes
                .iter()
                .map(|(engine, client)| lane(engine, client, &self.app.canary))
                .collect(),
        }
    }

    fn history(&self) -> &History {
        self.app.dispatcher().history()
    }
}

fn lane(engine: &EngineLane, client: &Client, canary: &Canary) -> Lane {
    let labels = engine.labels();
    let LaneStatus {
        paused,
        why_not_ready,
        in_flight,
        waiting,
    } = engine.status();
    let status = client.status();
    let connections = Connections {
        wanted: status.wanted,
        ready: status.ready,
        suspect: status.suspect,
        connecting: status.connecting,
        error: status.error,
    };
    let credential = match client {
        Client::Apns(client) => apple(client),
        Client::Fcm(client) => google(client),
    };
    Lane {
        app: labels.app.clone(),
        platform: labels.platform,
        environment: labels.environment,
        paused,
        why_not_ready,
        in_flight,
        waiting,
        connections,
        credential,
        brake: engine.brake.is_on(),
        canary: canary.of(labels).map(|proven| status::Canary {
            age: wall_clock().since(proven.at),
            refused: proven.refused,
        }),
    }
}

fn apple(client: &apns::Client) -> Credential {
    match client.credentials() {
        apns::Credentials::Key(signer) => Credential::Key {
            id: signer.key_id().to_owned(),
            age: signer.age(),
        },
        apns::Credentials::Certificate(certificate) => Credential::Certificate {
            expires: certificate.expires(),
        },
    }
}

fn google(client: &fcm::Client) -> Credential {
    Credential::AccessToken {
        expires: client.expires_at(),
        trouble: client.tokens().trouble(),
    }
}
