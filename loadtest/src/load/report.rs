//! What a load test has shown: as text, as JSON, as a page.

mod page;
mod plot;

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

pub use self::page::page;
use super::measure::{SLICE, Step};
use super::oracle::Verdict;
use super::scenario::Scenario;

/// A finished load test.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was done.
    pub scenario: Scenario,
    /// Each step of load.
    pub steps: Vec<Step>,
    /// What the oracle says, if the scenario names a limit.
    pub verdict: Option<Verdict>,
}

/// Percentiles that are shown.
pub const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

impl Report {
    /// Why the figures must not be used, or the limit was broken; empty if all is well.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for step in self.steps.iter().filter(|step| !step.kept_schedule()) {
            let late = micros(step.late.value_at_quantile(0.99));
            faults.push(format!(
                "the generator missed its schedule at {:.0} per second: p99 {late:.0} us late",
                step.rate
            ));
        }
        if let Some(verdict) = self.verdict.as_ref().filter(|verdict| verdict.broken > 0) {
            faults.push(format!("{} keys were admitted over their limit", verdict.broken));
        }
        faults
    }

    /// For a terminal.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{}: {}\n\n", self.scenario.name, self.scenario.about);
        let watched = self.steps.first().map(|step| step.used.as_slice()).unwrap_or_default();
        let mut heading =
            "| per second | decided | good | refused % | failed | p50 us | p99 us | p99.9 us | max us \
                           | generator us |"
                .to_owned();
        for used in watched {
            let _ = write!(heading, " {0} us | {0} MiB |", used.name);
        }
        let columns = heading.matches('|').count() - 1;
        let _ = writeln!(out, "{heading}\n|{}", "---|".repeat(columns));
        for step in &self.steps {
            row(&mut out, step);
        }
        if let Some(verdict) = &self.verdict {
            let _ = writeln!(out, "\n{}", judged(verdict));
        }
        for fault in self.faults() {
            let _ = writeln!(out, "FAULT: {fault}");
        }
        out
    }

    /// For programs. Times are in microseconds.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "scenario": self.scenario.name,
            "about": self.scenario.about,
            "steps": self.steps.iter().map(step_json).collect::<Vec<_>>(),
            "oracle": self.verdict.as_ref().map(verdict_json),
            "faults": self.faults(),
        })
    }
}

/// The oracle in one line, and up to five findings.
fn judged(verdict: &Verdict) -> String {
    let mut out = format!(
        "oracle: {} admissions of {} keys, {} keys over their limit",
        verdict.admitted, verdict.keys, verdict.broken
    );
    for finding in verdict.findings.iter().take(5) {
        let breach = &finding.breach;
        let _ = write!(
            out,
            "\n  key {}: {} admitted where {} are allowed, within {} us",
            finding.key,
            breach.admitted,
            breach.allowed,
            (breach.until - breach.from).as_micros()
        );
    }
    out
}

fn row(out: &mut String, step: &Step) {
    let at = |quantile| micros(step.latency.value_at_quantile(quantile));
    let _ = write!(
        out,
        "| {:.0} | {:.0} | {:.0} | {:.1} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |",
        step.rate,
        step.throughput(),
        step.goodput(),
        percent(step.refused, step.decided()),
        step.failed,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        step.per_decision(step.own_cpu)
    );
    for used in &step.used {
        let _ = write!(out, " {:.2} | {:.1} |", step.per_decision(used.cpu), mebibytes(used.resident));
    }
    out.push('\n');
}

fn step_json(step: &Step) -> Value {
    let quantiles = |histogram: &hdrhistogram::Histogram<u64>| -> serde_json::Map<String, Value> {
        let value = |quantile| json!(micros(histogram.value_at_quantile(quantile)));
        QUANTILES.iter().map(|(name, quantile)| ((*name).to_owned(), value(*quantile))).collect()
    };
    let used = step.used.iter().map(|used| {
        json!({"name": used.name, "cpu_us": used.cpu.as_micros(), "cpu_us_per_decision": step.per_decision(used.cpu),
               "resident_bytes": used.resident})
    });
    let slices = step.timeline.iter().map(|slice| {
        json!([slice.meant, slice.admitted, slice.refused, slice.failed, micros(slice.longest)])
    });
    json!({
        "rate": step.rate, "seconds": step.elapsed.as_secs_f64(), "meant": step.meant, "admitted": step.admitted,
        "refused": step.refused, "failed": step.failed, "good": step.good, "throughput": step.throughput(),
        "goodput": step.goodput(), "latency_us": quantiles(&step.latency), "late_us": quantiles(&step.late),
        "kept_schedule": step.kept_schedule(), "generator_cpu_us": step.own_cpu.as_micros(),
        "processes": used.collect::<Vec<_>>(), "slice_seconds": SLICE.as_secs_f64(),
        "slices": ["meant", "admitted", "refused", "failed", "longest_us"],
        "timeline": slices.collect::<Vec<_>>(),
    })
}

fn verdict_json(verdict: &Verdict) -> Value {
    let finding = |finding: &super::oracle::Finding| {
        let breach = &finding.breach;
        json!({"key": finding.key, "admitted": breach.admitted.to_string(), "allowed": breach.allowed.to_string(),
               "from_us": breach.from.as_micros(), "until_us": breach.until.as_micros()})
    };
    json!({"keys": verdict.keys, "admitted": verdict.admitted, "broken": verdict.broken,
           "findings": verdict.findings.iter().map(finding).collect::<Vec<_>>()})
}

/// Nanoseconds as microseconds.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

/// Seconds from the start of a step to the middle of a slice.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn middle(slice: usize) -> f64 {
    (slice as f64 + 0.5) * SLICE.as_secs_f64()
}

/// Events of a slice, per second.
#[expect(clippy::cast_precision_loss, reason = "for people")]
fn rate(events: u64) -> f64 {
    events as f64 / Duration::as_secs_f64(&SLICE)
}
