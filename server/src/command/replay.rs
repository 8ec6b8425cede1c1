//! `tollgate replay`: a traffic log against the rules in force and against proposed ones, on the log's own times.
//! Exit code 0, or 2 if something cannot be read.

mod envoy;
mod line;
mod plot;
mod read;
mod report;
mod sorted;
mod tally;
mod top;

use std::process::ExitCode;

use tollgate_core::rules::{Decision, Outcome, Status};
use tollgate_core::time::Time;

use self::line::{Logged, Mapping};
use self::sorted::Sorted;
use self::tally::{Sides, Tally};
use super::bad_input;
use super::dry_run::{DryRun, rules, span};
use crate::cli::ReplayArgs;
use crate::config::rules::Options;
use crate::config::settings::{self, Auth, AuthEntry, AuthMapping, Environment, Flags, Source};

/// Counters of each side; beyond that those that end first make room.
const MAX_KEYS: u64 = 1_000_000;

pub(super) fn replay(args: &ReplayArgs) -> ExitCode {
    match run(args).and_then(|replay| report::write(&replay, args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => bad_input(&error),
    }
}

/// Both sides, and what they differ in.
struct Replay {
    current: DryRun,
    proposed: Option<DryRun>,
    tally: Tally,
}

fn run(args: &ReplayArgs) -> Result<Replay, String> {
    let options = Options { merge_domains: args.merge_domains, ..Options::default() };
    let load = |dir| rules(dir, options).map(|matcher| DryRun::new(matcher, MAX_KEYS));
    let current = load(&args.rules)?;
    let proposed = args.proposed.as_deref().map(load).transpose()?;
    let mapping = Mapping { domain: args.domain.clone(), auth: auth(args)? };
    let window = span(&args.window).ok_or_else(|| format!("--window {:?} is no duration", args.window))?;
    let bucket = match args.bucket.as_deref().map(|text| (text, span(text))) {
        None => None,
        Some((_, Some(width))) if !width.is_zero() => Some(width),
        Some((text, _)) => return Err(format!("--bucket {text:?} is no duration such as 10s or 1h")),
    };
    let mut replay = Replay { current, proposed, tally: Tally::new(bucket) };
    let mut sorted = Sorted::new(window);
    for log in &args.logs {
        for line in read::lines(log)? {
            let (number, line) = line?;
            match mapping.read(&line) {
                Ok(logged) => replay.take(logged, &mut sorted)?,
                Err(why) => replay.tally.bad_line(log, number, &why),
            }
        }
    }
    while let Some((at, logged)) = sorted.rest() {
        replay.decide(&logged, at)?;
    }
    replay.tally.out_of_order(sorted.reordered(), sorted.late());
    Ok(replay)
}

/// How access logs become descriptors: `--map`, else section `[auth]` of the settings.
fn auth(args: &ReplayArgs) -> Result<Auth, String> {
    let mut flags = Flags::new();
    if let Some(file) = &args.settings {
        flags = flags.with_settings_file(file);
    }
    let loaded = settings::load(&Environment::from_process(), &flags).map_err(|error| error.to_string())?;
    let mut auth = loaded.settings.auth.clone();
    if !args.map.is_empty() {
        let descriptors = args.map.iter().map(|text| descriptor(text)).collect::<Result<_, _>>()?;
        auth = Auth { default: AuthMapping { descriptors }, domains: Default::default(), ..auth };
    }
    Ok(auth)
}

/// `key=source,key=source`
fn descriptor(text: &str) -> Result<Vec<AuthEntry>, String> {
    let entry = |text: &str| match text.split_once('=') {
        Some((key, source)) if !key.is_empty() => {
            Source::try_from(source.to_owned()).map(|from| AuthEntry { key: key.to_owned(), from })
        }
        _ => Err(format!("{text:?} is not KEY=SOURCE")),
    };
    text.split(',').map(entry).collect::<Result<_, _>>().map_err(|why| format!("--map {text:?}: {why}"))
}

impl Replay {
    /// Puts a request in its place, and decides those that nothing earlier can come before any more.
    fn take(&mut self, logged: Option<Logged>, sorted: &mut Sorted) -> Result<(), String> {
        let Some(logged) = logged else { return Ok(()) };
        sorted.push(logged);
        while let Some((at, logged)) = sorted.ready() {
            self.decide(&logged, at)?;
        }
        Ok(())
    }

    fn decide(&mut self, logged: &Logged, at: Time) -> Result<(), String> {
        let query = logged.query();
        let before = self.current.decide(&query, at)?;
        let after = self.proposed.as_ref().map(|proposed| proposed.decide(&query, at)).transpose()?;
        let judged = after.as_ref().unwrap_or(&before);
        let sides =
            Sides { before: !before.allowed(), after: !judged.allowed(), would: would_refuse(judged) };
        self.tally.count(at, sides);
        let differs = after.is_none() || sides.before != sides.after;
        if differs && (sides.before || sides.after) {
            let refusing = if sides.after { judged } else { &before };
            if let Some((key, rule)) = refused_key(logged, refusing) {
                self.tally.key(&key, rule, sides);
            }
        }
        Ok(())
    }
}

/// Whether a limit that is not enforced would refuse the request.
fn would_refuse(decision: &Decision<'_>) -> bool {
    decision.allowed()
        && decision.outcomes.iter().any(|outcome| {
            matches!(outcome, Outcome::Decided { answer, status: Status::Ok, .. } if !answer.verdict.allowed)
        })
}

/// The first descriptor that is over its limit, and that rule.
fn refused_key<'d>(logged: &Logged, decision: &'d Decision<'_>) -> Option<(String, &'d str)> {
    logged.descriptors.iter().zip(&decision.outcomes).find_map(|(descriptor, outcome)| match outcome {
        Outcome::Decided { rule, status: Status::OverLimit, .. } => {
            Some((descriptor.shown(), rule.path.as_ref()))
        }
        _ => None,
    })
}
