//! Pushes that are not sent: `--dry-run`, and `--validate-only` for iOS, where
//! the provider has nothing of the kind.

use std::io::Write as _;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;

use super::judge::PAYLOAD;
use super::show::{facts, heading, millis, times, times_json, write_request};
use super::{Plan, PlatformArg, event};
use crate::app::observe::{ACCESS_TOKEN, Prepared, authorization};
use crate::app::profiles;
use crate::call::event::{Device, Environment, EnvironmentChoice, Event};
use crate::call::ids::push_id;
use crate::call::payload::Payload;
use crate::call::preview::Preview;
use crate::call::push::{Attempt, Gate, PushKind};
use crate::cli::explain::find;
use crate::cli::screen::Screen;
use crate::cli::{DONE, FAILED};
use crate::engine::deadline::wall_clock;
use crate::metrics::Metrics;
use crate::providers::probe::Phases;
use crate::providers::{apns, fcm, tls};

/// A ring, rendered.
struct Rendered {
    event: Event,
    device: Arc<Device>,
    payload: Payload,
}

/// What a profile makes of the event, or why it makes nothing of it.
fn render(plan: &Plan) -> anyhow::Result<Result<Rendered, (String, String)>> {
    let body = event::ring(plan)?.to_string();
    let event = Event::decode(body.as_bytes(), plan.config.ring.limits())?;
    let entry = event.devices().first().context("the event has no device")?;
    let device = entry.device.as_ref().map(Arc::clone);
    let device = device.map_err(|bad| anyhow::anyhow!("{}", bad.error))?;
    let known = profiles(&plan.config)?;
    let profile = known.get(plan.profile()).context("no such profile")?;
    Ok(match profile.render(&event, &device, wall_clock()) {
        Ok(payload) => Ok(Rendered {
            event,
            device,
            payload,
        }),
        Err(error) => Err((error.reason().to_owned(), error.to_string())),
    })
}

/// The request that would be made.
fn preview(plan: &Plan, ring: &Rendered, shown: Option<&str>) -> anyhow::Result<Preview> {
    let now = wall_clock();
    let attempt = Attempt {
        id: push_id(ring.event.event_id, &ring.device.id),
        kind: PushKind::Call,
        token: &ring.device.token,
        payload: &ring.payload,
        deadline: ring.event.expires_at,
        time_left: ring.event.expires_at.since(now),
        gate: &Gate::default(),
    };
    let app = plan.app().context("the app is not configured")?;
    let request = match (plan.args.platform, &app.ios, &app.android) {
        (PlatformArg::Ios, Some(ios), _) => {
            let environment = first(plan.choice());
            apns::exact_request(&plan.config.apns, environment, &ios.bundle_id, &attempt)
        }
        (PlatformArg::Android, _, Some(android)) => {
            let project = android.project_id.as_deref();
            let account = fcm::ServiceAccount::load(&android.service_account_file, project);
            let account = account.map_err(|e| plan.config.error("service_account_file", e))?;
            let only = plan.args.validate_only;
            fcm::exact_request(&plan.config.fcm, account.project_id(), only, &attempt)
        }
        (PlatformArg::Ios, None, _) | (PlatformArg::Android, _, None) => None,
    };
    let request = request.context("no request can be made of this")?;
    let (token, payload) = (&ring.device.token, &ring.payload);
    let shown = match plan.args.platform {
        PlatformArg::Ios => shown,
        PlatformArg::Android => Some(ACCESS_TOKEN),
    };
    Ok(Preview::of(&request, token, payload, shown))
}

const fn first(choice: EnvironmentChoice) -> Environment {
    match choice {
        EnvironmentChoice::Only(environment) => environment,
        EnvironmentChoice::Auto => Environment::Production,
    }
}

