//! Lanes as the status page shows them: those in trouble first.

use std::time::Duration;

use serde::Serialize;

use super::chart::age;
use super::status::{Connections, Credential, Lane, Status};
use crate::call::time::Timestamp;

/// The most lanes on the page.
const MOST: usize = 100;
/// A certificate that ends sooner is worth a warning.
const EXPIRES_SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct LaneView {
    pub(super) app: String,
    pub(super) platform: &'static str,
    pub(super) environment: &'static str,
    pub(super) state: &'static str,
    pub(super) tone: &'static str,
    /// What is wrong, sentence by sentence.
    pub(super) why: Vec<String>,
    pub(super) in_flight: i64,
    pub(super) waiting: i64,
    pub(super) connections: Words,
    pub(super) credential: Words,
}

/// A text and how good it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Words {
    pub(super) text: String,
    pub(super) more: Option<String>,
    pub(super) tone: &'static str,
}

/// The rows, and how many lanes are not among them.
pub(super) fn views(status: &Status) -> (Vec<LaneView>, usize) {
    let mut views: Vec<LaneView> = status
        .lanes
        .iter()
        .map(|lane| view(lane, status.now))
        .collect();
    views.sort_by_key(|view| match view.tone {
        "bad" => 0,
        "warn" => 1,
        _ => 2,
    });
    let left_out = views.len().saturating_sub(MOST);
    views.truncate(MOST);
    (views, left_out)
}

fn view(lane: &Lane, now: Timestamp) -> LaneView {
    let mut why = Vec::new();
    let refused = lane
        .canary
        .as_ref()
        .and_then(|c| c.refused.as_ref().map(|word| (c.age, word)));
    let (state, tone) = if let Some((since, reason)) = &lane.paused {
        let reason = reason.as_deref().unwrap_or("credential faults");
        let since = age(*since);
        why.push(format!(
            "for {since}, after {reason} five times in a row; one push is tried now and then"
        ));
        ("paused", "bad")
    } else if lane.why_not_ready.is_some() {
        ("cannot send", "bad")
    } else if refused.is_some() {
        ("credential refused", "bad")
    } else if lane.brake {
        ("token brake", "warn")
    } else if lane.connections.wanted == 0 {
        ("not used yet", "good")
    } else {
        ("ready", "good")
    };
    why.extend(lane.why_not_ready.clone());
    why.extend(refused.map(|(since, word)| format!("the canary of {} ago got {word}", age(since))));
    if lane.brake {
        why.push("too many bad tokens: pushes go on, every verdict is suspect".to_owned());
    }
    LaneView {
        app: lane.app.clone(),
        platform: platform(lane.platform),
        environment: lane.environment,
        state,
        tone,
        why,
        in_flight: lane.in_flight,
        waiting: lane.waiting,
        connections: connections(&lane.connections),
        credential: credential(&lane.credential, now),
    }
}

fn connections(all: &Connections) -> Words {
    let tone = match all.ready {
        _ if all.wanted == 0 => {
            return Words {
                text: "none".to_owned(),
                more: Some("connects with its first push".to_owned()),
                tone: "good",
            };
        }
        0 => "bad",
        ready if ready < all.wanted => "warn",
        _ => "good",
    };
    let others = [(all.suspect, "suspect"), (all.connecting, "connecting")];
    let others: Vec<String> = others
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
        .collect();
    let mut more = others.join(", ");
    if let Some(error) = &all.error {
        let between = if more.is_empty() { "" } else { ": " };
        more = format!("{more}{between}{error}");
    }
    Words {
        text: format!("{} of {} ready", all.ready, all.wanted),
        more: Some(more).filter(|more| !more.is_empty()),
        tone,
    }
}

fn credential(credential: &Credential, now: Timestamp) -> Words {
    match credential {
        Credential::Key { id, age: since } => Words {
            text: format!("key {id}"),
            more: Some(format!("token signed {} ago", age(*since))),
            tone: "good",
        },
        Credential::Certificate { expires } => {
            let left = expires.since(now);
            let (text, tone) = match left {
                Duration::ZERO => ("certificate has expired".to_owned(), "bad"),
                left if left < EXPIRES_SOON => (certificate(left), "warn"),
                left => (certificate(left), "good"),
            };
            let more = Some(format!("until {expires}"));
            Words { text, more, tone }
        }
        Credential::AccessToken { expires, trouble } => {
            let left = expires.map(|at| at.since(now));
            let (text, good) = match left {
                Some(left) if left > Duration::ZERO => {
                    (format!("access token, {} left", age(left)), "good")
                }
                Some(_) | None => ("no access token".to_owned(), "bad"),
            };
            let tone = if trouble.is_some() && good == "good" {
                "warn"
            } else {
                good
            };
            let more = trouble.clone();
            Words { text, more, tone }
        }
    }
}

