//! `tollgate test`: requests with times and the decisions that they should get, through the engine and the memory
//! store on a virtual clock. Exit code 0 all as expected, 1 some not, 2 a file cannot be read.

mod check;
mod file;
mod report;

use std::path::Path;
use std::process::ExitCode;

use smallvec::SmallVec;
use tollgate_core::rules::{Descriptor, Query};
use tollgate_core::time::Time;

use self::file::{Asked, Case, TestFile};
use super::bad_input;
use super::dry_run::{DryRun, rules};
use crate::cli::{TestArgs, TestFormat};
use crate::config::rules::Options;

/// Counters of one test; a test has fewer.
const MAX_KEYS: u64 = 100_000;

/// What became of one test.
struct Outcome {
    file: String,
    name: String,
    requests: u64,
    /// What is not as expected, the first request that it befell.
    failure: Option<String>,
}

pub(super) fn test(args: &TestArgs) -> ExitCode {
    let mut outcomes = Vec::new();
    for path in &args.files {
        match run_file(path, args) {
            Ok(of_file) => outcomes.extend(of_file),
            Err(error) => return bad_input(&error),
        }
    }
    match args.format {
        TestFormat::Text => print!("{}", report::text(&outcomes)),
        TestFormat::Junit => print!("{}", report::junit(&outcomes)),
    }
    let failed = outcomes.iter().any(|outcome| outcome.failure.is_some());
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn run_file(path: &Path, args: &TestArgs) -> Result<Vec<Outcome>, String> {
    let file = TestFile::read(path)?;
    let named = file.rules.as_ref().map(|dir| path.parent().unwrap_or(Path::new("")).join(dir));
    let missing = || format!("{}: no rules: give them in the file or with --rules", path.display());
    let dir = args.rules.clone().or(named).ok_or_else(missing)?;
    let matcher = rules(&dir, Options { merge_domains: args.merge_domains, ..Options::default() })?;
    let run = |case: &Case| {
        let world = DryRun::new(matcher.clone(), MAX_KEYS);
        let (requests, failure) = run_case(case, file.start, &world)?;
        Ok(Outcome { file: path.display().to_string(), name: case.name.clone(), requests, failure })
    };
    file.cases.iter().map(run).collect()
}

/// Runs a test on fresh counters: how many requests it made, and what the first unexpected answer was.
fn run_case(case: &Case, start: Time, world: &DryRun) -> Result<(u64, Option<String>), String> {
    let mut made = 0;
    for asked in &case.requests {
        let query = query(asked);
        for turn in 0..asked.times {
            let now = start + asked.at + times(asked, turn);
            made += 1;
            let decision = world.decide(&query, now)?;
            let wrong = check::wrong(&asked.expect, &decision);
            if !wrong.is_empty() {
                return Ok((made, Some(report::failure(asked, (turn, now - start), &wrong, &decision))));
            }
        }
    }
    Ok((made, None))
}

/// How long after the first of its repetitions one takes place.
fn times(asked: &Asked, turn: u32) -> tollgate_core::time::Span {
    tollgate_core::time::Span::from_wide(u128::from(asked.every.as_micros()) * u128::from(turn))
}

fn query(asked: &Asked) -> Query<'_> {
    let descriptors = asked.descriptors.iter().map(|one| Descriptor {
        entries: one.entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        hits: one.hits,
        refund: one.refund,
        limit: None,
    });
    Query {
        domain: &asked.domain,
        hits: asked.hits,
        descriptors: descriptors.collect::<SmallVec<_>>(),
        patience: asked.patience,
        waits_itself: asked.waits_itself,
    }
}
