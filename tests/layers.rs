//! The house's plan, held against its walls: a module uses only what is below
//! it, nothing goes round in a circle, and there is one TLS and HTTP/2 stack.

#![allow(clippy::unwrap_used, reason = "a test may end where it stumbles")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

#[path = "layers/files.rs"]
mod files;

const LEAVES: [&str; 5] = ["files", "metrics", "shutdown", "spans", "trust"];
const ADAPTERS: [&str; 5] = [
    "amqp",
    "providers",
    "providers::apns",
    "providers::fcm",
    "providers::probe",
];
/// What the providers share.
const SHARED: [&str; 5] = [
    "providers::endpoint",
    "providers::http1",
    "providers::http2",
    "providers::retry",
    "providers::tls",
];

/// What a module may use, besides itself. `None`: it stands in no layer.
fn allowed(module: &str) -> Option<BTreeSet<&'static str>> {
    let core = || LEAVES.into_iter().chain(["call"]);
    let below_shell = || core().chain(ADAPTERS).chain(SHARED).chain(["engine"]);
    let shell = ["config", "admin", "telemetry"];
    Some(match module {
        "lib" | "main" | "cli" => below_shell()
            .chain(shell)
            .chain(["app", "cli", "simulator"])
            .collect(),
        "app" | "config" | "admin" | "telemetry" => below_shell().chain(shell).collect(),
        "amqp" => core().chain(["engine"]).collect(),
        "providers" => ADAPTERS.into_iter().chain(SHARED).collect(),
        "providers::apns" | "providers::fcm" | "providers::probe" | "providers::http1"
        | "providers::http2" => core().chain(SHARED).collect(),
        "providers::endpoint" | "providers::retry" | "providers::tls" => LEAVES.into(),
        "engine" => core().collect(),
        // It judges the clients: what it shared with them would cancel out.
        "simulator" => ["files", "shutdown"].into(),
        "trust" => ["files"].into(),
        "call" | "files" | "metrics" | "shutdown" | "spans" => BTreeSet::new(),
        _ => return None,
    })
}

