//! A page that needs nothing else.

use std::fmt::Write as _;

use super::plot::{Line, Plot, escaped};
use super::{QUANTILES, Report, judged, micros, middle, rate};
use crate::load::measure::{Slice, Step};

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2430; --dim: #667085; --grid: #e4e7ec; --paper: #ffffff;
  --c0: #2563eb; --c1: #0d9488; --c2: #d97706; --c3: #dc2626; --c4: #7c3aed; --c5: #475467; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --dim: #98a2b3; --grid: #2b3442; --paper: #10151d;
  --c0: #6ea8fe; --c1: #2dd4bf; --c2: #fbbf24; --c3: #f87171; --c4: #a78bfa; --c5: #98a2b3; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } figure { margin: 2rem 0; } figcaption { font-weight: 600; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; font-size: 0.85rem; }
th, td { text-align: right; padding: 0.25rem 0.5rem; border-bottom: 1px solid var(--grid); }
svg { width: 100%; height: auto; } text { fill: var(--dim); font-size: 12px; } .grid { stroke: var(--grid); }
polyline { fill: none; stroke-width: 1.8; } .legend span { margin-right: 1rem; font-weight: 600; font-size: 0.85rem; }
.fault { color: var(--c3); font-weight: 600; }
.c0 { stroke: var(--c0); } .c1 { stroke: var(--c1); } .c2 { stroke: var(--c2); } .c3 { stroke: var(--c3); }
.c4 { stroke: var(--c4); } .c5 { stroke: var(--c5); }
circle.c0, span.c0 { fill: var(--c0); color: var(--c0); } circle.c1, span.c1 { fill: var(--c1); color: var(--c1); }
circle.c2, span.c2 { fill: var(--c2); color: var(--c2); } circle.c3, span.c3 { fill: var(--c3); color: var(--c3); }
circle.c4, span.c4 { fill: var(--c4); color: var(--c4); } circle.c5, span.c5 { fill: var(--c5); color: var(--c5); }
";

/// The page.
#[must_use]
pub fn page(report: &Report) -> String {
    let scenario = &report.scenario;
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{0}</title><style>{STYLE}</style>\n<h1>{0}</h1>\n<p>{1}</p>\n",
        escaped(&scenario.name),
        escaped(&scenario.about)
    );
    for fault in report.faults() {
        let _ = writeln!(html, "<p class=\"fault\">{}</p>", escaped(&fault));
    }
    if let Some(verdict) = &report.verdict {
        let _ = writeln!(html, "<p>{}</p>", escaped(&judged(verdict)).replace('\n', "<br>"));
    }
    table(&mut html, report);
    if report.steps.len() > 1 {
        html.push_str(&latency(report));
        html.push_str(&throughput(report));
    }
    for step in &report.steps {
        html.push_str(&timeline(report, step));
        html.push_str(&longest(step));
    }
    html.push_str("</html>\n");
    html
}

fn table(html: &mut String, report: &Report) {
    html.push_str("<table><thead><tr><th>per second<th>decided<th>good<th>refused<th>failed");
    for (name, _) in QUANTILES {
        let _ = write!(html, "<th>{name} µs");
    }
    html.push_str("<th>generator CPU µs");
    for used in report.steps.first().map(|step| step.used.as_slice()).unwrap_or_default() {
        let _ = write!(html, "<th>{} CPU µs", escaped(&used.name));
    }
    html.push_str("</thead><tbody>\n");
    for step in &report.steps {
        let _ = write!(
            html,
            "<tr><td>{:.0}<td>{:.0}<td>{:.0}<td>{}<td>{}",
            step.rate,
            step.throughput(),
            step.goodput(),
            step.refused,
            step.failed
        );
        for (_, quantile) in QUANTILES {
            let _ = write!(html, "<td>{:.0}", micros(step.latency.value_at_quantile(quantile)));
        }
        let _ = write!(html, "<td>{:.2}", step.per_decision(step.own_cpu));
        for used in &step.used {
            let _ = write!(html, "<td>{:.2}", step.per_decision(used.cpu));
        }
        html.push('\n');
    }
    html.push_str("</tbody></table>\n");
}

fn latency(report: &Report) -> String {
    let line = |(class, (name, quantile)): (usize, (&str, f64))| Line {
        name: name.to_owned(),
        class,
        dashed: false,
        points: report
            .steps
            .iter()
            .map(|step| (step.rate, micros(step.latency.value_at_quantile(quantile))))
            .collect(),
    };
    let lines = QUANTILES.into_iter().enumerate().map(line).collect();
    Plot { title: "Latency over load", x: "meant per second", y: "µs", log: true, lines }.svg()
}

fn throughput(report: &Report) -> String {
    let line = |name: &str, class, dashed, of: fn(&Step) -> f64| Line {
        name: name.to_owned(),
        class,
        dashed,
        points: report.steps.iter().map(|step| (step.rate, of(step))).collect(),
    };
    let lines = vec![
        line("meant", 5, true, |step| step.rate),
        line("decided", 0, false, Step::throughput),
        line("in time", 1, false, Step::goodput),
    ];
    Plot { title: "Throughput over load", x: "meant per second", y: "per second", log: false, lines }.svg()
}

fn timeline(report: &Report, step: &Step) -> String {
    let line = |name: &str, class, of: fn(&Slice) -> u64| Line {
        name: name.to_owned(),
        class,
        dashed: false,
        points: step.timeline.iter().enumerate().map(|(n, slice)| (middle(n), rate(of(slice)))).collect(),
    };
    let mut lines = vec![
        line("meant", 5, |slice| slice.meant),
        line("admitted", 1, |slice| slice.admitted),
        line("refused", 2, |slice| slice.refused),
        line("failed", 3, |slice| slice.failed),
    ];
    let one_key = report.scenario.keys == crate::load::keys::Keys::One;
    if let Some(limit) = report.scenario.limit.as_ref().filter(|_| one_key) {
        let end = middle(step.timeline.len());
        let points = vec![(0.0, limit.per_second()), (end, limit.per_second())];
        lines.push(Line { name: "limit".to_owned(), class: 4, dashed: true, points });
    }
    let title = format!("{:.0} per second: answers over time", step.rate);
    Plot { title: &title, x: "seconds", y: "per second", log: false, lines }.svg()
}

fn longest(step: &Step) -> String {
    let points =
        step.timeline.iter().enumerate().map(|(n, slice)| (middle(n), micros(slice.longest).max(1.0)));
    let lines = vec![Line { name: "longest".to_owned(), class: 3, dashed: false, points: points.collect() }];
    let title = format!("{:.0} per second: longest latency over time", step.rate);
    Plot { title: &title, x: "seconds", y: "µs", log: true, lines }.svg()
}
