//! Where the profiles come from.

use std::path::PathBuf;

use crate::app::profiles;
pub(super) use crate::cli::preview::Setup;
use crate::config::Config;

/// Where own profiles and the apps are, if anywhere.
#[derive(Debug, clap::Args)]
pub(super) struct SetupArgs {
    /// The configuration file, for `profiles.dir` and the apps; without it
    /// there are only the built-in profiles, and an app's name is taken for
    /// its bundle id.
    #[arg(long, short, value_name = "FILE", env = "RINGPUSH_CONFIG")]
    config: Option<PathBuf>,
}

impl SetupArgs {
    pub(super) fn load(&self) -> anyhow::Result<Setup> {
        let config = match &self.config {
            Some(file) => Config::load(file)?,
            None => Config::default(),
        };
        Ok(Setup {
            profiles: profiles(&config)?,
            config,
            configured: self.config.is_some(),
        })
    }
}
