//! What a key is called for people.

use std::fmt::Write as _;

use tollgate_core::load::random::hash_bytes;
use tollgate_core::rules::Descriptor;

/// Longest text of a key, in bytes.
const LONGEST: usize = 160;

/// A key, as the caller wrote it, and the rule that limits it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HotName {
    /// The rule's path, as `/rlconfig` has it.
    pub rule: Box<str>,
    /// The domain, which the rule's path begins with.
    pub domain: Box<str>,
    /// The entries of the descriptor, `user=ann route=/export`: on one line, and if it is long, cut, with a hash at the
    /// end that tells it from others that begin alike.
    pub text: Box<str>,
}

impl HotName {
    pub(super) fn new(rule: &str, domain: &str, descriptor: &Descriptor<'_>) -> HotName {
        let mut text = String::with_capacity(64);
        for (key, value) in &descriptor.entries {
            if !text.is_empty() {
                text.push(' ');
            }
            printable(&mut text, key);
            if !value.is_empty() {
                text.push('=');
                printable(&mut text, value);
            }
        }
        HotName { rule: cut(rule.to_owned()), domain: cut(domain.to_owned()), text: cut(text) }
    }
}

/// Control characters must not move anybody's cursor, nor direction marks the text.
fn printable(text: &mut String, part: &str) {
    for letter in part.chars() {
        if letter.is_control()
            || matches!(letter, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            text.extend(letter.escape_default());
        } else {
            text.push(letter);
        }
    }
}

fn cut(text: String) -> Box<str> {
    if text.len() <= LONGEST {
        return text.into();
    }
    let mut short = text[..text.floor_char_boundary(LONGEST - 16)].to_owned();
    // writing to a string does not fail
    let _ = write!(short, "…#{:010x}", hash_bytes(text.as_bytes()) >> 24);
    short.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(entries: &[(&str, &str)]) -> String {
        let descriptor = Descriptor { entries: entries.iter().copied().collect(), ..Descriptor::default() };
        HotName::new("shop.user", "shop", &descriptor).text.into()
    }

    #[test]
    fn a_key_reads_as_its_entries() {
        assert_eq!(text(&[("user", "ann"), ("route", "/export")]), "user=ann route=/export");
        assert_eq!(text(&[("user", "")]), "user");
    }

    #[test]
    fn a_key_stays_on_one_line() {
        assert_eq!(text(&[("a", "x\ny\u{1b}[2J\u{202e}z")]), "a=x\\ny\\u{1b}[2J\\u{202e}z");
    }

    #[test]
    fn a_long_key_is_cut_and_still_told_from_another() {
        let (one, two) = ("é".repeat(500) + "1", "é".repeat(500) + "2");
        let (one, two) = (text(&[("k", &one)]), text(&[("k", &two)]));
        assert!(one.len() <= LONGEST && one != two, "{one} {two}");
        assert!(one.starts_with("k=éé") && one.contains("…#"));
    }
}
