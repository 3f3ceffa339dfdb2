//! `[proxy]`: everything that leaves this machine goes through it, and what is
//! wrong with it is said by name.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Stdio;

use ringpush::simulator::{Options, ServerKind};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::rig::{Ran, Rig, run_with};
use super::support::events::{android, android_token, ios, ios_token, ring};
use super::support::front::Front;
use super::support::proxy::{Mood, Proxy};

const HOST: &str = "push.example";
const GOOGLE: &str = "oauth2.googleapis.com";
/// base64 of "ringpush:hunter2@x".
const LOGIN: &str = "cmluZ3B1c2g6aHVudGVyMkB4";

/// A simulator that only the proxy can find.
struct Site {
    rig: Rig,
    proxy: Proxy,
    _google: Front,
}

impl Site {
    async fn start(mood: Mood) -> Self {
        let rig = Rig::start_with(Options {
            names: vec![HOST.to_owned()],
            ..Options::default()
        })
        .await;
        let mut hosts = HashMap::new();
        let simulator = &rig.simulator;
        let urls = [
            simulator.apns_production_url(),
            simulator.apns_sandbox_url(),
            simulator.fcm_url(),
        ];
        for url in urls {
            let there = url
                .strip_prefix("https://")
                .unwrap()
                .split('/')
                .next()
                .unwrap();
            let addr: SocketAddr = there.parse().unwrap();
            hosts.insert(format!("{HOST}:{}", addr.port()), addr);
        }
        let behind = simulator.server(ServerKind::Oauth).address();
        let google = Front::start(GOOGLE, behind).await;
        hosts.insert(format!("{GOOGLE}:443"), google.addr);
        rig.write("google.pem", &google.ca_pem);
        rig.edit("https://127.0.0.1", &format!("https://{HOST}"));
        let there = format!("https://{GOOGLE}/token");
        rig.edit_file("service-account.json", &simulator.token_url(), &there);
        let proxy = Proxy::start(mood, hosts).await;
        Self {
            rig,
            proxy,
            _google: google,
        }
    }

    fn set(&self, login: &str, more: &str) {
        let url = format!("http://{login}{}", self.proxy.addr);
        let table = format!("[proxy]\nurl = \"{url}\"\n{more}\n[fcm]\n");
        self.rig.edit("[fcm]\n", &table);
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let (config, ca) = (self.rig.path("ringpush.toml"), self.rig.path("google.pem"));
        let mut all = vec![arguments[0], "--config", config.to_str().unwrap()];
        all.extend(&arguments[1..]);
        // The token server has no `ca_file`.
        run_with(&all, &[("SSL_CERT_FILE", ca.to_str().unwrap())]).await
    }
}

