//! What the documentation promises is held by tests that exist.

use std::path::Path;

/// Every test that docs/reliability.md names is there, in the file it links to.
#[test]
fn every_test_that_a_promise_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/reliability.md")).expect("the document");
    let mut count = 0;
    for link in text.split('[').skip(1) {
        let Some((name, rest)) = link.split_once("](") else {
            continue;
        };
        let Some((target, _)) = rest.split_once(')') else {
            continue;
        };
        if Path::new(target).extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let name = name.trim_matches('`');
        let file = root.join("docs").join(target);
        let source = std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let test = format!("fn {name}(");
        let at = source
            .find(&test)
            .unwrap_or_else(|| panic!("{target} has no {name}"));
        let above = &source[at.saturating_sub(200)..at];
        assert!(above.contains("test"), "{name} is not a test");
        count += 1;
    }
    assert!(count > 30, "{count} tests named");
}

/// A promise in a table has a test beside it.
#[test]
fn no_promise_goes_without_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(root.join("docs/reliability.md")).expect("the document");
    let rows = text
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| promise"));
    for row in rows {
        assert!(row.contains(".rs)") || row.contains("scripts/"), "{row}");
    }
}
