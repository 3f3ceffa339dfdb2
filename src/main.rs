//! The command `ringpush`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringpush::cli::main()
}