#[test]
fn a_module_uses_only_what_is_below_it() {
    let mut faults = Vec::new();
    for source in sources() {
        let Some(allowed) = allowed(&source.module) else {
            faults.push(format!(
                "{}: `{}` stands in no layer; say in tests/layers.rs where it belongs",
                source.path.display(),
                source.module
            ));
            continue;
        };
        for used in &source.uses {
            if *used != source.module && !allowed.contains(used.as_str()) {
                faults.push(format!(
                    "{}: `{}` must not know `{used}`",
                    source.path.display(),
                    source.module
                ));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn no_circle_of_modules() {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources() {
        // `providers` only declares its folders; the two floors of its path
        // are not two modules that use each other.
        if source.module != "lib" && source.module != "providers" {
            let used = source.uses.into_iter().filter(|u| *u != source.module);
            graph.entry(source.module.clone()).or_default().extend(used);
        }
    }
    // Whoever uses nothing that is left goes; what stays is in a circle or
    // stands on one.
    loop {
        let left: BTreeSet<String> = graph.keys().cloned().collect();
        let before = graph.len();
        graph.retain(|_, used| used.iter().any(|u| left.contains(u)));
        if graph.len() == before {
            break;
        }
    }
    assert!(graph.is_empty(), "modules in a circle: {graph:#?}");
}

#[test]
fn no_ring_of_files() {
    let sources = sources()
        .into_iter()
        .map(|source| (source.place, source.text));
    let imports = files::imports(&sources.collect::<Vec<_>>());
    let rings = files::rings(&imports);
    let shown = rings.iter().map(|ring| {
        let arrow = |file: &files::Place| {
            let inside = imports[file].iter().filter(|other| ring.contains(*other));
            let others: Vec<String> = inside.map(|other| other.join("::")).collect();
            format!("\n    {} -> {}", file.join("::"), others.join(", "))
        };
        format!("a ring:{}\n", ring.iter().map(arrow).collect::<String>())
    });
    let shown: String = shown.collect();
    assert!(shown.is_empty(), "\n{shown}");
}

/// Any file may begin with a byte-order mark, which `files` drops.
#[test]
fn files_are_read_in_one_place() {
    for source in sources() {
        let code = source.text.split("#[cfg(test)]\nmod ").next().unwrap();
        let reads = ["fs::read(", "fs::read_to_string(", "File::open("];
        // `bench` reads /proc and the logs of what it started.
        let exempt = ["files", "cli::bench::usage", "cli::bench::broker"];
        assert!(
            exempt.contains(&source.place.join("::").as_str())
                || !reads.iter().any(|read| code.contains(read)),
            "{}: read it by crate::files",
            source.path.display()
        );
    }
}

#[test]
fn one_tls_and_one_http_stack() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    let names: Vec<&str> = lock
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .collect();
    for once in ["rustls", "hyper", "h2", "ring", "tokio-rustls"] {
        let count = names.iter().filter(|name| **name == once).count();
        assert_eq!(count, 1, "{once} stands {count} times in Cargo.lock");
    }
    for never in ["aws-lc-rs", "aws-lc-sys", "openssl-sys", "native-tls"] {
        assert!(!names.contains(&never), "{never} came into the tree");
    }
}

/// The reader itself must not go blind, or the tests above pass on anything.
#[test]
fn uses_are_found_however_they_are_written() {
    let found = |text: &str, path: &[&str]| -> Vec<String> {
        let path: Vec<String> = path.iter().map(|&p| p.to_owned()).collect();
        uses(text, &path).into_iter().collect()
    };
    let apns = ["providers", "apns", "client"];
    assert_eq!(found("use crate::call::event::Event;", &apns), ["call"]);
    assert_eq!(
        found(
            "use crate::{\n    engine::{lane, tokens},\n    metrics,\n    providers::fcm,\n};",
            &apns
        ),
        ["engine", "metrics", "providers::fcm"]
    );
    assert_eq!(
        found("use crate::providers::{fcm::Client, tls};", &apns),
        ["providers::fcm", "providers::tls"]
    );
    assert_eq!(
        found("let x = super::super::fcm::client();", &apns),
        ["providers::fcm"]
    );
    assert_eq!(found("pub(crate) fn f() {}", &apns), [""; 0]);
    assert_eq!(found("// as crate::engine does", &apns), [""; 0]);
    assert_eq!(found("use ringpush::cli::main;", &["main"]), ["cli"]);
    assert_eq!(
        found(
            "use crate::metrics::M;\n#[cfg(test)]\nmod tests {\n    use crate::simulator;\n}",
            &apns
        ),
        ["metrics"]
    );
    assert!(sources().len() > 10, "the sources were not found");
}

/// Nor may the reader of files: a ring through a name that a folder passes on
/// is one, a folder that only passes names on is in none.
#[test]
fn a_ring_of_files_is_found_through_what_folders_pass_on() {
    let rings = |texts: &[(&str, &str)]| {
        let sources: Vec<(files::Place, String)> = texts
            .iter()
            .map(|(place, text)| {
                (
                    place.split("::").map(str::to_owned).collect(),
                    (*text).to_owned(),
                )
            })
            .collect();
        files::rings(&files::imports(&sources)).len()
    };
    let folder = (
        "a",
        "mod b;\nmod c;\npub use b::B;\npub(crate) use c::{C, D as E};",
    );
    let one = ("a::b", "use super::{C,\n    x};\npub struct B;");
    assert_eq!(rings(&[folder, one, ("a::c", "pub struct C;")]), 0);
    assert_eq!(rings(&[folder, one, ("a::c", "fn c() -> super::B { }")]), 1);
    assert_eq!(rings(&[folder, one, ("a::c", "use crate::a::b;")]), 1);
    assert_eq!(rings(&[folder, one, ("a::c", "// use super::B;")]), 0);
    assert_eq!(
        rings(&[
            folder,
            one,
            ("a::c", "#[cfg(test)]\nmod tests {\n use super::B;\n}")
        ]),
        0
    );
    let alias = ("a::b", "use super::E;\npub struct B;");
    assert_eq!(
        rings(&[folder, alias, ("a::c", "use super::B;\npub struct D;")]),
        1
    );
    let user = ("a", "mod b;\nuse b::B;\npub struct A;");
    assert_eq!(rings(&[user, ("a::b", "use super::A;")]), 1);
    assert_eq!(rings(&[user, ("a::b", "pub(in crate::a) struct B;")]), 0);
    let caller = ("a", "mod b;\npub struct A;\nfn a() { b::go() }");
    assert_eq!(rings(&[caller, ("a::b", "use super::A;")]), 1);
}

struct Source {
    path: PathBuf,
    /// Where it stands in the tree of modules.
    place: files::Place,
    text: String,
    module: String,
    uses: BTreeSet<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    files
        .into_iter()
        .map(|file| {
            let text = fs::read_to_string(&file).unwrap();
            let relative = file.strip_prefix(&src).unwrap().with_extension("");
            let mut path: Vec<String> = relative
                .iter()
                .map(|part| part.to_str().unwrap().to_owned())
                .collect();
            path.retain(|part| part != "mod" && part != "lib");
            Source {
                module: module(&path),
                uses: uses(&text, &path),
                path: file,
                place: path,
                text,
            }
        })
        .collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap();
        // Tests may look at whatever they like.
        if matches!(stem, "tests" | "testing")
            || stem.starts_with("tests_")
            || stem.ends_with("_tests")
        {
            continue;
        }
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The module as the table above has it: providers are told apart.
fn module<S: AsRef<str>>(path: &[S]) -> String {
    match path {
        [first, second, ..]
            if first.as_ref() == "providers"
                && !second.as_ref().starts_with(char::is_uppercase) =>
        {
            format!("providers::{}", second.as_ref())
        }
        [first, ..] => first.as_ref().to_owned(),
        [] => "lib".to_owned(),
    }
}

/// The modules that a text names by `crate::`, `ringpush::` or enough `super::`.
fn uses(text: &str, path: &[String]) -> BTreeSet<String> {
    let production = text.split("#[cfg(test)]\nmod ").next().unwrap();
    let code: String = production
        .lines()
        .map(|line| line.split("//").next().unwrap())
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for anchor in ["crate::", "ringpush::"] {
        for (at, _) in code.match_indices(anchor) {
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':') {
                found.extend(paths(&code[at + anchor.len()..]).iter().map(|p| module(p)));
            }
        }
    }
    for (at, _) in code.match_indices("super::") {
        if code[..at].ends_with("super::") {
            continue; // not the first of its chain
        }
        let mut rest = &code[at..];
        let mut base = path;
        while let Some(next) = rest.strip_prefix("super::") {
            rest = next;
            base = base.split_last().map_or(base, |(_, init)| init);
        }
        for tail in paths(rest) {
            let full: Vec<String> = base.iter().cloned().chain(tail).collect();
            found.insert(module(&full));
        }
    }
    found.retain(|module| module.chars().next().is_some_and(char::is_lowercase));
    found
}

/// The first two names of every path in `a::b`, `{a, b::{c, d}}` and the like.
fn paths(text: &str) -> Vec<Vec<String>> {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        return split_group(group).iter().flat_map(|t| paths(t)).collect();
    }
    let name: String = text
        .chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect();
    if name.is_empty() {
        return Vec::new();
    }
    let Some(rest) = text[name.len()..].strip_prefix("::") else {
        return vec![vec![name]];
    };
    let tails = paths(rest);
    if tails.is_empty() {
        return vec![vec![name]];
    }
    tails
        .into_iter()
        .map(|tail| {
            let mut path = vec![name.clone()];
            path.extend(tail.into_iter().take(1));
            path
        })
        .collect()
}

/// What stands between a group's commas, up to its closing brace.
fn split_group(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let mut start = 0;
    let mut parts = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&text[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}
