//! Results of tests, for people and for CI servers.

use std::fmt::Write as _;

use tollgate_core::rules::{Decision, Outcome as Decided, Status, told_remaining};
use tollgate_core::time::Span;

use super::Outcome;
use super::check::{after, outcome_name, rule};
use super::file::Asked;

/// Everything about one unexpected answer.
pub(super) fn failure(
    asked: &Asked,
    (turn, at): (u32, Span),
    wrong: &[String],
    decision: &Decision<'_>,
) -> String {
    let mut text = format!("line {}", asked.line);
    if asked.times > 1 {
        let _ = write!(text, ", number {} of {}", turn + 1, asked.times);
    }
    let _ = writeln!(text, ", at {at}");
    for difference in wrong {
        let _ = writeln!(text, "  {difference}");
    }
    for (descriptor, outcome) in asked.descriptors.iter().zip(&decision.outcomes) {
        let entries: Vec<_> =
            descriptor.entries.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let _ = writeln!(text, "  {}: {}", entries.join(", "), told(outcome));
    }
    text
}

fn told(outcome: &Decided<'_>) -> String {
    let path = rule(outcome).map_or("no rule", |(_, path)| path);
    let Decided::Decided { answer, status, .. } = outcome else {
        return format!("{}, {path}", outcome_name(outcome));
    };
    let verdict = &answer.verdict;
    let word = match (*status, verdict.allowed) {
        (Status::OverLimit, _) => "refused",
        (Status::Ok, false) => "would refuse (shadow)",
        (Status::Ok, true) => "allowed",
    };
    let mut text = format!("{word} by {path}, {} of {} remain", told_remaining(verdict), verdict.limit);
    if !verdict.allowed {
        let _ = write!(text, ", retry_after {}", after(verdict.retry_after));
    }
    if !verdict.wait.is_zero() {
        let _ = write!(text, ", wait {}", verdict.wait);
    }
    text
}

/// A line for each test, more for one that fails.
pub(super) fn text(outcomes: &[Outcome]) -> String {
    let (mut text, mut file) = (String::new(), "");
    for outcome in outcomes {
        if outcome.file != file {
            file = &outcome.file;
            let _ = writeln!(text, "{file}");
        }
        let word = if outcome.failure.is_some() { "FAIL" } else { "ok  " };
        let _ = writeln!(text, "  {word} {} ({} requests)", outcome.name, outcome.requests);
        for line in outcome.failure.iter().flat_map(|failure| failure.lines()) {
            let _ = writeln!(text, "       {line}");
        }
    }
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let _ = writeln!(text, "{} tests, {failed} failed", outcomes.len());
    text
}

/// JUnit XML: one suite, one case for each test. Nothing took any time.
pub(super) fn junit(outcomes: &[Outcome]) -> String {
    let failed = outcomes.iter().filter(|outcome| outcome.failure.is_some()).count();
    let mut text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"tollgate\" tests=\"{}\" failures=\"{failed}\">\n",
        outcomes.len()
    );
    for outcome in outcomes {
        let (file, name) = (escaped(&outcome.file), escaped(&outcome.name));
        let _ = write!(text, "  <testcase classname=\"{file}\" name=\"{name}\"");
        match &outcome.failure {
            None => text.push_str("/>\n"),
            Some(failure) => {
                let message = escaped(failure.lines().next().unwrap_or_default());
                let _ = writeln!(
                    text,
                    "><failure message=\"{message}\">{}</failure></testcase>",
                    escaped(failure)
                );
            }
        }
    }
    text.push_str("</testsuite>\n");
    text
}

/// Text as XML takes it, in an attribute too.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() && c != '\n' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}
