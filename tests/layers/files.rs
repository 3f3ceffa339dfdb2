//! Which source file imports which, read from its `use`s and its paths.

use std::collections::{BTreeMap, BTreeSet};

/// A file by its place in the tree: `["amqp", "ledger"]`; the library is `[]`.
pub type Place = Vec<String>;

/// What a file says of others.
#[derive(Default)]
struct File {
    /// What a name that stands here means, by the `use`s of the file.
    names: BTreeMap<String, Place>,
    /// The paths that count as imports.
    paths: BTreeSet<Place>,
}

/// The files and their imports of each other.
pub fn imports(sources: &[(Place, String)]) -> BTreeMap<Place, BTreeSet<Place>> {
    let files: BTreeMap<Place, File> = sources
        .iter()
        .map(|(place, text)| (place.clone(), read(place, text)))
        .collect();
    let imported = |(place, file): (&Place, &File)| {
        let found = file.paths.iter().filter_map(|path| owner(&files, path, 8));
        (
            place.clone(),
            found.filter(|other| other != place).collect(),
        )
    };
    files.iter().map(imported).collect()
}

/// The files of each ring: all that reach each other.
pub fn rings(imports: &BTreeMap<Place, BTreeSet<Place>>) -> Vec<BTreeSet<Place>> {
    let reached = |from: &Place| {
        let mut found: BTreeSet<Place> = BTreeSet::new();
        let mut open = vec![from];
        while let Some(next) = open.pop() {
            let more = imports.get(next).into_iter().flatten();
            open.extend(more.filter(|other| found.insert((*other).clone())));
        }
        found
    };
    let reach: BTreeMap<&Place, BTreeSet<Place>> =
        imports.keys().map(|file| (file, reached(file))).collect();
    let ring = |file: &Place| -> BTreeSet<Place> {
        let others = reach[file].iter();
        others
            .filter(|other| reach[other].contains(file))
            .cloned()
            .collect()
    };
    let all: BTreeSet<BTreeSet<Place>> = imports.keys().map(ring).collect();
    all.into_iter().filter(|ring| !ring.is_empty()).collect()
}

/// The file that a path leads into: the deepest one that it names, or the one
/// from which that takes the name behind it.
fn owner(files: &BTreeMap<Place, File>, path: &[String], steps: u32) -> Option<Place> {
    let deepest = (1..=path.len())
        .rev()
        .find(|end| files.contains_key(&path[..*end]))?;
    let (module, rest) = path.split_at(deepest);
    let passed_on = rest.first().and_then(|name| files[module].names.get(name));
    match passed_on {
        Some(real) if steps > 0 => {
            let real: Place = real.iter().chain(&rest[1..]).cloned().collect();
            owner(files, &real, steps - 1).or_else(|| Some(module.to_vec()))
        }
        Some(_) | None => Some(module.to_vec()),
    }
}

/// A file's own code: no comments, no tests.
fn production(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut code = String::new();
    let mut skipped = false;
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        // A single item that only tests have.
        if !std::mem::replace(&mut skipped, line.trim() == "#[cfg(test)]") {
            code.push_str(line);
            code.push('\n');
        }
    }
    code
}

fn read(place: &Place, text: &str) -> File {
    let code = production(text);
    let mut file = File::default();
    let mut rest = String::new();
    let mut children = BTreeSet::new();
    for statement in code.split_inclusive([';', '{', '}']) {
        let words = statement.trim_start();
        let visible = words.starts_with("pub");
        let bare = if visible {
            without_visibility(words)
        } else {
            words
        };
        if let Some(child) = bare.strip_prefix("mod ").and_then(|m| m.strip_suffix(';')) {
            children.insert(child.to_owned());
        }
    }
    for (is_use, statement) in statements(&code) {
        if !is_use {
            rest.push_str(&statement);
            continue;
        }
        let visible = statement.starts_with("pub");
        let bare = without_visibility(&statement);
        for (path, name) in tree(bare.trim_start_matches("use").trim_end_matches(';')) {
            let Some(path) = absolute(place, &children, &path) else {
                continue;
            };
            // A folder that passes its children's names on does not use them.
            let own = path.len() > place.len() && path.starts_with(place);
            if !(visible && own) {
                file.paths.insert(path.clone());
            }
            file.names.insert(name, path);
        }
    }
    for path in written(&rest) {
        file.paths.extend(absolute(place, &children, &path));
    }
    file
}

