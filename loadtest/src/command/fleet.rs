//! `tollgate-loadtest fleet`

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use tollgate_loadtest::fleet::sweep::{Cell, adversity, grid, headline, run};
use tollgate_loadtest::fleet::{Measured, Policy, Scenario, Warmup, play, plot, table};

/// Plays outages against the circuit breaker of a fleet, in virtual time, and prints a table of medians
#[derive(Args, Debug)]
pub(crate) struct FleetArgs {
    /// Also write pictures of load sent against capacity into this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
    /// Runs per cell
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Only the total outage of 30 s
    #[arg(long)]
    headline: bool,
    /// Only cells whose line of the table contains this, such as 'service dies'; may be repeated
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
}

impl FleetArgs {
    fn wants(&self, cell: &Cell) -> bool {
        let line = table::cell(cell);
        self.only.is_empty() || self.only.iter().any(|text| line.contains(text))
    }
}

#[expect(clippy::print_stdout, reason = "this is a command")]
pub(crate) fn fleet(order: &FleetArgs) -> Result<()> {
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
