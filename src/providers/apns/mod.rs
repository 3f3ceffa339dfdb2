//! `APNs`: `PushKit` `VoIP` pushes over HTTP/2.
