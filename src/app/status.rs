//! What the status page shows of a running worker.

use super::App;
use super::lanes::Client;
use crate::admin::status::{Connections, Credential, Lane, Status};
use crate::amqp::BrokerState;
use crate::call::time::Timestamp;
use crate::engine::deadline::wall_clock;
use crate::engine::lane::LaneStatus;
use crate::engine::routes::Route;
use crate::providers::{apns, fcm};

impl App {
    pub(super) fn status(&self, started: Timestamp, broker: Option<BrokerState>) -> Status {
        let routes = self.lanes().by_label();
        Status {
            started,
            now: wall_clock(),
            under_way: self.dispatcher.in_flight(),
            reports_lost: self.metrics.reports_lost.get(),
            broker,
            lanes: routes
                .iter()
                .map(|(route, client)| lane(route, client))
                .collect(),
        }
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
