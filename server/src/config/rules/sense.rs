//! What loads and can hardly be meant: numbers that do not fit their unit, counters without number, one slot for all.
//! Only `tollgate check` says so: it may be meant, and a load, strict or not, has nothing to say against it.

use tollgate_core::limit::Limit;
use tollgate_core::rules::{DescriptorSpec, DomainSpec, Quota};
use tollgate_core::time::Span;

use super::file::File;
use super::map::Map;

/// Requests per second beyond which a limit is rather a mistake: no server of ours is asked that often.
const MANY_PER_SECOND: u64 = 1_000_000;
/// Windows beyond which a counter outlives what people mean by a rate.
const LONG: Span = Span::from_secs(366 * 86_400);

/// Warns of numbers of a limit that do not fit together.
pub(super) fn limit(map: &Map<'_>, limit: &Limit, (quota, max_hold): (Quota, Span), file: &mut File<'_>) {
    let (requests, span) = (u64::from(quota.requests_per_unit), quota.span());
    let micros = span.as_micros().max(1);
    let per_second = requests.saturating_mul(1_000_000) / micros;
    if per_second > MANY_PER_SECOND {
        let text = format!("{per_second} requests per second are never reached: is the unit right?");
        map.advise("requests_per_unit", text, file);
    }
    if span > LONG {
        let key = if map.has("unit_multiplier") { "unit_multiplier" } else { "unit" };
        let text = format!("each counter is kept for {} days: is the unit right?", micros / 86_400_000_000);
        map.advise(key, text, file);
    }
    if matches!(limit, Limit::TokenBucket(_)) && map.has("burst") && limit.capacity() < per_second {
        let text = format!(
            "burst {} is less than a second of the rate, {per_second}: requests that come together are refused \
             although the rate allows them",
            limit.capacity()
        );
        map.advise("burst", text, file);
    }
    if matches!(limit, Limit::LeakyBucket(_)) {
        hold(
            map,
            limit.capacity() > 1,
            (max_hold, Span::from_micros(micros.div_ceil(requests.max(1)))),
            file,
        );
    }
}

/// Warns of a `max_hold` that holds nobody. The first who waits does so for about an `interval`.
fn hold(map: &Map<'_>, queues: bool, (max_hold, interval): (Span, Span), file: &mut File<'_>) {
    if !map.has("max_hold") {
        return;
    }
    if !queues {
        map.advise("max_hold", "max_hold has no effect: without a queue nobody waits".to_owned(), file);
    } else if max_hold < interval {
        let text = format!(
            "max_hold {max_hold} is shorter than the time between two requests, {interval}: whoever comes a moment \
             after another is refused instead of held"
        );
        map.advise("max_hold", text, file);
    }
}

/// Warns of a limit below several keys without a value, `open`: there are as many counters as combinations.
pub(super) fn cardinality(open: &[String], map: &Map<'_>, file: &mut File<'_>) {
    if open.len() < 2 {
        return;
    }
    let text = format!(
        "one counter for each combination of {}: their number has no bound but the product of both",
        open.join(" and ")
    );
    map.advise("rate_limit", text, file);
}

/// Warns if every counter of the domain lies in one slot: the partition has a single value.
pub(super) fn partition(spec: &DomainSpec, map: &Map<'_>, file: &mut File<'_>) {
    let Some(key) = &spec.partition else { return };
    let mut values = Vec::new();
    collect(&spec.descriptors, key, &mut values);
    let Some(first) = values.first().filter(|first| !first.is_empty() && !first.contains('*')) else {
        return;
    };
    if values.iter().all(|value| value == first) {
        let text = format!(
            "partition '{key}' has the value '{first}' only: on Redis Cluster every counter of the domain lies in one slot"
        );
        map.advise("partition", text, file);
    }
}

fn collect<'s>(descriptors: &'s [DescriptorSpec], key: &str, values: &mut Vec<&'s str>) {
    for descriptor in descriptors {
        if descriptor.key == key {
            values.push(&descriptor.value);
        }
        collect(&descriptor.descriptors, key, values);
    }
}
