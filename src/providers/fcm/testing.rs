//! A token server and an FCM for the tests, both on loopback and both
//! scripted. They judge nothing; the tests look at what arrived.

use std::collections::VecDeque;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crypto_bigint::{NonZero, Odd, U1024, U2048};
use crypto_primes::hazmat::{SetBits, SmallFactorsSieveFactory};
use crypto_primes::{Flavor, is_prime, sieve_and_find};
use getrandom::SysRng;
use getrandom::rand_core::UnwrapErr;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::account::ServiceAccount;
use crate::providers::tls;

/// An RSA key in PKCS#8 PEM, made once per test run.
pub(super) fn rsa_pem() -> &'static str {
    static PEM: OnceLock<String> = OnceLock::new();
    PEM.get_or_init(|| {
        let text = STANDARD.encode(rsa_pkcs8(prime(), prime()));
        format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
    })
}

fn prime() -> U1024 {
    let sieve = SmallFactorsSieveFactory::<U1024>::new(Flavor::Any, 1024, SetBits::TwoMsb).unwrap();
    let test = |_: &mut UnwrapErr<SysRng>, candidate: &U1024| is_prime(Flavor::Any, candidate);
    sieve_and_find(&mut UnwrapErr(SysRng), sieve, test)
        .unwrap()
        .unwrap()
}

fn rsa_pkcs8(one: U1024, other: U1024) -> Vec<u8> {
    let (p, q) = (one.max(other), one.min(other));
    let (less_p, less_q) = (p.wrapping_sub(&U1024::ONE), q.wrapping_sub(&U1024::ONE));
    let modulus: U2048 = p.concatenating_mul(&q);
    let totient: U2048 = less_p.concatenating_mul(&less_q);
    let public = U2048::from_u32(65_537);
    let private = public.invert_mod(&NonZero::new(totient).unwrap()).unwrap();
    let wide = |x: U1024| NonZero::new(x.resize::<{ U2048::LIMBS }>()).unwrap();
    let inverse: U1024 = q.invert_odd_mod(&Odd::new(p).unwrap()).unwrap();
    let mut fields = vec![der_integer(&[0])];
    for number in [modulus, public, private] {
        fields.push(der_integer(number.to_be_bytes().as_ref()));
    }
    for number in [p, q] {
        fields.push(der_integer(number.to_be_bytes().as_ref()));
    }
    for number in [private.rem(&wide(less_p)), private.rem(&wide(less_q))] {
        fields.push(der_integer(number.to_be_bytes().as_ref()));
    }
    fields.push(der_integer(inverse.to_be_bytes().as_ref()));
    let algorithm = der(
        0x30,
        b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00",
    );
    let key = der(0x04, &der(0x30, &fields.concat()));
    der(0x30, &[der_integer(&[0]), algorithm, key].concat())
}

