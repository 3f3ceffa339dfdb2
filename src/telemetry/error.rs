//! What keeps logs or traces from being had.

/// Logs or traces that cannot be had as they are asked for.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A variable of the environment that cannot be used.
    #[error("{variable} {problem}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Something in this process has set up logs already.
    #[error(transparent)]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}
