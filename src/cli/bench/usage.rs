//! What a process costs, as Linux counts it. Elsewhere nothing is known.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Linux tells CPU time in hundredths of a second (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// Reads what the worker's process and the simulator's use, from the end of the
/// warm-up on.
#[derive(Debug)]
pub(super) struct Meter {
    worker: String,
    simulator: Option<String>,
    idle_memory: Option<u64>,
    begin: Option<Reading>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    /// User and system time, seconds.
    cpu: Option<f64>,
    /// Context switches of all threads, wanted and forced.
    switches: Option<u64>,
    /// User and system time of the simulator, seconds.
    simulator: Option<f64>,
}

impl Meter {
    /// Of the worker with this process id, or in this process. It is idle now.
    pub(super) fn new(worker: Option<u32>, simulator: Option<u32>) -> Self {
        let worker = worker.map_or("self".to_owned(), |pid| pid.to_string());
        Self {
            idle_memory: memory(&worker, "VmRSS:"),
            worker,
            simulator: simulator.map(|pid| pid.to_string()),
            begin: None,
        }
    }

    fn read(&self) -> Reading {
        Reading {
            at: Instant::now(),
            cpu: cpu(&self.worker),
            switches: switches(&self.worker),
            simulator: self.simulator.as_deref().and_then(cpu),
        }
    }

    /// The warm-up is over.
    pub(super) fn begin(&mut self) {
        self.begin = Some(self.read());
    }

    /// What it came to since then, for so many pushes. All but the simulator's is
    /// the worker's process; null is what is unknown.
    #[allow(clippy::cast_precision_loss)] // counts and seconds
    pub(super) fn cost(&self, pushes: u64) -> Value {
        let end = self.read();
        let begin = self.begin.unwrap_or(end);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let whole = (end.at - begin.at).as_secs_f64() * cores as f64;
        let cpu = begin.cpu.zip(end.cpu).map(|(from, to)| to - from);
        let switches = begin.switches.zip(end.switches);
        let switches = switches.map(|(from, to)| to.saturating_sub(from) as f64);
        let simulator = begin.simulator.zip(end.simulator);
        let of = |total: Option<f64>, parts: f64| total.filter(|_| parts > 0.0).map(|t| t / parts);
        json!({
            "cpu_seconds": cpu,
            "cpu_seconds_per_10000": of(cpu, pushes as f64 / 10_000.0),
            "cpu_share": of(cpu, whole),
            "context_switches_per_push": of(switches, pushes as f64),
            "simulator_cpu_seconds": simulator.map(|(from, to)| to - from),
            "idle_memory_bytes": self.idle_memory,
            "peak_memory_bytes": memory(&self.worker, "VmHWM:"),
        })
    }
}

/// User and system time of a process, in seconds.
fn cpu(process: &str) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    Some(of_stat(&stat)?.as_secs_f64())
}

/// Fields 14 and 15 of proc(5)'s `stat`; the name before them may hold anything.
fn of_stat(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (next()? + next()?))
}

/// Of all threads that there are: the runtime's live as long as the process.
fn switches(process: &str) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{process}/task"))
        .ok()?
        .flatten();
    let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
    let names = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
    texts
        .flat_map(|text| names.map(|name| field(&text, name)))
        .sum()
}

/// In bytes.
fn memory(process: &str, name: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    Some(field(&status, name)? * 1024)
}

/// A number of proc(5)'s `status`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_read_whatever_the_program_is_called() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 10 0 0 0 250 30 0 0 20 0 4 0 100 0 0";
        assert_eq!(of_stat(stat), Some(Duration::from_millis(2_800)));
        assert_eq!(of_stat("1 (x) S 1"), None);
        let status = "VmPeak:\t 99 kB\nVmHWM:\t   12345 kB\nvoluntary_ctxt_switches:\t7\n";
        assert_eq!(field(status, "VmHWM:"), Some(12_345));
        assert_eq!(field(status, "voluntary_ctxt_switches:"), Some(7));
        assert_eq!(field("VmRSS: 1 kB", "VmHWM:"), None);
    }

    #[test]
    fn a_process_costs_what_it_used_and_nothing_is_divided_by_nothing() {
        let mut meter = Meter::new(Some(std::process::id()), None);
        assert!(meter.cost(0)["cpu_seconds_per_10000"].is_null());
        meter.begin();
        std::thread::sleep(Duration::from_millis(5));
        let cost = meter.cost(10);
        if cfg!(target_os = "linux") {
            // Other tests' threads end, so that there may be fewer than before.
            assert!(cost["context_switches_per_push"].is_number(), "{cost}");
            assert!(cost["idle_memory_bytes"].as_u64() > Some(0), "{cost}");
        }
        assert!(cost["simulator_cpu_seconds"].is_null());
    }
}
