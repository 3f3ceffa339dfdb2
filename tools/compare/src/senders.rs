//! The clients that are compared, each with the settings that suit a ring best.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use rcgen::KeyPair;
use ringpush::call::event::Environment;
use ringpush::call::payload::Payload;
use ringpush::call::push::{Attempt, Class, Gate, PushClient as _, PushKind};
use ringpush::call::secret::Secret;
use ringpush::call::time::Timestamp;
use ringpush::metrics::Metrics;
use ringpush::providers::apns::signer::Signer;
use ringpush::providers::apns::{Credentials, Options, Settings, Signers};
use ringpush::providers::http2::Tuning;
use ringpush::providers::{apns, tls};
use serde::Serialize;
use uuid::Uuid;

use crate::{BUNDLE, HOSTS, TOPIC};

pub const NAMES: [&str; 5] = ["a2", "apns-h2", "reqwest", "ringpush-1", "ringpush"];

/// What ringpush takes for one attempt; all of them get it.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Clients with a PING to set send one after a second and wait a second for it.
const PING: Duration = Duration::from_secs(1);

const TEAM: &str = "ABCDE12345";
const KEY_ID: &str = "FGHIJ67890";
const BODY: &str = r#"{"aps":{},"call_id":"0b6e3b1e-5f0c-4f5e-9a0f-2d8f2c1f8a11","caller":{"id":"user-4711","name":"Ada Lovelace"},"video":true,"room":"8c1b6f0e","expires_at":1790000000}"#;

/// One push to one phone.
pub struct Push {
    id: Uuid,
    token: String,
}

impl Push {
    pub fn new(number: usize) -> Self {
        Self {
            id: Uuid::new_v4(),
            token: format!("{number:064x}"),
        }
    }
}

pub enum Sender {
    A2(a2::Client),
    ApnsH2(apns_h2::Client),
    Reqwest(reqwest::Client, Arc<Signer>),
    Ringpush(apns::Client),
}

impl Sender {
    /// One of [`NAMES`], not connected yet or only just.
    pub fn new(name: &str, ca: &Path) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let signer = Signers::default().get(TEAM, KEY_ID, &key.serialize_der())?;
        let pem = key.serialize_pem();
        let ca = std::fs::read(ca)?;
        Ok(match name {
            "a2" => {
                let config = a2::ClientConfig {
                    request_timeout_secs: Some(TIMEOUT.as_secs()),
                    ..a2::ClientConfig::default()
                };
                Self::A2(a2::Client::token(pem.as_bytes(), KEY_ID, TEAM, config)?)
            }
            "apns-h2" => {
                let config = apns_h2::ClientConfig {
                    request_timeout: Some(TIMEOUT),
                    http2_keep_alive_interval: Some(PING),
                    ..apns_h2::ClientConfig::default()
                };
                let client = apns_h2::Client::token(pem.as_bytes(), KEY_ID, TEAM, config)?;
                Self::ApnsH2(client)
            }
            "reqwest" => Self::Reqwest(with_reqwest(&ca)?, signer),
            "ringpush-1" => Self::Ringpush(with_ringpush(Some(1), &ca, signer)?),
            "ringpush" => Self::Ringpush(with_ringpush(None, &ca, signer)?),
            other => return Err(anyhow!("{other}: one of {NAMES:?}")),
        })
    }

    /// One attempt at one push, which the ring leaves so much time for.
    pub async fn send(&self, push: &Push, left: Duration) -> anyhow::Result<()> {
        let id = push.id.to_string();
        let expires = SystemTime::now().duration_since(UNIX_EPOCH)? + left;
        match self {
            Self::A2(client) => {
                let options = a2::NotificationOptions {
                    apns_id: Some(&id),
                    apns_push_type: Some(a2::PushType::Voip),
                    apns_expiration: Some(expires.as_secs()),
                    apns_priority: Some(a2::Priority::High),
                    apns_topic: Some(TOPIC),
                    apns_collapse_id: None,
                };
                client.send(Call(&push.token, options)).await?;
            }
            Self::ApnsH2(client) => {
                let options = apns_h2::NotificationOptions {
                    apns_id: Some(&id),
                    apns_push_type: Some(apns_h2::PushType::Voip),
                    apns_expiration: Some(expires.as_secs()),
                    apns_priority: Some(apns_h2::Priority::High),
                    apns_topic: Some(TOPIC),
                    apns_collapse_id: None,
                };
                client.send(Call(&push.token, options)).await?;
            }
            Self::Reqwest(client, signer) => {
                let url = format!("https://{}/3/device/{}", HOSTS[0], push.token);
                let request = client
                    .post(url)
                    .header(AUTHORIZATION, signer.header())
                    .header(CONTENT_TYPE, "application/json")
                    .header("apns-id", id)
                    .header("apns-push-type", "voip")
                    .header("apns-expiration", expires.as_secs())
                    .header("apns-priority", "10")
                    .header("apns-topic", TOPIC)
                    .body(Bytes::from_static(BODY.as_bytes()));
                request.send().await?.error_for_status()?;
            }
            Self::Ringpush(client) => {
                let attempt = Attempt {
                    id: push.id,
                    kind: PushKind::Call,
                    token: &Secret::from(push.token.as_str()),
                    payload: &Payload::Ios(Bytes::from_static(BODY.as_bytes())),
                    deadline: Timestamp::from_millis(expires.as_millis().try_into()?),
                    time_left: left,
                    gate: &Gate::default(),
                };
                let answer = client.send(attempt).await;
                if answer.class != Class::Accepted {
                    let detail = answer.detail.or(answer.reason).unwrap_or_default();
                    return Err(anyhow!("{}: {detail}", answer.class.name()));
                }
            }
        }
        Ok(())
    }
}

fn with_reqwest(ca: &[u8]) -> anyhow::Result<reqwest::Client> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([reqwest::Certificate::from_pem(ca)?])
        .http2_prior_knowledge()
        .timeout(TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        .http2_keep_alive_while_idle(true)
        .tcp_user_timeout(PING * 2)
        .build()?;
    Ok(client)
}

fn with_ringpush(
    connections: Option<usize>,
    ca: &[u8],
    signer: Arc<Signer>,
) -> anyhow::Result<apns::Client> {
    let mut settings = Settings::default();
    settings.connections = connections.unwrap_or(settings.connections);
    apns::Client::new(Options {
        settings: &settings,
        environment: Environment::Production,
        bundle_id: BUNDLE,
        credentials: &Credentials::Key(signer),
        roots: tls::roots(Some(ca))?,
        metrics: &Metrics::default(),
        tuning: Tuning::default(),
    })
    .context("ringpush's client")
}

/// A push as a2 and its fork take it: the body is a string that is ready.
#[derive(Debug)]
struct Call<'a, O>(&'a str, O);

impl<O> Serialize for Call<'_, O> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl a2::request::payload::PayloadLike for Call<'_, a2::NotificationOptions<'_>> {
    fn to_json_string(&self) -> Result<String, a2::Error> {
        Ok(BODY.to_owned())
    }

    fn get_device_token(&self) -> &str {
        self.0
    }

    fn get_options(&self) -> &a2::NotificationOptions<'_> {
        &self.1
    }
}

impl apns_h2::request::payload::PayloadLike for Call<'_, apns_h2::NotificationOptions<'_>> {
    fn to_json_string(&self) -> Result<String, apns_h2::Error> {
        Ok(BODY.to_owned())
    }

    fn get_device_token(&self) -> &str {
        self.0
    }

    fn get_options(&self) -> &apns_h2::NotificationOptions<'_> {
        &self.1
    }
}