#[tokio::test]
async fn check_goes_through_the_proxy_with_its_password_and_shows_none() {
    let site = Site::start(Mood::Basic(LOGIN)).await;
    site.set("ringpush:hunter2%40x@", "");
    let ran = site.run(&["check", "--no-broker", "--json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let way = format!("through proxy {}", site.proxy.addr);
    for what in ["APNs production", "APNs sandbox", "FCM", "OAuth"] {
        let proof = ran.json()["proofs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|proof| {
                let text = |key: &str| proof[key].as_str().unwrap();
                text("what").ends_with(what) && text("found").contains(&way)
            });
        assert!(proof, "{what}: {ran:?}");
    }
    let said = format!("{}{}", ran.out, ran.err);
    assert!(!said.contains("hunter2") && !said.contains(LOGIN), "{said}");
}

#[tokio::test]
async fn what_is_wrong_with_the_proxy_is_named_with_its_cure() {
    let site = Site::start(Mood::Basic(LOGIN)).await;
    site.set("ringpush:wrong@", "");
    let addr = site.proxy.addr;
    let forbidden = format!("proxy {addr} forbids a tunnel to ");
    for (mood, found, cure) in [
        (
            Mood::Basic(LOGIN),
            "does not take the user and the password",
            "mend them",
        ),
        (Mood::Says("403 Forbidden"), &*forbidden, "allow CONNECT"),
        (Mood::Says("503 No"), "cannot reach ", "DNS"),
        (
            Mood::Says("405 No"),
            "with 405",
            "is proxy.url an HTTP proxy",
        ),
        (
            Mood::Says("407 No\r\nProxy-Authenticate: Negotiate"),
            "by Negotiate",
            "Basic",
        ),
        (
            Mood::Silent,
            "says nothing to CONNECT within 4s",
            "is it well?",
        ),
    ] {
        site.proxy.now(mood);
        let limit = if matches!(mood, Mood::Silent) {
            "6s"
        } else {
            "1s"
        };
        let check = ["check", "--no-broker", "--json", "--timeout", limit];
        let ran = site.run(&check).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        let all = ran.json();
        let failed: Vec<String> = all["proofs"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|proof| proof["state"] == "failed")
            .map(|proof| format!("{}: {} | {}", proof["what"], proof["found"], proof["do"]))
            .collect();
        for what in ["APNs production", "FCM", "OAuth", "access token"] {
            let named = failed.iter().find(|text| text.contains(what));
            let named = named.unwrap_or_else(|| panic!("{what} in {failed:#?}"));
            assert!(named.contains(&addr.to_string()), "{mood:?}: {named}");
            assert!(named.contains(found), "{mood:?}: {named}");
            assert!(named.contains(cure), "{mood:?}: {named}");
        }
        assert!(!ran.out.contains("wrong@"), "{ran:?}");
    }
}

#[tokio::test]
async fn a_password_that_is_missing_and_a_proxy_that_is_not_there_are_told_apart() {
    let site = Site::start(Mood::Basic(LOGIN)).await;
    site.set("", "");
    let ran = site.run(&["check", "--no-broker", "--json"]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.out.contains("asks for a user and a password (407)"),
        "{ran:?}"
    );
    let gone = site.proxy.addr.to_string();
    site.rig.edit(&gone, "127.0.0.1:1");
    let ran = site.run(&["check", "--no-broker", "--json"]).await;
    assert!(
        ran.out.contains("proxy 127.0.0.1:1 cannot be reached"),
        "{ran:?}"
    );
    site.rig.edit("127.0.0.1:1\"", "proxy.invalid:3128\"");
    let ran = site.run(&["check", "--no-broker", "--json"]).await;
    assert!(
        ran.out
            .contains("proxy proxy.invalid:3128 cannot be looked up"),
        "{ran:?}"
    );
}

/// Without the proxy the name leads nowhere; loopback needs none.
#[tokio::test]
async fn what_is_excepted_and_loopback_are_reached_straight() {
    let site = Site::start(Mood::Open).await;
    site.set("", "no_proxy = [\"example\"]");
    let ran = site.run(&["check", "--no-broker", "--json"]).await;
    assert!(ran.out.contains(&format!("looking up {HOST}")), "{ran:?}");
    let before = site.proxy.asked().len();
    site.rig
        .edit(&format!("https://{HOST}"), "https://127.0.0.1");
    let (there, here) = (
        format!("https://{GOOGLE}/token"),
        site.rig.simulator.token_url(),
    );
    site.rig.edit_file("service-account.json", &there, &here);
    site.rig.edit("no_proxy = [\"example\"]", "");
    let ran = site.run(&["check", "--no-broker", "--json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(site.proxy.asked().len(), before);
}

/// A GOAWAY ends the connections in their tunnels, and others are opened.
#[tokio::test]
async fn rings_go_out_through_tunnels_that_outlive_a_goaway() {
    let site = Site::start(Mood::Open).await;
    site.set("", "");
    site.rig
        .script("[[rule]]\nserver = \"apns-production\"\nsteps = [{ goaway = \"before\" }]");
    let (config, ca) = (site.rig.path("ringpush.toml"), site.rig.path("google.pem"));
    let mut worker = Command::new(env!("CARGO_BIN_EXE_ringpush"))
        .args(["run", "--stdin", "--config", config.to_str().unwrap()])
        .env_clear()
        .env("SSL_CERT_FILE", ca)
        // Nobody has asked for these.
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env("RINGPUSH__ADMIN__LISTEN", "127.0.0.1:0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let events = (0..4).map(|_| ring(&[ios("i", &ios_token()), android("a", &android_token())]));
    let text: Vec<String> = events.map(|event| event.to_string()).collect();
    let mut input = worker.stdin.take().unwrap();
    input.write_all(text.join("\n").as_bytes()).await.unwrap();
    drop(input);
    let output = worker.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.matches("\"result\":\"accepted\"").count(), 8, "{said}");
    assert!(site.proxy.asked().len() > 4, "{:?}", site.proxy.asked());
}

#[tokio::test]
async fn an_address_that_is_none_ends_with_key_and_cure_and_without_its_password() {
    let rig = Rig::start().await;
    let config = rig.read("ringpush.toml");
    for (table, error) in [
        (
            "url = \"https://u:hunter2@p:3128\"",
            "proxy.url: must begin with http://",
        ),
        (
            "url = \"socks5://u:hunter2@p:3128\"",
            "proxy.url: must begin with http://",
        ),
        ("url = \"p:3128\"", "proxy.url: is not an address such as"),
        ("url = \"http://u:hunter2@p\"", "proxy.url: names no port"),
        (
            "url = \"http://u:hunter2@x@p:3128\"",
            "proxy.url: is not an address such as",
        ),
        ("url = \"http://u:hunter2#x@p:3128\"", "proxy.url: "),
        (
            "no_proxy = [\"a.example:443\"]",
            "proxy.no_proxy: holds \"a.example:443\"; write",
        ),
        ("no_proxy = [\"10.0.0.0/33\"]", "proxy.no_proxy: holds"),
        (
            "no_proxy = 5",
            "proxy.no_proxy: expected a list of host names",
        ),
    ] {
        rig.write("ringpush.toml", format!("{config}\n[proxy]\n{table}\n"));
        let ran = rig.run("check", &["--offline"]).await;
        assert_eq!(ran.code, 2, "{table}: {ran:?}");
        assert!(ran.err.contains(error), "{table}: {ran:?}");
        assert!(!ran.err.contains("hunter2"), "{ran:?}");
    }
    rig.write("ringpush.toml", config);
    let file = rig.path("ringpush.toml");
    let arguments = ["check", "--offline", "--config", file.to_str().unwrap()];
    let list = [("RINGPUSH__PROXY__NO_PROXY", "a.example, b:1")];
    let ran = run_with(&arguments, &list).await;
    let error = "holds \"b:1\"; write";
    assert!(
        ran.err.contains(error) && ran.err.contains("set by RINGPUSH__PROXY__NO_PROXY"),
        "{ran:?}"
    );
}
