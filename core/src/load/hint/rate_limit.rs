//! The `RateLimit` field, a list of structured fields (RFC 9651): `"policy";r=0;t=30, "other";r=5;t=60`.

/// The longest `t`, in seconds, of the items with `r=0`; `None` if there is none or the text is no such list.
pub(super) fn reset_after(text: &str) -> Option<u64> {
    let mut rest = text.trim_matches([' ', '\t']);
    let mut longest = None;
    loop {
        let (item, after) = item(rest)?;
        if item.remaining == Some(0) {
            longest = longest.max(item.reset);
        }
        let after = after.trim_start_matches([' ', '\t']);
        if after.is_empty() {
            return longest;
        }
        rest = after.strip_prefix(',')?.trim_start_matches([' ', '\t']);
    }
}

#[derive(Default)]
struct Item {
    remaining: Option<u64>,
    reset: Option<u64>,
}

/// The first item of a list and what comes after it.
fn item(text: &str) -> Option<(Item, &str)> {
    let mut rest = bare(text)?.1;
    let mut item = Item::default();
    while let Some(parameter) = rest.strip_prefix(';') {
        let parameter = parameter.trim_start_matches(' ');
        let length = parameter.find(|c: char| !is_key(c)).unwrap_or(parameter.len());
        let (key, after) = parameter.split_at(length);
        let (value, after) = match after.strip_prefix('=') {
            Some(value) => bare(value)?,
            None => ("", after),
        };
        match key {
            "" => return None,
            "r" => item.remaining = value.parse().ok(),
            "t" => item.reset = value.parse().ok(),
            _ => {}
        }
        rest = after;
    }
    Some((item, rest))
}

const fn is_key(c: char) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.' | '*')
}

/// A string, number, token or byte sequence at the beginning of `text`, and what comes after it.
fn bare(text: &str) -> Option<(&str, &str)> {
    let length = match text.as_bytes().first()? {
        b'"' => quoted(text)?,
        b':' => text[1..].find(':')? + 2,
        _ => text.find([';', ',', ' ', '\t']).unwrap_or(text.len()),
    };
    (length > 0).then(|| text.split_at(length))
}

/// The length of a string in quotes.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (index, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(index + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_reset_of_what_is_used_up_counts() {
        assert_eq!(reset_after("\"default\";r=0;t=30"), Some(30));
        assert_eq!(reset_after(" \"a\";r=0;t=5 ,\t\"b\"; t=60; r=0;pk=:cHNr:, c;r=9;t=99 "), Some(60));
        assert_eq!(reset_after("\"a\";t=5;r=0;x;y=?1"), Some(5));
    }

    #[test]
    fn separators_inside_of_a_name_are_part_of_it() {
        assert_eq!(reset_after("\"a,b;t=9\\\",;r=0\";r=0;t=4"), Some(4));
    }

    #[test]
    fn what_tells_no_wait_is_none() {
        let silent = ["\"a\";r=0", "\"a\";t=5", "\"a\";r=1;t=5", "\"a\";r=0;t=-5", "\"a\";r=0;t=x"];
        let broken =
            ["", ",", "\"a", "\"a\";r=0;t=5,", "\"a\";r=0;t=5 \"b\"", "\"a\";;r=0;t=1", "\"a\";r=;t=1", ":a"];
        for text in silent.iter().chain(&broken) {
            assert_eq!(reset_after(text), None, "{text}");
        }
    }
}
