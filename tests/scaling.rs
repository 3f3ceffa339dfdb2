//! `docs/scaling.md`: from its inputs follow its plan and its results, by a
//! simulation of the busiest minute, and with one fewer of anything a limit
//! breaks. If an input changes, the failure prints the tables to put there.
//!
//! One shard is simulated, in steps of a millisecond and in virtual time: all
//! shards are alike and know nothing of each other.

#![allow(clippy::unwrap_used, reason = "a test may end where it stumbles")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

#[path = "scaling/inputs.rs"]
mod inputs;
#[path = "scaling/minute.rs"]
mod minute;
#[path = "scaling/parts.rs"]
mod parts;

use inputs::{Inputs, spaced, table};
use minute::{ANDROID, CANCELS, IOS, Minute, QUEUES};

/// What can be had more or less of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    shards: u32,
    workers: u32,
    projects: u32,
    fcm_connections: u32,
    prefetch: u32,
}

/// More than anybody needs.
const PLENTY: Plan = Plan {
    shards: 50,
    workers: 50,
    projects: 50,
    fcm_connections: 64,
    prefetch: 65_500,
};

/// A row of the plan: its name, its field, its step.
type Row = (&'static str, fn(&mut Plan) -> &mut u32, u32);

const ROWS: [Row; 5] = [
    ("Firebase projects", |p| &mut p.projects, 1),
    ("shards, each with an `amqp.prefix`", |p| &mut p.shards, 1),
    ("workers a shard", |p| &mut p.workers, 1),
    (
        "`fcm.connections`; `fcm.in_flight` is 100 times that",
        |p| &mut p.fcm_connections,
        1,
    ),
    ("`amqp.prefetch`, in hundreds", |p| &mut p.prefetch, 100),
];

#[test]
fn the_plan_and_the_results_follow_from_the_inputs() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scaling.md");
    let text = fs::read_to_string(file).unwrap();
    let inputs = Inputs::read(&text);
    let written = written(&text).filter(|plan| is_smallest(&inputs, *plan));
    let plan = written.unwrap_or_else(|| smallest(&inputs));
    let made = [
        ("## The plan", plan_table(&inputs, plan)),
        ("## What comes of it", results_table(&inputs, plan)),
    ];
    for (heading, rows) in &made {
        assert!(
            table(&text, heading) == *rows,
            "docs/scaling.md does not say what its inputs lead to. Put there:\n\n{}\n\n{}\n",
            made[0].1,
            made[1].1
        );
    }
}

/// The plan in the document, if there is one.
fn written(text: &str) -> Option<Plan> {
    let rows = table(text, "## The plan");
    let mut plan = Plan::default();
    for (name, field, _) in ROWS {
        let row = rows.lines().find(|row| row.contains(name))?;
        let needed = row.split('|').nth(2)?.replace(' ', "");
        *field(&mut plan) = needed.parse().ok().filter(|needed| *needed > 0)?;
    }
    Some(plan)
}

/// Whether it does, and nothing less.
fn is_smallest(inputs: &Inputs, plan: Plan) -> bool {
    let breaks = |(row, (_, field, step)): (usize, &Row)| {
        let mut plan = plan;
        *field(&mut plan) == *step || broken(inputs, fewer(plan, row)).is_some()
    };
    broken(inputs, plan).is_none() && ROWS.iter().enumerate().all(breaks)
}

/// The plan with one step fewer of one thing and plenty of those after it, which
/// cannot make up for it.
fn fewer(mut plan: Plan, row: usize) -> Plan {
    let (_, field, step) = ROWS[row];
    *field(&mut plan) -= step;
    for (_, field, _) in &ROWS[row + 1..] {
        *field(&mut plan) = *field(&mut { PLENTY });
    }
    plan
}

/// Of each in turn as few as do while there is plenty of those after it.
fn smallest(inputs: &Inputs) -> Plan {
    let mut plan = PLENTY;
    assert_eq!(broken(inputs, plan), None, "with plenty of everything");
    for (_, field, step) in ROWS {
        *field(&mut plan) = step;
        while broken(inputs, plan).is_some() {
            *field(&mut plan) += step;
        }
    }
    plan
}

