//! `tollgate-loadtest compare`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Args;
use tollgate_loadtest::load::Scenario;
use tollgate_loadtest::load::drive::Target;
use tollgate_loadtest::load::measure::Step;

use super::run::{print, report, scenario};
use super::{resolve, watched};

/// Flags of `compare`.
#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// The scenario, .toml or .yaml
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// host:port of server A
    #[arg(long, value_name = "HOST:PORT")]
    a: String,
    /// host:port of server B: any that speaks the scenario's API
    #[arg(long, value_name = "HOST:PORT")]
    b: String,
    /// Processes of A whose CPU time counts as its, such as server=4711 and redis=4712
    #[arg(long, value_name = "NAME=PID")]
    watch_a: Vec<String>,
    /// Processes of B
    #[arg(long, value_name = "NAME=PID")]
    watch_b: Vec<String>,
    /// How often each is asked
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Steps of load instead of the scenario's
    #[arg(long, value_name = "RATE")]
    rate: Vec<f64>,
    /// Seconds of each step instead of the scenario's
    #[arg(long)]
    seconds: Option<f64>,
}

type Measure = (&'static str, fn(&Step) -> f64);

/// What is compared of a step.
const MEASURES: [Measure; 5] = [
    ("decided per second", Step::throughput),
    ("in time per second", Step::goodput),
    ("CPU us per decision", cpu),
    ("p50 us", |step| quantile(step, 0.5)),
    ("p99 us", |step| quantile(step, 0.99)),
];

fn cpu(step: &Step) -> f64 {
    step.used.iter().map(|used| step.per_decision(used.cpu)).sum()
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn quantile(step: &Step, quantile: f64) -> f64 {
    step.latency.value_at_quantile(quantile) as f64 / 1e3
}

/// Exit code 1: a limit was broken, or the generator missed its schedule.
pub(crate) fn compare(args: &CompareArgs) -> Result<ExitCode> {
    let scenario = scenario(&args.scenario, &args.rate, args.seconds)?;
    ensure!(args.watch_a.is_empty() == args.watch_b.is_empty(), "watch processes of both, or of none");
    let target = |server: &str, watch: &[String]| -> Result<Target> {
        let watched = watch.iter().map(|text| watched(text)).collect::<Result<_>>()?;
        Ok(Target { addresses: vec![resolve(server)?], watched })
    };
    let (a, b) = (target(&args.a, &args.watch_a)?, target(&args.b, &args.watch_b)?);
    let (mut of_a, mut of_b, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        for (target, steps) in [(&a, &mut of_a), (&b, &mut of_b)] {
            let report = report(&scenario, target)?;
            faults.extend(report.faults());
            steps.push(report.steps);
        }
    }
    print(&table(&scenario, &of_a, &of_b));
    faults.dedup();
    faults.iter().for_each(|fault| print(&format!("FAULT: {fault}\n")));
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Medians of A and B, and of their ratio in each round.
fn table(scenario: &Scenario, a: &[Vec<Step>], b: &[Vec<Step>]) -> String {
    let mut out = format!("{}: medians of {} rounds\n\n", scenario.name, a.len());
    out.push_str("| meant per second | | A | B | A / B (least – most) |\n|---|---|---|---|---|\n");
    for (place, rate) in scenario.rates.iter().enumerate() {
        for (name, of) in MEASURES {
            let each = |rounds: &[Vec<Step>]| -> Vec<f64> {
                rounds.iter().filter_map(|steps| steps.get(place)).map(of).collect()
            };
            let (a, b) = (each(a), each(b));
            let ratios: Vec<f64> =
                a.iter().zip(&b).map(|(a, b)| a / b).filter(|ratio| ratio.is_finite()).collect();
            if ratios.is_empty() {
                continue;
            }
            let least = ratios.iter().copied().fold(f64::MAX, f64::min);
            let most = ratios.iter().copied().fold(f64::MIN, f64::max);
            let _ = writeln!(
                out,
                "| {rate:.0} | {name} | {:.2} | {:.2} | {:.3} ({least:.3} – {most:.3}) |",
                median(a),
                median(b),
                median(ratios)
            );
        }
    }
    out
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
