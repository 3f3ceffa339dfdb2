//! Minutes of faults and load, with numbers at the end; run by `scripts/chaos`
//! and `scripts/bench-bulkhead`. Exits with 1 if a promise was broken.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::print_stdout, reason = "a report for people")]
#![allow(dead_code, reason = "shares the fault suite's books")]

#[path = "../support/mod.rs"]
mod support;

mod bulkhead;
mod kills;
#[path = "../faults/ledger.rs"]
mod ledger;

use std::process::ExitCode;

const USAGE: &str = "usage: chaos kills [--seconds N] [--rate N] [--kills N] [--seed N]
                    [--cancels stream|queue]
       chaos bulkhead [--seconds N] [--rate N]";

/// The command's options, each a name and a value.
struct Options(Vec<(String, String)>);

impl Options {
    fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(option, _)| option == name);
        found.map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name).map_or(default, |value| {
            value.parse().unwrap_or_else(|_| panic!("{name}: a number"))
        })
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        println!("{USAGE}");
        return ExitCode::from(2);
    };
    let pairs = rest.chunks(2).map(|pair| match pair {
        [name, value] => (name.clone(), value.clone()),
        _ => panic!("{USAGE}"),
    });
    let options = Options(pairs.collect());
    rustls::crypto::ring::default_provider()
        .install_default()
        .expect("once");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let kept = match command.as_str() {
        "kills" => runtime.block_on(kills::run(&options)),
        "bulkhead" => runtime.block_on(bulkhead::run(&options)),
        _ => {
            println!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    ExitCode::from(u8::from(!kept))
}
