//! Secrets without files: `env:NAME` in a file's place, `file:PATH` in an
//! address's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::rig::{Ran, Rig, run_with};

async fn check(rig: &Rig, variables: &[(&str, &str)]) -> Ran {
    let config = rig.path("ringpush.toml");
    let config = config.to_str().unwrap();
    run_with(
        &["check", "--no-broker", "--config", config, "--json"],
        variables,
    )
    .await
}

#[tokio::test]
async fn variables_hold_what_files_would() {
    let rig = Rig::start().await;
    rig.edit("\"AuthKey_FGHIJ67890.p8\"", "\"env:KEY\"");
    rig.edit("\"service-account.json\"", "\"env:ACCOUNT\"");
    rig.edit("\"ca.pem\"", "\"env:CA\"");
    let (key, ca) = (rig.simulator.auth_key_pem(), rig.simulator.ca_pem());
    let account = rig.simulator.service_account_json();
    let variables = [("KEY", key), ("ACCOUNT", account), ("CA", ca)];
    let ran = check(&rig, &variables).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let packed = variables.map(|(name, text)| (name, STANDARD.encode(text)));
    let packed = packed.each_ref().map(|(name, text)| (*name, &**text));
    let ran = check(&rig, &packed).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.out.contains("can be read by everybody"), "{ran:?}");
}

#[tokio::test]
async fn a_certificate_comes_as_base64_and_its_password_as_it_is() {
    let rig = Rig::start().await;
    let (p12, password) = rig.simulator.client_p12();
    rig.edit("team_id = \"ABCDE12345\"\n", "");
    rig.edit("key_id = \"FGHIJ67890\"\n", "");
    let certificate = "certificate_file = \"env:P12\"\ncertificate_password_file = \"env:WORD\"";
    rig.edit("key_file = \"AuthKey_FGHIJ67890.p8\"", certificate);
    let p12 = STANDARD.encode(p12);
    let ran = check(&rig, &[("P12", &p12), ("WORD", password)]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let ran = check(&rig, &[("P12", &p12), ("WORD", "hunter22")]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.out
            .contains("the password in `certificate_password_file` is wrong")
    );
    assert!(!ran.out.contains("hunter22") && !ran.out.contains(&p12[..40]));
}

#[tokio::test]
async fn a_variable_that_is_missing_is_named_with_its_key() {
    let rig = Rig::start().await;
    rig.edit("\"AuthKey_FGHIJ67890.p8\"", "\"env:KEY\"");
    for variables in [&[][..], &[("KEY", "")]] {
        let ran = check(&rig, variables).await;
        assert_eq!(ran.code, 1, "{ran:?}");
        for part in ["`key_file` env:KEY", "the variable KEY is not set"] {
            assert!(ran.out.contains(part), "{part}: {ran:?}");
        }
    }
    let ran = check(&rig, &[("KEY", "s3cret")]).await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.out.contains("env:KEY") && !ran.out.contains("s3cret"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn the_brokers_address_may_be_in_a_file() {
    let rig = Rig::start().await;
    let url = "\"amqp://guest:guest@127.0.0.1:5672/%2f\"";
    rig.edit(url, "\"file:broker.url\"");
    let ran = rig.run("check", &["--offline"]).await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("amqp.url: ") && ran.err.contains("broker.url cannot be read"));
    rig.write("broker.url", "\n");
    let ran = rig.run("check", &["--offline"]).await;
    assert!(ran.err.contains("broker.url is empty; write"), "{ran:?}");
    rig.write(
        "broker.url",
        "\u{feff} amqp://u:hunter2@broker.example/%2f \r\nmore",
    );
    let ran = rig.run("check", &["--offline", "--json"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("broker.example") && !ran.out.contains("hunter2"),
        "{ran:?}"
    );
}
