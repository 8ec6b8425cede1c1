//! Simulations and load tests of Tollgate.

mod command;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::command::compare::{CompareArgs, compare};
use self::command::fleet::{FleetArgs, fleet};
use self::command::run::{RunArgs, run};

/// Simulations and load tests of Tollgate.
#[derive(Debug, Parser)]
#[command(name = "tollgate-loadtest", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask a server as a scenario says, and judge its answers
    Run(RunArgs),
    /// Ask two servers alternately (A B A B …) as a scenario says, and print ratios
    Compare(CompareArgs),
    /// Play outages against the circuit breaker of a fleet, in virtual time
    Fleet(FleetArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run(&args),
        Command::Compare(args) => compare(&args),
        Command::Fleet(args) => fleet(&args).map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::from(2)
    })
}
