//! What the minute is made of: servers, what is due later, and chance.

/// Longer than anything is put off.
const HORIZON: u32 = 4_096;

/// Something that does one thing after the other.
pub struct Server {
    /// Milliseconds that one takes.
    each: f64,
    /// Milliseconds of work that it does in a millisecond.
    pace: f64,
    spare: f64,
}

impl Server {
    pub fn new(each: f64, pace: f64) -> Self {
        Self {
            each: each * 1000.0,
            pace,
            spare: 0.0,
        }
    }

    /// A millisecond begins. What was not used is gone but for a part of one.
    pub fn begin(&mut self) {
        self.spare = self.spare.min(self.each) + self.pace;
    }

    pub fn ready(&self) -> bool {
        self.spare >= self.each
    }

    pub fn serve(&mut self) {
        self.spare -= self.each;
    }
}

/// How many of each lane are due at which millisecond.
pub struct Calendar(Vec<[u32; 3]>);

impl Calendar {
    pub fn new() -> Self {
        Self(vec![[0; 3]; HORIZON as usize])
    }

    pub fn add(&mut self, now: u32, after: u32, lane: usize, count: u32) {
        assert!(after < HORIZON, "{after} ms are too long");
        self.0[((now + after) % HORIZON) as usize][lane] += count;
    }

    pub fn take(&mut self, at: u32) -> [u32; 3] {
        std::mem::take(&mut self.0[(at % HORIZON) as usize])
    }
}

/// A thousand answers' times, evenly out of a log-logistic distribution, which
/// two of its percentiles say all of.
pub fn answers(p50: f64, p99: f64) -> Vec<u32> {
    let spread = (p99 / p50).ln() / 99_f64.ln();
    let time = |n| (f64::from(n) + 0.5) / 1000.0;
    let time = |n| p50 * (time(n) / (1.0 - time(n))).powf(spread);
    (0..1000).map(|n| whole(time(n).round().max(1.0))).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures of a document, small and not negative"
)]
pub fn whole(number: f64) -> u32 {
    number as u32
}

/// Always the same chance.
#[derive(Default)]
pub struct Chance(u64);

impl Chance {
    fn bits(&mut self) -> u32 {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 32).unwrap()
    }

    /// From 0 to 1.
    pub fn next(&mut self) -> f64 {
        f64::from(self.bits()) / f64::from(u32::MAX)
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.bits() as usize % end
    }
}
