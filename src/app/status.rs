//! What the status page shows of a running worker.

use super::App;
use super::lanes::Client;
use crate::admin::status::{Broker, Connections, Credential, Lane, Status};
use crate::amqp::BrokerState;
use crate::call::time::Timestamp;
use crate::engine::deadline::wall_clock;
use crate::engine::lane::{Lane as EngineLane, LaneStatus};
use crate::providers::{apns, fcm};

impl App {
    pub(super) fn status(&self, started: Timestamp, broker: Option<BrokerState>) -> Status {
        let ways = self.lanes().all();
        Status {
            started,
            now: wall_clock(),
            under_way: self.dispatcher.in_flight(),
            reports_lost: self.metrics.reports_lost.get(),
            broker: broker.map(|state| Broker {
                connected: state.connected,
                blocked: state.blocked,
                error: state.error,
            }),
            lanes: ways
                .iter()
                .map(|(engine, client)| lane(engine, client))
                .collect(),
        }
    }
}

fn lane(engine: &EngineLane, client: &Client) -> Lane {
    let labels = engine.labels();
    let LaneStatus {
        paused,
        hindrance,
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
        hindrance,
        in_flight,
        waiting,
        connections,
        credential,
        brake: engine.brake.is_on(),
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
