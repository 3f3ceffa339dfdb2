//! `ringpush health`.

use std::net::TcpListener;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::rig::Rig;

/// Answers every request so, and says for what it was asked.
async fn serve(listener: TcpListener, status: &'static str, body: &'static str) -> String {
    listener.set_nonblocking(true).unwrap();
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = vec![0; 1024];
    let read = stream.read(&mut request).await.unwrap();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(answer.as_bytes()).await.unwrap();
    String::from_utf8_lossy(&request[..read]).into_owned()
}

#[tokio::test]
async fn it_asks_on_loopback_whoever_listens_everywhere() {
    let rig = Rig::start().await;
    for (status, body, code) in [
        ("200 OK", "ready\n", 0),
        ("503 Service Unavailable", "not ready\nbroker: away\n", 1),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = rig.simulator.config() + &format!("\n[admin]\nlisten = \"0.0.0.0:{port}\"\n");
        rig.write("ringpush.toml", config);
        let (request, ran) = tokio::join!(serve(listener, status, body), rig.run("health", &[]));
        assert!(request.starts_with("GET /readyz HTTP/1.1\r\n"), "{request}");
        assert_eq!((ran.code, ran.out.as_str()), (code, body), "{ran:?}");
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_not_healthy() {
    let rig = Rig::start().await;
    // Listens, and never accepts.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let config = rig.simulator.config() + &format!("\n[admin]\nlisten = \"{address}\"\n");
    rig.write("ringpush.toml", config);
    let ran = rig.run("health", &["--timeout", "200ms"]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("admin.listen") && ran.err.contains("no answer within"));
    drop(silent);
    let ran = rig.run("health", &[]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("Connection refused"), "{}", ran.err);
    assert_eq!(crate::rig::run(&["health", "-c", "/no/such"]).await.code, 2);
}
