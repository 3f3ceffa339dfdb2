//! The documentation of scripts, held against what is read.

use ringpush::simulator::Script;

const PAGE: &str = include_str!("../../docs/simulator.md");

/// The example in the documentation is a script.
#[test]
fn the_documented_script_can_be_played() {
    let (_, rest) = PAGE.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    assert_eq!(Script::from_toml(example).unwrap().rules.len(), 4);
}

/// Each key the tables name is a key of a step; an unknown one would be
/// refused.
#[test]
fn every_documented_step_exists() {
    for step in [
        "status = 429, reason = \"x\", timestamp = 1, retry_after = { date_in = 30 }, body = \"\"",
        "hang = true",
        "reset = \"REFUSED_STREAM\"",
        "tcp_reset = true",
        "goaway = \"after\", reason = \"Shutdown\"",
        "goaway = \"before\"",
        "black_hole = true",
        "max_streams = 1",
        "stall = true",
        "refuse = \"5s\"",
        "outage = \"5s\"",
        "delay = \"1s\"",
        "slow_body = \"1s\", for = \"1m\"",
        "headers_then_hang = true, times = 2",
    ] {
        let keys = step.split(", ").filter_map(|part| part.split_once(" = "));
        for (key, _) in keys {
            assert!(
                PAGE.contains(&format!("`{key}`")),
                "{key} is not documented"
            );
        }
        let text = format!("[[rule]]\nserver = \"apns\"\nsteps = [{{ {step} }}]");
        Script::from_toml(&text).unwrap();
    }
}
