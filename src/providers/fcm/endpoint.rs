//! Which addresses may be given a credential.

use std::net::IpAddr;

use http::Uri;

/// Why an address cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointFault {
    /// Not an absolute URL without user, query and fragment.
    #[error("is not a URL such as https://host or https://host:port")]
    NotAUrl,
    /// Some scheme that is not HTTP.
    #[error("must begin with https://")]
    Scheme,
    /// The credential would cross a network in clear.
    #[error("must be https://; plain http:// is for 127.0.0.1, [::1] and localhost only")]
    PlainHttp,
}

/// Reads an address: https, or plain http to this very machine.
pub(super) fn parse(text: &str) -> Result<Uri, EndpointFault> {
    let uri: Uri = text.parse().map_err(|_| EndpointFault::NotAUrl)?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(EndpointFault::NotAUrl);
    };
    if authority.as_str().contains('@') || uri.query().is_some() || text.contains('#') {
        return Err(EndpointFault::NotAUrl);
    }
    match scheme {
        "https" => Ok(uri),
        "http" if is_loopback(authority.host()) => Ok(uri),
        "http" => Err(EndpointFault::PlainHttp),
        _ => Err(EndpointFault::Scheme),
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_leaves_the_machine_over_tls_only() {
        for good in [
            "https://fcm.googleapis.com",
            "https://gateway.example:8443/fcm",
            "http://127.0.0.1:9100",
            "http://127.8.8.8/token",
            "http://[::1]:80/token",
            "http://LOCALHOST:1/",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        for (bad, fault) in [
            ("http://fcm.googleapis.com", EndpointFault::PlainHttp),
            ("http://127.0.0.1.example", EndpointFault::PlainHttp),
            ("http://localhost.example/", EndpointFault::PlainHttp),
            ("ftp://127.0.0.1/", EndpointFault::Scheme),
            ("fcm.googleapis.com", EndpointFault::NotAUrl),
            ("https://user:word@host/", EndpointFault::NotAUrl),
            ("https://host/?a=b", EndpointFault::NotAUrl),
            ("https://host/#part", EndpointFault::NotAUrl),
            ("", EndpointFault::NotAUrl),
        ] {
            assert_eq!(parse(bad).unwrap_err(), fault, "{bad}");
        }
    }
}
