//! What travels in headers, and the delays made of it.

use proptest::prelude::*;
use tollgate_core::load::backoff::{Backoff, BackoffConfig, Jitter};
use tollgate_core::load::deadline::{Deadline, MARGIN, format_timeout, parse_timeout};
use tollgate_core::load::hint::{Hint, MAX_AFTER};
use tollgate_core::load::ratio::Ratio;
use tollgate_core::time::{MAX_MICROS, Span, Time};

fn spans() -> impl Strategy<Value = Span> {
    (0..=53_u32, any::<u64>()).prop_map(|(bits, value)| Span::from_micros(value & ((1_u64 << bits) - 1)))
}

proptest! {
    #[test]
    fn a_timeout_survives_its_header_and_is_never_shorter(span in spans()) {
        let text = format_timeout(span);
        prop_assert!(text.len() <= 9, "{text}");
        let read = parse_timeout(&text).unwrap();
        prop_assert!(read >= span, "{text}");
        // rounded by less than one unit; a unit is a thousand times the one with nine digits, or less
        let over = (read - span).as_micros();
        prop_assert!(over == 0 || over <= span.as_micros() / 99_999, "{text} {over}");
        let exact = [1, 1_000, 1_000_000, 60_000_000, 3_600_000_000]
            .iter()
            .any(|unit| span.as_micros() % unit == 0 && span.as_micros() / unit <= 99_999_999);
        prop_assert!(!exact || read == span, "{text}");
    }

    #[test]
    fn no_header_makes_a_hint_longer_than_the_cap_or_a_panic(text in "\\PC{0,40}", now in 0..MAX_MICROS) {
        let now = Time::from_micros(now);
        let hints = [Hint::retry_after(&text, now), Hint::rate_limit(&text), Some(Hint::pushback(&text))];
        for hint in hints.into_iter().flatten() {
            prop_assert!(hint.after.is_none_or(|after| after <= MAX_AFTER));
            prop_assert!(hint.no_retry == hint.after.is_none());
        }
        let _ = parse_timeout(&text);
    }

    #[test]
    fn a_rate_limit_field_is_read_whatever_is_in_its_names(
        names in proptest::collection::vec("[ -~]{0,8}", 1..4),
        seconds in 0..300_u64,
    ) {
        let quoted = |name: &String| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
        let items: Vec<String> = names.iter().map(|name| format!("{};r=0;t={seconds}", quoted(name))).collect();
        let hint = Hint::rate_limit(&items.join(", "));
        prop_assert_eq!(hint, Some(Hint::after(Span::from_secs(seconds))));
    }

    #[test]
    fn a_delay_is_within_its_jitter_and_its_cap(
        initial in 1..60_000_u64,
        more in 0..3_000_000_u64,
        factor in 100..1_000_u32,
        retry in prop_oneof![0..20_u32, any::<u32>()],
        roll in any::<u32>(),
    ) {
        let max = Span::from_millis(initial + more).min(Span::from_secs(3_600));
        let initial = Span::from_millis(initial).min(max);
        let delay = |jitter| {
            let factor = Ratio::from_percent(factor);
            let config = BackoffConfig { attempts: 20, initial, factor, max, jitter };
            Backoff::new(config).unwrap().delay(retry, roll)
        };
        let [none, equal, full] = [Jitter::None, Jitter::Equal, Jitter::Full].map(delay);
        prop_assert!(initial <= none && none <= max);
        prop_assert!(full <= none);
        prop_assert!(equal <= none && equal.as_micros() >= none.as_micros() / 2);
    }

    #[test]
    fn a_deadline_only_gets_earlier(start in 0..MAX_MICROS / 2, inbound in spans(), own in spans(), later in spans()) {
        let now = Time::from_micros(start);
        let first = Deadline::inbound(now, inbound, MARGIN);
        prop_assert!(first.remaining(now).is_none_or(|left| left <= inbound));
        let then = now + later;
        let second = first.tightened(then, own);
        if let (Some(before), Some(after)) = (first.remaining(then), second.remaining(then)) {
            prop_assert!(after <= before && after <= own);
            prop_assert_eq!(second.is_over(then), after.is_zero());
            prop_assert_eq!(second.allows(then, Span::ZERO), !after.is_zero());
        }
    }
}
