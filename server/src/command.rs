//! What each command of the command line does.

mod check;
mod dry_run;
mod explain;
mod health;
mod replay;
mod schema;
mod serve;
mod test;
mod top;

use std::io::Write as _;
use std::process::ExitCode;

use crate::cli::{Command, SettingsArgs};
use crate::config::settings::{self, Effective, Environment, SettingsError};

/// Exit code of bad input: settings, rules files, arguments.
const BAD_INPUT: u8 = 2;

/// Executes a command; its answer goes to standard output, what is wrong to standard error.
#[must_use]
pub fn execute(command: Command) -> ExitCode {
    match command {
        Command::Serve(args) => serve::serve(&args),
        Command::Check(args) => check::check(&args),
        Command::Explain(args) => explain::explain(&args),
        Command::Config(args) => config(&args),
        Command::Health(args) => health::health(&args),
        Command::Test(args) => test::test(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Schema => schema::schema(),
        Command::Top(args) => top::top(&args),
    }
}

fn effective(args: &SettingsArgs) -> Result<Effective, SettingsError> {
    settings::load(&Environment::from_process(), &args.flags())
}

fn config(args: &SettingsArgs) -> ExitCode {
    match effective(args) {
        Ok(effective) => {
            // a reader that has seen enough closes the pipe
            let _ = write!(std::io::stdout(), "{effective}");
            ExitCode::SUCCESS
        }
        Err(error) => bad_input(&error),
    }
}

fn bad_input(error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(BAD_INPUT)
}
