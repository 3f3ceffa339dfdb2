//! Pushes that are not sent: `--dry-run`, and `--validate-only` for iOS, where
//! the provider has nothing of the kind.

use std::io::Write as _;

use anyhow::Context as _;
use serde_json::json;

use super::event;
use super::judge::PAYLOAD;
use super::plan::Plan;
use super::show::{heading, millis, times, times_json, with_facts, write_request};
use crate::app::observe::{self, ACCESS_TOKEN, Prepared};
use crate::app::{apns_probe, profiles};
use crate::call::event::{Environment, EnvironmentChoice, Event};
use crate::call::preview::Preview;
use crate::cli::explain::find;
use crate::cli::preview::{End, Sent, Setup, preview};
use crate::cli::screen::Screen;
use crate::cli::{DONE, FAILED};
use crate::providers::{apns, fcm};

/// The request that would be made, with this in the credential's place, or why
/// the profile makes nothing of the event.
fn request(plan: &Plan, shown: Option<&str>) -> anyhow::Result<Result<Preview, (String, String)>> {
    let body = event::ring(plan)?.to_string();
    let event = Event::decode(body.as_bytes(), plan.config.ring.limits())?;
    let entry = event.devices().first().context("the event has no device")?;
    let device = entry.device.as_ref();
    let device = device.map_err(|bad| anyhow::anyhow!("{}", bad.error))?;
    let setup = Setup {
        config: plan.config.clone(),
        profiles: profiles(&plan.config)?,
        configured: true,
    };
    let profile = setup
        .profiles
        .get(plan.profile())
        .context("no such profile")?;
    match preview(&setup, profile, &event, device).end {
        End::Sent(sent) => {
            let Sent { request, payload } = *sent;
            Ok(Ok(Preview::of(&request, &device.token, &payload, shown)))
        }
        End::Rejected { reason, detail } => Ok(Err((reason.to_owned(), detail))),
        End::Nothing(why) => anyhow::bail!(why),
    }
}

/// What is shown of the credential, which is loaded for it.
fn authorization(plan: &Plan) -> anyhow::Result<Option<String>> {
    let app = plan.app().context("the app is not configured")?;
    if let Some(ios) = &app.ios {
        let first = environments(plan)[0];
        return Ok(observe::authorization(&credentials(plan, ios, first)?));
    }
    if let Some(android) = &app.android {
        fcm::ServiceAccount::load(android)
            .map_err(|e| plan.config.error("service_account_file", e))?;
    }
    Ok(Some(ACCESS_TOKEN.to_owned()))
}

/// `--dry-run`: shows the request and connects to nobody.
///
/// # Errors
/// Something in the configuration or the event cannot be used.
pub(super) fn show(plan: &Plan) -> anyhow::Result<u8> {
    let shown = authorization(plan)?;
    let request = match request(plan, shown.as_deref())? {
        Ok(request) => request,
        Err(refusal) => return refused(plan, &refusal),
    };
    let mut screen = Screen::stdout();
    if plan.args.json {
        let more = json!({"dry_run": true, "request": request, "exit": DONE});
        writeln!(screen, "{:#}", with_facts(plan, &more))?;
        return Ok(DONE);
    }
    heading(&mut screen, plan)?;
    write_request(&mut screen, &request, None)?;
    writeln!(screen, "\nNothing was sent: this is a dry run.")?;
    Ok(DONE)
}

/// Those that a push may go to, in that order.
fn environments(plan: &Plan) -> &'static [Environment] {
    match plan.choice() {
        EnvironmentChoice::Only(Environment::Production) => &[Environment::Production],
        EnvironmentChoice::Only(Environment::Sandbox) => &[Environment::Sandbox],
        EnvironmentChoice::Auto => &[Environment::Production, Environment::Sandbox],
    }
}

fn credentials(
    plan: &Plan,
    ios: &apns::AppSettings,
    environment: Environment,
) -> anyhow::Result<apns::Credentials> {
    let table = format!("apps.\"{}\".ios", plan.args.app);
    let own = ios.credential(environment);
    let loaded = apns::Credentials::load(&own, &apns::Signers::default());
    let credentials = loaded.map_err(|error| plan.config.error(&table, error))?;
    match credentials.fault() {
        Some(fault) => Err(plan.config.error(table, fault).into()),
        None => Ok(credentials),
    }
}

