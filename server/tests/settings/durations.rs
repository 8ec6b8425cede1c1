//! Go's durations.

use std::time::Duration;

use proptest::prelude::*;
use tollgate_server::config::settings::duration::{format, parse};

const UNITS: [(&str, u64); 8] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ns", 1),
];

proptest! {
    #[test]
    fn what_is_formatted_is_read_back(nanos in 0..=i64::MAX.unsigned_abs()) {
        let duration = Duration::from_nanos(nanos);
        prop_assert_eq!(parse(&format(duration)), Some(duration));
    }

    #[test]
    fn parts_add_up(parts in prop::collection::vec((0..2_000_u64, 0..8_usize), 1..6)) {
        let text: String = parts.iter().map(|(count, unit)| format!("{count}{}", UNITS[*unit].0)).collect();
        let nanos = parts.iter().map(|(count, unit)| count * UNITS[*unit].1).sum();
        prop_assert_eq!(parse(&text), Some(Duration::from_nanos(nanos)));
    }

    #[test]
    fn a_fraction_is_its_share_of_the_unit(whole in 0..1_000_u64, thousandths in 0..1_000_u64, unit in 0..4_usize) {
        let (name, length) = UNITS[unit];
        let text = format!("{whole}.{thousandths:03}{name}");
        let nanos = whole * length + thousandths * length / 1_000;
        prop_assert_eq!(parse(&text), Some(Duration::from_nanos(nanos)));
    }

    #[test]
    fn no_text_brings_it_down(text in "[+-]?[0-9.hmsunµ ]{0,40}|\\PC{0,20}") {
        if let Some(duration) = parse(&text) {
            prop_assert_eq!(parse(&format(duration)), Some(duration));
        }
    }
}

#[test]
fn the_shortest_form_is_chosen() {
    for text in ["24h", "1m30s", "500ms", "150us", "0s", "1h1ns"] {
        assert_eq!(parse(text).map(format).as_deref(), Some(text));
    }
}
