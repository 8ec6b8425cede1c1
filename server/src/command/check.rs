//! `tollgate check`: the rules as the server would load them. Exit code 0 all good, 1 errors, 2 unreadable.

use std::process::ExitCode;

use serde_json::{Value, json};
use tollgate_core::rules::Defaults;

use super::{BAD_INPUT, bad_input};
use crate::cli::{CheckArgs, Format};
use crate::config::compile::compile;
use crate::config::location::Location;
use crate::config::rules::{Options, Problem};
use crate::config::settings::Rules;

pub(super) fn check(args: &CheckArgs) -> ExitCode {
    let options = Options {
        merge_domains: args.merge_domains,
        strict: args.strict,
        ignore_non_yaml: args.ignore_non_yaml,
        resources: false,
    };
    let location = match Location::folder(&args.dir, options, Rules::default().max_file_bytes) {
        Ok(location) => location,
        Err(error) => return bad_input(&error),
    };
    let sources = match location.read() {
        Ok(sources) => sources,
        Err(problems) => {
            report(args, "error", &problems);
            return ExitCode::from(BAD_INPUT);
        }
    };
    match compile(&sources, &location.options, Defaults::default()) {
        Ok(compiled) => {
            let warnings = [compiled.warnings, compiled.advice].concat();
            if args.format == Format::Json {
                println!("{:#}", as_json(args, &[], &warnings));
                return ExitCode::SUCCESS;
            }
            report(args, "warning", &warnings);
            let (domains, rules) = (compiled.matcher.domains().len(), compiled.matcher.rules().len());
            let (files, warnings) = (sources.len(), warnings.len());
            println!("{files} files, {domains} domains, {rules} rules, {warnings} warnings");
            println!("all rate limit configs ok");
            ExitCode::SUCCESS
        }
        Err(problems) => {
            if args.format == Format::Json {
                println!("{:#}", as_json(args, &problems, &[]));
                return ExitCode::FAILURE;
            }
            report(args, "error", &problems);
            eprintln!("error loading rate limit configs: {} errors", problems.len());
            ExitCode::FAILURE
        }
    }
}

/// A line for each: on standard error for people, on standard output as annotations.
fn report(args: &CheckArgs, kind: &str, problems: &[Problem]) {
    for problem in problems {
        match args.format {
            Format::Github => println!("{}", annotation(args, kind, problem)),
            Format::Text | Format::Json => eprintln!("{kind}: {problem}"),
        }
    }
}

/// A workflow command of GitHub Actions, in which `%` and line breaks are escaped.
fn annotation(args: &CheckArgs, kind: &str, problem: &Problem) -> String {
    let escaped = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escaped(text).replace(':', "%3A").replace(',', "%2C");
    let text = if problem.path.is_empty() {
        problem.text.clone()
    } else {
        format!("{} (at {})", problem.text, problem.path)
    };
    if problem.file.is_empty() {
        return format!("::{kind}::{}", escaped(&text));
    }
    let file = property(&args.dir.join(&problem.file).display().to_string());
    let place = if problem.line > 0 {
        format!(",line={},col={}", problem.line, problem.column)
    } else {
        String::new()
    };
    format!("::{kind} file={file}{place}::{}", escaped(&text))
}

/// One object; `line` and `column` are 0 if a problem has no place.
fn as_json(args: &CheckArgs, errors: &[Problem], warnings: &[Problem]) -> Value {
    let one = |problem: &Problem| {
        json!({
            "file": args.dir.join(&problem.file),
            "line": problem.line,
            "column": problem.column,
            "path": problem.path,
            "text": problem.text,
        })
    };
    let all = |problems: &[Problem]| problems.iter().map(one).collect::<Vec<_>>();
    json!({ "ok": errors.is_empty(), "errors": all(errors), "warnings": all(warnings) })
}
