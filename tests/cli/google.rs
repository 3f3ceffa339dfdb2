//! Google's access tokens without a key file: the metadata server, and federated
//! identities.

use gcp_auth::TokenProvider as _;
use serde_json::{Value, json};

use super::rig::{ANDROID_TOKEN, APP, Ran, Rig, run_with};
use super::support::google::{AUDIENCE, Google};

const FILE: &str = "service_account_file = \"service-account.json\"";

struct Site {
    rig: Rig,
    google: Google,
}

impl Site {
    async fn start() -> Self {
        let rig = Rig::start().await;
        let json = rig.simulator.service_account_json();
        let account = gcp_auth::CustomServiceAccount::from_json(json).unwrap();
        let scope = ["https://www.googleapis.com/auth/firebase.messaging"];
        let token = account.token(&scope).await.unwrap().as_str().to_owned();
        let google = Google::start(token, "ringpush-sim").await;
        Self { rig, google }
    }

    /// Puts a federated identity in the key file's place.
    fn federate(&self, file: &Value) {
        self.rig.write("service-account.json", file.to_string());
    }

    async fn run(&self, arguments: &[&str], metadata: &str) -> Ran {
        let config = self.rig.path("ringpush.toml");
        let mut all = vec![arguments[0], "--config", config.to_str().unwrap()];
        all.extend(&arguments[1..]);
        run_with(&all, &[("GCE_METADATA_HOST", metadata)]).await
    }

    async fn check(&self) -> Ran {
        let here = self.google.addr.to_string();
        self.run(
            &["check", "--no-broker", "--json", "--timeout", "2s"],
            &here,
        )
        .await
    }

    async fn send(&self, metadata: &str) -> Ran {
        let arguments = [
            "send",
            "--json",
            "--app",
            APP,
            "--platform",
            "android",
            "--token",
            ANDROID_TOKEN,
            "--timeout",
            "3s",
        ];
        self.run(&arguments, metadata).await
    }
}

#[tokio::test]
async fn the_metadata_server_gives_token_and_project() {
    let site = Site::start().await;
    site.rig.edit(FILE, "credentials = \"metadata\"");
    let ran = site.check().await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("the account of this machine"), "{ran:?}");
    let ran = site.send(&site.google.addr.to_string()).await;
    assert_eq!(
        (ran.code, &ran.json()["result"]),
        (0, &json!("accepted")),
        "{ran:?}"
    );
    site.rig.edit(
        "credentials = \"metadata\"",
        "credentials = \"metadata\"\nproject_id = \"not-ours\"",
    );
    let ran = site.send(&site.google.addr.to_string()).await;
    assert_eq!(ran.code, 4, "the app's own project wins: {ran:?}");
}

