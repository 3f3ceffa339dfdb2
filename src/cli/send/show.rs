//! A test push on the screen, or as JSON.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::judge::Judgement;
use super::plan::Plan;
use super::stage::Shot;
use crate::app::observe::{Prepared, SeenAttempt};
use crate::call::event::{Environment, EnvironmentChoice};
use crate::call::preview::Preview;
use crate::cli::screen::Screen;
use crate::providers::http2::Phases;

/// Shows what became of it.
///
/// # Errors
/// Standard output is closed.
pub(super) fn shot(plan: &Plan, shot: &Shot, judgement: &Judgement) -> io::Result<()> {
    let mut screen = Screen::stdout();
    if plan.args.json {
        let text = as_json(plan, shot, judgement);
        return writeln!(screen, "{text:#}");
    }
    heading(&mut screen, plan)?;
    let mut shown: Option<&Preview> = None;
    for (index, attempt) in shot.attempts.iter().enumerate() {
        write_attempt(&mut screen, index + 1, attempt, shown)?;
        shown = attempt.request.as_ref().or(shown);
    }
    write_result(&mut screen, shot, judgement)
}

/// The first line.
pub(super) fn heading(screen: &mut Screen, plan: &Plan) -> io::Result<()> {
    let args = &plan.args;
    let platform = args.platform().name();
    let environment = match (platform, plan.choice()) {
        ("ios", EnvironmentChoice::Auto) => ", environment auto",
        ("ios", EnvironmentChoice::Only(Environment::Production)) => ", production",
        ("ios", EnvironmentChoice::Only(Environment::Sandbox)) => ", sandbox",
        _ => "",
    };
    writeln!(
        screen,
        "{} on {platform}{environment}, {} {}, profile {}\n",
        args.app,
        args.target().0.name(),
        plan.token().shortened(),
        plan.profile()
    )
}

fn write_attempt(
    screen: &mut Screen,
    number: usize,
    attempt: &SeenAttempt,
    before: Option<&Preview>,
) -> io::Result<()> {
    let environment = attempt.environment.map(Environment::name);
    let title = format!("attempt {number}  {}", environment.unwrap_or_default());
    writeln!(screen, "{}", screen.bold(title.trim_end()))?;
    match &attempt.request {
        Some(request) => write_request(screen, request, before)?,
        None => writeln!(screen, "  nothing was sent")?,
    }
    let answer = &attempt.answer;
    let status = answer.status.map(|status| format!("HTTP {status}"));
    let words: Vec<&str> = status
        .as_deref()
        .into_iter()
        .chain(answer.reason.as_deref())
        .collect();
    let words = if words.is_empty() {
        "none".to_owned()
    } else {
        words.join(" ")
    };
    screen.paragraph("answer", &words)?;
    if let Some(detail) = &answer.detail {
        screen.paragraph("", detail)?;
    }
    if let Some(id) = &answer.provider_id {
        screen.paragraph("id", id)?;
    }
    if let Some(error) = &attempt.prepared.error {
        screen.paragraph("connection", error)?;
    }
    let how = match attempt.answer.status {
        Some(_) => "first byte",
        None => "given up after",
    };
    let last = Some((how, attempt.took));
    screen.paragraph("time", &times(&attempt.prepared, last))?;
    writeln!(screen)
}

/// Where a request goes and what it says; the body only if it was not shown
/// before.
pub(super) fn write_request(
    screen: &mut Screen,
    request: &Preview,
    before: Option<&Preview>,
) -> io::Result<()> {
    writeln!(screen, "  {} {}", request.method, request.url)?;
    for (name, value) in &request.headers {
        let name = screen.styled("2", &format!("{name}:"));
        writeln!(screen, "    {name} {value}")?;
    }
    let bytes = request.payload_bytes;
    if before.is_some_and(|before| before.body == request.body) {
        return screen.paragraph("payload", "as before");
    }
    screen.paragraph("payload", &format!("{bytes} bytes"))?;
    for line in format!("{:#}", request.body).lines() {
        writeln!(screen, "    {line}")?;
    }
    Ok(())
}

