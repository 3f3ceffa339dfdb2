//! An HTTP/2 client on the library `h2`, and signers of provider tokens.

use std::sync::Arc;
use std::time::Duration;

use base64::{
    Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD,
};
use bytes::Bytes;
use chrono::Utc;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use ringpush::simulator::{Options, Simulator};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

pub const TOKEN: &str = "00aa11bb22cc33dd00aa11bb22cc33dd00aa11bb22cc33dd00aa11bb22cc33dd";
pub const TOPIC: &str = "com.example.calls.voip";
pub const PATIENCE: Duration = Duration::from_secs(10);

pub async fn simulator() -> Simulator {
    Simulator::start(Options::default()).await.unwrap()
}

/// An answer, read to its end.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// Status and Apple's reason.
    pub fn reason(&self) -> (u16, String) {
        let reason = self
            .json()
            .get("reason")
            .and_then(Value::as_str)
            .map(str::to_owned);
        (self.status, reason.unwrap_or_default())
    }
}

/// One connection.
#[derive(Clone)]
pub struct Client {
    send: SendRequest<Bytes>,
    authority: String,
}

pub async fn tls(
    url: &str,
    ca_pem: &str,
    identity: Option<&str>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let address = url.strip_prefix("https://").unwrap();
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(ca_pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(pem) => {
            let chain = vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
}

impl Client {
    pub async fn connect(url: &str, simulator: &Simulator) -> Self {
        Self::with_identity(url, simulator, None).await
    }

    pub async fn with_identity(url: &str, simulator: &Simulator, identity: Option<&str>) -> Self {
        let stream = tls(url, simulator.ca_pem(), identity).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Self {
            send,
            authority: url.strip_prefix("https://").unwrap().to_owned(),
        }
    }

    /// How many streams the server allows, as far as this client knows.
    pub fn allowed_streams(&self) -> usize {
        self.send.current_max_send_streams()
    }

    /// Waits until a stream is free, then sends.
    pub async fn start(&self, push: Push) -> Result<ResponseFuture, h2::Error> {
        let send = self.send.clone().ready().await?;
        Self {
            send,
            authority: self.authority.clone(),
        }
        .start_now(push)
    }

    /// Sends without asking whether a stream is free.
    pub fn start_now(&self, push: Push) -> Result<ResponseFuture, h2::Error> {
        let mut request = Request::builder()
            .method(push.method.as_str())
            .uri(format!("https://{}{}", self.authority, push.path));
        for (name, value) in &push.headers {
            request = request.header(name, value);
        }
        let empty = push.body.is_empty();
        let (response, mut body) = self
            .send
            .clone()
            .send_request(request.body(()).unwrap(), empty)?;
        if !empty {
            body.send_data(push.body, true)?;
        }
        Ok(response)
    }

    pub async fn send(&self, push: Push) -> Result<Answer, h2::Error> {
        let response = self.start(push).await?;
        tokio::time::timeout(PATIENCE, read(response))
            .await
            .expect("no answer in time")
    }

    /// Sends and gives status and reason.
    pub async fn reason(&self, push: Push) -> (u16, String) {
        self.send(push).await.unwrap().reason()
    }
}

pub async fn read(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.await?.into_parts();
    let mut bytes = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        bytes.extend_from_slice(&chunk);
    }
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: bytes.into(),
    })
}

/// A request, right by default, to be spoilt one way at a time.
#[derive(Clone)]
pub struct Push {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}

impl Push {
    /// A `VoIP` push that Apple would take.
    pub fn voip(jwt: &str) -> Self {
        let headers = [
            ("apns-push-type", "voip"),
            ("apns-topic", TOPIC),
            ("apns-priority", "10"),
            ("apns-expiration", "0"),
            ("apns-id", "123e4567-e89b-12d3-a456-426614174000"),
            ("authorization", &format!("bearer {jwt}")),
        ];
        Self {
            method: "POST".to_owned(),
            path: format!("/3/device/{TOKEN}"),
            headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec(),
            body: Bytes::from_static(b"{\"v\":1}"),
        }
    }

    /// A data message that Google would take.
    pub fn message(bearer: &str, message: &Value) -> Self {
        let headers = [
            ("authorization", format!("Bearer {bearer}")),
            ("content-type", "application/json".to_owned()),
        ];
        Self {
            method: "POST".to_owned(),
            path: "/v1/projects/ringpush-sim/messages:send".to_owned(),
            headers: headers.map(|(n, v)| (n.to_owned(), v)).to_vec(),
            body: message.to_string().into(),
        }
    }

    pub fn to(mut self, token: &str) -> Self {
        self.path = format!("/3/device/{token}");
        self
    }

    pub fn path(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets a header, or removes it with "".
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        if value.is_empty() {
            self
        } else {
            self.and(name, value)
        }
    }

    /// Adds a header beside one of the same name.
    pub fn and(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

fn der(pem: &str) -> Vec<u8> {
    let text: String = pem
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .collect();
    STANDARD.decode(text).unwrap()
}

/// A signed provider token with any header and claims.
pub fn es256(key_pem: &str, header: &Value, claims: &Value) -> String {
    let random = SystemRandom::new();
    let key =
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der(key_pem), &random).unwrap();
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header.to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let signature = key.sign(&random, signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The simulator's own team and key, issued `age` seconds ago.
pub fn jwt(simulator: &Simulator, age: i64) -> String {
    let options = simulator.options();
    es256(
        simulator.auth_key_pem(),
        &json!({ "alg": "ES256", "kid": options.key_id }),
        &json!({ "iss": options.team_id, "iat": Utc::now().timestamp() - age }),
    )
}

/// A signed assertion of a service account.
pub fn rs256(key_pem: &str, claims: &Value) -> String {
    let key = RsaKeyPair::from_pkcs8(&der(key_pem)).unwrap();
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(json!({ "alg": "RS256", "typ": "JWT" }).to_string()),
        URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        signed.as_bytes(),
        &mut signature,
    )
    .unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}
