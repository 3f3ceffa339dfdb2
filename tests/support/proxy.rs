//! An HTTP proxy that opens tunnels (CONNECT), strictly, and can refuse to.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What it does about a CONNECT.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Mood {
    /// Opens the tunnel.
    Open,
    /// Opens it for `Basic` with this behind it, else asks for that.
    Basic(&'static str),
    /// Answers with this head.
    Says(&'static str),
    /// Says nothing, ever.
    Silent,
}

/// A proxy with a name service of its own: what it is asked for by name is on
/// loopback in truth.
pub(crate) struct Proxy {
    pub(crate) addr: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// A proxy that leads to `hosts`, each by its name and port.
    pub(crate) async fn start(mood: Mood, hosts: HashMap<String, SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (mood, asked) = (
            Arc::new(Mutex::new(mood)),
            Arc::<Mutex<Vec<String>>>::default(),
        );
        let (how, log, hosts) = (Arc::clone(&mood), Arc::clone(&asked), Arc::new(hosts));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mood, log, hosts) = (*how.lock().unwrap(), Arc::clone(&log), hosts.clone());
                tokio::spawn(serve(stream, mood, log, hosts));
            }
        });
        Self {
            addr,
            mood,
            asked,
            task,
        }
    }

    /// What it does from now on.
    pub(crate) fn now(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// The heads of the requests so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve(
    mut client: TcpStream,
    mood: Mood,
    log: Arc<Mutex<Vec<String>>>,
    hosts: Arc<HashMap<String, SocketAddr>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = client.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    log.lock().unwrap().push(head.clone());
    let line = head.lines().next().unwrap();
    let to = line
        .strip_prefix("CONNECT ")
        .and_then(|l| l.strip_suffix(" HTTP/1.1"));
    let to = to.unwrap_or_else(|| panic!("no CONNECT: {line}"));
    let has = |wanted: String| head.lines().any(|line| line.eq_ignore_ascii_case(&wanted));
    assert!(has(format!("host: {to}")), "{head}");
    let answer = match mood {
        Mood::Silent => std::future::pending().await,
        Mood::Says(head) => Err(head),
        Mood::Basic(login) if !has(format!("proxy-authorization: Basic {login}")) => {
            Err("407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"")
        }
        Mood::Open | Mood::Basic(_) => hosts.get(to).ok_or("502 Bad Gateway"),
    };
    match answer {
        Err(refusal) => {
            let refusal = format!("HTTP/1.1 {refusal}\r\nContent-Length: 2\r\n\r\nno");
            let _ = client.write_all(refusal.as_bytes()).await;
        }
        Ok(addr) => {
            let mut server = TcpStream::connect(addr).await.unwrap();
            let opened = b"HTTP/1.1 200 Connection established\r\nVia: 1.1 test\r\n\r\n";
            client.write_all(opened).await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    }
}
