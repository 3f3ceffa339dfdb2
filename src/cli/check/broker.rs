//! The broker: address, TLS, login, virtual host, topology, permissions.

use super::proof::Proof;
use crate::amqp::{self, AmqpError, Connector};
use crate::config::Config;

/// Address and certificates, without connecting.
pub(super) fn address(config: &Config) -> Proof {
    match Connector::new(&config.amqp) {
        Ok(connector) => Proof::ok("broker's address", connector.endpoint()),
        Err(error) => failed("broker's address", &error),
    }
}

/// Goes as far as a worker goes before its first message.
pub(super) async fn prove(config: &Config) -> Vec<Proof> {
    let endpoint = match Connector::new(&config.amqp) {
        Ok(connector) => connector.endpoint(),
        Err(error) => return vec![failed("broker", &error)],
    };
    let counts = match amqp::prove(&config.amqp).await {
        Ok(counts) => counts,
        Err(error) => return vec![failed("broker", &error)],
    };
    let how = if config.amqp.declare {
        "declared"
    } else {
        "there (bindings cannot be looked at)"
    };
    let mut proofs = vec![
        Proof::ok("broker", format!("{endpoint}: login and virtual host")),
        Proof::ok(
            "topology",
            format!("{} queues {how}, reports can be published", counts.len()),
        ),
    ];
    let names = amqp::Names::new(&config.amqp.prefix);
    for queue in counts {
        let waiting = queue.messages > 0 && queue.consumers == 0;
        if waiting && queue.name == names.dead {
            let found = format!("{} messages could not be understood", queue.messages);
            let cure = "look at their header x-error, mend the producer, then empty the queue";
            proofs.push(Proof::warning(queue.name, found, cure));
        } else if waiting && queue.name == names.tokens {
            let found = format!("{} dead and suspect tokens wait", queue.messages);
            let cure = "have the service take them and forget those tokens";
            proofs.push(Proof::warning(queue.name, found, cure));
        }
    }
    proofs
}

fn failed(what: &str, error: &AmqpError) -> Proof {
    let text = error.to_string();
    match error {
        AmqpError::Lost { .. } => Proof::failed(what, text, "look at the broker's log; try again"),
        AmqpError::Setting { key, problem, cure } => {
            Proof::failed(what, format!("amqp.{key} {problem}"), *cure)
        }
        AmqpError::Unreachable { .. }
        | AmqpError::Tls { .. }
        | AmqpError::Login { .. }
        | AmqpError::VirtualHost { .. }
        | AmqpError::Mismatch { .. }
        | AmqpError::Missing { .. }
        | AmqpError::Denied { .. } => match text.rsplit_once("; ") {
            Some((found, cure)) => Proof::failed(what, found, cure),
            None => Proof::error(what, &text, "; "),
        },
    }
}
