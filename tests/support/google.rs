//! What Google's clouds have in place of key files: a metadata server, a token
//! exchange, and a server of the machine's own tokens. Strict, on loopback.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const AUDIENCE: &str =
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/q";
const SUBJECT: &str = "machine.jwt";
const MESSAGING: &str = "https://www.googleapis.com/auth/firebase.messaging";
const PLATFORM: &str = "https://www.googleapis.com/auth/cloud-platform";

/// The servers, all at one address.
pub(crate) struct Google {
    pub(crate) addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Google {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Answer = (StatusCode, HeaderMap, String);

impl Google {
    /// They give out this access token, in this project.
    pub(crate) async fn start(token: String, project: &'static str) -> Self {
        let app = Router::new()
            .route(
                "/computeMetadata/v1/instance/service-accounts/default/token",
                get(metadata_token),
            )
            .route(
                "/computeMetadata/v1/project/project-id",
                get(async move |headers: HeaderMap| {
                    assert_eq!(headers["metadata-flavor"], "Google");
                    ([("Metadata-Flavor", "Google")], project)
                }),
            )
            .route("/subject", get(subject))
            .route("/sts", post(exchange))
            .route(
                "/v1/projects/-/serviceAccounts/{account}",
                post(impersonate),
            )
            .with_state(Arc::from(token));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { addr, task }
    }

    /// A credentials file whose subject token is there.
    pub(crate) fn federation(&self, source: &Value) -> Value {
        let here = format!("http://{}", self.addr);
        json!({
            "type": "external_account",
            "audience": AUDIENCE,
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
            "token_url": format!("{here}/sts"),
            "service_account_impersonation_url": format!(
                "{here}/v1/projects/-/serviceAccounts/ring@calls.iam.gserviceaccount.com:generateAccessToken"
            ),
            "credential_source": source,
        })
    }
}

fn answer(status: u16, body: &Value) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("metadata-flavor", "Google".parse().unwrap());
    (
        StatusCode::from_u16(status).unwrap(),
        headers,
        body.to_string(),
    )
}

async fn metadata_token(State(token): State<Arc<str>>, headers: HeaderMap) -> Answer {
    assert_eq!(headers["metadata-flavor"], "Google");
    let body = json!({"access_token": &*token, "expires_in": 3599, "token_type": "Bearer"});
    answer(200, &body)
}

async fn subject(uri: Uri, headers: HeaderMap) -> Answer {
    assert_eq!(uri.query(), Some("resource=x&v=1"));
    assert_eq!(headers["metadata"], "True");
    answer(200, &json!({"id_token": SUBJECT}))
}

async fn exchange(State(token): State<Arc<str>>, form: Bytes) -> Answer {
    let form: HashMap<String, String> = form_urlencoded::parse(&form).into_owned().collect();
    let has = |key: &str, value: &str| assert_eq!(form[key], value, "{key}");
    has(
        "grant_type",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    );
    has(
        "requested_token_type",
        "urn:ietf:params:oauth:token-type:access_token",
    );
    has("subject_token_type", "urn:ietf:params:oauth:token-type:jwt");
    if form["audience"] != AUDIENCE {
        let text = "The target service indicated by the \"audience\" parameters is invalid.";
        return answer(
            400,
            &json!({"error": "invalid_target", "error_description": text}),
        );
    }
    if form["subject_token"] != SUBJECT {
        return answer(
            400,
            &json!({"error": "invalid_grant", "error_description": "no"}),
        );
    }
    // Only what becomes a service account asks for more than to send.
    let (token, life) = match &*form["scope"] {
        PLATFORM => ("federated", 3599),
        MESSAGING => (&*token, 3599),
        other => panic!("{other}"),
    };
    answer(
        200,
        &json!({"access_token": token, "expires_in": life, "token_type": "Bearer"}),
    )
}

async fn impersonate(
    State(token): State<Arc<str>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Answer {
    assert_eq!(headers["authorization"], "Bearer federated");
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json!({"scope": [MESSAGING], "lifetime": "3600s"}));
    if !uri
        .path()
        .ends_with("/ring@calls.iam.gserviceaccount.com:generateAccessToken")
    {
        let message = "Permission 'iam.serviceAccounts.getAccessToken' denied on resource";
        let error = json!({"code": 403, "message": message, "status": "PERMISSION_DENIED"});
        return answer(403, &json!({"error": error}));
    }
    let until = chrono::Utc::now() + chrono::Duration::seconds(3599);
    let until = until.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    answer(200, &json!({"accessToken": &*token, "expireTime": until}))
}
