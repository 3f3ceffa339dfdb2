//! What `ringpush simulate` leaves for a client.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::client::simulator;

/// The files are complete, secrets are for their owner only, and writing them
/// a second time replaces them.
#[tokio::test]
async fn the_files_fit_the_servers() {
    let simulator = simulator().await;
    let dir = tempfile::tempdir().unwrap();
    simulator.write_files(dir.path()).unwrap();
    let files = simulator.write_files(dir.path()).unwrap();
    for secret in [
        &files.auth_key,
        &files.service_account,
        &files.client_pem,
        &files.client_p12,
        &files.p12_password,
    ] {
        let mode = std::fs::metadata(secret).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", secret.display());
    }
    let config: toml::Value =
        toml::from_str(&std::fs::read_to_string(&files.config).unwrap()).unwrap();
    let text = |path: &[&str]| {
        let found = path.iter().fold(&config, |table, key| &table[*key]);
        found.as_str().unwrap().to_owned()
    };
    assert_eq!(
        text(&["apns", "production_url"]),
        simulator.apns_production_url()
    );
    assert_eq!(text(&["apns", "sandbox_url"]), simulator.apns_sandbox_url());
    assert_eq!(text(&["fcm", "url"]), simulator.fcm_url());
    let app = ["apps", "com.example.calls"];
    for (platform, key) in [("ios", "key_file"), ("android", "service_account_file")] {
        let name = text(&[app[0], app[1], platform, key]);
        assert!(
            dir.path().join(&name).is_file(),
            "{name} is beside the configuration"
        );
    }
    assert!(dir.path().join(text(&["apns", "ca_file"])).is_file());
    let account: Value =
        serde_json::from_slice(&std::fs::read(&files.service_account).unwrap()).unwrap();
    assert_eq!(account["token_uri"], simulator.token_url());
    assert_eq!(files.auth_key.file_name().unwrap(), "AuthKey_FGHIJ67890.p8");
}
