//! What the commands share: exit statuses, where the configuration is, wrong
//! usage.

use std::path::PathBuf;

/// Done.
pub const DONE: u8 = 0;
/// Failed.
pub const FAILED: u8 = 1;
/// Wrong usage or configuration; what clap ends with as well.
pub const USAGE: u8 = 2;

/// Where the configuration is, for every command that needs one.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file.
    #[arg(
        long,
        short,
        value_name = "FILE",
        env = "RINGPUSH_CONFIG",
        hide_env_values = true,
        default_value = "config/ringpush.toml"
    )]
    pub config: PathBuf,
}

/// Arguments that cannot be used together with this configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);
