//! A client that writes and reads HTTP/2 frames by hand, to see what a library
//! hides: SETTINGS, last stream ids, debug data.

use ringpush::simulator::Simulator;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::client::{PATIENCE, Push, tls};

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;

#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`, if it is among these settings.
    pub fn max_streams(&self) -> Option<u32> {
        let entries = self.payload.chunks_exact(6);
        let mut found = entries.filter(|entry| self.kind == SETTINGS && entry[..2] == [0, 3]);
        found
            .next()
            .map(|entry| u32::from_be_bytes(entry[2..].try_into().unwrap()))
    }

    /// Last stream and debug data.
    pub fn goaway(&self) -> (u32, String) {
        assert_eq!(self.kind, GOAWAY);
        let last = u32::from_be_bytes(self.payload[..4].try_into().unwrap());
        (last, String::from_utf8(self.payload[8..].to_vec()).unwrap())
    }

    /// Whether these headers say 200: entry 8 of HPACK's static table.
    pub fn is_ok(&self) -> bool {
        self.kind == HEADERS && self.payload.first() == Some(&0x88)
    }
}

pub struct Raw {
    stream: TlsStream<TcpStream>,
    next: u32,
}

impl Raw {
    /// Connects and says hello.
    pub async fn connect(url: &str, simulator: &Simulator) -> Self {
        let mut raw = Self {
            stream: tls(url, simulator.ca_pem(), None).await.unwrap(),
            next: 1,
        };
        raw.stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .await
            .unwrap();
        raw.write(SETTINGS, 0, 0, &[]).await;
        raw
    }

    pub async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.stream.write_all(&frame).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    pub async fn acknowledge(&mut self) {
        self.write(SETTINGS, 1, 0, &[]).await;
    }

    /// Sends a request and gives its stream's number.
    pub async fn start(&mut self, push: &Push) -> u32 {
        let stream = self.open(push).await;
        self.write(0, 1, stream, &push.body).await;
        stream
    }

    /// Sends a request without its body.
    pub async fn open(&mut self, push: &Push) -> u32 {
        let stream = self.next;
        self.next += 2;
        let mut block = Vec::new();
        literal(&mut block, ":method", &push.method);
        literal(&mut block, ":scheme", "https");
        literal(&mut block, ":authority", "localhost");
        literal(&mut block, ":path", &push.path);
        for (name, value) in &push.headers {
            literal(&mut block, name, value);
        }
        self.write(HEADERS, 4, stream, &block).await;
        stream
    }

    /// The next frame; `None` at the end of the connection, however it came.
    pub async fn read(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.read_frame())
            .await
            .expect("no frame in time")
    }

    async fn read_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream,
            payload,
        })
    }

    /// Frames up to the first that fits.
    pub async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Frame {
        loop {
            let frame = self.read().await.expect("the connection ended");
            if wanted(&frame) {
                return frame;
            }
        }
    }
}

/// HPACK: a literal that is never indexed, with a new name.
fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0x10);
    for text in [name, value] {
        integer(block, text.len());
        block.extend_from_slice(text.as_bytes());
    }
}

/// HPACK: an integer with a prefix of seven bits.
fn integer(block: &mut Vec<u8>, mut number: usize) {
    if number < 127 {
        block.push(u8::try_from(number).unwrap());
        return;
    }
    block.push(127);
    number -= 127;
    while number >= 128 {
        block.push(u8::try_from(number % 128).unwrap() | 128);
        number /= 128;
    }
    block.push(u8::try_from(number).unwrap());
}
