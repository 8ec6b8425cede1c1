//! The reference's name of a rule in its metrics, and what its Prometheus mapping makes of it.

use smallvec::SmallVec;
use tollgate_core::rules::{Descriptor, Metric, MetricLevel, Rule};

/// Levels of a name that become labels: `domain`, `key1`, `key2`. The mapping drops the rest.
const LABELS: usize = 3;

/// A name under construction, on the stack unless it is long.
pub(super) type Text = SmallVec<[u8; 192]>;

/// The domain of a rule, and its path below the domain. A domain may contain dots, so that only the length
/// of the levels tells.
pub(super) fn domain_and_path(rule: &Rule) -> (&str, &str) {
    let path = &*rule.path;
    let levels = rule.metric.levels.iter().map(|level| level.composite.len() + 1).sum::<usize>();
    let end = path.len().checked_sub(levels).filter(|end| path.is_char_boundary(*end));
    let end = end.filter(|end| *end < path.len()).or_else(|| path.find('.')).unwrap_or(path.len());
    (&path[..end], path.get(end + 1..).unwrap_or_default())
}

/// Whether request values are part of the name.
pub(super) fn shows_values(metric: &Metric) -> bool {
    metric.detailed || metric.levels.iter().any(|level| level.value)
}

/// The name with all request values left out.
pub(super) fn without_values(rule: &Rule) -> String {
    let mut text = Text::from_slice(rule.path.as_bytes());
    mend(&mut text);
    String::from_utf8_lossy(labelled(&text)).into_owned()
}

/// The name for one request; only its part that becomes labels.
pub(super) fn with_values(domain: &str, metric: &Metric, descriptor: &Descriptor<'_>) -> Text {
    let mut text = Text::from_slice(domain.as_bytes());
    let any_shared = metric.levels.iter().any(is_shared);
    for (level, &(key, value)) in metric.levels.iter().zip(&descriptor.entries) {
        text.push(b'.');
        if is_shared(level) {
            push_pattern(&mut text, level, key);
        } else if metric.detailed && !any_shared {
            text.extend_from_slice(key.as_bytes());
            text.push(b'_');
            text.extend_from_slice(value.as_bytes());
        } else if metric.detailed || level.value {
            push_value(&mut text, key, value);
        } else {
            push_fixed(&mut text, level, key);
        }
    }
    mend(&mut text);
    let length = labelled(&text).len();
    text.truncate(length);
    text
}

fn is_shared(level: &MetricLevel) -> bool {
    level.shared && level.composite.contains('*')
}

fn push_value(text: &mut Text, key: &str, value: &str) {
    text.extend_from_slice(key.as_bytes());
    if !value.is_empty() {
        text.push(b'_');
        text.extend_from_slice(value.as_bytes());
    }
}

fn push_fixed(text: &mut Text, level: &MetricLevel, key: &str) {
    if level.composite.contains('*') {
        push_pattern(text, level, key);
    } else {
        text.extend_from_slice(level.composite.as_bytes());
    }
}

/// `key_pattern`; a pattern that begins in the key appears whole.
fn push_pattern(text: &mut Text, level: &MetricLevel, key: &str) {
    let pattern = &*level.composite;
    let rest = pattern.strip_prefix(key).and_then(|rest| rest.strip_prefix('_'));
    push_value(text, key, rest.unwrap_or(pattern));
}

/// Replaces what the statsd format cannot carry, byte for byte: `:`, `|`, and the dots of IPv4 addresses.
pub(super) fn mend(text: &mut [u8]) {
    for byte in text.iter_mut().filter(|byte| matches!(byte, b':' | b'|')) {
        *byte = b'_';
    }
    let mut at = 0;
    while at < text.len() {
        at += match address(&text[at..]) {
            Some(length) => {
                let address = text[at..at + length].iter_mut();
                address.filter(|byte| **byte == b'.').for_each(|dot| *dot = b'_');
                length
            }
            None => 1,
        };
    }
}

/// Length of the text at the front that looks like an IPv4 address: four times one to three digits.
fn address(text: &[u8]) -> Option<usize> {
    let mut length = 0;
    for part in 0..4 {
        if part > 0 {
            length += text.get(length..)?.starts_with(b".").then_some(1)?;
        }
        let digits = text[length..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        length += (digits > 0).then_some(digits)?;
    }
    Some(length)
}

/// The levels that become labels.
fn labelled(text: &[u8]) -> &[u8] {
    let mut dots = text.iter().enumerate().filter(|(_, byte)| **byte == b'.');
    dots.nth(LABELS - 1).map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests;
