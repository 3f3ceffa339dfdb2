//! What the admin pages say of a running worker.

use std::sync::Arc;

use tokio::sync::watch;

use super::App;
use super::lanes::Client;
use crate::admin::status::{Connections, Credential, Lane, Status};
use crate::admin::{Insight, Readiness};
use crate::amqp::BrokerState;
use crate::call::time::Timestamp;
use crate::engine::deadline::wall_clock;
use crate::engine::history::History;
use crate::engine::lane::LaneStatus;
use crate::engine::routes::Route;
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
        let mut hindrances = Vec::new();
        let mut connected = true;
        if let Some(broker) = &self.broker {
            let broker = broker.borrow();
            connected = broker.connected;
            if !connected {
                let why = broker.error.as_deref().unwrap_or("connecting");
                hindrances.push(format!("broker: {why}"));
            } else if broker.blocked.is_some() {
                hindrances.push("broker: blocks publishing, reports wait".to_owned());
            }
        }
        let mut can_send = false;
        for route in self.app.routes() {
            let labels = route.lane.labels();
            match route.lane.hindrance() {
                None => can_send = true,
                Some(why) => hindrances.push(format!(
                    "lane {} {} {}: {why}",
                    labels.app, labels.platform, labels.environment
                )),
            }
        }
        Readiness {
            ready: connected && can_send,
            hindrances,
        }
    }

    fn metrics(&self) -> String {
        self.app.metrics().render()
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
                .map(|(route, client)| lane(route, client))
                .collect(),
        }
    }

    fn history(&self) -> &History {
        self.app.dispatcher().history()
    }
}

fn lane(route: &Route, client: &Client) -> Lane {
    let labels = route.lane.labels();
    let LaneStatus {
        paused,
        hindrance,
        in_flight,
        waiting,
    } = route.lane.status();
    let (connections, credential) = match client {
        Client::Apns(client) => apple(client),
        Client::Fcm(client) => google(client),
    };
    Lane {
        app: labels.app.clone(),
        platform: labels.platform,
        environment: labels.environment,
        paused,
        hindrance,
        in_flight,
        waiting,
        connections,
        credential,
        brake: route.brake.is_on(),
    }
}

fn apple(client: &apns::Client) -> (Connections, Credential) {
    let status = client.status();
    let connections = Connections {
        wanted: status.wanted,
        ready: status.ready,
        suspect: status.suspect,
        connecting: status.connecting,
        error: status.error,
    };
    let credential = match client.credentials() {
        apns::Credentials::Key(signer) => Credential::Key {
            id: signer.key_id().to_owned(),
            age: signer.age(),
        },
        apns::Credentials::Certificate(certificate) => Credential::Certificate {
            expires: certificate.expires(),
        },
    };
    (connections, credential)
}

fn google(client: &fcm::Client) -> (Connections, Credential) {
    // A suspect one has left its place to a fresh one, which is connecting.
    let (wanted, ready) = client.connections();
    let connections = Connections {
        wanted,
        ready,
        connecting: wanted - ready.min(wanted),
        ..Connections::default()
    };
    let credential = Credential::AccessToken {
        expires: client.expires_at(),
        trouble: client.tokens().trouble(),
    };
    (connections, credential)
}