fn write_result(screen: &mut Screen, shot: &Shot, judgement: &Judgement) -> io::Result<()> {
    let result = shot
        .outcome
        .as_ref()
        .map_or("no outcome", |o| o.result.name());
    let reason = shot.outcome.as_ref().and_then(|o| o.reason.as_deref());
    let color = match judgement.code {
        0 => "1;32",
        3 | 6 => "1;33",
        _ => "1;31",
    };
    let word = screen.styled(color, result);
    let after = millis(shot.took);
    writeln!(
        screen,
        "{word}  {} after {after}",
        reason.unwrap_or_default()
    )?;
    let detail = shot.outcome.as_ref().and_then(|o| o.detail.as_deref());
    if let Some(detail) = detail.filter(|_| shot.attempts.is_empty()) {
        screen.paragraph("detail", detail)?;
    }
    screen.paragraph("means", &judgement.means)?;
    screen.paragraph("do", &judgement.next)
}

/// What took how long, in the order in which it happens; the last of it, if
/// there was an attempt, with what it is called.
pub(super) fn times(prepared: &Prepared, last: Option<(&str, Duration)>) -> String {
    let mut parts = Vec::new();
    if let Some(credential) = prepared.credential {
        parts.push(format!("access token {}", millis(credential)));
    }
    if let Some(Phases {
        dns,
        tcp,
        tls,
        http,
    }) = prepared.phases
    {
        parts.push(format!("name {}", millis(dns)));
        parts.push(format!("TCP {}", millis(tcp)));
        parts.extend(tls.map(|tls| format!("TLS {}", millis(tls))));
        parts.push(format!("HTTP/2 {}", millis(http)));
    }
    parts.extend(last.map(|(what, took)| format!("{what} {}", millis(took))));
    parts.join(" · ")
}

/// A time for people.
pub(super) fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 10.0 {
        format!("{millis:.1} ms")
    } else {
        format!("{millis:.0} ms")
    }
}

fn as_json(plan: &Plan, shot: &Shot, judgement: &Judgement) -> Value {
    let outcome = shot.outcome.as_ref();
    with_facts(
        plan,
        &json!({
            "result": outcome.map(|o| o.result),
            "reason": outcome.and_then(|o| o.reason.as_ref()),
            "detail": outcome.and_then(|o| o.detail.as_ref()),
            "environment": outcome.and_then(|o| o.environment).map(Environment::name),
            "provider_id": outcome.and_then(|o| o.provider_id.as_ref()),
            "took_ms": ms(shot.took),
            "means": judgement.means,
            "do": judgement.next,
            "attempts": shot.attempts.iter().map(attempt_json).collect::<Vec<_>>(),
            "exit": judgement.code,
        }),
    )
}

/// An object behind what is known before anything is sent.
pub(super) fn with_facts(plan: &Plan, more: &Value) -> Value {
    let mut facts = facts(plan);
    facts.extend(more.as_object().cloned().unwrap_or_default());
    Value::Object(facts)
}

/// What is known before anything is sent.
pub(super) fn facts(plan: &Plan) -> Map<String, Value> {
    let known = [
        ("app", json!(plan.args.app)),
        ("platform", json!(plan.args.platform())),
        (plan.args.target().0.name(), json!(plan.token().shortened())),
        ("profile", json!(plan.profile())),
        ("validate_only", json!(plan.args.validate_only)),
    ];
    known
        .map(|(key, value)| (key.to_owned(), value))
        .into_iter()
        .collect()
}

fn attempt_json(attempt: &SeenAttempt) -> Value {
    let answer = &attempt.answer;
    json!({
        "environment": attempt.environment.map(Environment::name),
        "request": attempt.request,
        "status": answer.status,
        "reason": answer.reason,
        "detail": answer.detail,
        "class": answer.class.name(),
        "provider_id": answer.provider_id,
        "connection_error": attempt.prepared.error,
        "times_ms": times_json(&attempt.prepared, Some(attempt.took)),
    })
}

/// The same as [`times`], in milliseconds.
pub(super) fn times_json(prepared: &Prepared, first_byte: Option<Duration>) -> Value {
    json!({
        "access_token": prepared.credential.map(ms),
        "name": prepared.phases.map(|p| ms(p.dns)),
        "tcp": prepared.phases.map(|p| ms(p.tcp)),
        "tls": prepared.phases.and_then(|p| p.tls).map(ms),
        "http2": prepared.phases.map(|p| ms(p.http)),
        "first_byte": first_byte.map(ms),
    })
}

fn ms(time: Duration) -> Value {
    json!((time.as_secs_f64() * 100_000.0).round() / 100.0)
}
