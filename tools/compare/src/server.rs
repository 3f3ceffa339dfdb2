//! An APNs that accepts every push, and whose connections end on command.

use std::net::Shutdown;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{RecvStream, server};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

use crate::{CONTROL, HOSTS, TOPIC};

/// As many as Apple's allow.
const STREAMS: u32 = 1000;

/// "Return 0", the whole of a classic BPF program: no packet is let through.
const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// One client's connection, and what it takes to end it.
struct Open {
    socket: std::net::TcpStream,
    goaway: Arc<Notify>,
    task: JoinHandle<()>,
}

type Connections = Arc<Mutex<Vec<Open>>>;

/// Serves until it is killed. Its CA is written to `ca.pem` in `directory`, and
/// a line goes to standard output when it listens.
pub async fn run(directory: &Path) -> anyhow::Result<()> {
    let acceptor = TlsAcceptor::from(Arc::new(tls(directory)?));
    let listener = TcpListener::bind(("127.0.0.1", 443)).await?;
    let control = TcpListener::bind(CONTROL).await?;
    println!("ready");
    let connections = Connections::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let open = open(accepted?.0, acceptor.clone())?;
                lock(&connections).push(open);
            }
            accepted = control.accept() => obey(accepted?.0, &connections).await?,
        }
    }
}

fn lock(connections: &Connections) -> std::sync::MutexGuard<'_, Vec<Open>> {
    connections.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tls(directory: &Path) -> anyhow::Result<ServerConfig> {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(DnType::CommonName, "ringpush-compare");
    let ca_key = KeyPair::generate()?;
    let pem = ca.self_signed(&ca_key)?.pem();
    std::fs::write(directory.join("ca.pem"), pem)?;
    let key = KeyPair::generate()?;
    let names = HOSTS.map(str::to_owned);
    let certificate = CertificateParams::new(names)?.signed_by(&key, &Issuer::new(ca, ca_key))?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key.into())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn open(stream: TcpStream, acceptor: TlsAcceptor) -> anyhow::Result<Open> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream).try_clone()?.into();
    let goaway = Arc::new(Notify::new());
    let told = Arc::clone(&goaway);
    let task = tokio::spawn(async move {
        // A connection that ends in an error is what this program is about.
        let _ = serve(stream, acceptor, &told).await;
    });
    Ok(Open {
        socket,
        goaway,
        task,
    })
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, goaway: &Notify) -> anyhow::Result<()> {
    let stream = acceptor.accept(stream).await?;
    let mut connection = server::Builder::new()
        .max_concurrent_streams(STREAMS)
        .handshake(stream)
        .await?;
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(exchange) => {
                    let (request, respond) = exchange?;
                    tokio::spawn(answer(request, respond));
                }
                None => return Ok(()),
            },
            () = goaway.notified() => connection.graceful_shutdown(),
        }
    }
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut size = 0;
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        size += chunk.len();
        body.flow_control().release_capacity(chunk.len())?;
    }
    let path = head.uri.path();
    let good = head.method == Method::POST
        && path
            .strip_prefix("/3/device/")
            .is_some_and(|t| t.len() == 64)
        && is_voip(&head.headers)
        && size > 0;
    let mut response = Response::new(());
    if good {
        let sent = head.headers.get("apns-id").cloned();
        let id = sent.or_else(|| HeaderValue::try_from(Uuid::new_v4().to_string()).ok());
        response.headers_mut().extend(id.map(|id| (ID, id)));
        respond.send_response(response, true)?;
    } else {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let mut stream = respond.send_response(response, false)?;
        stream.send_data(Bytes::from_static(b"{\"reason\":\"BadPath\"}"), true)?;
    }
    Ok(())
}

const ID: http::HeaderName = http::HeaderName::from_static("apns-id");

fn is_voip(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.get(..7));
    bearer.is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "))
        && text("apns-topic") == Some(TOPIC)
        && text("apns-push-type") == Some("voip")
        && text("apns-priority") == Some("10")
}

/// Does to all open connections what a line says.
async fn obey(stream: TcpStream, connections: &Connections) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut word = String::new();
    stream.read_line(&mut word).await?;
    let open = std::mem::take(&mut *lock(connections));
    for connection in open {
        match word.trim() {
            "fin" => connection.socket.shutdown(Shutdown::Both)?,
            "rst" => {
                // With no time to linger, closing the last handle sends a RST.
                SockRef::from(&connection.socket).set_linger(Some(std::time::Duration::ZERO))?;
                connection.task.abort();
                let _ = connection.task.await;
            }
            "goaway" => connection.goaway.notify_one(),
            "silence" => SockRef::from(&connection.socket)
                .attach_filter(&[DROP])
                .context("SO_ATTACH_FILTER")?,
            other => bail!("unknown command {other:?}"),
        }
    }
    stream.write_all(b"done\n").await?;
    Ok(())
}
