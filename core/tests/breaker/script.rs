//! The language of `tests/vectors`, see its README.

use std::collections::BTreeMap;

/// One vector.
#[derive(Debug)]
pub(crate) struct Vector {
    /// Such as `R1`.
    pub(crate) id: String,
    /// What it is about.
    pub(crate) title: String,
    /// The settings that differ from the plain ones.
    pub(crate) config: BTreeMap<String, String>,
    /// Line number and words of each step.
    pub(crate) steps: Vec<(usize, Vec<String>)>,
}

/// The four files.
pub(crate) const FILES: [(&str, &str); 4] = [
    ("resilience4j", include_str!("../vectors/resilience4j.txt")),
    ("failsafe-go", include_str!("../vectors/failsafe_go.txt")),
    ("Polly", include_str!("../vectors/polly.txt")),
    ("others", include_str!("../vectors/others.txt")),
];

/// All vectors of all files, in order.
pub(crate) fn vectors() -> Vec<Vector> {
    let mut vectors: Vec<Vector> = Vec::new();
    for (_, text) in FILES {
        for (number, line) in text.lines().enumerate() {
            let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let Some(first) = words.first() else { continue };
            match (first.as_str(), vectors.last_mut()) {
                ("#", _) => {}
                ("vector", _) => vectors.push(Vector {
                    id: words[1].clone(),
                    title: words[2..].join(" "),
                    config: BTreeMap::new(),
                    steps: Vec::new(),
                }),
                ("config", Some(vector)) => vector.config.extend(words[1..].iter().map(|word| setting(word))),
                (_, Some(vector)) => vector.steps.push((number + 1, words)),
                (_, None) => panic!("line {}: a step outside a vector", number + 1),
            }
        }
    }
    vectors
}

fn setting(word: &str) -> (String, String) {
    let (key, value) = word.split_once('=').unwrap_or_else(|| panic!("{word} is no setting"));
    (key.to_owned(), value.to_owned())
}

/// Microseconds.
pub(crate) fn micros(text: &str) -> u64 {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        other => panic!("{text}: {other:?} is no unit of time"),
    };
    number::<u64>(digits) * unit
}

/// A whole number.
pub(crate) fn number<T: std::str::FromStr>(text: &str) -> T {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

/// Two numbers, such as `2/3`.
pub(crate) fn fraction(text: &str) -> (u32, u32) {
    let (part, of) = text.split_once('/').unwrap_or_else(|| panic!("{text} is no fraction"));
    (number(part), number(of))
}

/// A call: its letter, its hint, its duration; microseconds.
pub(crate) fn call(text: &str) -> (&str, Option<u64>, u64) {
    let (text, duration) = text.split_once('@').map_or((text, 0), |(call, took)| (call, micros(took)));
    let (letter, hint) = text.split_once(':').map_or((text, None), |(call, hint)| (call, Some(micros(hint))));
    (letter, hint, duration)
}
