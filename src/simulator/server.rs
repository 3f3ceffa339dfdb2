//! A listener and its connections: up, down, and up again on the same port.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, HANDSHAKE, Stops};
use super::kind::ServerKind;
use super::play::Endpoint;
use super::token_connection;
use super::world::World;

/// How long requests under way may take when a server is stopped gracefully.
const GRACE: Duration = Duration::from_secs(5);
/// How long a port may stay taken by a connection that is just ending.
const REBIND: Duration = Duration::from_secs(3);
/// Connections at once; more are closed.
const MOST: usize = 10_000;
/// The longest stall.
const STALL: Duration = Duration::from_secs(600);

/// How a server goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// GOAWAY on every connection, requests under way are answered.
    Graceful,
    /// Every connection is reset.
    Abrupt,
}

/// One of the servers.
pub struct Server {
    kind: ServerKind,
    address: SocketAddr,
    world: Arc<World>,
    tls: Option<TlsAcceptor>,
    running: tokio::sync::Mutex<Option<Running>>,
    connections: AtomicUsize,
    /// The simulator is over: everything ends, an outage does not.
    over: CancellationToken,
}

struct Running {
    listening: Option<(CancellationToken, JoinHandle<()>)>,
    stops: Stops,
    tasks: TaskTracker,
}

impl Server {
    /// Binds and starts. Port 0 takes a free one, which then stays the same.
    pub(super) async fn start_new(
        kind: ServerKind,
        address: SocketAddr,
        world: Arc<World>,
        tls: Option<TlsAcceptor>,
    ) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind(address).await?;
        let server = Arc::new(Self {
            kind,
            address: listener.local_addr()?,
            world,
            tls,
            running: tokio::sync::Mutex::new(None),
            connections: AtomicUsize::new(0),
            over: CancellationToken::new(),
        });
        let mut running = server.running.lock().await;
        server.listen(&mut running, listener);
        drop(running);
        Ok(server)
    }

    /// Which of the servers this is.
    #[must_use]
    pub fn kind(&self) -> ServerKind {
        self.kind
    }

    /// Where it listens, or will again.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Acquire)
    }

    /// `https://…`, or `http://…` of the token server.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Listens again on the same port; nothing if it does already.
    ///
    /// # Errors
    /// The port is taken by somebody else.
    pub async fn start(self: &Arc<Self>) -> io::Result<()> {
        let mut running = self.running.lock().await;
        let listening = |running: &Running| running.listening.is_some();
        if running.as_ref().is_some_and(listening) {
            return Ok(());
        }
        let give_up = Instant::now() + REBIND;
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) if Instant::now() >= give_up => return Err(error),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        self.listen(&mut running, listener);
        Ok(())
    }

    /// Ends every connection and refuses new ones until [`Self::start`].
    pub async fn stop(&self, how: Stop) {
        let mut running = self.running.lock().await;
        let Some(mut running) = running.take() else {
            return;
        };
        running.refuse().await;
        running.tasks.close();
        if how == Stop::Graceful {
            running.stops.drain.cancel();
            // What is not done by then is reset.
            let _ = timeout(GRACE, running.tasks.wait()).await;
        }
        running.stops.kill.cancel();
        running.tasks.wait().await;
    }

    /// Refuses new connections until [`Self::start`]; those there are go on.
    pub async fn refuse(&self) {
        if let Some(running) = self.running.lock().await.as_mut() {
            running.refuse().await;
        }
    }

    /// An outage of its own accord: refuses new connections for `time`, and
    /// with `reset` ends those there are.
    fn interrupt(self: &Arc<Self>, time: Duration, reset: bool) {
        let server = Arc::clone(self);
        tokio::spawn(async move {
            if reset {
                server.stop(Stop::Abrupt).await;
            } else {
                server.refuse().await;
            }
            sleep(time).await;
            if !server.over.is_cancelled()
                && let Err(error) = server.start().await
            {
                tracing::error!(server = %server.kind, %error, "simulator: cannot listen again");
            }
        });
    }

    /// Ends everything without waiting, for good.
    pub(super) fn abandon(&self) {
        self.over.cancel();
    }

    /// Ends everything for good and waits for it.
    pub(super) async fn end(&self, how: Stop) {
        self.stop(how).await;
        self.over.cancel();
    }

    fn listen(self: &Arc<Self>, slot: &mut Option<Running>, listener: TcpListener) {
        let running = slot.get_or_insert_with(|| Running {
            listening: None,
            stops: Stops {
                drain: CancellationToken::new(),
                kill: self.over.child_token(),
            },
            tasks: TaskTracker::new(),
        });
        let until = running.stops.kill.child_token();
        let (stops, tasks) = (running.stops.clone(), running.tasks.clone());
        let accepting = Arc::clone(self).accept(listener, until.clone(), stops, tasks);
        running.listening = Some((until, tokio::spawn(accepting)));
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        until: CancellationToken,
        stops: Stops,
        tasks: TaskTracker,
    ) {
        loop {
            let accepted = tokio::select! {
                () = until.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(_) if self.connections() >= MOST => {}
                Ok((stream, _)) => {
                    tasks.spawn(Arc::clone(&self).connection(stream, stops.clone()));
                }
                // Out of descriptors: let some connection end first.
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, stops: Stops) {
        self.connections.fetch_add(1, Ordering::AcqRel);
        // Delayed packets would distort measurements; not worth refusing for.
        let _ = stream.set_nodelay(true);
        let id = self.world.next_connection();
        let server = Arc::clone(&self);
        let endpoint = Endpoint {
            kind: self.kind,
            world: Arc::clone(&self.world),
            interrupt: Box::new(move |time, reset| server.interrupt(time, reset)),
        };
        if self.world.player.connection(self.kind).is_some() {
            stalled(&stops).await;
            let _ = stream.set_zero_linger();
        } else if let Some(acceptor) = &self.tls {
            let accepted = tokio::select! {
                accepted = timeout(HANDSHAKE, acceptor.accept(stream)) => accepted.ok(),
                () = stops.kill.cancelled() => None,
            };
            if let Some(Ok(stream)) = accepted
                && stream.get_ref().1.alpn_protocol() == Some(b"h2")
            {
                connection::serve(stream, endpoint, id, stops).await;
            }
        } else {
            token_connection::serve(stream, endpoint, id, stops).await;
        }
        self.connections.fetch_sub(1, Ordering::AcqRel);
    }
}

async fn stalled(stops: &Stops) {
    tokio::select! {
        () = stops.kill.cancelled() => {}
        () = stops.drain.cancelled() => {}
        () = sleep(STALL) => {}
    }
}

impl Running {
    async fn refuse(&mut self) {
        if let Some((token, task)) = self.listening.take() {
            token.cancel();
            // The port is free once the task has dropped the listener.
            let _ = task.await;
        }
    }
}