/// The limit that a plan breaks, in words.
fn broken(inputs: &Inputs, plan: Plan) -> Option<String> {
    let limit = |name| inputs.get(name);
    let asked = (inputs.rings(ANDROID) + inputs.rings(CANCELS)) * 60.0;
    let granted = limit("messages to FCM a minute and project") * f64::from(plan.projects);
    if asked > granted {
        let refused = spaced(asked - granted, 1_000);
        return Some(format!("FCM refuses {refused} messages in the minute"));
    }
    let remembered = remembered(inputs, plan);
    if remembered < limit("a call is remembered for, s") {
        return Some(format!("workers forget calls after {remembered:.0} s"));
    }
    let minute = Minute::run(inputs, plan);
    let (p99, late) = (minute.percentile(0.99), minute.reports_wait(inputs));
    let place = minute.bottleneck();
    if minute.stalled {
        Some(format!("rings wait for more than 5 s: {place}"))
    } else if f64::from(p99) > limit("99 of 100 rings are accepted within, ms") {
        let p99 = spaced(p99.into(), 10);
        Some(format!("p99 is {p99} ms: {place}"))
    } else if f64::from(late) > limit("every report is taken within, ms") {
        let late = spaced(late.into(), 10);
        Some(format!("reports wait for {late} ms"))
    } else {
        None
    }
}

/// For how many seconds a worker at least remembers a call: until half of its
/// memory is full, from the beginning of the peak on.
fn remembered(inputs: &Inputs, plan: Plan) -> f64 {
    let rings = inputs.rings(IOS) + inputs.rings(ANDROID);
    let shards = f64::from(plan.shards);
    let bytes = inputs.rings(CANCELS) / shards * inputs.get("a cancelled call, bytes")
        + rings / shards / f64::from(plan.workers) * inputs.get("a call that rings, bytes");
    let half = inputs.get("memory for calls, MiB") / 2.0 * f64::from(1 << 20);
    let (seconds, (peak, later)) = (inputs.get("length of the peak, s"), inputs.loads());
    let after_peak = half - seconds * peak * bytes;
    if after_peak < 0.0 {
        return half / (peak * bytes);
    }
    seconds + after_peak / (later * bytes)
}

fn plan_table(inputs: &Inputs, mut plan: Plan) -> String {
    let mut made = "| | needed | with one step fewer |\n|---|---|---|".to_owned();
    for (row, (name, field, step)) in ROWS.into_iter().enumerate() {
        let needed = *field(&mut plan);
        let breaks = if needed > step {
            broken(inputs, fewer(plan, row))
        } else {
            None
        };
        let (needed, breaks) = (spaced(needed.into(), 1), breaks.as_deref().unwrap_or("–"));
        write!(made, "\n| {name} | {needed} | {breaks} |").unwrap();
    }
    made
}

fn results_table(inputs: &Inputs, plan: Plan) -> String {
    let rows = ring_rows(inputs, plan).into_iter();
    let rows = rows.chain(queue_rows(inputs, plan));
    let rows = rows.chain(worker_rows(inputs, plan));
    rows.fold("| | |\n|---|---|".to_owned(), |made, (name, value)| {
        format!("{made}\n| {name} | {value} |")
    })
}

fn ring_rows(inputs: &Inputs, plan: Plan) -> Vec<(String, String)> {
    let minute = Minute::run(inputs, plan);
    let after = |share, step| spaced(minute.percentile(share).into(), step);
    let at_worker = |count: u32| spaced(f64::from(count) / f64::from(plan.workers), 10);
    let [apns, fcm] = minute.most_in_flight.map(at_worker);
    let workers = f64::from(plan.shards * plan.workers);
    let apple = workers * inputs.get("`apns.connections`");
    let google = workers * f64::from(plan.projects * plan.fcm_connections);
    let android = (inputs.rings(ANDROID) + inputs.rings(CANCELS)) * 60.0;
    let a_project = spaced(android / f64::from(plan.projects), 1_000);
    let producers = inputs.peak(IOS) + inputs.peak(ANDROID);
    let producers = producers / inputs.get("publishes a second, one at a time");
    rows([
        (
            "a ring is accepted after, p50",
            format!("{} ms", after(0.5, 5)),
        ),
        (
            "a ring is accepted after, p99",
            format!("{} ms", after(0.99, 10)),
        ),
        (
            "requests under way at a worker, APNs / FCM",
            format!("{apns} / {fcm}"),
        ),
        (
            "connections in all, Apple / Google",
            format!("{apple:.0} / {google:.0}"),
        ),
        ("messages to FCM in the minute, a project", a_project),
        (
            "producers, if each waits for every confirm",
            format!("{:.0}", producers.ceil()),
        ),
    ])
}

