//! The beginning of the busiest minute in one shard: its peak, and as long again.

use std::collections::VecDeque;

use super::Plan;
use super::inputs::Inputs;
use super::parts::{Calendar, Chance, Server, answers, whole};

pub const IOS: usize = 0;
pub const ANDROID: usize = 1;
pub const CANCELS: usize = 2;
/// What their queues are called, behind `amqp.prefix`.
pub const QUEUES: [&str; 3] = ["ios", "android", "calls"];

/// A ring that has waited for so long says enough.
const STALLED: u32 = 5_000;
/// When answers become slow: within the peak.
const SLOW_FROM: u32 = 3_000;
/// What waits at a place beyond this is more than chance.
const QUEUED: usize = 100;

/// Where something waits, the last that it comes to first.
const PLACES: [&str; 5] = [
    "reports wait for their queue",
    "no stream is free",
    "a worker's core is busy",
    "the prefetch is used up",
    "the queue's own core is busy",
];
const REPORTS: usize = 0;
const STREAMS: usize = 1;
const CORE: usize = 2;
const PREFETCH: usize = 3;
const QUEUE: usize = 4;

/// A queue with its workers' tasks.
struct Lane {
    /// Messages a millisecond, on average.
    rate: f64,
    /// 0 is Apple, 1 is Google.
    provider: usize,
    queue: Server,
    core: Server,
    /// When those in the broker and those at a worker were published.
    waiting: VecDeque<u32>,
    taken: VecDeque<u32>,
    unacknowledged: u32,
}

/// How it went.
pub struct Minute {
    /// Rings by the milliseconds from publish to acceptance.
    latencies: Vec<u32>,
    /// Milliseconds in which more than chance waited, by place.
    blocked: [u32; PLACES.len()],
    pub most_in_flight: [u32; 2],
    most_unconfirmed: usize,
    pub stalled: bool,
}

impl Minute {
    pub fn run(inputs: &Inputs, plan: Plan) -> Self {
        let mut shard = Shard::new(inputs, plan);
        for now in 0..2 * shard.peak_ends {
            shard.step(now);
            if shard.minute.stalled {
                break;
            }
        }
        shard.minute
    }

    pub fn percentile(&self, share: f64) -> u32 {
        let wanted = share * f64::from(self.latencies.iter().sum::<u32>());
        let mut seen = 0;
        for (latency, count) in (0..).zip(&self.latencies) {
            seen += count;
            if f64::from(seen) >= wanted {
                return latency;
            }
        }
        STALLED
    }

    /// How long the last of the reports had to wait at most, in milliseconds.
    pub fn reports_wait(&self, inputs: &Inputs) -> u32 {
        let most = u32::try_from(self.most_unconfirmed).unwrap();
        whole(f64::from(most) * inputs.queue_seconds() * 1000.0)
    }

    /// The last place on the way at which rings waited for long.
    pub fn bottleneck(&self) -> &'static str {
        let most = *self.blocked.iter().max().unwrap();
        let place = self.blocked.iter().position(|count| *count * 2 > most);
        place.map_or("by chance", |place| PLACES[place])
    }
}

struct Shard {
    lanes: [Lane; 3],
    reports: Server,
    unconfirmed: VecDeque<usize>,
    answers: Vec<u32>,
    slow: (u32, u32),
    report_after: u32,
    acknowledge_after: u32,
    in_flight: [u32; 2],
    streams: [u32; 2],
    prefetch: u32,
    peak_ends: u32,
    /// What is due in the peak and after it, of what is due on average.
    loads: (f64, f64),
    landing: Calendar,
    reporting: Calendar,
    acknowledging: Calendar,
    chance: Chance,
    minute: Minute,
}

