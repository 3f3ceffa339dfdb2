use std::future::poll_fn;
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// The error of the first request (stream 1) of a connection whose server
/// answers it with these bytes and then closes.
async fn error_after(frames: &[u8]) -> h2::Error {
    let (client, mut server) = tokio::io::duplex(64 * 1024);
    let (mut sender, mut connection) = h2::client::handshake(client).await.unwrap();
    let (response, mut body) = sender
        .send_request(http::Request::post("https://h/").body(()).unwrap(), false)
        .unwrap();
    body.send_data(Bytes::from_static(b"{}"), true).unwrap();
    // The request goes out.
    poll_fn(|cx| {
        let _ = Pin::new(&mut connection).poll(cx);
        std::task::Poll::Ready(())
    })
    .await;
    let mut written = [0; 1024];
    assert!(server.read(&mut written).await.unwrap() > 24);
    server
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    server.write_all(frames).await.unwrap();
    drop(server);
    let _ = connection.await;
    response.await.unwrap_err()
}

fn reset(code: u8) -> [u8; 13] {
    [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code]
}

fn goaway(last: u8, code: u8) -> [u8; 17] {
    [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, code]
}

#[tokio::test]
async fn a_refused_stream_was_not_processed() {
    assert_eq!(classify(&error_after(&reset(7)).await), Class::NotProcessed);
}

#[tokio::test]
async fn a_stream_above_the_last_of_a_goaway_was_not_processed() {
    // NO_ERROR, and ENHANCE_YOUR_CALM: the reason does not matter.
    for code in [0, 11] {
        let error = error_after(&goaway(0, code)).await;
        assert_eq!(classify(&error), Class::NotProcessed, "{error}");
    }
}

#[tokio::test]
async fn everything_else_may_have_been_processed() {
    let closed_after_goaway = error_after(&goaway(1, 0)).await;
    let closed = error_after(&[]).await;
    let internal = error_after(&reset(2)).await;
    let cancelled = error_after(&reset(8)).await;
    // DATA on stream 0 is a protocol error: the GOAWAY is ours.
    let nonsense = error_after(&[0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).await;
    for error in [closed_after_goaway, closed, internal, cancelled, nonsense] {
        assert_eq!(classify(&error), Class::Unclear, "{error}");
    }
}

#[tokio::test]
async fn apples_reason_in_a_goaway_is_part_of_the_text() {
    let debug = br#"{"reason":"Shutdown"}"#;
    let length = u8::try_from(8 + debug.len()).unwrap();
    let mut frame = vec![0, 0, length, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    frame.extend_from_slice(debug);
    let text = describe(&error_after(&frame).await);
    assert!(text.contains("Shutdown"), "{text}");
}
