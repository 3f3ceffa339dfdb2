//! The code in `docs/clients/` reads keys that are there, as what they are.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may end where it stumbles"
)]

#[path = "producers/tools.rs"]
mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Seek as _, Write as _};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A fenced block and the comment in the line above it.
struct Block {
    file: PathBuf,
    /// `reads plain ios`, or empty.
    marker: String,
    language: String,
    code: String,
}

fn blocks() -> Vec<Block> {
    let mut found = Vec::new();
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("docs/clients"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let mut above = "";
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(language) = line.strip_prefix("```") {
                let code: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                let marker = above
                    .strip_prefix("<!-- ")
                    .and_then(|m| m.strip_suffix(" -->"));
                found.push(Block {
                    file: file.clone(),
                    marker: marker.unwrap_or_default().to_owned(),
                    language: language.to_owned(),
                    code: code.join("\n"),
                });
            }
            above = line;
        }
    }
    found
}

/// One access to a payload: of the variable `push`, or of what is nested in
/// `extra`; and what follows it, which says what it is read as.
#[derive(Debug)]
struct Access {
    nested: bool,
    key: String,
    rest: String,
}

impl Access {
    /// Whether a value is what the code reads it as.
    fn fits(&self, value: &Value) -> bool {
        let rest = self.rest.trim_start();
        let flag = matches!(value.as_str(), Some("true" | "false"));
        let number = value.as_str().is_some_and(|t| t.parse::<i64>().is_ok());
        let casts = [
            ("as? String", value.is_string()),
            ("as? Bool", value.is_boolean()),
            ("as? NSNumber", value.is_number()),
            ("as? [String: Any]", value.is_object()),
            ("as String", value.is_string()),
            ("?.toLongOrNull()", number),
            ("== \"true\"", flag),
            ("=== \"true\"", flag),
            ("== 'true'", flag),
        ];
        casts
            .iter()
            .all(|(cast, fits)| *fits || !rest.starts_with(cast))
    }
}

fn accesses(block: &Block) -> Vec<Access> {
    let mut found = Vec::new();
    for (name, nested) in [("push", false), ("extra", true)] {
        for (at, _) in block.code.match_indices(name) {
            let before = block.code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '\'' | '"')) {
                continue;
            }
            let rest = &block.code[at + name.len()..];
            let key = ["[\"", "['"].iter().find_map(|open| {
                let quote = &open[1..];
                let (key, _) = rest.strip_prefix(open)?.split_once(quote)?;
                Some((key.to_owned(), open.len() + key.len() + 2))
            });
            let member = || {
                let name = rest.strip_prefix('.').filter(|_| block.language == "js")?;
                let end = name.find(|c: char| !c.is_alphanumeric() && c != '_');
                let key = &name[..end.unwrap_or(name.len())];
                Some((key.to_owned(), 1 + key.len()))
            };
            if let Some((key, length)) = key.or_else(member) {
                let rest = rest[length..].chars().take(24).collect();
                found.push(Access { nested, key, rest });
            }
        }
    }
    found
}

/// What a phone gets: the fixtures of ring and cancel, one over the other.
fn fixture(profile: &str, platform: &str) -> Map<String, Value> {
    let mut all = Map::new();
    for kind in ["cancel", "ring"] {
        let path = format!("fixtures/profiles/{profile}/{kind}.{platform}.json");
        if let Ok(text) = fs::read_to_string(root().join(path)) {
            all.extend(serde_json::from_str::<Map<String, Value>>(&text).unwrap());
        }
    }
    // Only a cancel with mode `background` brings it to an iPhone.
    if profile == "plain" && platform == "ios" {
        let text = fixture(profile, "android");
        all.insert("reason".to_owned(), text["reason"].clone());
    }
    all
}

fn nested(payload: &Map<String, Value>) -> Map<String, Value> {
    match &payload["extra"] {
        Value::Object(extra) => extra.clone(),
        Value::String(text) => serde_json::from_str(text).unwrap(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_)) => {
            panic!("extra is {other}")
        }
    }
}

