//! From the text of rules files to a matcher.

use tollgate_core::rules::{Defaults, Matcher};

use super::rules::{Options, Problem, Source, load};

/// A matcher and what is odd about the files it came from.
#[derive(Debug)]
pub struct Compiled {
    /// The rules.
    pub matcher: Matcher,
    /// What loads but may not be meant.
    pub warnings: Vec<Problem>,
    /// What an author may want to think about again.
    pub advice: Vec<Problem>,
}

/// Compiles `sources`, of which [`Defaults::layout`] may allow less than usual.
///
/// # Errors
/// Every error of every file.
pub fn compile(sources: &[Source], options: &Options, defaults: Defaults) -> Result<Compiled, Vec<Problem>> {
    let loaded = load(sources, options, defaults.layout)?;
    match Matcher::build(loaded.domains, defaults) {
        Ok(matcher) => Ok(Compiled { matcher, warnings: loaded.warnings, advice: loaded.advice }),
        Err(error) => Err(vec![Problem {
            file: String::new(),
            line: 0,
            column: 0,
            path: String::new(),
            text: error.to_string(),
        }]),
    }
}