fn der_integer(bytes: &[u8]) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|b| **b == 0).count();
    let mut value = bytes[zeros..].to_vec();
    if value.first().is_none_or(|b| *b >= 0x80) {
        value.insert(0, 0);
    }
    der(0x02, &value)
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    // DER wants the shortest form of a length.
    let head = match u16::try_from(content.len()).unwrap().to_be_bytes() {
        [0, low] if low < 0x80 => vec![tag, low],
        [0, low] => vec![tag, 0x81, low],
        [high, low] => vec![tag, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

/// A key file whose tokens come from there.
pub(super) fn account_json(token_uri: &str) -> serde_json::Value {
    serde_json::json!({
        "type": "service_account",
        "project_id": "calls-test",
        "private_key_id": "0123456789abcdef",
        "private_key": rsa_pem(),
        "client_email": "sender@calls-test.iam.gserviceaccount.com",
        "token_uri": token_uri,
    })
}

pub(super) fn account(token_uri: &str) -> ServiceAccount {
    let json = account_json(token_uri).to_string();
    ServiceAccount::parse(Path::new("key.json"), json.as_bytes(), None).unwrap()
}

/// Ends a server's task with its test.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the token server says next.
#[derive(Clone, Debug)]
pub(super) enum Grant {
    /// A token `token-<n>`, n from 0, that lives for so many seconds.
    Token(u64),
    /// The same after a while.
    Late(Duration, u64),
    /// A status and a body.
    Status(u16, &'static str),
    /// The same after a while.
    Slow(Duration, u16, &'static str),
    /// Nothing, ever.
    Hang,
}

/// A token server on plain HTTP/1.1.
pub(super) struct OAuth {
    pub(super) uri: String,
    script: Arc<Mutex<VecDeque<Grant>>>,
    requests: Arc<AtomicUsize>,
    _task: Task,
}

impl OAuth {
    /// One that says these in turn, the last of them for ever.
    pub(super) async fn start(script: impl IntoIterator<Item = Grant>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/token", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(script.into_iter().collect::<VecDeque<_>>()));
        let requests = Arc::new(AtomicUsize::new(0));
        let (say, count) = (Arc::clone(&script), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            let granted = Arc::new(AtomicUsize::new(0));
            while let Ok((stream, _)) = listener.accept().await {
                let (say, count, granted) = (say.clone(), count.clone(), granted.clone());
                let service = hyper::service::service_fn(move |request| {
                    count.fetch_add(1, Ordering::SeqCst);
                    let mut script = say.lock().unwrap();
                    let next = match script.len() {
                        1 => script[0].clone(),
                        _ => script.pop_front().unwrap(),
                    };
                    Self::answer(request, next, Arc::clone(&granted))
                });
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            uri,
            script,
            requests,
            _task: Task(task),
        }
    }

    async fn answer(
        request: Request<hyper::body::Incoming>,
        grant: Grant,
        granted: Arc<AtomicUsize>,
    ) -> http::Result<Response<Full<Bytes>>> {
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert!(body.starts_with(b"grant_type=urn%3Aietf%3A"), "{body:?}");
        let (status, text) = match grant {
            Grant::Hang => std::future::pending().await,
            Grant::Status(status, text) => (status, text.to_owned()),
            Grant::Slow(delay, status, text) => {
                tokio::time::sleep(delay).await;
                (status, text.to_owned())
            }
            Grant::Token(life) | Grant::Late(_, life) => {
                if let Grant::Late(delay, _) = grant {
                    tokio::time::sleep(delay).await;
                }
                let n = granted.fetch_add(1, Ordering::SeqCst);
                let json = format!(r#"{{"access_token":"token-{n}","expires_in":{life}}}"#);
                (200, json)
            }
        };
        Response::builder().status(status).body(Full::from(text))
    }

    /// What it says from now on.
    pub(super) fn now_says(&self, grant: Grant) {
        *self.script.lock().unwrap() = VecDeque::from([grant]);
    }

    pub(super) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// What FCM does about a request.
#[derive(Clone, Debug)]
pub(super) enum Reply {
    /// A status, a header and a body.
    Say(u16, Option<(&'static str, String)>, String),
    /// Nothing, ever.
    Hang,
    /// Headers and the beginning of a body.
    Half,
    /// Ends the stream.
    Reset(h2::Reason),
    /// Ends the connection.
    Cut,
}

impl Reply {
    pub(super) fn accepted() -> Self {
        let name = r#"{"name":"projects/calls-test/messages/0:1"}"#;
        Self::Say(200, None, name.to_owned())
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) bearer: Option<String>,
    pub(super) body: String,
}

type Script = Arc<dyn Fn(&Seen) -> Reply + Send + Sync>;

/// FCM on HTTP/2 over TLS. Answers 404 to whatever is not a POST.
pub(super) struct Fcm {
    pub(super) addr: SocketAddr,
    pub(super) ca: tempfile::NamedTempFile,
    log: Arc<Log>,
    _task: Task,
}

#[derive(Default)]
struct Log {
    connections: AtomicUsize,
    posts: Mutex<Vec<Seen>>,
}

impl Fcm {
    pub(super) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let mut ca = tempfile::NamedTempFile::new().unwrap();
        ca.write_all(made.cert.pem().as_bytes()).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
        let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let (script, shared): (Script, _) = (Arc::new(script), Arc::clone(&log));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, script, log) = (acceptor.clone(), script.clone(), shared.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = accept(&acceptor, stream).await {
                        log.connections.fetch_add(1, Ordering::SeqCst);
                        serve(stream, script, log).await;
                    }
                });
            }
        });
        Self {
            addr,
            ca,
            log,
            _task: Task(task),
        }
    }

    pub(super) fn connections(&self) -> usize {
        self.log.connections.load(Ordering::SeqCst)
    }

    /// The pushes that arrived.
    pub(super) fn posts(&self) -> Vec<Seen> {
        self.log.posts.lock().unwrap().clone()
    }
}

async fn accept(
    acceptor: &tokio_rustls::TlsAcceptor,
    stream: TcpStream,
) -> std::io::Result<tokio_rustls::server::TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    acceptor.accept(stream).await
}

async fn serve<S>(stream: S, script: Script, log: Arc<Log>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    let (cut, mut is_cut) = tokio::sync::mpsc::channel::<()>(1);
    loop {
        tokio::select! {
            _ = is_cut.recv() => return,
            next = connection.accept() => {
                let Some(Ok((request, respond))) = next else { return };
                tokio::spawn(exchange(request, respond, script.clone(), log.clone(), cut.clone()));
            }
        }
    }
}

async fn exchange(
    request: Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    script: Script,
    log: Arc<Log>,
    cut: tokio::sync::mpsc::Sender<()>,
) {
    let (parts, mut stream) = request.into_parts();
    let mut body = Vec::new();
    while let Some(Ok(chunk)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(chunk.len());
        body.extend_from_slice(&chunk);
    }
    let bearer = parts.headers.get("authorization");
    let seen = Seen {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        bearer: bearer.map(|value| value.to_str().unwrap().to_owned()),
        body: String::from_utf8(body).unwrap(),
    };
    let reply = if seen.method == "POST" {
        log.posts.lock().unwrap().push(seen.clone());
        script(&seen)
    } else {
        Reply::Say(404, None, "<html>".to_owned())
    };
    match reply {
        Reply::Hang => std::future::pending().await,
        Reply::Reset(reason) => respond.send_reset(reason),
        Reply::Cut => cut.send(()).await.unwrap(),
        Reply::Half => {
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"{\"name\":"), false)
                .unwrap();
            std::future::pending::<()>().await;
        }
        Reply::Say(status, header, text) => {
            let mut response = Response::builder().status(status);
            if let Some((name, value)) = header {
                response = response.header(name, value);
            }
            let response = response.body(()).unwrap();
            let mut body = respond.send_response(response, false).unwrap();
            let _ = body.send_data(Bytes::from(text), true);
        }
    }
}
