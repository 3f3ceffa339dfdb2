//! What a process costs, as Linux counts it. Elsewhere nothing is known.

use std::time::{Duration, Instant};

/// Linux tells CPU time in hundredths of a second (`USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// CPU time of this process and of the simulator, from the end of the warm-up.
#[derive(Debug)]
pub(super) struct Meter {
    simulator: Option<u32>,
    begin: Option<Reading>,
    end: Option<Reading>,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    own: Option<Duration>,
    simulator: Option<Duration>,
}

/// What a run cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    /// On the clock.
    pub(super) wall: Duration,
    /// Of this process.
    pub(super) own: Option<Duration>,
    /// Of the simulator's.
    pub(super) simulator: Option<Duration>,
}

impl Meter {
    pub(super) const fn new(simulator: Option<u32>) -> Self {
        Self {
            simulator,
            begin: None,
            end: None,
        }
    }

    fn read(&self) -> Reading {
        Reading {
            at: Instant::now(),
            own: cpu("self"),
            simulator: self.simulator.and_then(|pid| cpu(&pid.to_string())),
        }
    }

    /// The warm-up is over. Only the first time counts.
    pub(super) fn begin(&mut self) {
        if self.begin.is_none() {
            self.begin = Some(self.read());
        }
    }

    /// The last ring has ended.
    pub(super) fn end(&mut self) {
        self.end = Some(self.read());
    }

    pub(super) fn cost(&self) -> Cost {
        let (Some(begin), Some(end)) = (self.begin, self.end) else {
            return Cost::default();
        };
        let used = |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
        Cost {
            wall: end.at - begin.at,
            own: used(begin.own, end.own),
            simulator: used(begin.simulator, end.simulator),
        }
    }
}

/// User and system time of a process.
fn cpu(process: &str) -> Option<Duration> {
    of_stat(&std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?)
}

/// Fields 14 and 15 of proc(5)'s `stat`; the name before them may hold anything.
fn of_stat(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(TICK * (next()? + next()?))
}

/// The most memory that this process had, in bytes.
pub(super) fn peak_memory() -> Option<u64> {
    of_status(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_read_whatever_the_program_is_called() {
        let stat = "1 (a) b) S 1 1 1 0 -1 4194560 10 0 0 0 250 30 0 0 20 0 4 0 100 0 0";
        assert_eq!(of_stat(stat), Some(Duration::from_millis(2_800)));
        assert_eq!(of_stat("1 (x) S 1"), None);
        let status = "VmPeak:\t 99 kB\nVmHWM:\t   12345 kB\n";
        assert_eq!(of_status(status), Some(12_345 * 1024));
        assert_eq!(of_status("VmRSS: 1 kB"), None);
    }

    #[test]
    fn a_run_that_never_got_past_its_warm_up_cost_nothing_known() {
        let mut meter = Meter::new(None);
        meter.end();
        assert_eq!(meter.cost(), Cost::default());
    }
}
