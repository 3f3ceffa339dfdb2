//! Questions to the admin address of a running worker.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use http::StatusCode;
use http_body_util::{BodyExt as _, Limited};
use tokio::time::timeout;

/// More than any page of a worker has.
const LONGEST: usize = 16 * 1024 * 1024;

/// Asks for `path` (with its query) at `admin.listen`, within `limit` in all.
///
/// # Errors
/// Nobody answers there in time, or not in HTTP.
pub(super) async fn get(
    listen: SocketAddr,
    path: &str,
    limit: Duration,
) -> anyhow::Result<(StatusCode, String)> {
    let address = reachable(listen);
    let answer = timeout(limit, ask(&format!("http://{address}{path}"))).await;
    answer
        .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {limit:?}")))
        .with_context(|| format!("no worker answers at admin.listen ({address})"))
}

async fn ask(url: &str) -> anyhow::Result<(StatusCode, String)> {
    // Plain HTTP to a worker: no proxy, and no certificates to be read.
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let answer = client.build()?.get(url).send().await?;
    let status = answer.status();
    let body = Limited::new(reqwest::Body::from(answer), LONGEST);
    let body = body
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!(error))?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    Ok((status, text))
}

/// Who listens on every address is asked on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_means_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:9464", "127.0.0.1:9464"),
            ("[::]:9464", "[::1]:9464"),
            ("10.0.0.7:1", "10.0.0.7:1"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), asked);
        }
    }
}
