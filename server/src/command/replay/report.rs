//! What a replay tells: for people, as JSON, as a picture.

use std::fmt::Write as _;
use std::io::Write as _;

use serde_json::{Value, json};

use super::Replay;
use super::plot;
use super::top::Top;
use crate::cli::ReplayArgs;
use crate::command::dry_run::shown;

/// Prints the report, and draws the plot if one is wanted.
pub(super) fn write(replay: &Replay, args: &ReplayArgs) -> Result<(), String> {
    if let Some(file) = &args.plot {
        let drawn = plot::svg(&replay.tally, replay.proposed.is_some());
        std::fs::write(file, drawn).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    }
    let text = if args.json { format!("{:#}\n", as_json(replay, args.top)) } else { text(replay, args.top) };
    // a reader that has seen enough closes the pipe
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

fn text(replay: &Replay, top: usize) -> String {
    let (tally, mut out) = (&replay.tally, String::new());
    let total = &tally.total;
    let both = replay.proposed.is_some();
    let _ = writeln!(out, "requests        {:>12}", total.requests);
    let mut line = |name: &str, count: u64| {
        let _ = writeln!(out, "{name:<15} {count:>12}  {}", percent(count, total.requests));
    };
    if both {
        line("refused before", total.refused_before);
        line("refused after", total.refused_after);
        line("newly refused", total.newly_refused);
        line("newly allowed", total.newly_allowed);
    } else {
        line("refused", total.refused_before);
    }
    line("would refuse", total.would_refuse);
    odd(replay, &mut out);
    keys(if both { "newly refused" } else { "refused" }, &tally.refused, top, &mut out);
    keys("newly allowed", &tally.allowed, top, &mut out);
    rows(replay, &mut out);
    out
}

/// What was not as a log should be.
fn odd(replay: &Replay, out: &mut String) {
    let tally = &replay.tally;
    let (reordered, late) = tally.reordered;
    if reordered > 0 {
        let _ = writeln!(out, "out of order    {reordered:>12}  {late} too late to be sorted: see --window");
    }
    let evicted = replay.current.evicted() + replay.proposed.as_ref().map_or(0, super::DryRun::evicted);
    if evicted > 0 {
        let _ = writeln!(
            out,
            "dropped         {evicted:>12}  used counters for lack of room: figures may be low"
        );
    }
    if tally.bad.count > 0 {
        let _ = writeln!(out, "bad lines       {:>12}", tally.bad.count);
        tally.bad.first.iter().for_each(|line| {
            let _ = writeln!(out, "  {line}");
        });
    }
}

fn keys(title: &str, top: &Top, number: usize, out: &mut String) {
    let first = top.first(number);
    if first.is_empty() {
        return;
    }
    let _ = writeln!(out, "\ntop keys {title}");
    for (key, count) in first {
        let error =
            if count.error > 0 { format!(" (up to {} too many)", count.error) } else { String::new() };
        let _ = writeln!(out, "  {:>10}  {key}{error}", count.most);
    }
}

fn rows(replay: &Replay, out: &mut String) {
    let _ = writeln!(out, "\nby time, each row {}", replay.tally.width());
    let columns = ["requests", "before", "after", "newly refused", "newly allowed", "would refuse"];
    let _ = write!(out, "{:<28}", "begin");
    columns.iter().for_each(|column| {
        let _ = write!(out, " {column:>13}");
    });
    out.push('\n');
    for (begin, row) in replay.tally.rows() {
        let _ = write!(out, "{:<28}", shown(begin));
        let counts = [
            row.requests,
            row.refused_before,
            row.refused_after,
            row.newly_refused,
            row.newly_allowed,
            row.would_refuse,
        ];
        counts.iter().for_each(|count| {
            let _ = write!(out, " {count:>13}");
        });
        out.push('\n');
    }
}

/// With one decimal, rounded down.
fn percent(part: u64, all: u64) -> String {
    let tenths = u128::from(part) * 1_000 / u128::from(all.max(1));
    format!("{}.{}%", tenths / 10, tenths % 10)
}

fn as_json(replay: &Replay, top: usize) -> Value {
    let tally = &replay.tally;
    let keys = |top: &Top, number| -> Vec<Value> {
        let one = |(key, count): (&str, super::top::Count)| {
            let (key, rule) = key.rsplit_once("  by ").unwrap_or((key, ""));
            json!({ "key": key, "rule": rule, "count": count.most, "error": count.error })
        };
        top.first(number).into_iter().map(one).collect()
    };
    let rows: Vec<Value> =
        tally.rows().map(|(begin, counts)| json!({ "begin": shown(begin), "counts": counts })).collect();
    json!({
        "total": tally.total,
        "compared": replay.proposed.is_some(),
        "top_refused": keys(&tally.refused, top),
        "top_allowed": keys(&tally.allowed, top),
        "row_seconds": tally.width().as_micros() / 1_000_000,
        "rows": rows,
        "bad_lines": tally.bad,
        "out_of_order": { "all": tally.reordered.0, "too_late": tally.reordered.1 },
    })
}
