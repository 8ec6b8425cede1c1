//! Simulations and load tests of Tollgate.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tollgate_loadtest::fleet::sweep::{Cell, adversity, grid, headline, run};
use tollgate_loadtest::fleet::{Measured, Policy, Scenario, Warmup, play, plot, table};

const USAGE: &str = "usage: tollgate-loadtest fleet [--plots DIR] [--seeds N] [--headline] [--only TEXT]...

Plays outages against the circuit breaker of a fleet, in virtual time, and prints a table of medians.
  --plots DIR   also write pictures of load sent against capacity into DIR
  --seeds N     runs per cell, 1 to 100 (default 5)
  --headline    only the total outage of 30 s
  --only TEXT   only cells whose line of the table contains TEXT, such as
                'service dies' or '| 1000 | total, 30 s | 60 s |'; may be repeated";

/// What to do.
struct Order {
    plots: Option<PathBuf>,
    seeds: u64,
    headline: bool,
    only: Vec<String>,
}

impl Order {
    fn wants(&self, cell: &Cell) -> bool {
        let line = table::cell(cell);
        self.only.is_empty() || self.only.iter().any(|text| line.contains(text))
    }
}

fn order(mut words: impl Iterator<Item = String>) -> Result<Order> {
    if words.next().as_deref() != Some("fleet") {
        bail!("{USAGE}");
    }
    let mut order = Order { plots: None, seeds: 5, headline: false, only: Vec::new() };
    while let Some(word) = words.next() {
        match word.as_str() {
            "--plots" => order.plots = Some(words.next().context("--plots needs a folder")?.into()),
            "--seeds" => {
                let seeds = words.next().context("--seeds needs a number")?;
                order.seeds = seeds.parse().with_context(|| format!("--seeds {seeds}"))?;
                if !(1..=100).contains(&order.seeds) {
                    bail!("--seeds is {seeds}, must be 1 to 100");
                }
            }
            "--headline" => order.headline = true,
            "--only" => order.only.push(words.next().context("--only needs a text")?),
            other => bail!("unknown option {other}\n\n{USAGE}"),
        }
    }
    Ok(order)
}

#[expect(clippy::print_stdout, reason = "this is a command")]
fn main() -> Result<()> {
    let order = order(std::env::args().skip(1))?;
    if let Some(folder) = &order.plots {
        plots(folder)?;
    }
    let mut parts = vec![("Total outage of 30 s, strict bars", headline())];
    if !order.headline {
        parts.extend([("Every outage", grid()), ("When more goes wrong", adversity())]);
    }
    parts.iter_mut().for_each(|(_, cells)| cells.retain(|cell| order.wants(cell)));
    if parts.iter().all(|(_, cells)| cells.is_empty()) {
        bail!("no cell contains {}", order.only.join(" or "));
    }
    let mut missed = 0;
    for (title, cells) in parts {
        print!("### {title}\n\n{}", table::heading());
        // A few cells at a time, so that something is to be seen.
        for cells in cells.chunks(8) {
            let played = run(cells, order.seeds)?;
            missed += played.iter().filter(|played| !played.missed().is_empty()).count();
            print!("{}", played.iter().map(table::row).collect::<String>());
        }
        println!();
    }
    println!(
        "Medians of {} runs (one run of the outages of 10 min), local / fleet. Cells with a missed bar: {missed}.",
        order.seeds
    );
    Ok(())
}

fn plots(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, warmup, way) in
        [("easy", Warmup::EASY, "20 % to 100 % in 20 s"), ("hard", Warmup::HARD, "10 % to 100 % in 60 s")]
    {
        for clients in [100, 1_000] {
            let policies = [Policy::None, Policy::Local, Policy::Fleet];
            let plays =
                policies.map(|policy| play(Scenario { policy, clients, warmup, ..Scenario::default() }));
            let plays = plays.into_iter().collect::<Result<Vec<Measured>>>()?;
            let title = format!("{clients} clients, 1 000 calls/s, 30 s outage, capacity back from {way}");
            let file = folder.join(format!("{name}-{clients}.svg"));
            fs::write(&file, plot::picture(&title, &plays))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}
