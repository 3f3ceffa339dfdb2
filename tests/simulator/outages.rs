//! Servers that go down and come back on the same port.

use std::time::Duration;

use ringpush::simulator::{Script, ServerKind, Simulator, Stop};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::client::{Client, PATIENCE, Push, jwt, simulator};

async fn reachable(simulator: &Simulator) -> bool {
    let address = simulator.server(ServerKind::ApnsProduction).address();
    TcpStream::connect(address).await.is_ok()
}

async fn until_reachable(simulator: &Simulator, wanted: bool) {
    let give_up = Instant::now() + PATIENCE;
    while reachable(simulator).await != wanted {
        assert!(Instant::now() < give_up, "not {wanted} in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// An abrupt stop resets connections and refuses new ones; the same port
/// serves again afterwards. The other servers do not notice.
#[tokio::test]
async fn an_abrupt_stop_and_a_restart() {
    let simulator = simulator().await;
    let url = simulator.apns_production_url();
    let push = Push::voip(&jwt(&simulator, 0));
    let client = Client::connect(&url, &simulator).await;
    let sandbox = Client::connect(&simulator.apns_sandbox_url(), &simulator).await;
    assert_eq!(client.reason(push.clone()).await.0, 200);
    let server = simulator.server(ServerKind::ApnsProduction);
    server.stop(Stop::Abrupt).await;
    assert_eq!(server.connections(), 0);
    assert!(client.send(push.clone()).await.is_err());
    assert!(!reachable(&simulator).await, "nobody listens");
    assert_eq!(sandbox.reason(push.clone()).await.0, 200);
    server.start().await.unwrap();
    assert_eq!(simulator.apns_production_url(), url);
    let again = Client::connect(&url, &simulator).await;
    assert_eq!(again.reason(push).await.0, 200);
}

/// A scripted outage: everything down, and up again by itself.
#[tokio::test]
async fn a_scripted_outage_ends_by_itself() {
    let simulator = simulator().await;
    let text = "[[rule]]\nserver = \"apns-production\"\nsteps = [{ outage = \"1500ms\" }]";
    simulator.script(Script::from_toml(text).unwrap()).unwrap();
    let url = simulator.apns_production_url();
    let push = Push::voip(&jwt(&simulator, 0));
    let client = Client::connect(&url, &simulator).await;
    assert!(client.send(push.clone()).await.unwrap_err().is_io());
    assert!(!reachable(&simulator).await);
    until_reachable(&simulator, true).await;
    let again = Client::connect(&url, &simulator).await;
    assert_eq!(again.reason(push).await.0, 200);
}

/// Refused connections: the one there is goes on.
#[tokio::test]
async fn refusing_connections_leaves_those_there_are() {
    let simulator = simulator().await;
    let text = "[[rule]]\nserver = \"apns-production\"\nsteps = [{ refuse = \"1500ms\" }]";
    simulator.script(Script::from_toml(text).unwrap()).unwrap();
    let push = Push::voip(&jwt(&simulator, 0));
    let client = Client::connect(&simulator.apns_production_url(), &simulator).await;
    assert_eq!(client.reason(push.clone()).await.0, 200);
    until_reachable(&simulator, false).await;
    assert_eq!(
        client.reason(push.clone()).await.0,
        200,
        "the old connection serves"
    );
    until_reachable(&simulator, true).await;
}

/// What is dropped leaves nothing listening.
#[tokio::test]
async fn a_dropped_simulator_is_gone() {
    let simulator = simulator().await;
    let address = simulator.server(ServerKind::Fcm).address();
    drop(simulator);
    let give_up = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < give_up, "still listening");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