impl Shard {
    fn new(inputs: &Inputs, plan: Plan) -> Self {
        let (shards, workers) = (f64::from(plan.shards), f64::from(plan.workers));
        let cores = workers * (1.0 - inputs.reading_cancels(plan)).max(0.0);
        let lane = |lane: usize| Lane {
            rate: inputs.rings(lane) / shards / 1000.0,
            provider: usize::from(lane != IOS),
            queue: Server::new(inputs.queue_seconds(), 1.0),
            core: Server::new(inputs.ring_seconds(), cores),
            waiting: VecDeque::new(),
            taken: VecDeque::new(),
            unacknowledged: 0,
        };
        let apns = inputs.get("`apns.in_flight`");
        let fcm = f64::from(plan.fcm_connections * plan.projects)
            * inputs.get("streams of a connection to FCM");
        Self {
            lanes: [IOS, ANDROID, CANCELS].map(lane),
            reports: Server::new(inputs.queue_seconds(), 1.0),
            unconfirmed: VecDeque::new(),
            answers: answers(
                inputs.get("an answer, p50, ms"),
                inputs.get("an answer, p99, ms"),
            ),
            slow: (
                SLOW_FROM + whole(inputs.get("slow for, s") * 1000.0),
                whole(inputs.get("a slow answer, ms")),
            ),
            report_after: whole(inputs.get("a report waits, ms")),
            acknowledge_after: whole(inputs.get("an acknowledgement waits, ms")),
            in_flight: [0; 2],
            streams: [whole(apns * workers), whole(fcm * workers)],
            prefetch: plan.prefetch * plan.workers,
            peak_ends: whole(inputs.get("length of the peak, s") * 1000.0),
            loads: inputs.loads(),
            landing: Calendar::new(),
            reporting: Calendar::new(),
            acknowledging: Calendar::new(),
            chance: Chance::default(),
            minute: Minute {
                latencies: vec![0; 2 * STALLED as usize],
                blocked: [0; PLACES.len()],
                most_in_flight: [0; 2],
                most_unconfirmed: 0,
                stalled: false,
            },
        }
    }

    /// One millisecond.
    fn step(&mut self, now: u32) {
        let (peak, later) = self.loads;
        let load = if now < self.peak_ends { peak } else { later };
        let (landed, acknowledged) = (self.landing.take(now), self.acknowledging.take(now));
        for lane in [IOS, ANDROID, CANCELS] {
            self.in_flight[self.lanes[lane].provider] -= landed[lane];
            self.reporting
                .add(now, self.report_after, lane, landed[lane]);
            self.lanes[lane].unacknowledged -= acknowledged[lane];
            self.publish(lane, now, load);
            self.deliver(lane);
            self.push(lane, now);
            let Lane { waiting, taken, .. } = &self.lanes[lane];
            let oldest = taken.front().or(waiting.front());
            self.minute.stalled |= oldest.is_some_and(|at| now - at > STALLED);
        }
        self.report(now);
    }

    /// As many as chance will have it: the time between two is exponential.
    fn publish(&mut self, lane: usize, now: u32, load: f64) {
        let lane = &mut self.lanes[lane];
        let end = (-lane.rate * load).exp();
        let mut product = self.chance.next();
        while product > end {
            lane.waiting.push_back(now);
            product *= self.chance.next();
        }
    }

    fn deliver(&mut self, lane: usize) {
        let lane = &mut self.lanes[lane];
        lane.queue.begin();
        while lane.queue.ready() && lane.unacknowledged < self.prefetch {
            let Some(published) = lane.waiting.pop_front() else {
                return;
            };
            lane.queue.serve();
            lane.unacknowledged += 1;
            lane.taken.push_back(published);
        }
        if lane.waiting.len() > QUEUED {
            let place = if lane.queue.ready() { PREFETCH } else { QUEUE };
            self.minute.blocked[place] += 1;
        }
    }

    fn push(&mut self, index: usize, now: u32) {
        let lane = &mut self.lanes[index];
        let provider = lane.provider;
        lane.core.begin();
        while lane.core.ready() && self.in_flight[provider] < self.streams[provider] {
            let Some(published) = lane.taken.pop_front() else {
                break;
            };
            lane.core.serve();
            self.in_flight[provider] += 1;
            let mut answer = self.answers[self.chance.below(self.answers.len())];
            if (SLOW_FROM..self.slow.0).contains(&now) {
                answer = answer.max(self.slow.1);
            }
            self.landing.add(now, answer, index, 1);
            if index != CANCELS {
                let latency = (now + answer - published) as usize;
                let last = self.minute.latencies.len() - 1;
                self.minute.latencies[latency.min(last)] += 1;
            }
        }
        if lane.taken.len() > QUEUED {
            let place = if lane.core.ready() { STREAMS } else { CORE };
            self.minute.blocked[place] += 1;
        }
        let most = &mut self.minute.most_in_flight[provider];
        *most = self.in_flight[provider].max(*most);
    }

    /// Reports of all lanes go to one queue, and then their messages are
    /// acknowledged.
    fn report(&mut self, now: u32) {
        for (lane, count) in self.reporting.take(now).into_iter().enumerate() {
            self.unconfirmed.extend((0..count).map(|_| lane));
        }
        let most = &mut self.minute.most_unconfirmed;
        *most = self.unconfirmed.len().max(*most);
        self.reports.begin();
        while self.reports.ready() {
            let Some(lane) = self.unconfirmed.pop_front() else {
                return;
            };
            self.reports.serve();
            self.acknowledging.add(now, self.acknowledge_after, lane, 1);
        }
        if self.unconfirmed.len() > QUEUED {
            self.minute.blocked[REPORTS] += 1;
        }
    }
}
