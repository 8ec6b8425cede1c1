//! The picture of a replay: requests and refusals above, what changes below.

use std::fmt::Write as _;

use tollgate_core::time::Time;

use super::tally::{Counts, Tally};
use crate::command::dry_run::shown;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 880.0;
/// Top and bottom of the two panels.
const UPPER: (f64, f64) = (50.0, 250.0);
const LOWER: (f64, f64) = (300.0, 460.0);
const HEIGHT: f64 = 510.0;

const GREY: &str = "#9aa5b1";
const BLUE: &str = "#2563eb";
const ORANGE: &str = "#ea580c";
const RED: &str = "#dc2626";
const GREEN: &str = "#16a34a";

/// One curve or set of bars.
struct Series {
    name: &'static str,
    colour: &'static str,
    read: fn(&Counts) -> u64,
}

/// The picture; with one side only, its refusals.
pub(super) fn svg(tally: &Tally, both: bool) -> String {
    let rows = filled(tally);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    let requests = Series { name: "requests", colour: GREY, read: |row| row.requests };
    let before = Series { name: "refused before", colour: BLUE, read: |row| row.refused_before };
    let after = Series { name: "refused after", colour: ORANGE, read: |row| row.refused_after };
    let refused = Series { name: "newly refused", colour: RED, read: |row| row.newly_refused };
    let allowed = Series { name: "newly allowed", colour: GREEN, read: |row| row.newly_allowed };
    let would = Series { name: "would refuse", colour: ORANGE, read: |row| row.would_refuse };
    let per = format!("per {}", tally.width());
    if both {
        panel(&mut out, UPPER, &rows, &[requests, before, after], &per);
        panel(&mut out, LOWER, &rows, &[refused, allowed], &per);
    } else {
        panel(&mut out, UPPER, &rows, &[requests, Series { name: "refused", ..before }], &per);
        panel(&mut out, LOWER, &rows, &[would], &per);
    }
    times(&mut out, &rows);
    out.push_str("</svg>\n");
    out
}

/// The rows with those in between that have no requests, if they are not too many to draw.
fn filled(tally: &Tally) -> Vec<(Time, Counts)> {
    let rows: Vec<(Time, Counts)> = tally.rows().map(|(begin, counts)| (begin, *counts)).collect();
    let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else { return rows };
    let steps = (*last - *first).as_micros() / tally.width().as_micros().max(1);
    if steps > 4_000 {
        return rows;
    }
    let mut filled = Vec::new();
    let mut begin = *first;
    for (time, counts) in &rows {
        while begin < *time {
            filled.push((begin, Counts::default()));
            begin = begin + tally.width();
        }
        filled.push((*time, *counts));
        begin = *time + tally.width();
    }
    filled
}

fn panel(out: &mut String, (top, bottom): (f64, f64), rows: &[(Time, Counts)], series: &[Series], per: &str) {
    let highest =
        rows.iter().flat_map(|(_, row)| series.iter().map(|one| (one.read)(row))).max().unwrap_or(0);
    let scale = nice(highest);
    let y = |count: u64| bottom - (bottom - top) * count as f64 / scale as f64;
    for step in 0..=4_u64 {
        let (count, at) = (scale * step / 4, y(scale * step / 4));
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#e5e7eb\"/>"
        );
        let (x, base) = (LEFT - 8.0, at + 4.0);
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{base:.1}\" text-anchor=\"end\" fill=\"#374151\">{count}</text>"
        );
    }
    for (place, one) in series.iter().enumerate() {
        steps(out, rows, one, &y);
        let (x, base) = (LEFT + 150.0 * place as f64, top - 12.0);
        let (line, colour, name) = (base - 4.0, one.colour, one.name);
        let (end, text) = (x + 20.0, x + 26.0);
        let _ = writeln!(
            out,
            "<line x1=\"{x}\" x2=\"{end}\" y1=\"{line}\" y2=\"{line}\" stroke=\"{colour}\" stroke-width=\"3\"/>"
        );
        let _ = writeln!(out, "<text x=\"{text}\" y=\"{base}\" fill=\"#111827\">{name}</text>");
    }
    let base = top - 12.0;
    let _ =
        writeln!(out, "<text x=\"{RIGHT}\" y=\"{base}\" text-anchor=\"end\" fill=\"#6b7280\">{per}</text>");
}

/// A staircase: each row is a flat piece as wide as its time.
fn steps(out: &mut String, rows: &[(Time, Counts)], one: &Series, y: &impl Fn(u64) -> f64) {
    let width = (RIGHT - LEFT) / rows.len().max(1) as f64;
    let mut points = String::new();
    for (place, (_, row)) in rows.iter().enumerate() {
        let (from, at) = (LEFT + width * place as f64, y((one.read)(row)));
        let _ = write!(points, "{from:.1},{at:.1} {:.1},{at:.1} ", from + width);
    }
    let colour = one.colour;
    let points = points.trim_end();
    let _ = writeln!(
        out,
        "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>"
    );
}

/// The first, the middle and the last time below both panels.
fn times(out: &mut String, rows: &[(Time, Counts)]) {
    let last = rows.len().saturating_sub(1);
    let mut places =
        vec![(0, "start", LEFT), (last / 2, "middle", f64::midpoint(LEFT, RIGHT)), (last, "end", RIGHT)];
    places.dedup_by_key(|(place, ..)| *place);
    for (place, anchor, x) in places {
        let Some((time, _)) = rows.get(place) else { continue };
        let (y, text) = (LOWER.1 + 24.0, shown(*time));
        let _ = writeln!(
            out,
            "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"#374151\">{text}</text>"
        );
    }
}

/// The next of 4, 8, 20, 40, 80, 200, … that is not below `count`: four steps of a round number.
fn nice(count: u64) -> u64 {
    let mut base = 4_u64;
    loop {
        let fits =
            [base, base.saturating_mul(2), base.saturating_mul(5)].into_iter().find(|&step| step >= count);
        match fits {
            Some(step) => return step,
            None => base = base.saturating_mul(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::nice;

    #[test]
    fn scales_are_round_and_high_enough() {
        let scales: Vec<u64> = [0, 4, 5, 9, 21, 100, 1_234].into_iter().map(nice).collect();
        assert_eq!(scales, [4, 4, 8, 20, 40, 200, 2_000]);
    }
}
