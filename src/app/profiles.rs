//! The profiles of a configuration.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::call::payload::Profiles;
use crate::config::{Config, ConfigError};

/// The built-in profiles and the configuration's own, in alphabetical order of
/// their files, each of those rendered for example events. The built-in ones
/// are held to the same by the tests.
///
/// # Errors
/// The folder cannot be read, or a profile cannot be used: says which file,
/// which key and what to do.
pub fn profiles(config: &Config) -> Result<Profiles, ConfigError> {
    let mut profiles = Profiles::built_in().map_err(|e| config.error("profiles", e))?;
    let Some(dir) = &config.profiles.dir else {
        return Ok(profiles);
    };
    for path in files(config, dir)? {
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let wrong = |problem: &dyn Display| ConfigError::new(&path, None, problem);
        let text = crate::files::read_text(&path).map_err(|e| wrong(&e))?;
        profiles.add(&name, &text).map_err(|e| wrong(&e))?;
        if let Some(profile) = profiles.get(&name) {
            profile.check().map_err(|e| wrong(&e))?;
        }
    }
    Ok(profiles)
}

/// The `.json` files of a folder. In order, because one may extend another
/// and folders are listed in any order. Hidden files are none: macOS puts a
/// `._mine.json` beside each `mine.json` that it copies.
fn files(config: &Config, dir: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |error: std::io::Error| {
        let cure = "name a folder of .json files, or remove the key";
        let problem = format!("{}: {error}; {cure}", dir.display());
        config.error("profiles.dir", problem)
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|end| end == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        let text = format!(
            "[profiles]\ndir = {dir:?}\n[apps.\"a\".android]\nservice_account_file = \"x.json\""
        );
        Config::parse(&text, Path::new("ringpush.toml")).unwrap()
    }

    /// A folder is not listed in order; `extends` needs one.
    #[test]
    fn files_are_read_in_alphabetical_order_so_that_one_may_extend_another() {
        let dir = tempfile::tempdir().unwrap();
        for n in (0..30).rev() {
            let base = match n {
                0 => "plain".to_owned(),
                n => format!("own-{:02}", n - 1),
            };
            let text = format!(r#"{{"extends": "{base}", "about": "{n}"}}"#);
            std::fs::write(dir.path().join(format!("own-{n:02}.json")), text).unwrap();
        }
        std::fs::write(dir.path().join("README.md"), "not a profile").unwrap();
        std::fs::write(dir.path().join("._own-00.json"), b"\0\x05\x16\x07").unwrap();
        let profiles = profiles(&config(dir.path())).unwrap();
        assert_eq!(profiles.get("own-29").unwrap().about(), "29");
        assert_eq!(profiles.names().count(), 41);
    }

    /// One profile per way in which a payload would fail on the first call.
    #[test]
    fn the_worker_does_not_start_with_a_profile_that_would_fail_on_a_call() {
        let ring = |tree: &str| format!(r#"{{"ring": {{"both": {tree}}}}}"#);
        let long = "x".repeat(6000);
        for (text, named) in [
            (
                r#"{"ring":{"both":{"id":"{{ call_id }}"}},"uuids":["id"]}"#.to_owned(),
                ["ring.ios", "`id` must be a UUID", "call_uuid"],
            ),
            (
                ring(r#"{"from": "{{ caller.id }}"}"#),
                ["ring.android.from", "reserve", "choose another name"],
            ),
            (
                ring(&format!(r#"{{"a": "1", "text": "{long}"}}"#)),
                ["ring.ios", "`text`", "truncate"],
            ),
            (
                ring(r#"{"a": "{{ nosuchname }}"}"#),
                ["ring.ios.a", "nosuchname", "caller_name"],
            ),
            ("[".to_owned(), ["file", "not a JSON object", "line 1"]),
        ] {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("mine.json"), &text).unwrap();
            let loaded = profiles(&config(dir.path()));
            let error = loaded.map_or_else(|e| e.to_string(), |_| format!("{text} passes"));
            assert!(error.contains("mine.json: profile mine: "), "{error}");
            for part in named {
                assert!(error.contains(part), "{part:?} is not in: {error}");
            }
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named_with_its_key() {
        let error = profiles(&config(Path::new("/nonexistent"))).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("profiles.dir: /nonexistent: "), "{error}");
    }
}
