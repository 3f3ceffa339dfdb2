//! Kills at random under load: workers, the broker, providers' connections.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use chrono::{DateTime, Utc};
use ringpush::simulator::{Script, ServerKind, Simulator, Stop};
use tokio::time::{Instant, sleep, sleep_until};

use crate::Options;
use crate::ledger::{Books, Ledger, Ring};
use crate::support::broker::Broker;
use crate::support::stage::Stage;
use crate::support::worker::Worker;

/// Every twentieth token is dead: too few for the brake.
const DEAD: &str = include_str!("../../fixtures/faults/dead-some.toml");
/// Life of a ring: the broker's absence fits into it.
const TTL: u64 = 30;
/// Before the first kill. RabbitMQ 3.10 that is killed within a second of the
/// declaration of its queues can come back with some that never confirm again,
/// whoever publishes to them.
const QUIET: Duration = Duration::from_secs(5);
/// What a kill does to pushes: those that were under way then, and those that
/// were pushed and not yet acknowledged.
const REACH: chrono::TimeDelta = chrono::TimeDelta::milliseconds(500);

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Worker,
    BrokerKilled,
    BrokerStopped,
    Apns,
    Fcm,
}

/// Numbers that look random and come again with the same seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % limit
    }
}

struct Chaos {
    stage: Stage,
    broker: &'static Broker,
    workers: [Worker; 2],
    dice: Dice,
    killed: Vec<(DateTime<Utc>, DateTime<Utc>, Victim)>,
}

pub(crate) async fn run(options: &Options) -> bool {
    let clock = u64::try_from(Utc::now().timestamp_micros()).expect("after 1970");
    let seed = options.number("--seed", clock % 1_000_000).max(1);
    let seconds = options.number("--seconds", 120);
    let rate = u32::try_from(options.number("--rate", 200)).expect("small");
    let kills = options.number("--kills", 20);
    println!("seed {seed}: {kills} kills in {seconds} s, {rate} rings/s");
    let broker = tokio::task::spawn_blocking(Broker::private).await;
    let broker: &'static Broker = Box::leak(Box::new(broker.expect("a broker")));
    let sim = ringpush::simulator::Options {
        script: Script::from_toml(DEAD).expect("a script"),
        ..ringpush::simulator::Options::default()
    };
    let cancels = options.text("--cancels").unwrap_or("stream");
    let configuration = format!("[amqp]\ncancels = \"{cancels}\"\n");
    let stage = Stage::on(&broker.url, &configuration, sim).await;
    let mut ledger = Ledger::open(&broker.url, &stage.client.prefix).await;
    let workers = [stage.worker().await, stage.worker().await];
    let mut chaos = Chaos {
        stage,
        broker,
        workers,
        dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        killed: Vec::new(),
    };
    let time = Duration::from_secs(seconds);
    tokio::join!(load(&mut ledger, rate, time), chaos.kills(kills, time));
    let books = ledger.collect(Duration::from_secs(90)).await;
    for worker in &mut chaos.workers {
        worker.stop().await;
    }
    let kept = report(&books, &chaos.stage.simulator, &chaos.killed);
    if !kept {
        for worker in &chaos.workers {
            println!("--- a worker's log:\n{}", worker.log.text());
        }
    }
    tokio::task::spawn_blocking(|| broker.remove())
        .await
        .expect("removed");
    kept
}

async fn load(ledger: &mut Ledger, rate: u32, time: Duration) {
    let begun = Instant::now();
    let mut sent = 0_u32;
    while begun.elapsed() < time {
        let due = begun.elapsed().as_secs_f64() * f64::from(rate);
        let mut rings = Vec::new();
        while f64::from(sent) < due {
            let platform = if sent.is_multiple_of(2) {
                "ios"
            } else {
                "android"
            };
            let prefix = if sent % 20 < 2 && sent % 40 < 20 {
                "dead"
            } else {
                ""
            };
            rings.push(Ring::new(platform, Duration::from_secs(TTL), prefix));
            sent += 1;
        }
        ledger.publish(rings).await;
        sleep(Duration::from_millis(5)).await;
    }
}

