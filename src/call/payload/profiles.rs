//! The profiles of a worker, by name.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::ProfileError;
use super::profile::Profile;

/// The longest profile, in bytes.
const MAX_SOURCE: usize = 64 * 1024;

/// The built-in profiles: files of the form that users write.
const BUILT_IN: [(&str, &str); 11] = [
    ("callkeep", include_str!("profiles/callkeep.json")),
    ("chime", include_str!("profiles/chime.json")),
    ("cometchat", include_str!("profiles/cometchat.json")),
    (
        "cometchat_react_native",
        include_str!("profiles/cometchat_react_native.json"),
    ),
    (
        "cometchat_skill",
        include_str!("profiles/cometchat_skill.json"),
    ),
    ("connectycube", include_str!("profiles/connectycube.json")),
    (
        "flutter_callkit_incoming",
        include_str!("profiles/flutter_callkit_incoming.json"),
    ),
    ("passthrough", include_str!("profiles/passthrough.json")),
    ("plain", include_str!("profiles/plain.json")),
    ("stream", include_str!("profiles/stream.json")),
    ("telnyx", include_str!("profiles/telnyx.json")),
];

/// Profiles by name.
#[derive(Clone, Debug, Default)]
pub struct Profiles(BTreeMap<String, Arc<Profile>>);

impl Profiles {
    /// The built-in ones.
    ///
    /// # Errors
    /// An embedded file is broken; the tests prove that none is.
    pub fn built_in() -> Result<Self, ProfileError> {
        let mut profiles = Self::default();
        for (name, json) in BUILT_IN {
            profiles.add(name, json)?;
        }
        Ok(profiles)
    }

    /// The names of the built-in ones, and their files.
    pub fn sources() -> impl Iterator<Item = (&'static str, &'static str)> {
        BUILT_IN.into_iter()
    }

    /// Adds a profile of the user's. It takes the place of one that has the
    /// same name, built in or not, and may extend any that is there already,
    /// the one whose place it takes too.
    ///
    /// # Errors
    /// It is not a profile; what was there before stays.
    pub fn add(&mut self, name: &str, json: &str) -> Result<(), ProfileError> {
        let error = |key: &str, problem: String| Err(ProfileError::new(name, key, problem));
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if name.is_empty() || name.len() > 64 || !name.chars().all(named) {
            let problem = "a profile's name has 1 to 64 letters, digits, `_`, `-` and `.`";
            return error("file", problem.to_owned());
        }
        if json.len() > MAX_SOURCE {
            return error("file", "longer than 64 KiB".to_owned());
        }
        let source: Map<String, Value> = match serde_json::from_str(json) {
            Ok(source) => source,
            Err(problem) => return error("file", format!("not a JSON object: {problem}")),
        };
        let source = self.extended(name, source)?;
        let profile = Profile::new(name, source)?;
        self.0.insert(name.to_owned(), Arc::new(profile));
        Ok(())
    }

    /// A profile's own fields over those of the one that it extends.
    fn extended(
        &self,
        name: &str,
        mut own: Map<String, Value>,
    ) -> Result<Map<String, Value>, ProfileError> {
        let Some(base) = own.shift_remove("extends") else {
            return Ok(own);
        };
        let found = base.as_str().and_then(|base| self.0.get(base));
        let Some(found) = found else {
            let known: Vec<&str> = self.names().collect();
            let problem = format!(
                "must name a profile that is read before; there are {}",
                known.join(", ")
            );
            return Err(ProfileError::new(name, "extends", problem));
        };
        let mut source = found.source().clone();
        for (key, value) in own {
            source.insert(key, value);
        }
        Ok(source)
    }

    /// The profile of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Profile>> {
        self.0.get(name)
    }

    /// Every name, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
