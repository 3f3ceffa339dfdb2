//! A gateway that accepts every push, on loopback and on threads of its own:
//! HTTP/2 without TLS, frame by frame, so that what a push takes on the wire
//! can be counted and no work of a server's library is measured.

use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

/// `END_STREAM` of HEADERS and DATA, ACK of SETTINGS and PING.
const END: u8 = 1;
const END_HEADERS: u8 = 4;

/// `authorization` in HPACK's static table.
const AUTHORIZATION: usize = 23;

/// What the clients have sent after the preface, but for PINGs and their
/// answers: these come by the clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sent {
    /// HEADERS frames.
    pub headers: u64,
    /// DATA frames.
    pub data: u64,
    /// All others.
    pub others: u64,
    /// Everything, the frames' own heads included.
    pub bytes: u64,
    /// Of these, what was in DATA frames.
    pub body: u64,
    /// Of these, the fields `authorization`: a signature is of a different
    /// length each time, once it is Huffman-coded.
    pub credential: u64,
}

/// See the module. Its threads end with their connections, or with the process.
pub struct Gateway {
    /// Where it is.
    pub url: String,
    sent: Arc<Mutex<Sent>>,
}

impl Gateway {
    /// One that answers 200 with this body.
    pub fn start(body: &'static str) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let gateway = Self {
            url: format!("http://{}", listener.local_addr()?),
            sent: Arc::default(),
        };
        let sent = Arc::clone(&gateway.sent);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let sent = Arc::clone(&sent);
                // It ends when the client goes.
                thread::spawn(move || serve(stream, body, &sent));
            }
        });
        Ok(gateway)
    }

    /// What was sent until now. The frames of a push are counted before it is
    /// answered.
    pub fn sent(&self) -> Sent {
        self.sent.lock().map_or_else(|p| *p.into_inner(), |s| *s)
    }
}

fn serve(stream: TcpStream, body: &str, sent: &Mutex<Sent>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    reader.read_exact(&mut [0; 24])?;
    let mut hello = frame(SETTINGS, 0, [0; 4], &[0, 3, 0, 0, 3, 232]);
    // Room for all the bodies that are to come, so that no window is in the way.
    hello.extend(frame(WINDOW_UPDATE, 0, [0; 4], &[0x7f, 0, 0, 0]));
    writer.write_all(&hello)?;
    let mut head = [0; 9];
    loop {
        reader.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let mut payload = vec![0; length as usize];
        reader.read_exact(&mut payload)?;
        if let Ok(mut sent) = sent.lock() {
            sent.count(kind, &payload);
        }
        let answer = match kind {
            DATA if flags & END != 0 => answer(stream, body),
            SETTINGS | PING if flags & END == 0 => {
                let echo: &[u8] = if kind == PING { &payload } else { &[] };
                frame(kind, END, stream, echo)
            }
            _ => continue,
        };
        writer.write_all(&answer)?;
    }
}

/// The one byte of its head is `:status: 200` of HPACK's static table.
fn answer(stream: [u8; 4], body: &str) -> Vec<u8> {
    if body.is_empty() {
        return frame(HEADERS, END_HEADERS | END, stream, &[0x88]);
    }
    let mut answer = frame(HEADERS, END_HEADERS, stream, &[0x88]);
    answer.extend(frame(DATA, END, stream, body.as_bytes()));
    answer
}

fn frame(kind: u8, flags: u8, stream: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let length = payload.len().to_be_bytes();
    let mut frame = length[length.len() - 3..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream);
    frame.extend(payload);
    frame
}

impl Sent {
    fn count(&mut self, kind: u8, payload: &[u8]) {
        if kind == PING {
            return;
        }
        self.bytes += 9 + payload.len() as u64;
        match kind {
            HEADERS => {
                self.headers += 1;
                self.credential += credential(payload) as u64;
            }
            DATA => {
                self.data += 1;
                self.body += payload.len() as u64;
            }
            _ => self.others += 1,
        }
    }
}

/// How long the field `authorization` is in a header block (RFC 7541, section
/// 6), for which no other field has to be decoded.
fn credential(mut block: &[u8]) -> usize {
    while let Some(first) = block.first() {
        let before = block.len();
        let name = match first {
            // Indexed, or a new size of the table: nothing follows.
            0x80.. => {
                integer(&mut block, 7);
                continue;
            }
            0x20..0x40 => {
                integer(&mut block, 5);
                continue;
            }
            0x40..0x80 => integer(&mut block, 6),
            ..0x20 => integer(&mut block, 4),
        };
        if name == 0 {
            skip_text(&mut block);
        }
        skip_text(&mut block);
        if name == AUTHORIZATION {
            return before - block.len();
        }
    }
    0
}

fn skip_text(block: &mut &[u8]) {
    let length = integer(block, 7);
    *block = block.get(length..).unwrap_or_default();
}

/// An integer with a prefix of so many bits (RFC 7541, section 5.1).
fn integer(block: &mut &[u8], prefix: u32) -> usize {
    let mut next = || {
        let (first, rest) = block.split_first().unwrap_or((&0, &[]));
        *block = rest;
        usize::from(*first)
    };
    let full = (1 << prefix) - 1;
    let mut value = next() & full;
    if value < full {
        return value;
    }
    for shift in (0..28).step_by(7) {
        let byte = next();
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}