fn certificate(left: Duration) -> String {
    format!("certificate, {} left", age(left))
}

/// A platform's name for people.
pub(super) fn platform(name: &str) -> &'static str {
    match name {
        "ios" => "iOS",
        "android" => "Android",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(app: &str) -> Lane {
        Lane {
            app: app.to_owned(),
            platform: "ios",
            environment: "production",
            paused: None,
            why_not_ready: None,
            in_flight: 0,
            waiting: 0,
            connections: Connections {
                wanted: 2,
                ready: 2,
                ..Connections::default()
            },
            credential: Credential::Key {
                id: "FGHIJ67890".into(),
                age: Duration::from_secs(720),
            },
            brake: false,
            canary: None,
        }
    }

    fn status(lanes: Vec<Lane>) -> Status {
        Status {
            started: Timestamp::from_millis(0),
            now: Timestamp::from_millis(1_000),
            under_way: 0,
            reports_lost: 0,
            broker: None,
            lanes,
        }
    }

    #[test]
    fn lanes_in_trouble_come_first_and_say_why() {
        let mut paused = lane("b");
        paused.paused = Some((Duration::from_secs(90), Some("InvalidProviderToken".into())));
        let mut braked = lane("c");
        braked.brake = true;
        let (views, left_out) = views(&status(vec![lane("a"), braked, paused]));
        let apps: Vec<&str> = views.iter().map(|view| &*view.app).collect();
        assert_eq!((apps, left_out), (vec!["b", "c", "a"], 0));
        assert!(views[0].why[0].starts_with("for 90 s, after InvalidProviderToken"));
        assert!(views[2].why.is_empty());
        assert_eq!(views[2].credential.text, "key FGHIJ67890");
    }

    #[test]
    fn a_canary_that_was_refused_is_told_and_one_that_was_not_changes_nothing() {
        let mut lanes = [lane("a"), lane("b")];
        let age = Duration::from_secs(60);
        for (lane, refused) in lanes
            .iter_mut()
            .zip([None, Some("InvalidProviderToken".into())])
        {
            lane.canary = Some(crate::admin::status::Canary { age, refused });
        }
        let (views, _) = views(&status(lanes.to_vec()));
        assert_eq!(
            (&*views[0].app, views[0].state),
            ("b", "credential refused")
        );
        assert_eq!(
            views[0].why,
            ["the canary of 60 s ago got InvalidProviderToken"]
        );
        assert_eq!(views[1].state, "ready");
    }

    #[test]
    fn the_page_has_room_for_so_many_lanes() {
        let mut lanes = vec![lane("fine"); 500];
        lanes[499].why_not_ready = Some("no connection".into());
        let (views, left_out) = views(&status(lanes));
        assert_eq!((views.len(), left_out), (100, 400));
        assert_eq!(views[0].state, "cannot send");
    }

    #[test]
    fn a_certificate_that_ends_soon_is_told() {
        let day = 24 * 3_600_000;
        let now = Timestamp::from_millis(0);
        for (days, text, tone) in [
            (90, "certificate, 90 days left", "good"),
            (20, "certificate, 20 days left", "warn"),
            (-1, "certificate has expired", "bad"),
        ] {
            let expires = Timestamp::from_millis(days * day);
            let words = credential(&Credential::Certificate { expires }, now);
            assert_eq!((&*words.text, words.tone), (text, tone));
        }
    }

    #[test]
    fn no_access_token_is_bad_and_trouble_beside_a_valid_one_a_warning() {
        let now = Timestamp::from_millis(0);
        let expires = Some(Timestamp::from_millis(600_000));
        let trouble = Some("OAuth is away".to_owned());
        let words =
            |expires, trouble| credential(&Credential::AccessToken { expires, trouble }, now);
        assert_eq!(words(None, trouble.clone()).tone, "bad");
        assert_eq!(words(expires, trouble).tone, "warn");
        assert_eq!(words(expires, None).text, "access token, 10 min left");
    }
}
