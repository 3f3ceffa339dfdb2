//! Attempts as a person wants to see them: the request, the answer, and how
//! long what took. Only lanes that were built with an observer have this in
//! their way; a worker's have not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{OnceCell, mpsc};

use super::lanes::Client;
use crate::call::event::Environment;
use crate::call::preview::Preview;
use crate::call::push::{Answer, Attempt, PushClient};
use crate::config::Config;
use crate::providers::http2::Phases;
use crate::providers::{apns, fcm, http2};

/// Opening connections takes no more of a push's time than this.
const PREPARE: Duration = Duration::from_secs(5);

/// What is shown in an access token's place.
pub const ACCESS_TOKEN: &str = "Bearer … (an access token, not shown)";

/// Where attempts are told of.
pub type Observer = mpsc::UnboundedSender<SeenAttempt>;

/// One attempt that has ended.
#[derive(Clone, Debug)]
pub struct SeenAttempt {
    /// The environment; none on Android.
    pub environment: Option<Environment>,
    /// What was sent; none if nothing was.
    pub request: Option<Preview>,
    /// How it ended.
    pub answer: Answer,
    /// From the request to the answer's first byte, or to giving up.
    pub took: Duration,
    /// How the connections of this client came up, which happened before its
    /// first attempt.
    pub prepared: Prepared,
}

/// How a client's connections and credentials came up.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// The phases of its newest connection.
    pub phases: Option<Phases>,
    /// Until there was an access token; on Android only.
    pub credential: Option<Duration>,
    /// Why there is no connection.
    pub error: Option<String>,
}

impl Prepared {
    /// What a client's warm connections say of themselves.
    #[must_use]
    pub fn of(status: http2::Status) -> Self {
        Self {
            phases: status.phases,
            credential: None,
            error: status.error.filter(|_| status.ready == 0),
        }
    }
}

/// How lanes are built for somebody who watches.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Who is told.
    pub observer: Observer,
    /// Has FCM check pushes, and not deliver them.
    pub validate_only: bool,
}

type Describe = dyn Fn(&Attempt<'_>) -> Option<Preview> + Send + Sync;

/// A client that tells of its attempts.
pub(super) struct Watched {
    client: Client,
    environment: Option<Environment>,
    describe: Box<Describe>,
    watch: Watch,
    prepared: OnceCell<Prepared>,
}

impl Watched {
    /// Around an app's client of one environment.
    pub(super) fn apns(
        client: Arc<apns::Client>,
        environment: Environment,
        config: &Config,
        bundle_id: &str,
        watch: Watch,
    ) -> Arc<dyn PushClient> {
        let (settings, bundle_id) = (config.apns.clone(), bundle_id.to_owned());
        let authorization = authorization(client.credentials());
        Arc::new(Self {
            environment: Some(environment),
            describe: Box::new(move |attempt| {
                let request = apns::exact_request(&settings, environment, &bundle_id, attempt)?;
                let shown = authorization.as_deref();
                Some(Preview::of(&request, attempt.token, attempt.payload, shown))
            }),
            client: Client::Apns(client),
            watch,
            prepared: OnceCell::new(),
        })
    }

    /// Around an app's client.
    pub(super) fn fcm(
        client: Arc<fcm::Client>,
        config: &Config,
        options: fcm::AndroidOptions,
        watch: Watch,
    ) -> Arc<dyn PushClient> {
        let (settings, of) = (config.fcm.clone(), Arc::clone(&client));
        let validate_only = watch.validate_only;
        Arc::new(Self {
            environment: None,
            describe: Box::new(move |attempt| {
                let project = of.project_id()?;
                let request =
                    fcm::exact_request(&settings, &project, &options, validate_only, attempt)?;
                let shown = Some(ACCESS_TOKEN);
                Some(Preview::of(&request, attempt.token, attempt.payload, shown))
            }),
            client: Client::Fcm(client),
            watch,
            prepared: OnceCell::new(),
        })
    }

    async fn watched(&self, mut attempt: Attempt<'_>) -> Answer {
        let begun = Instant::now();
        let limit = attempt.time_left.min(PREPARE);
        let prepared = self.prepared.get_or_init(|| self.prepare(limit)).await;
        attempt.time_left = attempt.time_left.saturating_sub(begun.elapsed());
        let request = (self.describe)(&attempt);
        let begun = Instant::now();
        let answer = match &self.client {
            Client::Fcm(client) if self.watch.validate_only => client.validate(attempt).await,
            Client::Fcm(client) => client.send(attempt).await,
            Client::Apns(client) => client.send(attempt).await,
        };
        // Whoever watched may have gone; the push goes on.
        let _ = self.watch.observer.send(SeenAttempt {
            environment: self.environment,
            request: request.filter(|_| answer.started),
            answer: answer.clone(),
            took: begun.elapsed(),
            prepared: prepared.clone(),
        });
        answer
    }

    async fn prepare(&self, limit: Duration) -> Prepared {
        match &self.client {
            Client::Apns(client) => Prepared::of(client.warm(limit).await),
            Client::Fcm(client) => {
                let begun = Instant::now();
                let valid = tokio::time::timeout(limit, client.tokens().valid_until());
                let credential = async { valid.await.ok().map(|_| begun.elapsed()) };
                let (status, credential) = tokio::join!(client.warm(limit), credential);
                Prepared {
                    credential,
                    ..Prepared::of(status)
                }
            }
        }
    }
}

impl PushClient for Watched {
    fn send<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Answer> {
        self.watched(attempt).boxed()
    }

    fn why_not_ready(&self) -> Option<String> {
        match &self.client {
            Client::Apns(client) => client.why_not_ready(),
            Client::Fcm(client) => client.why_not_ready(),
        }
    }

    fn is_used(&self) -> bool {
        self.client.is_used()
    }
}

/// What is shown of the credential; a certificate is in no header.
#[must_use]
pub fn authorization(credentials: &apns::Credentials) -> Option<String> {
    credentials.signer().map(|signer| {
        let (key, team) = (signer.key_id(), signer.team_id());
        format!("bearer … (signed with key {key} of team {team}, not shown)")
    })
}
