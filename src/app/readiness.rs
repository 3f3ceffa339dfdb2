//! What the admin pages say of a running worker.

use std::sync::Arc;

use tokio::sync::watch;

use super::App;
use crate::admin::status::Status;
use crate::admin::{Insight, Readiness};
use crate::amqp::BrokerState;
use crate::call::time::Timestamp;
use crate::engine::deadline::wall_clock;
use crate::engine::history::History;

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
        for lane in self.app.engine_lanes() {
            let labels = lane.labels();
            match lane.hindrance() {
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
        let broker = self.broker.as_ref().map(|state| state.borrow().clone());
        self.app.status(self.started, broker)
    }

    fn history(&self) -> &History {
        self.app.dispatcher().history()
    }
}