fn refused(plan: &Plan, (reason, detail): &(String, String)) -> anyhow::Result<u8> {
    let mut screen = Screen::stdout();
    let entry = find(reason);
    let next = entry.map_or("", |entry| entry.next.as_str());
    if plan.args.json {
        let more = json!({
            "result": "rejected",
            "reason": reason,
            "detail": detail,
            "means": entry.map(|entry| &entry.means),
            "do": next,
            "exit": PAYLOAD,
        });
        writeln!(screen, "{:#}", with_facts(plan, &more))?;
        return Ok(PAYLOAD);
    }
    heading(&mut screen, plan)?;
    writeln!(screen, "{}  {reason}", screen.styled("1;31", "rejected"))?;
    screen.paragraph("means", detail)?;
    screen.paragraph("do", next)?;
    Ok(PAYLOAD)
}

/// `--validate-only` for iOS: key, signature, payload, TLS and HTTP/2.
///
/// # Errors
/// Something in the configuration or the event cannot be used.
pub(super) async fn check_ios(plan: &Plan) -> anyhow::Result<u8> {
    let app = plan.app().context("the app is not configured")?;
    let ios = app.ios.as_ref().context("the app has no ios table")?;
    // Signs a first token as well.
    let shown = authorization(plan)?;
    let request = match request(plan, shown.as_deref())? {
        Ok(request) => request,
        Err(refusal) => return refused(plan, &refusal),
    };
    let mut lines = Vec::new();
    for &environment in environments(plan) {
        let credentials = credentials(plan, ios, environment)?;
        let prepared = connect(plan, ios, &credentials, environment).await?;
        lines.push((environment, prepared));
    }
    let failed = lines.iter().any(|(_, prepared)| prepared.error.is_some());
    let code = if failed { FAILED } else { DONE };
    report_ios(plan, &request, &lines, code)?;
    Ok(code)
}

async fn connect(
    plan: &Plan,
    ios: &apns::AppSettings,
    credentials: &apns::Credentials,
    environment: Environment,
) -> anyhow::Result<Prepared> {
    let table = format!("apps.\"{}\".ios", plan.args.app);
    let client = apns_probe(&plan.config, ios, credentials, environment)
        .map_err(|problem| plan.config.error(table, problem))?;
    let prepared = Prepared::of(client.warm(plan.args.timeout).await);
    client.close().await;
    let missing = || format!("no connection within {}", millis(plan.args.timeout));
    let error = prepared
        .error
        .or_else(|| prepared.phases.is_none().then(missing));
    Ok(Prepared { error, ..prepared })
}

fn report_ios(
    plan: &Plan,
    request: &Preview,
    lines: &[(Environment, Prepared)],
    code: u8,
) -> anyhow::Result<()> {
    let mut screen = Screen::stdout();
    let note = "Nothing was sent: APNs checks nothing without a push. Key, signature, payload and \
                TLS are in order as far as this shows; `ringpush check` asks Apple about the key.";
    let cure = find("connection").map_or("", |entry| entry.next.as_str());
    if plan.args.json {
        let connections: Vec<_> = lines
            .iter()
            .map(|(environment, prepared)| {
                json!({
                    "environment": environment.name(),
                    "error": prepared.error,
                    "times_ms": times_json(prepared, None),
                })
            })
            .collect();
        let more = json!({
            "sent": false,
            "request": request,
            "connections": connections,
            "do": (code != DONE).then_some(cure),
            "exit": code,
        });
        writeln!(screen, "{:#}", with_facts(plan, &more))?;
        return Ok(());
    }
    heading(&mut screen, plan)?;
    write_request(&mut screen, request, None)?;
    writeln!(screen)?;
    for (environment, prepared) in lines {
        let text = match &prepared.error {
            None => format!("connected: {}", times(prepared, None)),
            Some(error) => error.clone(),
        };
        screen.paragraph(environment.name(), &text)?;
    }
    writeln!(screen)?;
    if code == DONE {
        screen.paragraph("means", note)?;
    } else {
        screen.paragraph("means", "There is no connection to APNs; nothing was sent.")?;
        screen.paragraph("do", cure)?;
    }
    Ok(())
}
