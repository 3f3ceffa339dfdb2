//! Reading files that people write.
//!
//! Editors on Windows put a byte-order mark in front of a text, which no
//! parser expects: it hides the first line of a PEM file and becomes part of a
//! password. It is dropped here, for every file. No binary file that is read
//! (a `.p12`, a `.cer`) can begin with one.

use std::io;
use std::path::Path;

const MARK: &[u8] = b"\xef\xbb\xbf";

/// What a file holds, without a byte-order mark.
///
/// # Errors
/// As the system says.
pub fn read(file: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = std::fs::read(file)?;
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    Ok(bytes)
}

/// The same of a file that must be text.
///
/// # Errors
/// As the system says, and when it is not UTF-8.
pub fn read_text(file: impl AsRef<Path>) -> io::Result<String> {
    let problem = "is not text in UTF-8, save it as UTF-8";
    String::from_utf8(read(file)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_dropped_and_nothing_else() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (bytes, text) in [
            (&b"\xef\xbb\xbfa\r\n"[..], Some("a\r\n")),
            (b"a\xef\xbb\xbf", Some("a\u{feff}")),
            (b"\xef\xbb\xbf", Some("")),
            (b"\xff\xfea\0", None),
        ] {
            std::fs::write(file.path(), bytes).unwrap();
            assert_eq!(read_text(file.path()).ok().as_deref(), text);
        }
        let error = read_text(file.path()).unwrap_err().to_string();
        assert!(error.contains("UTF-8"), "{error}");
        assert!(read("/no/such/file").is_err());
    }
}
