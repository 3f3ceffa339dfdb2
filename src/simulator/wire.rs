//! The bytes of one connection, under the HTTP/2 library: frames are injected
//! at frame boundaries, acknowledgements of injected SETTINGS are kept from
//! the library, and the faults of a connection happen here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::control::{Control, Mode};
use super::frames::{HEADER, PREFACE, Piece, Scanner};

const READ: usize = 16 * 1024;

/// A stream whose TCP socket can be reached, to close it with a reset.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {
    fn tcp(&self) -> &TcpStream;
}

impl Socket for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Socket for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// See the module. Without `framed` (HTTP/1.1) only the faults apply.
pub(super) struct Wire<S> {
    inner: S,
    control: Arc<Control>,
    framed: bool,
    preface: usize,
    inbound: Scanner,
    outbound: Scanner,
    ready: BytesMut,
    injecting: Bytes,
    shut: bool,
}

impl<S: Socket> Wire<S> {
    /// HTTP/2 on `inner`.
    pub(super) fn framed(inner: S, control: Arc<Control>) -> Self {
        Self::new(inner, control, true)
    }

    /// Any other protocol on `inner`.
    pub(super) fn plain(inner: S, control: Arc<Control>) -> Self {
        Self::new(inner, control, false)
    }

    fn new(inner: S, control: Arc<Control>, framed: bool) -> Self {
        Self {
            inner,
            control,
            framed,
            preface: PREFACE,
            inbound: Scanner::default(),
            outbound: Scanner::default(),
            ready: BytesMut::new(),
            injecting: Bytes::new(),
            shut: false,
        }
    }

    fn killed(&self) -> io::Error {
        // Best effort: without it the peer sees an orderly end.
        let _ = self.inner.tcp().set_zero_linger();
        io::ErrorKind::ConnectionReset.into()
    }

    /// Keeps what the library may see of `bytes` in `ready`.
    fn filter(&mut self, mut bytes: &[u8]) {
        let preface = self.preface.min(bytes.len());
        self.preface -= preface;
        self.ready.extend_from_slice(&bytes[..preface]);
        bytes = &bytes[preface..];
        while !bytes.is_empty() {
            let taken = match self.inbound.next(bytes) {
                Piece::Partial(taken) => taken,
                Piece::Payload(taken) => {
                    self.ready.extend_from_slice(&bytes[..taken]);
                    taken
                }
                Piece::Head(taken, head) => {
                    if self.control.received(head) {
                        let header: [u8; HEADER] = self.inbound.header_bytes();
                        self.ready.extend_from_slice(&header);
                    }
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
    }

    /// After GOAWAY: says goodbye and drops what still comes, so that the
    /// kernel does not turn unread bytes into a reset that outruns answers.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.shut {
            ready!(Pin::new(&mut self.inner).poll_shutdown(cx))?;
            self.shut = true;
        }
        let mut scratch = [0; 1024];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes what waits to be injected, if this is a boundary.
    fn poll_inject(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            while !self.injecting.is_empty() {
                let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.injecting))?;
                if sent == 0 {
                    return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                }
                self.injecting.advance(sent);
                if self.injecting.is_empty() {
                    // A GOAWAY may leave nothing to wait for, and reading is
                    // where the connection ends: come round once more.
                    cx.waker().wake_by_ref();
                }
            }
            if !self.framed || !self.outbound.at_boundary() {
                return Poll::Ready(Ok(()));
            }
            match self.control.next_injection() {
                Some(frame) => self.injecting = frame.into(),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    fn account(&mut self, mut written: &[u8]) {
        while !written.is_empty() {
            let taken = match self.outbound.next(written) {
                Piece::Partial(taken) | Piece::Payload(taken) => taken,
                Piece::Head(taken, head) => {
                    self.control.sent(head);
                    taken
                }
            };
            written = &written[taken..];
        }
    }
}

impl<S: Socket> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let wire = &mut *self;
        wire.control.register(cx.waker());
        loop {
            match wire.control.mode() {
                Mode::Open => {}
                Mode::BlackHole => return Poll::Pending,
                Mode::Killed => return Poll::Ready(Err(wire.killed())),
            }
            if !wire.framed {
                return Pin::new(&mut wire.inner).poll_read(cx, buffer);
            }
            if wire.injecting.is_empty() && wire.control.is_finished() {
                ready!(Pin::new(&mut wire.inner).poll_flush(cx))?;
                return wire.poll_linger(cx);
            }
            if !wire.ready.is_empty() {
                let taken = wire.ready.len().min(buffer.remaining());
                buffer.put_slice(&wire.ready[..taken]);
                wire.ready.advance(taken);
                return Poll::Ready(Ok(()));
            }
            let mut scratch = [0; READ];
            let mut read = ReadBuf::new(&mut scratch);
            ready!(Pin::new(&mut wire.inner).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            wire.filter(read.filled());
        }
    }
}

impl<S: Socket> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wire = &mut *self;
        match wire.control.mode() {
            Mode::Open => {}
            Mode::BlackHole => return Poll::Ready(Ok(bytes.len())),
            Mode::Killed => return Poll::Ready(Err(wire.killed())),
        }
        if !wire.framed {
            return Pin::new(&mut wire.inner).poll_write(cx, bytes);
        }
        ready!(wire.poll_inject(cx))?;
        let most = if wire.control.wants_to_inject() {
            wire.outbound.within_frame().min(bytes.len())
        } else {
            bytes.len()
        };
        let sent = ready!(Pin::new(&mut wire.inner).poll_write(cx, &bytes[..most]))?;
        wire.account(&bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.control.mode() {
            Mode::Open => {}
            Mode::BlackHole => return Poll::Ready(Ok(())),
            Mode::Killed => return Poll::Ready(Err(self.killed())),
        }
        ready!(self.poll_inject(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.control.mode() {
            Mode::Open => {}
            Mode::BlackHole => return Poll::Pending,
            Mode::Killed => return Poll::Ready(Err(self.killed())),
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
