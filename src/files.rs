//! Reading files that people write, and variables that stand in for them.
//!
//! Editors on Windows put a byte-order mark in front of a text, which no
//! parser expects: it hides the first line of a PEM file and becomes part of a
//! password. It is dropped here, for every file. No binary file that is read
//! (a `.p12`, a `.cer`) can begin with one.
//!
//! A file called `env:NAME` is what the variable NAME holds: where secrets come
//! as variables, nobody has to write them to a disk.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const MARK: &[u8] = b"\xef\xbb\xbf";
const VARIABLE: &str = "env:";

/// What a file holds, without a byte-order mark.
///
/// # Errors
/// As the system says, or that there is no such variable.
pub fn read(file: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut bytes = match variable(file.as_ref()) {
        Some(name) => decoded(of_environment(name)?),
        None => std::fs::read(file)?,
    };
    if bytes.starts_with(MARK) {
        bytes.drain(..MARK.len());
    }
    Ok(bytes)
}

/// The path of what a file names beside itself; a variable has none.
#[must_use]
pub fn beside(folder: &Path, file: &Path) -> PathBuf {
    match variable(file) {
        Some(_) => file.to_owned(),
        None => folder.join(file),
    }
}

fn variable(file: &Path) -> Option<&str> {
    file.to_str()?.strip_prefix(VARIABLE)
}

fn of_environment(name: &str) -> io::Result<Vec<u8>> {
    let value = env::var(name).unwrap_or_default();
    if value.is_empty() {
        let problem = format!(
            "the variable {name} is not set, or holds no text; set it where the worker is started"
        );
        return Err(io::Error::new(io::ErrorKind::NotFound, problem));
    }
    Ok(value.into_bytes())
}

/// Base64 is undone only where that gives something that a file would hold: a
/// password may look like base64 too. Where a variable has one line only, the
/// lines of a PEM are often joined by a written `\n`.
fn decoded(text: Vec<u8>) -> Vec<u8> {
    if is_pem(&text) && !text.contains(&b'\n') {
        let lines = String::from_utf8_lossy(&text).replace("\\n", "\n");
        return lines.into_bytes();
    }
    let mut packed = text.clone();
    packed.retain(|byte| !byte.is_ascii_whitespace());
    match STANDARD.decode(packed) {
        Ok(bytes) if is_pem(&bytes) || is_json(&bytes) || is_der(&bytes) => bytes,
        Ok(_) | Err(_) => text,
    }
}

fn is_pem(bytes: &[u8]) -> bool {
    let begin: &[u8] = b"-----BEGIN ";
    bytes.windows(begin.len()).any(|part| part == begin)
}

fn is_json(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(MARK).unwrap_or(bytes);
    text.trim_ascii_start().starts_with(b"{")
        && serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok()
}

/// A sequence as long as it says (PKCS#12, a certificate).
fn is_der(bytes: &[u8]) -> bool {
    match *bytes {
        [0x30, 0x82, high, low, ..] => {
            usize::from(u16::from_be_bytes([high, low])) + 4 == bytes.len()
        }
        // So long, or of a length that is not said: no password is.
        [0x30, 0x80 | 0x83, ..] => bytes.len() > 256,
        _ => false,
    }
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

    #[test]
    fn base64_is_undone_where_a_file_comes_out_and_passwords_are_left_alone() {
        let pem = b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n";
        let der = [&[0x30, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        for file in [&pem[..], br#"{"type":"service_account"}"#, &der] {
            let text = STANDARD.encode(file);
            let (one, other) = text.split_at(16);
            assert_eq!(decoded(format!("{one}\n{other}\n").into()), file);
            assert_eq!(decoded(file.to_vec()), file);
        }
        // Each of them is base64; of "ezra1234" the first byte is a brace.
        for password in ["hunter22", "ezra1234", "MIIB1234", "MIAB1234"] {
            assert!(STANDARD.decode(password).is_ok());
            assert_eq!(decoded(password.into()), password.as_bytes());
        }
    }

    #[test]
    fn a_variable_is_named_and_its_value_never() {
        let error = read("env:RINGPUSH_NO_SUCH_VARIABLE").unwrap_err();
        let error = error.to_string();
        assert!(
            error.starts_with("the variable RINGPUSH_NO_SUCH_VARIABLE is not set"),
            "{error}"
        );
        assert_eq!(
            read("env:PATH").unwrap(),
            env::var("PATH").unwrap().as_bytes()
        );
        let folder = Path::new("/etc/ringpush");
        assert_eq!(beside(folder, Path::new("env:A")), Path::new("env:A"));
        assert_eq!(beside(folder, Path::new("a.p8")), folder.join("a.p8"));
    }

    #[test]
    fn the_lines_of_a_pem_in_a_variable_may_be_joined_by_a_written_line_break() {
        let pem = "-----BEGIN X-----\nAAAA\n-----END X-----\n";
        let joined = pem.replace('\n', "\\n").into_bytes();
        assert_eq!(decoded(joined), pem.as_bytes());
        assert_eq!(decoded(pem.into()), pem.as_bytes());
    }
}
