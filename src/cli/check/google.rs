//! Google: TLS to both servers, the access token, and whether the account may
//! send.

use std::time::Duration;

use tokio::time::timeout;

use super::clock::Clock;
use super::proof::{Proof, meaning};
use crate::call::push::Answer;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::providers::endpoint::Endpoint;
use crate::providers::http2::dial::{DialError, Target};
use crate::providers::probe::{ProbeError, probe};
use crate::providers::{fcm, tls};

/// Proves an account.
pub(super) async fn prove(
    config: &Config,
    name: &str,
    account: &fcm::ServiceAccount,
    limit: Duration,
) -> (Vec<Proof>, Vec<Clock>) {
    let title = |what: &str| format!("app {name}: {what}");
    let ca = config.fcm.ca_file.as_deref();
    let (fcm, oauth) = tokio::join!(
        async {
            match config.fcm.endpoint() {
                Ok(fcm) => reach(config, title("FCM"), fcm, ca, true, limit).await,
                Err(error) => (Proof::error(title("FCM"), &error.to_string(), ": "), None),
            }
        },
        async {
            let server = account.token_server()?.clone();
            Some(reach(config, title("OAuth"), server, None, false, limit).await)
        },
    );
    let metrics = Metrics::default();
    let tokens = fcm::TokenSource::start(account, &config.proxy, &metrics);
    let granted = match timeout(limit, tokens.valid_until()).await {
        Ok(Ok(expires)) => Proof::ok(title("access token"), format!("valid until {expires}")),
        Ok(Err((reason, detail))) => refused(title("access token"), &reason, detail.as_deref()),
        Err(_) => {
            let trouble = tokens.trouble();
            refused(
                title("access token"),
                "oauth_unavailable",
                trouble.as_deref(),
            )
        }
    };
    let (oauth, oauth_clock) = oauth.unzip();
    let mut proofs = vec![fcm.0];
    proofs.extend(oauth);
    let has_token = tokens.is_ready();
    proofs.push(granted);
    if has_token {
        let settings = fcm::Settings {
            connections: 1,
            ..config.fcm.clone()
        };
        match fcm::Client::new(&settings, account, tokens.clone(), &config.proxy, &metrics) {
            Ok(client) => {
                let answer = client.prove(limit).await;
                proofs.push(judge(title("right to send"), &answer));
                client.close().await;
            }
            Err(error) => proofs.push(Proof::error(title("FCM"), &error.to_string(), "; ")),
        }
    }
    tokens.close().await;
    let clocks = fcm.1.into_iter().chain(oauth_clock.flatten());
    (proofs, clocks.collect())
}

/// TLS and HTTP, and what time it is there.
async fn reach(
    config: &Config,
    what: String,
    endpoint: Endpoint,
    ca_file: Option<&std::path::Path>,
    http2: bool,
    limit: Duration,
) -> (Proof, Option<Clock>) {
    let alpn: &[&[u8]] = if http2 { &[b"h2"] } else { &[b"http/1.1"] };
    let tls = tls::roots_from(ca_file).and_then(|roots| tls::client_config(roots, None, alpn));
    let (url, way) = (format!("{endpoint}/"), through(config, &endpoint));
    let target = tls.map_err(|error| error.to_string()).and_then(|tls| {
        Target::new(endpoint, tls, &config.proxy).map_err(|error| format!("{url}: {error}"))
    });
    let target = match target {
        Ok(target) => target,
        Err(error) => return (Proof::error(what, &error, "; "), None),
    };
    match probe(&target, limit).await {
        Ok(seen) => {
            let phases = seen.phases;
            let took = phases.dns + phases.tcp + phases.tls.unwrap_or_default() + phases.http;
            let version = seen.tls_version.as_deref().unwrap_or("without TLS");
            let found = format!("{url}{way}: {version}, answered in {} ms", took.as_millis());
            let clock = seen.clock.map(|(theirs, ours)| Clock {
                of: url,
                theirs,
                ours,
            });
            (Proof::ok(what, found), clock)
        }
        Err(error) => {
            let found = error.to_string();
            let proof = match cure(&error, http2) {
                Some(cure) => Proof::failed(what, found, cure),
                None => Proof::error(what, &found, "; "),
            };
            (proof, None)
        }
    }
}

/// Which proxy is on the way there, if there is one.
pub(super) fn through(config: &Config, server: &Endpoint) -> String {
    let hop = config.proxy.hop(server);
    hop.map_or_else(String::new, |hop| format!(" through proxy {hop}"))
}

/// What to do, where the error does not say it itself.
fn cure(error: &ProbeError, fcm: bool) -> Option<&'static str> {
    Some(match (error, fcm) {
        (ProbeError::Dial(DialError::Proxy { .. }), _) => return None,
        (ProbeError::Dial(DialError::Lookup { .. }), true) => {
            "mend fcm.url (https://fcm.googleapis.com), or DNS on this machine"
        }
        (ProbeError::Dial(DialError::Lookup { .. }), false) => {
            "mend token_uri in the service account's file, or DNS on this machine"
        }
        (ProbeError::Dial(DialError::Tls { .. }), true) => {
            "set fcm.ca_file to the CA of that server, or remove it for Google's own; look for a \
             proxy that breaks TLS"
        }
        (ProbeError::Dial(DialError::Tls { .. }), false) => {
            "let the system trust that server's CA (SSL_CERT_FILE adds one); look for a proxy that \
             breaks TLS"
        }
        (
            ProbeError::Dial(DialError::Tcp { .. })
            | ProbeError::Http { .. }
            | ProbeError::TimedOut(_),
            true,
        ) => {
            "let this machine reach fcm.googleapis.com, port 443 (firewall, route), or mend fcm.url"
        }
        (
            ProbeError::Dial(DialError::Tcp { .. })
            | ProbeError::Http { .. }
            | ProbeError::TimedOut(_),
            false,
        ) => {
            "let this machine reach oauth2.googleapis.com, port 443 (firewall, route), or mend \
             token_uri"
        }
    })
}

fn judge(what: String, answer: &Answer) -> Proof {
    if answer.class.proves_credential() == Some(true) {
        return Proof::ok(what, "the account may send in this project");
    }
    let reason = answer.reason.as_deref().unwrap_or_default();
    refused(what, reason, answer.detail.as_deref())
}

fn refused(what: String, reason: &str, detail: Option<&str>) -> Proof {
    let (found, cure) = meaning(reason, detail);
    Proof::failed(what, found, cure)
}
