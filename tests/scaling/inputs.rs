//! What stands in the document: the inputs, and what follows from them at once.

use std::collections::BTreeMap;

use super::Plan;
use super::minute::{ANDROID, CANCELS, IOS};

/// The figures of the tables under "Inputs", by their names.
pub struct Inputs(BTreeMap<String, f64>);

impl Inputs {
    pub fn read(text: &str) -> Self {
        let mut figures = BTreeMap::new();
        for line in table(text, "## Inputs").lines() {
            let mut cells = line.split('|').map(str::trim).skip(1);
            let (Some(name), Some(value)) = (cells.next(), cells.next()) else {
                continue;
            };
            if let Ok(value) = value.replace(' ', "").parse() {
                figures.insert(name.to_owned(), value);
            }
        }
        Self(figures)
    }

    pub fn get(&self, name: &str) -> f64 {
        let value = self.0.get(name);
        *value.unwrap_or_else(|| panic!("docs/scaling.md has no input `{name}`"))
    }

    /// Rings, or cancels, a second over the whole minute.
    pub fn rings(&self, lane: usize) -> f64 {
        let rings = self.get("rings a minute") / 60.0;
        let android = self.get("Android's share, %") / 100.0;
        match lane {
            IOS => rings * (1.0 - android),
            ANDROID => rings * android,
            CANCELS => {
                rings / self.get("phones of a call") * self.get("calls with a cancel, %") / 100.0
            }
            _ => unreachable!("there are three lanes"),
        }
    }

    /// The same at the peak.
    pub fn peak(&self, lane: usize) -> f64 {
        self.rings(lane) * self.loads().0
    }

    /// What is due in the peak and after it, of what is due on average.
    pub fn loads(&self) -> (f64, f64) {
        let peak = self.get("peak, times the average");
        let seconds = self.get("length of the peak, s");
        (peak, (60.0 - peak * seconds) / (60.0 - seconds))
    }

    /// How long a message keeps the core of its queue busy.
    pub fn queue_seconds(&self) -> f64 {
        1.0 / self.get("publishes a second, 100 outstanding")
            + 1.0 / self.get("deliveries and acknowledgements a second")
    }

    pub fn ring_seconds(&self) -> f64 {
        self.get("CPU of 10 000 pushes, s") / 10_000.0
    }

    /// The part of a core that reading the cancels takes in each worker.
    pub fn reading_cancels(&self, plan: Plan) -> f64 {
        self.rings(CANCELS) / f64::from(plan.shards) * self.get("CPU of 10 000 cancels, s")
            / 10_000.0
    }
}

/// All tables from a heading to the next one.
pub fn table(text: &str, heading: &str) -> String {
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows = lines
        .take_while(|line| !line.starts_with("## "))
        .filter(|line| line.starts_with('|'));
    rows.collect::<Vec<_>>().join("\n")
}

/// A number to the nearest multiple of a step, as people write it: 16 670.
pub fn spaced(number: f64, step: u32) -> String {
    let step = f64::from(step);
    let digits = format!("{:.0}", (number / step).round() * step);
    let mut made = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            made.push(' ');
        }
        made.push(digit);
    }
    made
}
