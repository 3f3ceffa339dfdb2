//! A server for the tests that speaks HTTP/2 frame by frame, so that it can
//! misbehave exactly where a test wants it to. It looks at frame types and
//! stream ids only, never at headers.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::Tuning;
use crate::providers::tls;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const REFUSED_STREAM: u32 = 7;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A complete answer.
pub(crate) fn answer(stream: u32, status: u16, body: &str) -> Vec<u8> {
    if body.is_empty() {
        return frame(1, 4 | 1, stream, &status_field(status));
    }
    let mut frames = head(stream, status);
    frames.extend(frame(0, 1, stream, body.as_bytes()));
    frames
}

/// An answer's head, with a body to come.
pub(crate) fn head(stream: u32, status: u16) -> Vec<u8> {
    frame(1, 4, stream, &status_field(status))
}

/// HPACK: literal without indexing, name from the static table.
fn status_field(status: u16) -> Vec<u8> {
    let mut field = vec![0x08, 0x03];
    field.extend(status.to_string().as_bytes());
    field
}

pub(crate) fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(3, 0, stream, &code.to_be_bytes())
}

pub(crate) fn goaway(last: u32, code: u32) -> Vec<u8> {
    frame(7, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
}

pub(crate) fn stream_limit(limit: u32) -> Vec<u8> {
    frame(4, 0, 0, &[&[0, 3][..], &limit.to_be_bytes()].concat())
}

/// A request, as far as the server looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Counts the server's connections from 0.
    pub(crate) connection: usize,
    /// Counts that connection's requests from 0.
    pub(crate) nth: usize,
    pub(crate) stream: u32,
}

/// What a test tells a connection to do.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Read nothing and answer nothing, not even PINGs.
    Freeze,
    /// Go on.
    Thaw,
    /// Send these bytes.
    Send(Vec<u8>),
}

/// Answers a request with frames; no bytes at all closes the connection.
type Script = Arc<dyn Fn(Seen) -> Option<Vec<u8>> + Send + Sync>;

// A script's answer is an option.
#[allow(clippy::unnecessary_wraps)]
pub(crate) fn accept(seen: Seen) -> Option<Vec<u8>> {
    Some(answer(seen.stream, 200, ""))
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) ca: String,
    accepted: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<Seen>>>,
    commands: broadcast::Sender<(usize, Command)>,
}

/// Configuration for "localhost" and the certificate to trust.
pub(crate) fn server_tls() -> (ServerConfig, String) {
    let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(pair.signing_key.serialize_der()).unwrap();
    let mut config = ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    (config, pair.cert.pem())
}

impl Server {
    /// A server whose SETTINGS allow `limit` streams.
    pub(crate) async fn start(
        limit: u32,
        script: impl Fn(Seen) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (config, ca) = server_tls();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = Self {
            address,
            ca,
            accepted: Arc::default(),
            seen: Arc::default(),
            commands: broadcast::channel(16).0,
        };
        let (accepted, seen) = (Arc::clone(&server.accepted), Arc::clone(&server.seen));
        let commands = server.commands.downgrade();
        let script: Script = Arc::new(script);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Some(commands) = commands.upgrade() else {
                    return;
                };
                let connection = Peer {
                    index: accepted.fetch_add(1, Ordering::SeqCst),
                    limit,
                    seen: Arc::clone(&seen),
                    script: Arc::clone(&script),
                };
                let (acceptor, commands) = (acceptor.clone(), commands.subscribe());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(tcp).await {
                        connection.serve(stream, commands).await;
                    }
                });
            }
        });
        server
    }

    /// Connections so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn tell(&self, connection: usize, command: Command) {
        self.commands.send((connection, command)).unwrap();
    }
}

/// Quick to connect again; never doubts a connection by itself.
pub(crate) fn tuning() -> Tuning {
    let mut tuning = Tuning {
        backoff: Duration::from_millis(20),
        ..Tuning::default()
    };
    tuning.liveness.interval = Duration::from_secs(60);
    tuning.liveness.timeout = Duration::from_secs(60);
    tuning
}

/// Waits for what has to happen; fails if it does not within ten seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("never happened: {what}");
}

struct Peer {
    index: usize,
    limit: u32,
    seen: Arc<Mutex<Vec<Seen>>>,
    script: Script,
}

type Frame = (u8, u8, u32, Vec<u8>);

impl Peer {
    async fn serve(
        self,
        stream: TlsStream<TcpStream>,
        mut commands: broadcast::Receiver<(usize, Command)>,
    ) {
        let (reader, mut writer) = tokio::io::split(stream);
        let (frames, mut incoming) = mpsc::channel(1);
        tokio::spawn(read_frames(reader, frames));
        let _ = writer.write_all(&stream_limit(self.limit)).await;
        let _ = writer.flush().await;
        let (mut frozen, mut nth) = (false, 0);
        loop {
            let reply = tokio::select! {
                command = commands.recv() => match command {
                    Ok((index, command)) if index == self.index => match command {
                        Command::Freeze => { frozen = true; continue }
                        Command::Thaw => { frozen = false; continue }
                        Command::Send(bytes) => Some(bytes),
                    },
                    Ok(_) => continue,
                    Err(_) => return,
                },
                frame = incoming.recv(), if !frozen => match frame {
                    Some(frame) => self.react(&frame, &mut nth),
                    None => return,
                },
            };
            let Some(reply) = reply else { return };
            send(&mut writer, &reply).await;
        }
    }

    fn react(&self, (kind, flags, stream, payload): &Frame, nth: &mut usize) -> Option<Vec<u8>> {
        match kind {
            1 => {
                let seen = Seen {
                    connection: self.index,
                    nth: *nth,
                    stream: *stream,
                };
                *nth += 1;
                self.seen.lock().unwrap().push(seen);
                (self.script)(seen)
            }
            4 if flags & 1 == 0 => Some(frame(4, 1, 0, &[])),
            6 if flags & 1 == 0 => Some(frame(6, 1, 0, payload)),
            _ => Some(Vec::new()),
        }
    }
}

async fn send(writer: &mut WriteHalf<TlsStream<TcpStream>>, bytes: &[u8]) {
    let _ = writer.write_all(bytes).await;
    let _ = writer.flush().await;
}

async fn read_frames(mut reader: ReadHalf<TlsStream<TcpStream>>, frames: mpsc::Sender<Frame>) {
    let mut preface = [0; 24];
    if reader.read_exact(&mut preface).await.is_err() {
        return;
    }
    let mut head = [0; 9];
    while reader.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        let read = reader.read_exact(&mut payload).await;
        if read.is_err()
            || frames
                .send((head[3], head[4], stream, payload))
                .await
                .is_err()
        {
            return;
        }
    }
}