/// The text in pieces: each `use …;` by itself.
fn statements(code: &str) -> Vec<(bool, String)> {
    let mut found = Vec::new();
    let mut open: Option<String> = None;
    for line in code.lines() {
        let starts = without_visibility(line.trim_start()).starts_with("use ");
        if let Some(text) = &mut open {
            text.push_str(line.trim());
        } else if starts {
            open = Some(line.trim().to_owned());
        } else {
            found.push((false, format!("{line}\n")));
        }
        if let Some(text) = open.take_if(|text| text.ends_with(';')) {
            found.push((true, text));
        }
    }
    found
}

fn without_visibility(words: &str) -> &str {
    let Some(rest) = words.strip_prefix("pub") else {
        return words;
    };
    let rest = match rest.strip_prefix('(') {
        Some(inside) => inside.split_once(')').map_or("", |(_, rest)| rest),
        None => rest,
    };
    rest.trim_start()
}

/// Every path of a `use`, and the name under which it is known from then on.
fn tree(text: &str) -> Vec<(Place, String)> {
    let text = text.trim();
    if let Some(group) = text.strip_prefix('{') {
        return super::split_group(group)
            .iter()
            .flat_map(|t| tree(t))
            .collect();
    }
    let (path, alias) = text.split_once(" as ").unwrap_or((text, ""));
    let (first, rest) = path.split_once("::").unwrap_or((path, ""));
    let first = first.trim().to_owned();
    if first.is_empty() {
        return Vec::new();
    }
    if rest.is_empty() {
        let name = if alias.is_empty() {
            &first
        } else {
            alias.trim()
        };
        return vec![(vec![first.clone()], name.to_owned())];
    }
    let whole = &text[first.len() + 2..];
    let below = tree(whole).into_iter().map(|(path, name)| {
        let itself = path == ["self"];
        let name = if itself && name == "self" {
            first.clone()
        } else {
            name
        };
        let path = path.into_iter().filter(|part| part != "self");
        (std::iter::once(first.clone()).chain(path).collect(), name)
    });
    below.collect()
}

/// A path from the library's root; none if it leads out of it.
fn absolute(place: &Place, children: &BTreeSet<String>, path: &[String]) -> Option<Place> {
    let mut base = place.clone();
    let mut parts = path.iter().peekable();
    match parts.peek()?.as_str() {
        "crate" => {
            base.clear();
            parts.next();
        }
        "self" => drop(parts.next()),
        "super" => {
            while parts.next_if(|part| *part == "super").is_some() {
                base.pop();
            }
        }
        first if children.contains(first) => {}
        _ => return None,
    }
    base.extend(parts.filter(|part| *part != "*").cloned());
    Some(base)
}

/// The paths in code: identifiers between `::`.
fn written(code: &str) -> BTreeSet<Place> {
    let plain = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    // Who may see an item is no import.
    let seen = |part: &str| part.split_once(')').map_or("", |(_, rest)| rest).to_owned();
    let mut parts = code.split("pub(in ");
    let first = parts.next().unwrap_or_default().to_owned();
    let code: String = std::iter::once(first).chain(parts.map(seen)).collect();
    let words = code.split(|c| !plain(c)).filter(|word| word.contains("::"));
    words
        .map(|word| {
            let parts = word.trim_matches(':').split("::");
            parts
                .filter(|part| !part.is_empty())
                .map(str::to_owned)
                .collect()
        })
        .collect()
}
