//! `tollgate`: reads the command line and does what it says.

use std::process::ExitCode;

use clap::Parser as _;
use tollgate_server::cli::Cli;
use tollgate_server::command;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    command::execute(Cli::parse().into_command())
}