/// How busy the core of each queue is at the peak.
fn queue_rows(inputs: &Inputs, plan: Plan) -> Vec<(String, String)> {
    let shards = f64::from(plan.shards);
    let load = |a_second: f64| {
        format!(
            "{:.0} %",
            a_second / shards * inputs.queue_seconds() * 100.0
        )
    };
    let peaks = [IOS, ANDROID, CANCELS].map(|lane| inputs.peak(lane));
    let row = |(name, peak): (&str, f64)| (format!("load of queue `{name}`"), load(peak));
    let mut rows: Vec<_> = QUEUES.into_iter().zip(peaks).map(row).collect();
    let sum: f64 = peaks.iter().sum();
    // What comes in, and a report of each.
    let publishes = spaced(2.0 * sum / shards, 100);
    rows.push(("load of your queue of reports".to_owned(), load(sum)));
    rows.push((
        "publishes a second in a shard, all queues".to_owned(),
        publishes,
    ));
    rows
}

fn worker_rows(inputs: &Inputs, plan: Plan) -> Vec<(String, String)> {
    let (shards, workers) = (f64::from(plan.shards), f64::from(plan.workers));
    let reading = inputs.reading_cancels(plan);
    let busy = |push: f64, lanes: &[usize]| {
        let pushes: f64 = lanes.iter().map(|lane| inputs.peak(*lane)).sum();
        pushes / shards / workers * push + reading
    };
    let at = ["CPU of 10 000 pushes, s", "the same at 500 a second, s"];
    let at = at.map(|name| inputs.get(name) / 10_000.0);
    let cores = at.map(|push| busy(push, &[IOS, ANDROID, CANCELS]));
    let core = at.map(|push| busy(push, &[ANDROID]));
    let alone = core.map(|core| ((core - reading) * workers / (1.0 - reading)).ceil());
    let both = |[full, low]: [f64; 2], digits| format!("{full:.digits$} / {low:.digits$}");
    let cancels = inputs.rings(CANCELS) / shards;
    let back = inputs.get("`ring.max_ttl`, s") + inputs.get("read back beyond it, s");
    let catch_up = back * cancels / inputs.get("deliveries and acknowledgements a second");
    let memory = ["pushes", "calls", "token events"];
    let memory = memory.map(|of| inputs.get(&format!("memory for {of}, MiB")));
    let memory = memory.iter().sum::<f64>();
    let remembered = remembered(inputs, plan);
    rows([
        ("cores busy at the peak, a worker", both(cores, 2)),
        (
            "cores busy at the peak, all workers",
            both(cores.map(|cores| cores * shards * workers), 1),
        ),
        (
            "a worker's busiest core, %",
            both(core.map(|core| core * 100.0), 0),
        ),
        ("workers a shard for their cores alone", both(alone, 0)),
        (
            "cancels a second that each worker reads",
            spaced(cancels, 10),
        ),
        (
            "a call is remembered for at least",
            format!("{remembered:.0} s"),
        ),
        (
            "a starting worker reads cancels for",
            format!("{catch_up:.1} s"),
        ),
        ("memory of a worker at most", format!("{memory:.0} MiB")),
    ])
}

fn rows<const N: usize>(rows: [(&str, String); N]) -> Vec<(String, String)> {
    rows.map(|(name, value)| (name.to_owned(), value)).into()
}
