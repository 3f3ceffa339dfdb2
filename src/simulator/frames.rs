//! HTTP/2 frame boundaries (RFC 9113, section 4.1): enough to find where one
//! frame ends and to write the two control frames the simulator injects.

/// Length of a frame header.
pub(super) const HEADER: usize = 9;
/// What a client sends before its first frame, RFC 9113, section 3.4.
pub(super) const PREFACE: usize = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const MAX_CONCURRENT_STREAMS: u16 = 3;
const NO_ERROR: u32 = 0;
const LONGEST_DEBUG: usize = 16_000;

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Head {
    length: usize,
    kind: u8,
    flags: u8,
    /// The stream, 0 for the connection.
    pub(super) stream: u32,
}

impl Head {
    fn parse(bytes: [u8; HEADER]) -> Self {
        let [high, middle, low, kind, flags, stream @ ..] = bytes;
        Self {
            length: usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low),
            kind,
            flags,
            stream: u32::from_be_bytes(stream) & 0x7fff_ffff,
        }
    }

    /// A SETTINGS frame that announces (not one that acknowledges).
    pub(super) fn is_settings(self) -> bool {
        self.kind == SETTINGS && self.flags & ACK == 0
    }

    pub(super) fn is_settings_ack(self) -> bool {
        self.kind == SETTINGS && self.flags & ACK != 0
    }

    pub(super) fn is_headers(self) -> bool {
        self.kind == HEADERS
    }

    pub(super) fn is_reset(self) -> bool {
        self.kind == RST_STREAM
    }

    /// Whether the sender of this frame is done with its stream.
    pub(super) fn ends_stream(self) -> bool {
        let last = matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0;
        last || self.is_reset()
    }
}

/// Walks over a byte stream of frames, however it is cut.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    head: [u8; HEADER],
    have: usize,
    left: usize,
}

/// One step of a [`Scanner`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes belong to a header that is not complete.
    Partial(usize),
    /// So many bytes complete this header.
    Head(usize, Head),
    /// So many bytes of payload.
    Payload(usize),
}

impl Scanner {
    /// Between two frames.
    pub(super) fn at_boundary(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// How many of the next bytes certainly belong to the frame under way.
    pub(super) fn within_frame(&self) -> usize {
        if self.left > 0 {
            self.left
        } else {
            HEADER - self.have
        }
    }

    /// The bytes of a header that was seen in part.
    pub(super) fn header_bytes(&self) -> [u8; HEADER] {
        self.head
    }

    /// Takes the next piece of `bytes`, which must not be empty.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Piece {
        if self.left > 0 {
            let taken = self.left.min(bytes.len());
            self.left -= taken;
            return Piece::Payload(taken);
        }
        let taken = (HEADER - self.have).min(bytes.len());
        self.head[self.have..self.have + taken].copy_from_slice(&bytes[..taken]);
        self.have += taken;
        if self.have < HEADER {
            return Piece::Partial(taken);
        }
        let head = Head::parse(self.head);
        self.have = 0;
        self.left = head.length;
        Piece::Head(taken, head)
    }
}

/// SETTINGS with a new limit of concurrent streams.
pub(super) fn settings(max_streams: u32) -> Vec<u8> {
    let mut frame = vec![0, 0, 6, SETTINGS, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&MAX_CONCURRENT_STREAMS.to_be_bytes());
    frame.extend_from_slice(&max_streams.to_be_bytes());
    frame
}

/// The limit in a frame that [`settings`] made; `None` for any other frame.
pub(super) fn settings_limit(frame: &[u8]) -> Option<u32> {
    if frame.get(3) != Some(&SETTINGS) {
        return None;
    }
    Some(u32::from_be_bytes(
        frame.get(HEADER + 2..HEADER + 6)?.try_into().ok()?,
    ))
}

/// GOAWAY with `NO_ERROR` and debug data, which is left out if it is too long
/// for any frame.
pub(super) fn goaway(last_stream: u32, debug: &[u8]) -> Vec<u8> {
    let debug = if debug.len() > LONGEST_DEBUG {
        &[]
    } else {
        debug
    };
    let length = u32::try_from(8 + debug.len()).unwrap_or(8).to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], GOAWAY, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&last_stream.to_be_bytes());
    frame.extend_from_slice(&NO_ERROR.to_be_bytes());
    frame.extend_from_slice(debug);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(scanner: &mut Scanner, mut bytes: &[u8]) -> Vec<Head> {
        let mut heads = Vec::new();
        while !bytes.is_empty() {
            let taken = match scanner.next(bytes) {
                Piece::Head(taken, head) => {
                    heads.push(head);
                    taken
                }
                Piece::Partial(taken) | Piece::Payload(taken) => taken,
            };
            bytes = &bytes[taken..];
        }
        heads
    }

    /// Injecting a frame is right only at a boundary: the scanner must find
    /// the same ones however the bytes are cut.
    #[test]
    fn boundaries_do_not_depend_on_how_bytes_arrive() {
        let mut bytes = settings(7);
        bytes.extend(goaway(5, br#"{"reason":"Shutdown"}"#));
        bytes.extend([0, 0, 0, SETTINGS, ACK, 0, 0, 0, 0]);
        let mut whole = Scanner::default();
        let expected = walk(&mut whole, &bytes);
        assert_eq!(expected.len(), 3);
        assert!(expected[0].is_settings() && expected[2].is_settings_ack());
        assert!(whole.at_boundary());
        for size in 1..20 {
            let mut scanner = Scanner::default();
            let heads: Vec<_> = bytes
                .chunks(size)
                .flat_map(|chunk| walk(&mut scanner, chunk))
                .collect();
            assert_eq!(heads, expected, "cut every {size} bytes");
            assert!(scanner.at_boundary());
        }
    }

    /// A limit that must not be crossed while something waits to be injected.
    #[test]
    fn within_a_frame_is_never_beyond_its_end() {
        let bytes = settings(1);
        let mut scanner = Scanner::default();
        assert_eq!(scanner.within_frame(), HEADER);
        assert_eq!(scanner.next(&bytes[..4]), Piece::Partial(4));
        assert_eq!(scanner.within_frame(), 5);
        assert!(matches!(scanner.next(&bytes[4..]), Piece::Head(5, _)));
        assert_eq!(scanner.within_frame(), 6);
        assert!(!scanner.at_boundary());
    }
}
