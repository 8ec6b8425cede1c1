//! `tollgate check`: the rules as the server would load them. Exit code 0 all good, 1 errors, 2 unreadable.

use std::process::ExitCode;

use tollgate_core::rules::Defaults;

use super::{BAD_INPUT, bad_input};
use crate::cli::CheckArgs;
use crate::config::compile::compile;
use crate::config::location::Location;
use crate::config::rules::{Options, Problem};
use crate::config::settings::Rules;

pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let options = Options {
        merge_domains: args.merge_domains,
        strict: args.strict,
        ignore_non_yaml: args.ignore_non_yaml,
    };
    let location = match Location::folder(&args.dir, options, Rules::default().max_file_bytes) {
        Ok(location) => location,
        Err(error) => return bad_input(&error),
    };
    let sources = match location.read() {
        Ok(sources) => sources,
        Err(problems) => {
            report("error", &problems);
            return ExitCode::from(BAD_INPUT);
        }
    };
    match compile(&sources, &location.options, Defaults::default()) {
        Ok(compiled) => {
            report("warning", &compiled.warnings);
            let (domains, rules) = (compiled.matcher.domains().len(), compiled.matcher.rules().len());
            let (files, warnings) = (sources.len(), compiled.warnings.len());
            println!("{files} files, {domains} domains, {rules} rules, {warnings} warnings");
            println!("all rate limit configs ok");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            report("error", &problems);
            eprintln!("error loading rate limit configs: {} errors", problems.len());
            ExitCode::FAILURE
        }
    }
}

fn report(kind: &str, problems: &[Problem]) {
    for problem in problems {
        eprintln!("{kind}: {problem}");
    }
}
