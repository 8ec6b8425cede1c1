//! Which vectors each breaker passes.

use std::collections::{BTreeMap, BTreeSet};

use failsafe::clock::freeze;

use crate::apart;
use crate::script::{Vector, call, fraction, micros, number, vectors};
use crate::subjects::{Failsafe, Peer, Recloser, TowerResilience};

/// How a vector went.
#[derive(Debug)]
pub enum Result {
    /// All checks hold.
    Pass,
    /// One does not.
    Fail(String),
    /// The peer cannot be asked.
    Unasked(String),
}

/// Runs a vector on a peer, as far as it can be run.
pub fn run<P: Peer>(vector: &Vector, made: std::result::Result<P, String>) -> Result {
    let mut peer = match made {
        Ok(peer) => peer,
        Err(missing) => return Result::Unasked(missing),
    };
    let mut held = BTreeMap::new();
    let mut checks = 0;
    for (line, words) in &vector.steps {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match step(&mut peer, &mut held, &words) {
            Ok(checked) => checks += u32::from(checked),
            Err(Result::Fail(why)) => {
                return Result::Fail(format!("line {line} ({}): {why}", words.join(" ")));
            }
            Err(other) => return other,
        }
    }
    if checks == 0 { Result::Unasked("shows nothing of it".to_owned()) } else { Result::Pass }
}

/// Whether the step was a check that the peer could answer.
fn step<P: Peer>(
    peer: &mut P,
    held: &mut BTreeMap<String, P::Held>,
    words: &[&str],
) -> std::result::Result<bool, Result> {
    let fail = |why: &str| Err(Result::Fail(why.to_owned()));
    let missing = |what: &str| Result::Unasked(what.to_owned());
    match words {
        ["call", calls @ ..] => calls.iter().try_for_each(|text| one_call(peer, text))?,
        ["repeat", times, calls @ ..] => {
            for _ in 0..number::<u32>(times) {
                calls.iter().try_for_each(|text| one_call(peer, text))?;
            }
        }
        ["admit", names @ ..] => {
            for name in names {
                let Some(call) = peer.admit() else { return fail("refused") };
                held.insert((*name).to_owned(), call);
            }
            return Ok(true);
        }
        ["end", name, outcome] => {
            let call = held.remove(*name).ok_or_else(|| missing("no such call"))?;
            end(peer, call, outcome)?;
        }
        ["refused", ..] => {
            if peer.admit().is_some() {
                return fail("admitted");
            }
            return Ok(true);
        }
        ["order", order, rest @ ..] if rest.contains(&"fails") || !peer.order(order) => {
            return Err(missing(order));
        }
        ["open_for", _] => return Err(missing("open for a time")),
        [advance] if advance.starts_with('+') => peer.advance(micros(&advance[1..])),
        ["mode", mode] => {
            return match peer.is(mode) {
                Some(false) => fail("another mode"),
                seen => Ok(seen.is_some()),
            };
        }
        ["calls" | "failures" | "failure" | "slow", _] => return look(peer, words),
        _ => {}
    }
    Ok(false)
}

fn look<P: Peer>(peer: &mut P, words: &[&str]) -> std::result::Result<bool, Result> {
    let Some([calls, failures, slow]) = peer.counts() else { return Ok(false) };
    let same = match words {
        ["calls", expected] => calls == number::<u64>(expected),
        ["failures", expected] => failures == number::<u64>(expected),
        [_, "none"] => return Ok(false),
        [which, rate] => {
            let (part, of) = fraction(rate);
            let seen = if *which == "slow" { slow } else { failures };
            (seen, calls) == (part.into(), of.into())
        }
        _ => return Ok(false),
    };
    if same { Ok(true) } else { Err(Result::Fail(format!("{failures} failures, {slow} slow of {calls}"))) }
}

fn one_call<P: Peer>(peer: &mut P, text: &str) -> std::result::Result<(), Result> {
    let Some(held) = peer.admit() else { return Err(Result::Fail(format!("{text} is refused"))) };
    end(peer, held, text)
}

fn end<P: Peer>(peer: &mut P, held: P::Held, text: &str) -> std::result::Result<(), Result> {
    match call(text) {
        ("S", None, took) => peer.end(held, false, took),
        ("F", None, took) => peer.end(held, true, took),
        ("I", None, _) => peer.ignore(held),
        _ => return Err(Result::Unasked(format!("outcome {text}"))),
    }
    Ok(())
}

/// Per vector id: passed, failed (why), or not to be asked (why).
fn judged(run: impl Fn(&Vector) -> Result, ours: bool) -> BTreeMap<String, Result> {
    let mut all: BTreeMap<String, Result> = BTreeMap::new();
    for vector in vectors() {
        if !ours && vector.title.starts_with("deviation") {
            continue;
        }
        let result = run(&vector);
        let known = all.entry(vector.id.clone()).or_insert(Result::Unasked(String::new()));
        let better = match (&*known, &result) {
            (Result::Fail(_), _) | (Result::Pass, Result::Unasked(_)) => false,
            (Result::Unasked(why), Result::Unasked(_)) => why.is_empty(),
            _ => true,
        };
        if better {
            *known = result;
        }
    }
    all
}

/// The table of vectors.
pub fn print(verbose: bool) {
    let mut ours =
        judged(|vector| crate::run::run(vector).map_or_else(Result::Fail, |()| Result::Pass), true);
    ours.insert("F16".to_owned(), apart::our_retry());
    ours.insert("R23".to_owned(), apart::our_predicate());
    let three = apart::three_in_a_row();
    let unclassified = || Result::Unasked("results are not classified".to_owned());
    let mut failsafe = judged(|vector| freeze(|clock| run(vector, Failsafe::make(vector, clock))), false);
    failsafe.insert("F16".to_owned(), freeze(|clock| apart::retry(Failsafe::make(&three, clock))));
    failsafe.insert("R23".to_owned(), unclassified());
    let mut recloser = judged(|vector| run(vector, Recloser::make(vector)), false);
    recloser.insert("F16".to_owned(), apart::retry(Recloser::make(&three)));
    recloser.insert("R23".to_owned(), unclassified());
    let mut tower = judged(|vector| run(vector, TowerResilience::make(vector)), false);
    tower.insert("F16".to_owned(), apart::retry(TowerResilience::make(&three)));
    tower.insert("R23".to_owned(), apart::tower_predicate());
    let columns = [
        ("tollgate", ours),
        ("tower-resilience 0.13", tower),
        ("failsafe 1.3", failsafe),
        ("recloser 1.4", recloser),
    ];
    let ids: BTreeSet<&String> = columns.iter().flat_map(|(_, results)| results.keys()).collect();
    println!("| of {} vectors | pass | fail | n/a | failed |", ids.len());
    println!("|---|---:|---:|---:|---|");
    for (name, results) in &columns {
        let count = |wanted: fn(&Result) -> bool| results.values().filter(|result| wanted(result)).count();
        let pass = count(|result| matches!(result, Result::Pass));
        let failed: Vec<_> = results.iter().filter(|(_, result)| matches!(result, Result::Fail(_))).collect();
        let names: Vec<&str> = failed.iter().map(|(id, _)| id.as_str()).collect();
        let unasked = ids.len() - pass - failed.len();
        println!("| {name} | {pass} | {} | {unasked} | {} |", failed.len(), names.join(" "));
    }
    for (name, results) in columns.iter().filter(|_| verbose) {
        println!("\n{name}\n");
        for (id, result) in results {
            println!("- {id}: {result:?}");
        }
    }
}