/// Away, somebody else, or without an account.
#[tokio::test]
async fn a_metadata_server_that_is_none_is_named_with_its_cure() {
    let site = Site::start().await;
    site.rig.edit(FILE, "credentials = \"metadata\"");
    let ran = site.send("127.0.0.1:1").await;
    assert_eq!(ran.code, 6, "{ran:?}");
    for part in [
        "oauth_unavailable",
        "the metadata server http://127.0.0.1:1",
        "elsewhere set",
    ] {
        assert!(ran.out.contains(part), "{part}: {ran:?}");
    }
    let other = site.rig.simulator.token_url();
    let other = other
        .trim_start_matches("http://")
        .trim_end_matches("/token");
    let ran = site.send(other).await;
    assert!(ran.out.contains("no header Metadata-Flavor"), "{ran:?}");
    let ran = site.send("a b").await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(
        ran.err.contains("GCE_METADATA_HOST is not a URL"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn a_federated_identity_becomes_a_service_account() {
    let site = Site::start().await;
    site.rig
        .edit(FILE, &format!("{FILE}\nproject_id = \"ringpush-sim\""));
    let url = format!("http://{}/subject?resource=x&v=1", site.google.addr);
    let json = json!({"type": "json", "subject_token_field_name": "id_token"});
    let from_url = json!({"url": url, "headers": {"Metadata": "True"}, "format": json});
    site.federate(&site.google.federation(&from_url));
    let ran = site.check().await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(
        ran.out.contains("ring@calls.iam.gserviceaccount.com"),
        "{ran:?}"
    );
    // A file beside it, as it is, and nobody to become.
    site.rig.write("subject.txt", "machine.jwt\n");
    let mut file = site.google.federation(&json!({"file": "subject.txt"}));
    file["service_account_impersonation_url"].take();
    site.federate(&file);
    let ran = site.send("").await;
    assert_eq!(
        (ran.code, &ran.json()["result"]),
        (0, &json!("accepted")),
        "{ran:?}"
    );
    assert!(!format!("{ran:?}").contains("machine.jwt"));
}

#[tokio::test]
async fn what_the_exchange_refuses_is_named_and_explained() {
    let site = Site::start().await;
    site.rig
        .edit(FILE, &format!("{FILE}\nproject_id = \"ringpush-sim\""));
    site.rig.write("subject.txt", "machine.jwt");
    let good = site.google.federation(&json!({"file": "subject.txt"}));
    let with = |key: &str, value: Value| {
        let mut file = good.clone();
        file[key] = value;
        file
    };
    let other = good["service_account_impersonation_url"].as_str().unwrap();
    let other = other.replace("ring@", "other@");
    for (file, code, parts) in [
        (
            with("audience", (AUDIENCE.to_owned() + "x").into()),
            4,
            ["invalid_target", "audience"],
        ),
        (
            with("service_account_impersonation_url", other.into()),
            4,
            ["oauth_refused", "getAccessToken"],
        ),
        (
            with("credential_source", json!({"file": "gone.txt"})),
            6,
            ["oauth_unavailable", "gone.txt cannot be read"],
        ),
        (
            with(
                "credential_source",
                json!({"file": "subject.txt", "format": {"type": "json",
                "subject_token_field_name": "id_token"}}),
            ),
            6,
            [
                "oauth_unavailable",
                "holds no token; compare credential_source.format",
            ],
        ),
    ] {
        site.federate(&file);
        let ran = site.send("").await;
        assert_eq!(ran.code, code, "{ran:?}");
        for part in parts {
            assert!(ran.out.contains(part), "{part}: {ran:?}");
        }
    }
}

#[tokio::test]
async fn a_file_of_a_federated_identity_that_cannot_be_used_is_named_with_its_cure() {
    let site = Site::start().await;
    site.rig
        .edit(FILE, &format!("{FILE}\nproject_id = \"ringpush-sim\""));
    let good = site.google.federation(&json!({"file": "subject.txt"}));
    let with = |key: &str, value: Value| {
        let mut file = good.clone();
        file[key] = value;
        file
    };
    for (file, error) in [
        (with("audience", Value::Null), "wrong type"),
        (json!({"type": "external_account"}), "`audience` is missing"),
        (
            with("token_url", "http://sts.example/".into()),
            "`token_url` must be https",
        ),
        (
            with("credential_source", json!({"environment_id": "aws1"})),
            "AWS's signed request",
        ),
        (
            with("credential_source", json!({"executable": {}})),
            "neither a `file` nor a `url`",
        ),
        (
            with("credential_source", json!({"url": "http://10.1.1.1/x"})),
            "must be https",
        ),
    ] {
        site.federate(&file);
        let ran = site.send("").await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(
            ran.err.contains(error) && ran.err.contains("create-cred-config"),
            "{ran:?}"
        );
    }
    site.federate(&good);
    site.rig.edit("project_id = \"ringpush-sim\"", "");
    let ran = site.send("").await;
    assert!(
        ran.err.contains("names no project: set `project_id`"),
        "{ran:?}"
    );
}

#[tokio::test]
async fn credentials_are_one_of_the_two() {
    let rig = Rig::start().await;
    rig.edit(FILE, "");
    let ran = rig.run("check", &["--offline"]).await;
    assert!(
        ran.err
            .contains("android: service_account_file is missing; name"),
        "{ran:?}"
    );
    rig.edit(
        "[apps.\"com.example.calls\".android]",
        &format!("[apps.\"com.example.calls\".android]\n{FILE}\ncredentials = \"metadata\""),
    );
    let ran = rig.run("check", &["--offline"]).await;
    assert!(ran.err.contains("is set too; remove one"), "{ran:?}");
    assert_eq!(ran.code, 2);
}
