//! One measurement of one client: what runs in a process of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

use crate::CONTROL;
use crate::senders::{Push, Sender};

/// What there is to measure. A word after "after-" is a command to the server.
pub const CASES: [&str; 7] = [
    "throughput",
    "latency",
    "after-fin",
    "after-rst",
    "after-goaway",
    "after-silence",
    "idle-silence",
];

/// How long a phone rings; a push that has not been accepted by then is lost.
pub const RING: Duration = Duration::from_secs(30);
pub const IN_FLIGHT: usize = 64;
pub const PUSHES: usize = 10_000;
/// Of the pushes whose latency is measured.
pub const PER_SECOND: u64 = 50;
pub const LATENCIES: usize = 300;

const WARM_UP: usize = 200;
/// From a close until the next push: time for a client to see it.
const SETTLE: Duration = Duration::from_millis(500);
/// How long nothing was sent before the path of an idle connection is silent.
const IDLE: Duration = Duration::from_secs(10);
/// Waits of ringpush's engine between attempts, without the jitter.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Linux counts a process's CPU time in hundredths of a second.
const TICKS: f64 = 100.0;

pub async fn run(name: &str, case: &str, ca: &Path) -> anyhow::Result<Value> {
    let sender = Arc::new(Sender::new(name, ca)?);
    // Everything that is done once is done: TLS, signature, tables of HPACK.
    load(&sender, WARM_UP).await?;
    sleep(SETTLE).await;
    match case {
        "throughput" => throughput(&sender).await,
        "latency" => latency(&sender).await,
        "idle-silence" => {
            sleep(IDLE).await;
            after(&sender, "silence").await
        }
        _ => {
            let command = case.strip_prefix("after-").context("no such case")?;
            after(&sender, command).await
        }
    }
}

/// So many pushes, [`IN_FLIGHT`] at a time.
async fn load(sender: &Arc<Sender>, pushes: usize) -> anyhow::Result<()> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut lanes = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (sender, next) = (Arc::clone(sender), Arc::clone(&next));
        lanes.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= pushes {
                    return anyhow::Ok(());
                }
                sender.send(&Push::new(number), RING).await?;
            }
        });
    }
    while let Some(lane) = lanes.join_next().await {
        lane??;
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // a count of pushes
async fn throughput(sender: &Arc<Sender>) -> anyhow::Result<Value> {
    let (began, cpu) = (Instant::now(), cpu_seconds()?);
    load(sender, PUSHES).await?;
    let seconds = began.elapsed().as_secs_f64();
    Ok(json!({
        "per_second": PUSHES as f64 / seconds,
        "cpu_seconds": cpu_seconds()? - cpu,
    }))
}

/// User and system time of this process: fields 14 and 15 of proc(5)'s `stat`.
fn cpu_seconds() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(')').context("stat")?;
    let mut ticks = 0;
    for field in fields.split_whitespace().skip(11).take(2) {
        ticks += field.parse::<u32>()?;
    }
    Ok(f64::from(ticks) / TICKS)
}

async fn latency(sender: &Arc<Sender>) -> anyhow::Result<Value> {
    let mut due = interval(Duration::from_secs(1) / u32::try_from(PER_SECOND)?);
    let mut pushes = JoinSet::new();
    for number in 0..LATENCIES {
        due.tick().await;
        let sender = Arc::clone(sender);
        pushes.spawn(async move {
            let began = Instant::now();
            sender.send(&Push::new(number), RING).await?;
            anyhow::Ok(began.elapsed().as_secs_f64() * 1000.0)
        });
    }
    let mut took = Vec::new();
    while let Some(push) = pushes.join_next().await {
        took.push(push??);
    }
    took.sort_by(f64::total_cmp);
    let at = |hundredths: usize| took.get(took.len() * hundredths / 100);
    Ok(json!({ "p50_ms": at(50), "p99_ms": at(99) }))
}

/// How long the first push takes after the server has done something to all of
/// this client's connections, which are idle.
async fn after(sender: &Sender, command: &str) -> anyhow::Result<Value> {
    tell(command).await?;
    if command != "silence" {
        sleep(SETTLE).await;
    }
    let push = Push::new(0);
    let (began, mut errors, mut wait) = (Instant::now(), Vec::new(), Duration::ZERO);
    while let Some(left) = RING.checked_sub(began.elapsed()) {
        match timeout(left, sender.send(&push, left)).await {
            Ok(Ok(())) => {
                let took = began.elapsed().as_secs_f64() * 1000.0;
                return Ok(json!({ "ms": took, "errors": errors }));
            }
            Ok(Err(error)) => errors.push(format!("{error:#}")),
            Err(_) => break,
        }
        sleep(wait).await;
        wait = (wait * 2).clamp(FIRST_WAIT, LONGEST_WAIT);
    }
    Ok(json!({ "ms": null, "errors": errors }))
}

async fn tell(command: &str) -> anyhow::Result<()> {
    let mut server = BufReader::new(TcpStream::connect(CONTROL).await?);
    server.write_all(format!("{command}\n").as_bytes()).await?;
    let mut answer = String::new();
    server.read_line(&mut answer).await?;
    ensure!(answer == "done\n", "the server did not {command}");
    Ok(())
}
