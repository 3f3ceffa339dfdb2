//! A platform's connections in the metrics: `ringpush_connections`, counted so
//! that no early return can leave a connection in it, and what becomes of them.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::metrics::{ConnectLabels, ConnectionLabels, Metrics, PlatformLabel};

use super::link::State;

/// The gauges of all states.
#[derive(Clone)]
pub(super) struct Gauges {
    ready: Gauge,
    suspect: Gauge,
    connecting: Gauge,
    /// Connections that came up.
    pub(super) up: Counter,
    /// Those that did not.
    pub(super) failed: Counter,
    goaways: Counter,
}

impl Gauges {
    /// Looked up once; `platform` is its label.
    pub(super) fn new(metrics: &Metrics, platform: &'static str) -> Self {
        let gauge = |state| {
            let labels = ConnectionLabels { platform, state };
            metrics.connections.get_or_create(&labels).clone()
        };
        let connects = |result| {
            let labels = ConnectLabels { platform, result };
            metrics.connects.get_or_create(&labels).clone()
        };
        let label = PlatformLabel { platform };
        Self {
            ready: gauge("ready"),
            suspect: gauge("suspect"),
            connecting: gauge("connecting"),
            up: connects("up"),
            failed: connects("failed"),
            goaways: metrics.goaways.get_or_create(&label).clone(),
        }
    }

    /// Counts one that is being opened, until dropped.
    pub(super) fn connecting(&self) -> Counted {
        Counted::under(self, Some(&self.connecting))
    }

    /// Counts one that is up, until dropped.
    pub(super) fn ready(&self) -> Counted {
        Counted::under(self, Some(&self.ready))
    }
}

/// One connection's place in the gauges.
pub(super) struct Counted {
    gauges: Gauges,
    current: Option<Gauge>,
    state: Option<State>,
}

impl Counted {
    fn under(gauges: &Gauges, gauge: Option<&Gauge>) -> Self {
        let current = gauge.cloned();
        if let Some(gauge) = &current {
            gauge.inc();
        }
        Self {
            gauges: gauges.clone(),
            current,
            state: None,
        }
    }

    /// Its server has ended it with a GOAWAY.
    pub(super) fn goaway(&self) {
        self.gauges.goaways.inc();
    }

    /// Moves it to where `state` belongs; draining ones are not counted.
    pub(super) fn set(&mut self, state: State) {
        if self.state == Some(state) {
            return;
        }
        let gauge = match state {
            State::Ready => Some(&self.gauges.ready),
            State::Suspect => Some(&self.gauges.suspect),
            State::Draining | State::Closed => None,
        };
        let mut moved = Self::under(&self.gauges, gauge);
        moved.state = Some(state);
        *self = moved;
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(gauge) = &self.current {
            gauge.dec();
        }
    }
}
