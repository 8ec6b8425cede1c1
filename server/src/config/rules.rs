//! Rules files: the reference's YAML and our extensions, read with every error of every file at once.

mod dir;
mod domains;
mod file;
mod keys;
mod limit;
mod lint;
mod map;
mod metadata;
mod report;
mod rollout;
mod sense;

use std::collections::HashMap;
use std::fmt;

use tollgate_core::rules::{DomainSpec, Layout};

pub use self::dir::{DirOptions, read_dir};
use self::domains::Domains;
use self::file::File;

/// One file as read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// Path below the rules folder, for messages.
    pub name: String,
    /// Its bytes, which should be UTF-8.
    pub bytes: Vec<u8>,
}

/// How rules are read.
#[expect(clippy::struct_excessive_bools, reason = "each is an independent switch of the operator")]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// Files of one domain add their descriptors to it (`MERGE_DOMAIN_CONFIG`).
    pub merge_domains: bool,
    /// Every warning is an error.
    pub strict: bool,
    /// Files that do not end in `.yaml` or `.yml` are skipped.
    pub ignore_non_yaml: bool,
    /// The sources are resources of a management server: their names are any, and lines mean nothing.
    pub resources: bool,
}

impl Options {
    fn reads(&self, name: &str) -> bool {
        self.resources || !self.ignore_non_yaml || is_yaml(name)
    }
}

/// Rules that can be compiled.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Per domain, in the order of the files.
    pub domains: Vec<DomainSpec>,
    /// What loads but may not be meant.
    pub warnings: Vec<Problem>,
    /// What an author may want to think about again; never an error.
    pub advice: Vec<Problem>,
}

/// An error or a warning with its place.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The file; empty if it is none in particular.
    pub file: String,
    /// Line from 1; 0 if it is none in particular.
    pub line: usize,
    /// Column from 1.
    pub column: usize,
    /// `domain: descriptors[0].rate_limit.unit`; empty at the root.
    pub path: String,
    /// What is wrong; the reference's words where it has some.
    pub text: String,
}

impl Problem {
    /// A problem of a whole file.
    #[must_use]
    pub fn of_file(file: &str, text: String) -> Problem {
        Problem { file: file.to_owned(), line: 0, column: 0, path: String::new(), text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            f.write_str(&self.file)?;
            if self.line > 0 {
                write!(f, ":{}:{}", self.line, self.column)?;
            }
            f.write_str(": ")?;
        }
        f.write_str(&self.text)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, " (at {})", self.path) }
    }
}

/// Reads `sources`, in their order. With [`Layout::Reference`] only rules are sound that the reference counts in the
/// same way: fixed windows from the epoch, strict, each charged.
///
/// # Errors
/// Every error of every file; with `strict` the warnings too.
pub fn load(sources: &[Source], options: &Options, layout: Layout) -> Result<Loaded, Vec<Problem>> {
    let (mut errors, mut warnings, mut advice) = (Vec::new(), Vec::new(), Vec::new());
    let mut domains = Domains::new(options.merge_domains);
    for source in sources.iter().filter(|source| options.reads(&source.name)) {
        let mut file = File::new(&source.name, layout);
        if !options.resources && !is_yaml(&source.name) {
            let text = "read as rules although its name does not end in .yaml or .yml".to_owned();
            warnings.push(Problem::of_file(&source.name, text));
        }
        if let Some(parsed) = file.parse(&source.bytes) {
            domains.add(parsed, &mut file);
        }
        let [mut wrong, mut odd, mut risky] = file.finish();
        errors.append(&mut wrong);
        warnings.append(&mut odd);
        advice.append(&mut risky);
    }
    warnings.extend(lint::warnings(&domains.parsed));
    let order = order(sources);
    let place = |problem: &Problem| (order.get(problem.file.as_str()).copied(), problem.line, problem.column);
    warnings.sort_by_key(place);
    advice.sort_by_key(place);
    if options.strict {
        errors.append(&mut warnings);
    }
    errors.sort_by_key(place);
    if options.resources {
        let all = errors.iter_mut().chain(&mut warnings);
        all.for_each(|problem| (problem.line, problem.column) = (0, 0));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Loaded { domains: domains.parsed.into_iter().map(|parsed| parsed.spec).collect(), warnings, advice })
}

/// The place of each file among `sources`.
fn order(sources: &[Source]) -> HashMap<&str, usize> {
    sources.iter().enumerate().map(|(place, source)| (source.name.as_str(), place)).collect()
}

fn is_yaml(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    matches!(ending.as_deref(), Some("yaml" | "yml"))
}
