//! Plays a script: which step meets which request.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio::time::Instant;

use super::{Rule, Script, Step};
use crate::simulator::kind::ServerKind;

/// Of how many device tokens a rule with a prefix remembers its place.
const TOKENS: usize = 100_000;

/// See the module. Asked by every request, so that an empty script costs one
/// uncontended lock.
#[derive(Default)]
pub(in crate::simulator) struct Player {
    rules: RwLock<Arc<[Playing]>>,
}

struct Playing {
    rule: Rule,
    progress: Mutex<HashMap<String, Progress>>,
}

/// Where in its steps a rule is.
#[derive(Default, Clone, Copy)]
struct Progress {
    step: usize,
    used: u32,
    since: Option<Instant>,
}

impl Player {
    /// Starts this script from its beginning instead of the one under way.
    pub(in crate::simulator) fn play(&self, script: Script) {
        let rules = script
            .rules
            .into_iter()
            .map(|rule| Playing {
                rule,
                progress: Mutex::default(),
            })
            .collect();
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = rules;
    }

    /// What a request for `token` meets.
    pub(in crate::simulator) fn request(
        &self,
        server: ServerKind,
        token: Option<&str>,
    ) -> Option<Step> {
        self.next(server, token, false)
    }

    /// What a new connection meets.
    pub(in crate::simulator) fn connection(&self, server: ServerKind) -> Option<Step> {
        self.next(server, None, true)
    }

    fn next(&self, server: ServerKind, token: Option<&str>, connection: bool) -> Option<Step> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let rules = Arc::clone(&rules);
        let mut fitting = rules.iter().filter(|playing| playing.fits(server, token));
        fitting.find_map(|playing| {
            let key = playing.rule.token_prefix.as_ref().and(token);
            playing.next(key.unwrap_or_default(), connection, Instant::now())
        })
    }
}

impl Playing {
    fn fits(&self, server: ServerKind, token: Option<&str>) -> bool {
        let rule = &self.rule;
        let exact = rule.token.as_deref().is_none_or(|own| token == Some(own));
        let begins = |own: &str| token.is_some_and(|token| token.starts_with(own));
        let prefix = rule.token_prefix.as_deref().is_none_or(begins);
        rule.server.includes(server) && exact && prefix
    }

    fn next(&self, key: &str, connection: bool, now: Instant) -> Option<Step> {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        let mut place = progress.get(key).copied().unwrap_or_default();
        let step = place.take(&self.rule, connection, now);
        if progress.len() < TOKENS || progress.contains_key(key) {
            progress.insert(key.to_owned(), place);
        }
        step
    }
}