/// `--dry-run`: shows the request and connects to nobody.
///
/// # Errors
/// Something in the configuration or the event cannot be used.
pub(super) fn show(plan: &Plan) -> anyhow::Result<u8> {
    let ring = match render(plan)? {
        Ok(ring) => ring,
        Err(refusal) => return refused(plan, &refusal),
    };
    let shown = match plan.app().and_then(|app| app.ios.as_ref()) {
        Some(ios) => authorization(&credentials(plan, ios)?),
        None => None,
    };
    let request = preview(plan, &ring, shown.as_deref())?;
    let mut screen = Screen::stdout();
    if plan.args.json {
        let mut report = facts(plan);
        report.insert("dry_run".into(), json!(true));
        report.insert("request".into(), json!(request));
        report.insert("exit".into(), json!(DONE));
        writeln!(screen, "{:#}", json!(report))?;
        return Ok(DONE);
    }
    heading(&mut screen, plan)?;
    write_request(&mut screen, &request, None)?;
    writeln!(screen, "\nNothing was sent: this is a dry run.")?;
    Ok(DONE)
}

fn credentials(plan: &Plan, ios: &apns::AppSettings) -> anyhow::Result<apns::Credentials> {
    let table = format!("apps.\"{}\".ios", plan.args.app);
    let loaded = apns::Credentials::load(ios, &apns::Signers::default());
    Ok(loaded.map_err(|error| plan.config.error(table, error))?)
}

fn refused(plan: &Plan, (reason, detail): &(String, String)) -> anyhow::Result<u8> {
    let mut screen = Screen::stdout();
    let entry = find(reason);
    let next = entry.map_or("", |entry| entry.next.as_str());
    if plan.args.json {
        let mut report = facts(plan);
        report.insert("result".into(), json!("rejected"));
        report.insert("reason".into(), json!(reason));
        report.insert("detail".into(), json!(detail));
        report.insert("means".into(), json!(entry.map(|entry| &entry.means)));
        report.insert("do".into(), json!(next));
        report.insert("exit".into(), json!(PAYLOAD));
        writeln!(screen, "{:#}", json!(report))?;
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
    let ring = match render(plan)? {
        Ok(ring) => ring,
        Err(refusal) => return refused(plan, &refusal),
    };
    let app = plan.app().context("the app is not configured")?;
    let ios = app.ios.as_ref().context("the app has no ios table")?;
    // Signs a first token as well.
    let credentials = credentials(plan, ios)?;
    let request = preview(plan, &ring, authorization(&credentials).as_deref())?;
    let environments = match plan.choice() {
        EnvironmentChoice::Only(environment) => vec![environment],
        EnvironmentChoice::Auto => vec![Environment::Production, Environment::Sandbox],
    };
    let mut lines = Vec::new();
    for environment in environments {
        lines.push((
            environment,
            connect(plan, ios, &credentials, environment).await?,
        ));
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
    let settings = apns::Settings {
        connections: 1,
        ..plan.config.apns.clone()
    };
    let roots = tls::roots_from(settings.ca_file.as_deref())
        .map_err(|error| plan.config.error("apns", error))?;
    let client = apns::Client::new(apns::Options {
        settings: &settings,
        environment,
        bundle_id: &ios.bundle_id,
        credentials,
        roots,
        metrics: &Metrics::default(),
        tuning: apns::Tuning::default(),
    })
    .map_err(|error| plan.config.error(table, error))?;
    let status = client.warm(plan.args.timeout).await;
    client.close().await;
    let error = match (status.ready, status.error) {
        (0, Some(error)) => Some(error),
        (0, None) => Some(format!(
            "no connection within {}",
            millis(plan.args.timeout)
        )),
        (_, _) => None,
    };
    Ok(Prepared {
        phases: status.timings.map(|timings| Phases {
            dns: timings.dns,
            tcp: timings.tcp,
            tls: Some(timings.tls),
            http: timings.http2,
        }),
        credential: None,
        error,
    })
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
        let mut report = facts(plan);
        report.insert("sent".into(), json!(false));
        report.insert("request".into(), json!(request));
        report.insert("connections".into(), json!(connections));
        report.insert("do".into(), json!((code != DONE).then_some(cure)));
        report.insert("exit".into(), json!(code));
        writeln!(screen, "{:#}", json!(report))?;
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
