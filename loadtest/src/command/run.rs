//! `tollgate-loadtest run`

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Args;
use tollgate_loadtest::load::drive::{Target, step};
use tollgate_loadtest::load::oracle::Oracle;
use tollgate_loadtest::load::report::{Report, page};
use tollgate_loadtest::load::{Scenario, scenario::LimitSpec};

use super::{resolve, watched};

/// Flags of `run`.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// The scenario, .toml or .yaml
    #[arg(value_name = "FILE")]
    scenario: PathBuf,
    /// host:port of a server; may be repeated, connections are spread over all
    #[arg(long, value_name = "HOST:PORT", required = true)]
    server: Vec<String>,
    /// A process of which CPU time and memory are shown, such as server=4711; may be repeated
    #[arg(long, value_name = "NAME=PID")]
    watch: Vec<String>,
    /// Also write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the report as a page
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Steps of load instead of the scenario's, questions per second
    #[arg(long, value_name = "RATE")]
    rate: Vec<f64>,
    /// Seconds of each step instead of the scenario's
    #[arg(long)]
    seconds: Option<f64>,
}

/// Exit code 1: the limit was broken, or the generator missed its schedule.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode> {
    let scenario = scenario(&args.scenario, &args.rate, args.seconds)?;
    let target = Target {
        addresses: args.server.iter().map(|server| resolve(server)).collect::<Result<_>>()?,
        watched: args.watch.iter().map(|text| watched(text)).collect::<Result<_>>()?,
    };
    let report = report(&scenario, &target)?;
    print(&report.text());
    if let Some(file) = &args.json {
        write(file, &report.json().to_string())?;
    }
    if let Some(file) = &args.page {
        write(file, &page(&report))?;
    }
    Ok(if report.faults().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The scenario of `file`, changed by flags.
pub(super) fn scenario(file: &Path, rates: &[f64], seconds: Option<f64>) -> Result<Scenario> {
    let mut scenario = Scenario::read(file)?;
    if !rates.is_empty() {
        rates.clone_into(&mut scenario.rates);
    }
    scenario.seconds = seconds.unwrap_or(scenario.seconds);
    scenario.check()?;
    Ok(scenario)
}

/// Runs every step.
pub(super) fn report(scenario: &Scenario, target: &Target) -> Result<Report> {
    let limit = scenario.limit.as_ref().map(LimitSpec::limit).transpose()?;
    let mut report = Report { scenario: scenario.clone(), steps: Vec::new(), verdict: None };
    let mut steps = Vec::new();
    // their findings are put together, since limits hold over any interval
    let mut oracles: Vec<Oracle> = Vec::new();
    for &rate in &scenario.rates {
        let mut oracle = limit.clone().map(Oracle::new);
        let mut bar = Bar::new(format!("{} at {rate:.0} per second", scenario.name));
        steps.push(step(scenario, target, rate, oracle.as_mut(), &mut |share| bar.show(share))?);
        bar.clear();
        oracles.extend(oracle);
    }
    report.steps = steps;
    report.verdict = Oracle::verdict_of(oracles);
    Ok(report)
}

/// How far a step is, on a terminal.
struct Bar {
    title: String,
    shown: bool,
}

impl Bar {
    fn new(title: String) -> Bar {
        Bar { title, shown: std::io::stderr().is_terminal() }
    }

    fn show(&mut self, share: f64) {
        if self.shown {
            let percent = share * 100.0;
            eprint!("\r{} {percent:5.1} %", self.title);
        }
    }

    fn clear(&self) {
        if self.shown {
            eprint!("\r{}\r", " ".repeat(self.title.len() + 10));
        }
    }
}

#[expect(clippy::print_stdout, reason = "this is a command")]
pub(super) fn print(text: &str) {
    print!("{text}");
}

fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
