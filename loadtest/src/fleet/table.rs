//! The figures as Markdown.

use std::fmt::Write;

use super::sweep::{Cell, Medians, Played};

/// The heading of the table that [`row`] fills.
#[must_use]
pub fn heading() -> String {
    let names = "| N | outage, twist | warm-up | doomed | peak | t90 | lost | failed | rounds | missed |";
    format!("{names}\n|--:|---|--:|--:|--:|--:|--:|--:|--:|---|\n")
}

/// The columns that tell which cell it is.
#[must_use]
pub fn cell(cell: &Cell) -> String {
    let scenario = &cell.scenario;
    format!("| {} | {} | {} s |", scenario.clients, cell.twist, scenario.warmup.secs)
}

/// One line: local / fleet.
#[must_use]
pub fn row(played: &Played) -> String {
    let (local, fleet) = (&played.local, &played.fleet);
    let missed = played.missed();
    let mut row = cell(&played.cell);
    let pairs = [
        (local.doomed.to_string(), fleet.doomed.to_string()),
        (format!("{:.2}", local.peak), format!("{:.2}", fleet.peak)),
        (t90(local), t90(fleet)),
        (local.lost.to_string(), fleet.lost.to_string()),
        (local.failed.to_string(), fleet.failed.to_string()),
    ];
    for (local, fleet) in pairs {
        // Writing to a string does not fail.
        let _written = write!(row, " {local} / {fleet} |");
    }
    let missed = if missed.is_empty() { "–".to_owned() } else { missed.join(", ") };
    format!("{row} {} | {missed} |\n", fleet.rounds)
}

fn t90(medians: &Medians) -> String {
    if medians.t90 == u64::MAX { "never".to_owned() } else { medians.t90.to_string() }
}
