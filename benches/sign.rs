//! What the provider token for APNs costs: `cargo bench --bench sign`.

#![allow(clippy::unwrap_used, reason = "the key is ours")]

use divan::{Bencher, black_box};
use ringpush::providers::apns::signer::Signer;

const TEAM: &str = "ABCDE12345";
const KEY: &str = "FGHIJ67890";

fn main() {
    divan::main();
}

/// Reading the key and signing the first token, with ES256; once per key, and
/// the signature alone every 50 minutes.
#[divan::bench]
fn first(bencher: Bencher<'_, '_>) {
    let pkcs8 = pkcs8();
    bencher.bench(|| Signer::new(TEAM, KEY, black_box(&pkcs8)).unwrap());
}

/// What every push does instead: it takes the token that is there.
#[divan::bench]
fn current(bencher: Bencher<'_, '_>) {
    let signer = Signer::new(TEAM, KEY, &pkcs8()).unwrap();
    bencher.bench(|| black_box(&signer).header());
}

fn pkcs8() -> Vec<u8> {
    rcgen::KeyPair::generate().unwrap().serialize_der()
}
