//! The documents agree with the files they speak of.

#![allow(clippy::unwrap_used, reason = "a test may end where it stumbles")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn links_between_documents_lead_somewhere() {
    let mut broken = Vec::new();
    let mut count = 0;
    for (path, text) in documents() {
        for link in links(&prose(&text)) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() {
                path.clone()
            } else {
                path.parent().unwrap().join(file)
            };
            let found = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !found {
                broken.push(format!("{}: {link}", path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
    assert!(count > 10, "only {count} links were found");
}

/// 25 s of grace, 2 s to close connections, 1 s for the admin address and 2 s
/// for the last spans: who waits for 30 s may kill it one moment early.
#[test]
fn whatever_stops_a_worker_waits_for_its_grace_and_its_goodbyes() {
    for (file, setting) in [
        ("deploy/compose.yaml", "stop_grace_period: "),
        ("deploy/systemd/ringpush.service", "TimeoutStopSec="),
        (
            "deploy/kubernetes/deployment.yaml",
            "terminationGracePeriodSeconds: ",
        ),
        ("docs/operations.md", "--stop-timeout "),
    ] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        let mut values = text.split(setting).skip(1).peekable();
        assert!(values.peek().is_some(), "{file}: no {setting}");
        for value in values {
            let digits = value.split(|c: char| !c.is_ascii_digit()).next().unwrap();
            let seconds: u32 = digits.parse().unwrap();
            assert!(seconds >= 35, "{file}: {setting}{seconds}");
        }
    }
}

#[test]
fn json_in_documents_is_json() {
    for (path, text) in documents() {
        for block in blocks(&text, "json") {
            let parsed = serde_json::from_str::<serde_json::Value>(&block);
            assert!(parsed.is_ok(), "{}: {:?}\n{block}", path.display(), parsed);
        }
    }
}

#[test]
fn events_in_documents_pass_the_schema() {
    let schema = root().join("docs/schema/event-v1.schema.json");
    let schema = serde_json::from_str(&fs::read_to_string(schema).unwrap()).unwrap();
    let schema = jsonschema::draft202012::new(&schema).unwrap();
    let mut count = 0;
    for (path, text) in documents() {
        for block in blocks(&text, "json") {
            let value: serde_json::Value = serde_json::from_str(&block).unwrap();
            // Reports have a type; payloads have no version, or their times as numbers.
            if value["v"].is_u64() && value["sent_at"].is_string() && value.get("type").is_none() {
                count += 1;
                let problems: Vec<String> =
                    schema.iter_errors(&value).map(|e| e.to_string()).collect();
                assert!(problems.is_empty(), "{}: {problems:?}", path.display());
            }
        }
    }
    assert!(count >= 2, "only {count} events were found");
}

/// What one of them explains and the other lacks would be a key that is lost or
/// one that does not exist.
#[test]
fn the_example_configuration_and_its_reference_have_the_same_keys() {
    let documented = documented_keys();
    let example = example_keys();
    assert_eq!(documented, example);
    assert!(example.len() > 30, "only {} keys", example.len());
}

#[test]
fn environment_names_follow_from_the_keys() {
    let mut count = 0;
    for line in configuration().lines() {
        let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`'));
        let (Some(""), Some(key), Some(_), Some(variable)) =
            (cells.next(), cells.next(), cells.next(), cells.next())
        else {
            continue;
        };
        if variable.starts_with("RINGPUSH__") {
            let expected = format!("RINGPUSH__{}", key.to_uppercase().replace('.', "__"));
            assert_eq!(variable, expected);
            count += 1;
        }
    }
    assert!(count > 25, "only {count} variables were found");
}

#[test]
fn every_direct_dependency_is_accounted_for() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let account = fs::read_to_string(root().join("docs/dependencies.md")).unwrap();
    let mut section = "";
    let mut count = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once(" = ")
            && !name.starts_with('#')
        {
            count += 1;
            assert!(
                account.contains(&format!("`{name}`")),
                "docs/dependencies.md does not say why {name} is there"
            );
        }
    }
    assert!(count > 30, "only {count} dependencies were found");
}

fn configuration() -> String {
    fs::read_to_string(root().join("docs/configuration.md")).unwrap()
}

/// The first cell of each row: `` `amqp.url` ``.
fn documented_keys() -> BTreeSet<String> {
    configuration()
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key.replace("\"NAME\"", "NAME"))
        .collect()
}

/// Every key of the example, those that are commented out too: `# key = …`.
fn example_keys() -> BTreeSet<String> {
    let text = fs::read_to_string(root().join("config/ringpush.toml")).unwrap();
    let mut keys = BTreeSet::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            name.replace("\"com.example.calls\"", "NAME")
                .clone_into(&mut table);
            continue;
        }
        let line = line.strip_prefix("# ").unwrap_or(line);
        if let Some((key, _)) = line.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            keys.insert(format!("{table}.{key}"));
        }
    }
    keys
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the project with its text.
fn documents() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules"
            {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    found
}

/// The fenced blocks of a language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<Vec<&str>> = None;
    for line in text.lines() {
        match (&mut block, line.trim_start().strip_prefix("```")) {
            (None, Some(word)) if word == language => block = Some(Vec::new()),
            (Some(lines), Some(_)) => {
                found.push(lines.join("\n"));
                block = None;
            }
            (Some(lines), None) => lines.push(line),
            (None, _) => {}
        }
    }
    found
}

/// A text without its fenced blocks.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept.push(line);
        }
    }
    kept.join("\n")
}

fn links(text: &str) -> Vec<String> {
    text.split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(link, _)| link.to_owned())
        .collect()
}

/// The names under which a document's headings can be linked to.
fn anchors(text: &str) -> BTreeSet<String> {
    prose(text)
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| {
            line.trim_start_matches('#')
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect()
        })
        .collect()
}