impl Chaos {
    /// At a random moment of each slice of the time.
    async fn kills(&mut self, kills: u64, time: Duration) {
        let begun = Instant::now() + QUIET;
        let slice = time.saturating_sub(QUIET) / u32::try_from(kills).expect("few");
        for n in 0..kills {
            let within = slice * u32::try_from(self.dice.below(1_000)).expect("small") / 1_000;
            sleep_until(begun + slice * u32::try_from(n).expect("few") + within).await;
            let victim = match self.dice.below(10) {
                0..=3 => Victim::Worker,
                4 => Victim::BrokerKilled,
                5 => Victim::BrokerStopped,
                6 | 7 => Victim::Apns,
                _ => Victim::Fcm,
            };
            let at = Utc::now();
            self.kill(victim).await;
            self.killed.push((at, Utc::now(), victim));
        }
    }

    async fn kill(&mut self, victim: Victim) {
        let broker = self.broker;
        match victim {
            Victim::Worker => {
                let which = usize::try_from(self.dice.below(2)).expect("0 or 1");
                self.workers[which].kill().await;
                self.workers[which] = self.stage.starting();
            }
            Victim::BrokerKilled | Victim::BrokerStopped => {
                let again = tokio::task::spawn_blocking(move || {
                    if victim == Victim::BrokerKilled {
                        broker.kill();
                    } else {
                        broker.stop();
                    }
                    broker.start();
                });
                again.await.expect("it comes back");
            }
            Victim::Apns => self.cut(ServerKind::ApnsProduction).await,
            Victim::Fcm => self.cut(ServerKind::Fcm).await,
        }
    }

    async fn cut(&self, server: ServerKind) {
        let server = self.stage.simulator.server(server);
        server.stop(Stop::Abrupt).await;
        server.start().await.expect("it comes back");
    }
}

fn report(
    books: &Books,
    simulator: &Simulator,
    killed: &[(DateTime<Utc>, DateTime<Utc>, Victim)],
) -> bool {
    let mut victims = BTreeMap::<Victim, usize>::new();
    for (_, _, victim) in killed {
        *victims.entry(*victim).or_default() += 1;
    }
    println!("killed: {victims:?}");
    // Whoever could not publish before the deadline has nobody to blame here.
    let in_time = |ring: &&Ring| ring.published.is_some_and(|at| at < ring.expires);
    let outcomes = books.outcomes();
    let ended = |ring: &Ring, results: &[&str]| {
        outcomes.get(ring.event_id.as_str()).is_some_and(|all| {
            all.iter()
                .any(|one| results.iter().any(|result| one["result"] == *result))
        })
    };
    let alive: Vec<&Ring> = books.rings.iter().filter(in_time).collect();
    let dead = |ring: &&&Ring| ring.token.starts_with("dead");
    let lost = alive
        .iter()
        .filter(|ring| !dead(ring) && !ended(ring, &["accepted"]))
        .count();
    let tokens: HashMap<&str, &str> = books
        .of("token")
        .filter_map(|event| Some((event["token"].as_str()?, event["verdict"].as_str()?)))
        .collect();
    let (gone, unreported) = alive
        .iter()
        .filter(dead)
        .fold((0, 0), |(all, missing), ring| {
            (
                all + 1,
                missing + usize::from(!tokens.contains_key(ring.token.as_str())),
            )
        });
    let wiped = tokens
        .keys()
        .filter(|token| !token.starts_with("dead"))
        .count();
    let (beyond, unexplained) = repeated(simulator, killed);
    println!("rings: {}, in time {}", books.rings.len(), alive.len());
    println!("results: {:?}", books.results());
    println!("not accepted though in time: {lost}");
    println!("dead tokens: {gone}, not reported {unreported}, others reported {wiped}");
    println!("pushes beyond one per ring: {beyond}, without a kill in between {unexplained}");
    let kept = lost == 0 && unreported == 0 && wiped == 0 && unexplained == 0;
    if !kept {
        println!("{:#?}", books.trouble());
    }
    println!("{}", if kept { "kept" } else { "BROKEN" });
    kept
}

/// Pushes beyond one per ring, and those of them for which no kill fell between
/// a push and the one that repeated it.
fn repeated(
    simulator: &Simulator,
    killed: &[(DateTime<Utc>, DateTime<Utc>, Victim)],
) -> (usize, usize) {
    let mut last: HashMap<String, DateTime<Utc>> = HashMap::new();
    let (mut beyond, mut unexplained) = (0, 0);
    for record in simulator.record().pushes() {
        let Some(token) = record.token.clone().filter(|_| record.answer.delivered) else {
            continue;
        };
        if let Some(before) = last.insert(token, record.at) {
            beyond += 1;
            let explained = killed
                .iter()
                .any(|(from, to, _)| before - REACH <= *to && *from <= record.at);
            unexplained += usize::from(!explained);
        }
    }
    (beyond, unexplained)
}