impl Progress {
    /// The step for one more request or connection. A request does not use up
    /// a step for connections, nor the other way round.
    fn take(&mut self, rule: &Rule, connection: bool, now: Instant) -> Option<Step> {
        while let Some(step) = rule.steps.get(self.step) {
            let since = self.since.unwrap_or(now);
            let over = match (step.window, step.times) {
                (Some(window), times) => {
                    now.duration_since(since) >= window || times.is_some_and(|t| self.used >= t)
                }
                (None, times) => self.used >= times.unwrap_or(1),
            };
            if over {
                *self = Self {
                    step: self.step + 1,
                    used: 0,
                    since: None,
                };
                continue;
            }
            if step.is_for_connections() != connection {
                return None;
            }
            self.since = Some(since);
            self.used += 1;
            return Some(step.clone());
        }
        rule.then
            .clone()
            .filter(|step| step.is_for_connections() == connection)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::script::{Body, Effect, RetryAfter};
    use std::time::Duration;

    fn playing(toml: &str) -> Player {
        let player = Player::default();
        player.play(Script::from_toml(toml).unwrap());
        player
    }

    fn status(step: Option<Step>) -> Option<u16> {
        if let Effect::Answer { status, .. } = step?.effect {
            Some(status)
        } else {
            Some(0)
        }
    }

    /// Steps are played in order, each as often as it says, then the default.
    #[test]
    fn steps_follow_each_other() {
        let player = playing(
            r#"
            [[rule]]
            server = "apns"
            token = "aa"
            steps = [{ status = 503, times = 2 }, { status = 429 }]
            then = { status = 410 }
            "#,
        );
        let ask = || status(player.request(ServerKind::ApnsSandbox, Some("aa")));
        assert_eq!(
            [ask(), ask(), ask(), ask(), ask()].map(Option::unwrap),
            [503, 503, 429, 410, 410]
        );
        assert!(
            player
                .request(ServerKind::ApnsSandbox, Some("ab"))
                .is_none(),
            "another token"
        );
        assert!(
            player.request(ServerKind::Fcm, Some("aa")).is_none(),
            "another server"
        );
    }

    /// A rule with a prefix plays its steps for each token by itself, one
    /// without a token for the next requests whoever they are for.
    #[test]
    fn prefixes_count_by_token_and_others_together() {
        let player = playing(
            r#"
            [[rule]]
            server = "fcm"
            token_prefix = "flaky"
            steps = [{ status = 503 }]
            [[rule]]
            server = "fcm"
            steps = [{ status = 500, times = 2 }]
            "#,
        );
        let ask = |token: &str| status(player.request(ServerKind::Fcm, Some(token)));
        assert_eq!((ask("flaky1"), ask("flaky2")), (Some(503), Some(503)));
        assert_eq!(
            (ask("flaky1"), ask("x"), ask("y")),
            (Some(500), Some(500), None)
        );
    }

    /// A storm lasts from the first request it meets.
    #[tokio::test(start_paused = true)]
    async fn a_window_begins_with_its_first_request() {
        let player =
            playing("[[rule]]\nserver = \"apns\"\nsteps = [{ status = 503, for = \"5s\" }]");
        tokio::time::advance(Duration::from_secs(60)).await;
        let ask = || status(player.request(ServerKind::ApnsProduction, Some("aa")));
        assert_eq!(ask(), Some(503));
        tokio::time::advance(Duration::from_millis(4_999)).await;
        assert_eq!(ask(), Some(503));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(ask(), None);
    }

    /// A step for connections waits for a connection.
    #[test]
    fn a_stall_meets_connections_only() {
        let player =
            playing("[[rule]]\nserver = \"apns\"\nsteps = [{ stall = true }, { hang = true }]");
        assert!(
            player
                .request(ServerKind::ApnsProduction, Some("aa"))
                .is_none()
        );
        assert_eq!(
            player
                .connection(ServerKind::ApnsProduction)
                .unwrap()
                .effect,
            Effect::Stall
        );
        assert!(player.connection(ServerKind::ApnsProduction).is_none());
        let step = player
            .request(ServerKind::ApnsProduction, Some("aa"))
            .unwrap();
        assert_eq!(step.effect, Effect::Hang);
    }

    /// A script that cannot be played says which rule and why.
    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        for (text, word) in [
            (
                "[[rule]]\nserver = \"apns\"\nsteps = [{ status = 503, hang = true }]",
                "one thing",
            ),
            (
                "[[rule]]\nserver = \"apns\"\nsteps = [{ reset = \"NOPE\" }]",
                "NOPE",
            ),
            (
                "[[rule]]\nserver = \"apns\"\nsteps = [{ reason = \"x\" }]",
                "need a status",
            ),
            (
                "[[rule]]\nserver = \"apns\"\nsteps = [{ status = 42 }]",
                "599",
            ),
            (
                "[[rule]]\nserver = \"apns\"\nsteps = [{ statsu = 503 }]",
                "statsu",
            ),
            (
                "[[rule]]\nserver = \"apns\"\nsteps = [{ status = 503, times = 0 }]",
                "at least once",
            ),
            (
                "[[rule]]\nserver = \"oauth\"\nsteps = [{ goaway = \"after\" }]",
                "HTTP/1.1",
            ),
            (
                "[[rule]]\nserver = \"oauth\"\ntoken = \"a\"",
                "no device tokens",
            ),
            (
                "[[rule]]\nserver = \"fcm\"\ntoken = \"a\"\nsteps = [{ stall = true }]",
                "rule 1: stall",
            ),
            ("[[rule]]\nserver = \"gcm\"", "gcm"),
        ] {
            let error = Script::from_toml(text).unwrap_err().to_string();
            assert!(error.contains(word), "{word:?} is not in {error:?}");
        }
    }

    /// JSON has the same shape, and every key comes to its place.
    #[test]
    fn a_script_is_read_from_json_too() {
        let text = r#"{"rule":[{"server":"apns-sandbox","token":"aa","steps":[
            {"status":410,"reason":"Unregistered","timestamp":1,"retry_after":{"date_in":3},"delay":"2s"},
            {"goaway":"before","reason":"Shutdown"},{"reset":"CANCEL","times":3},
            {"slow_body":"1s"},{"outage":"5s"},{"max_streams":1,"for":"1m"}]}]}"#;
        let goaway = Effect::GoAway {
            processed: false,
            reason: "Shutdown".to_owned(),
        };
        let gone = Effect::Answer {
            status: 410,
            reason: Some("Unregistered".to_owned()),
            timestamp: Some(1),
            retry_after: Some(RetryAfter::Date { date_in: 3 }),
            body: None,
        };
        let second = Duration::from_secs(1);
        let expected = [
            Step::new(gone).after(second * 2),
            Step::new(goaway),
            Step::new(Effect::Reset(8)).times(3),
            Step::new(Effect::Honest).with_body(Body::After(second)),
            Step::new(Effect::Outage(second * 5)),
            Step::new(Effect::MaxStreams(1)).lasting(second * 60),
        ];
        assert_eq!(Script::from_json(text).unwrap().rules[0].steps, expected);
    }
}
