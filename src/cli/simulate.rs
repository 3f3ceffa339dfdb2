//! `ringpush simulate`: the simulator until a signal, one line per request.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::simulator::{
    Device, Files, Keep, Options, Ports, Record, Script, ServerKind, Simulator, Stop,
};

/// A strict APNs, FCM and OAuth simulator over TLS and HTTP/2, with scripted
/// faults.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  ringpush simulate --dir sim\n  \
                        ringpush simulate --dir sim --apns-port 2197 --script faults.toml")]
pub struct Args {
    /// Address of all servers.
    #[arg(long, default_value = "127.0.0.1")]
    listen: IpAddr,
    /// Port of APNs production; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    apns_port: u16,
    /// Port of the APNs sandbox; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    apns_sandbox_port: u16,
    /// Port of FCM; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    fcm_port: u16,
    /// Port of the OAuth token server; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    oauth_port: u16,
    /// Where the CA, the keys and a configuration are written.
    #[arg(long, default_value = "ringpush-sim")]
    dir: PathBuf,
    /// Faults to play, TOML or JSON; of several files the first one's rules come
    /// first.
    #[arg(long, value_name = "FILE")]
    script: Vec<PathBuf>,
    /// An Android phone whose app has moved from a registration token to an
    /// installation id: the first push to the id ends the token.
    #[arg(long, value_name = "FID=TOKEN", value_parser = phone)]
    phone: Vec<(String, String)>,
    /// One JSON object per line instead of text.
    #[arg(long)]
    json: bool,
    /// Says where it listens, and then nothing of the requests that come.
    #[arg(long)]
    quiet: bool,
    /// Ends when standard input does, too: for a program that starts it.
    #[arg(long)]
    until_eof: bool,
}

/// Runs until SIGINT or SIGTERM.
///
/// # Errors
/// The script cannot be read, a port is taken, a file cannot be written, or
/// standard output is closed.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut script = Script::default();
    for file in &args.script {
        script.rules.extend(Script::from_file(file)?.rules);
    }
    let ports = Ports {
        apns_production: args.apns_port,
        apns_sandbox: args.apns_sandbox_port,
        fcm: args.fcm_port,
        oauth: args.oauth_port,
    };
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let options = Options {
        listen: args.listen,
        ports,
        // What arrives is shown as it comes; nobody asks for it later.
        keep: Keep::Counts,
        script,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await?;
    for (fid, token) in args.phone {
        simulator.register(&fid, Device::replacing(token));
    }
    // Without anybody who listens nothing is made for them.
    let mut records = (!args.quiet).then(|| simulator.record().subscribe());
    let input_ends = until_eof(args.until_eof);
    tokio::pin!(input_ends);
    let files = simulator
        .write_files(&args.dir)
        .with_context(|| format!("cannot write to {}", args.dir.display()))?;
    print(&if args.json {
        hello_json(&simulator, &files)
    } else {
        hello(&simulator, &files)
    })?;
    loop {
        tokio::select! {
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            () = &mut input_ends => break,
            record = next(&mut records) => match record {
                Ok(record) if args.json => print(&json_line(&record))?,
                Ok(record) => print(&line(&record))?,
                Err(RecvError::Lagged(missed)) if args.json => {
                    print(&json!({ "type": "missed", "lines": missed }).to_string())?;
                }
                Err(RecvError::Lagged(missed)) => print(&format!("… {missed} more, not shown"))?,
                Err(RecvError::Closed) => break,
            },
        }
    }
    simulator.stop(Stop::Graceful).await;
    Ok(())
}

fn phone(text: &str) -> Result<(String, String), &'static str> {
    let parts = text.split_once('=');
    let parts = parts.filter(|(fid, token)| !fid.is_empty() && !token.is_empty());
    let (fid, token) = parts.ok_or("give both, as FID=TOKEN")?;
    Ok((fid.to_owned(), token.to_owned()))
}

/// Waits for the end of standard input if that is wanted, else for ever.
async fn until_eof(wanted: bool) {
    if wanted {
        let mut input = tokio::io::stdin();
        // An input that cannot be read any more has ended as well.
        let _ = tokio::io::copy(&mut input, &mut tokio::io::sink()).await;
    } else {
        std::future::pending::<()>().await;
    }
}

/// The next record, or none ever.
async fn next(records: &mut Option<Receiver<Arc<Record>>>) -> Result<Arc<Record>, RecvError> {
    match records {
        Some(records) => records.recv().await,
        None => std::future::pending().await,
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

fn hello(simulator: &Simulator, files: &Files) -> String {
    let app = simulator
        .options()
        .bundle_ids
        .first()
        .map_or("", String::as_str);
    format!(
        "APNs production  {}\n\
         APNs sandbox     {}\n\
         FCM              {}\n\
         OAuth            {}\n\
         \n\
         CA, keys and a configuration are in {}/. In another terminal:\n\
         \n\
         \x20 ringpush run --config {}\n\
         \x20 ringpush send --config {} --app {app} --platform ios --token 00aa11bb\n\
         \n\
         Every device token is valid unless --script says otherwise. Ctrl-C ends it.\n",
        simulator.apns_production_url(),
        simulator.apns_sandbox_url(),
        simulator.fcm_url(),
        simulator.token_url(),
        files.ca.parent().unwrap_or(&files.ca).display(),
        files.config.display(),
        files.config.display(),
    )
}

fn hello_json(simulator: &Simulator, files: &Files) -> String {
    json!({
        "type": "listening",
        "apns_production": simulator.apns_production_url(),
        "apns_sandbox": simulator.apns_sandbox_url(),
        "fcm": simulator.fcm_url(),
        "token_uri": simulator.token_url(),
        "ca_file": files.ca,
        "config": files.config,
    })
    .to_string()
}

/// What of a request is worth a line: no payload, and of the device token only
/// its beginning.
fn line(record: &Record) -> String {
    let what = match record.server {
        ServerKind::ApnsProduction | ServerKind::ApnsSandbox => format!(
            "{} {} B",
            record.header("apns-push-type").unwrap_or("(no push type)"),
            record.body.len()
        ),
        ServerKind::Fcm => format!("message {} B", record.body.len()),
        ServerKind::Oauth => "token request".to_owned(),
    };
    let answer = match (record.answer.fault, record.answer.status) {
        (Some(fault), _) => fault.to_owned(),
        (None, Some(status)) => {
            let reason = record.answer.reason.as_deref();
            reason.map_or_else(|| status.to_string(), |reason| format!("{status} {reason}"))
        }
        (None, None) => "no answer".to_owned(),
    };
    let mut text = format!(
        "{}  {:<15}  #{:<3} {:<10} {what:<16} -> {answer}",
        record.at.format("%H:%M:%S%.3f"),
        record.server.to_string(),
        record.connection,
        record.short_token(),
    );
    for violation in &record.violations {
        if Some(violation.as_str()) != record.answer.reason.as_deref() {
            text += "\n              ! ";
            text += violation;
        }
    }
    text
}

fn json_line(record: &Record) -> String {
    json!({
        "type": "request",
        "at": record.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "server": record.server.to_string(),
        "connection": record.connection,
        "stream": record.stream,
        "token": record.token.as_ref().map(|_| record.short_token()),
        "push_type": record.header("apns-push-type"),
        "topic": record.header("apns-topic"),
        "id": record.answer.id,
        "body_bytes": record.body.len(),
        "violations": record.violations,
        "status": record.answer.status,
        "reason": record.answer.reason,
        "fault": record.answer.fault,
        "delivered": record.answer.delivered,
    })
    .to_string()
}
