//! Apple: TLS and HTTP/2 to both environments, and whether the credential is
//! taken.

use std::time::{Duration, Instant};

use futures_util::future::join_all;

use super::clock::Clock;
use super::google::through;
use super::proof::{Proof, meaning};
use crate::app::apns_probe;
use crate::call::event::Environment;
use crate::call::push::Answer;
use crate::config::Config;
use crate::providers::http2::dial::Target;
use crate::providers::probe::probe;
use crate::providers::{apns, tls};

/// Proves both environments; only one that is meant can fail.
pub(super) async fn prove(
    config: &Config,
    name: &str,
    ios: &apns::AppSettings,
    credentials: &[(Environment, apns::Credentials)],
    limit: Duration,
) -> (Vec<Proof>, Vec<Clock>) {
    let each = credentials.iter().map(async |(environment, credentials)| {
        prove_one(config, name, ios, credentials, *environment, limit).await
    });
    let (mut proofs, mut clocks) = (Vec::new(), Vec::new());
    for (found, clock) in join_all(each).await {
        proofs.extend(found);
        clocks.extend(clock);
    }
    (proofs, clocks)
}

async fn prove_one(
    config: &Config,
    name: &str,
    ios: &apns::AppSettings,
    credentials: &apns::Credentials,
    environment: Environment,
    limit: Duration,
) -> (Vec<Proof>, Option<Clock>) {
    let needed = ios.is_meant(environment);
    let title = |what: &str| format!("app {name}: {what} {}", environment.name());
    let client = match apns_probe(config, ios, credentials, environment) {
        Ok(client) => client,
        Err(error) => return (vec![Proof::error(title("APNs"), &error, "; ")], None),
    };
    let begun = Instant::now();
    let status = client.warm(limit).await;
    let mut proofs = Vec::new();
    let mut clock = None;
    if status.ready == 0 {
        let error = status
            .error
            .unwrap_or_else(|| "no connection in time".to_owned());
        // A proxy's fault says its cure itself.
        let proxy = error
            .strip_prefix("proxy ")
            .and_then(|_| error.split_once("; "));
        let (found, cure) = proxy.unwrap_or_else(|| {
            let cure = connection_cure(&error, credentials.signer().is_none());
            (&error, cure)
        });
        proofs.push(grade(needed, title("APNs"), found.to_owned(), cure));
    } else {
        let took = begun.elapsed().as_millis();
        let address = config.apns.endpoint(environment);
        let way = through(config, address);
        let found = format!("{address}{way}: TLS and HTTP/2 in {took} ms");
        proofs.push(Proof::ok(title("APNs"), found));
        let answer = client.prove(limit).await;
        proofs.push(judge(title("credential on"), needed, &answer));
        clock = look_at_clock(config, environment, limit).await;
    }
    client.close().await;
    (proofs, clock)
}

fn judge(what: String, needed: bool, answer: &Answer) -> Proof {
    if answer.class.proves_credential() == Some(true) {
        return Proof::ok(what, "Apple takes the credential for this bundle id");
    }
    // An answer without a reason is not Apple's.
    let status = || answer.status.map(|status| format!("http_{status}"));
    let reason = answer.reason.clone().or_else(status).unwrap_or_default();
    let (found, cure) = meaning(&reason, None);
    grade(needed, what, found, cure)
}

/// What the app does not use by default is a warning only.
fn grade(needed: bool, what: String, found: String, cure: &str) -> Proof {
    if needed {
        Proof::failed(what, found, cure)
    } else {
        let cure = format!("only for devices of this environment: {cure}");
        Proof::warning(what, found, cure)
    }
}

/// `certificate`: whether one is shown there.
fn connection_cure(error: &str, certificate: bool) -> &'static str {
    let error = error.to_lowercase();
    // An alert that was received is the server's word on what we have shown.
    let alert = error.split_once("received fatal alert: ");
    let alert = alert.map_or("", |(_, alert)| alert);
    let refused = ["certificate", "unknownca", "accessdenied"];
    let refused = refused.iter().any(|word| alert.contains(word));
    if refused && certificate {
        "make a new certificate at developer.apple.com (Certificates) and export it with its key \
         again: this one is revoked, expired or of another authority for what answers there; \
         compare its app with bundle_id, and its environment"
    } else if refused {
        "mend production_url and sandbox_url: what answers there wants a client certificate, which \
         Apple does not of a key; for a gateway set certificate_file"
    } else if certificate && error.starts_with("http/2 with") {
        // With TLS 1.3 the connection may be gone before the alert is read.
        "see whether Apple has revoked the certificate (developer.apple.com, Certificates): what \
         answers there ended the connection right after it was shown; else mend production_url and \
         sandbox_url"
    } else if error.contains("unknownissuer") || error.contains("certificate") {
        "set apns.ca_file to the CA of that server, or remove it for Apple's own; look for a proxy \
         that breaks TLS"
    } else if error.starts_with("looking up") {
        "mend the host name in production_url or sandbox_url, or DNS on this machine"
    } else if error.contains("alpn")
        || alert.starts_with("noapplicationprotocol")
        || error.contains("http/2")
    {
        "mend production_url and sandbox_url: what answers there does not speak HTTP/2"
    } else {
        "let this machine reach api.push.apple.com and api.sandbox.push.apple.com, port 443 \
         (firewall, route), or mend production_url and sandbox_url"
    }
}

/// Not every server says what time it is.
async fn look_at_clock(
    config: &Config,
    environment: Environment,
    limit: Duration,
) -> Option<Clock> {
    let roots = tls::roots_from(config.apns.ca_file.as_deref()).ok()?;
    let tls = tls::client_config(roots, None, &[b"h2"]).ok()?;
    let endpoint = config.apns.endpoint(environment);
    let target = Target::new(endpoint.clone(), tls, &config.proxy).ok()?;
    let (theirs, ours) = probe(&target, limit).await.ok()?.clock?;
    Some(Clock {
        of: endpoint.to_string(),
        theirs,
        ours,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_that_was_received_about_a_certificate_is_about_ours() {
        let ours = "export it with its key again";
        for alert in [
            "UnknownCA",
            "CertificateUnknown",
            "CertificateExpired",
            "CertificateRevoked",
            "BadCertificate",
            "UnsupportedCertificate",
            "CertificateRequired",
            "AccessDenied",
        ] {
            for phase in ["TLS with", "HTTP/2 with"] {
                let error = format!("{phase} api.push.apple.com: received fatal alert: {alert}");
                assert!(connection_cure(&error, true).contains(ours), "{error}");
                let key = connection_cure(&error, false);
                assert!(key.contains("wants a client certificate"), "{error}");
            }
        }
        for (error, certificate, cure) in [
            ("HTTP/2 with h: broken pipe", true, "revoked"),
            ("HTTP/2 with h: broken pipe", false, "does not speak HTTP/2"),
            (
                "TLS with h: received fatal alert: NoApplicationProtocol",
                true,
                "does not speak",
            ),
            (
                "TLS with h: received fatal alert: HandshakeFailure",
                true,
                "port 443",
            ),
            (
                "TLS with h: invalid peer certificate: UnknownIssuer",
                true,
                "apns.ca_file",
            ),
        ] {
            assert!(
                connection_cure(error, certificate).contains(cure),
                "{error}"
            );
        }
    }
}
