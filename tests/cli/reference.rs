//! The command line in other forms.

use std::path::Path;

use crate::rig::run;

/// `UPDATE_DOCS=1` writes it anew.
#[test]
fn the_document_of_the_commands_is_that_of_the_help_texts() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cli.md");
    let wanted = ringpush::cli::document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &wanted).unwrap();
    }
    let there = std::fs::read_to_string(&file).unwrap_or_default();
    let differs = there
        .lines()
        .zip(wanted.lines())
        .find(|(there, wanted)| there != wanted);
    assert!(
        there == wanted,
        "docs/cli.md is not what the help texts say ({differs:?}); \
         UPDATE_DOCS=1 cargo test --test cli reference"
    );
}

#[tokio::test]
async fn every_help_text_shows_an_example() {
    for command in [
        "run",
        "demo",
        "simulate",
        "enqueue",
        "send",
        "check",
        "explain",
        "health",
        "completions",
        "man",
        "profiles",
        "profiles list",
        "profiles render",
        "trace",
    ] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let ran = run(&arguments).await;
        let example = format!("Examples:\n  ringpush {command}");
        assert!(ran.out.contains(&example), "{}", ran.out);
    }
}

#[tokio::test]
async fn completions_and_man_pages_know_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run(&["completions", shell]).await;
        assert_eq!(ran.code, 0);
        assert!(ran.out.contains("validate-only"), "{shell}");
    }
    let page = run(&["man"]).await;
    assert!(page.out.contains(".TH ringpush 1"), "{}", page.out);
    let folder = tempfile::tempdir().unwrap();
    let ran = run(&["man", "--dir", folder.path().to_str().unwrap()]).await;
    assert_eq!(ran.code, 0);
    for command in ["run", "send", "check", "explain", "health"] {
        let file = folder.path().join(format!("ringpush-{command}.1"));
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.contains(".SH OPTIONS"), "{command}");
    }
}