#[test]
fn every_key_that_the_code_reads_is_in_the_fixtures_with_that_type() {
    let mut read: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for block in blocks() {
        let words: Vec<&str> = block.marker.split(' ').collect();
        let found = accesses(&block);
        let name = block.file.file_name().unwrap().to_str().unwrap();
        let ["reads", profile, platform] = words[..] else {
            let unmarked = found.is_empty() || words[0] == "sealed";
            assert!(
                unmarked,
                "{name}: {found:?} in a block that does not say of which profile"
            );
            continue;
        };
        assert!(!found.is_empty(), "{name}: {} reads nothing", block.marker);
        let payload = fixture(profile, platform);
        for access in found {
            let within = if access.nested {
                nested(&payload)
            } else {
                payload.clone()
            };
            let value = within.get(&access.key);
            let value =
                value.unwrap_or_else(|| panic!("{name}: no {access:?} in {profile} on {platform}"));
            assert!(access.fits(value), "{name}: {access:?} is {value}");
            let place = format!("{name} {platform}");
            read.entry(place).or_default().insert(access.key);
        }
    }
    // Each knows its call by UUID and looks at the deadline.
    let wanted = [
        ("android.md android", "call_uuid"),
        ("flutter.md android", "id"),
        ("flutter.md ios", "id"),
        ("ios.md ios", "call_uuid"),
        ("react-native.md android", "uuid"),
        ("react-native.md ios", "uuid"),
    ];
    for (place, uuid) in wanted {
        assert!(read[place].contains(uuid), "{place}: {uuid}");
        assert!(read[place].contains("expires_at"), "{place}: expires_at");
    }
    assert_eq!(read.len(), wanted.len());
}

/// A block that is marked as sealed reads what every sealed payload has.
#[test]
fn sealed_payloads_are_read_as_they_come() {
    let mut count = 0;
    for block in blocks() {
        if block.marker.starts_with("sealed") {
            for access in accesses(&block) {
                let known = ["sealed", "call_uuid", "expires_at"];
                assert!(known.contains(&access.key.as_str()), "{access:?}");
                count += 1;
            }
        }
    }
    assert!(count > 0);
}

/// Every bracket closes, wherever the tests run. JavaScript is parsed by Node.
#[test]
fn the_code_is_whole() {
    let mut count = 0;
    for block in blocks() {
        if matches!(block.language.as_str(), "swift" | "kotlin" | "dart" | "js") {
            let place = format!("{}: {}", block.file.display(), block.code);
            assert_eq!(unbalanced(&block.code), None, "{place}");
            count += 1;
        }
    }
    assert!(count >= 12, "only {count} blocks");
    let Some(node) = tools::node("examples/producers/cometchat-webhook") else {
        return;
    };
    for (index, block) in blocks().iter().filter(|b| b.language == "js").enumerate() {
        let file = tempfile::Builder::new().suffix(".mjs").tempfile().unwrap();
        fs::write(file.path(), &block.code).unwrap();
        let mut check = node.command("node", &[]);
        tools::done(check.arg("--check").arg(file.path()));
        assert!(index < 10);
    }
}

/// There is no compiler for Swift, Kotlin and Dart here, but a grammar.
#[test]
fn the_code_is_swift_kotlin_and_dart() {
    let Some(python) = tools::python("tests/parsers") else {
        return;
    };
    let mut lines = Vec::new();
    for block in blocks() {
        if matches!(block.language.as_str(), "swift" | "kotlin" | "dart") {
            let place = block.file.file_name().unwrap().to_str().unwrap();
            let line = json!({"place": place, "language": block.language, "code": block.code});
            lines.push(line.to_string());
        }
    }
    assert!(lines.len() >= 12, "only {} blocks", lines.len());
    let faults = |lines: &[String]| {
        let mut input = tempfile::tempfile().unwrap();
        input.write_all(lines.join("\n").as_bytes()).unwrap();
        input.rewind().unwrap();
        let mut parse = python.command("python", &[]);
        let output = tools::done(parse.arg("parse.py").stdin(input));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(faults(&lines), "");
    let broken = json!({"place": "here", "language": "kotlin", "code": "fun f( = 1"});
    assert!(faults(&[broken.to_string()]).starts_with("here, line 1"));
}

/// The first bracket that closes nothing, or is not closed. Texts and comments
/// are skipped.
fn unbalanced(code: &str) -> Option<char> {
    let mut open = Vec::new();
    let mut chars = code.chars().peekable();
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => {
                chars.next();
            }
            (Some(q), c) if c == q => quote = None,
            (None, '/') if chars.peek() == Some(&'/') => {
                while chars.next_if(|c| *c != '\n').is_some() {}
            }
            (None, '/') if chars.peek() == Some(&'*') => {
                let mut last = ' ';
                for c in chars.by_ref() {
                    if last == '*' && c == '/' {
                        break;
                    }
                    last = c;
                }
            }
            (None, '"' | '\'' | '`') => quote = Some(c),
            (None, '(' | '[' | '{') => open.push(c),
            (None, ')' | ']' | '}') => {
                let wanted = match c {
                    ')' => '(',
                    ']' => '[',
                    _ => '{',
                };
                if open.pop() != Some(wanted) {
                    return Some(c);
                }
            }
            (Some(_) | None, _) => {}
        }
    }
    quote.or_else(|| open.pop())
}
