//! Rules files: the reference's YAML and our extensions, read with every error of every file at once.

mod dir;
mod file;
mod keys;
mod limit;
mod lint;
mod map;

use std::collections::HashMap;
use std::fmt;

use tollgate_core::rules::DomainSpec;

pub use self::dir::{DirOptions, read_dir};
use self::file::{File, Parsed};

/// One file as read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// Path below the rules folder, for messages.
    pub name: String,
    /// Its bytes, which should be UTF-8.
    pub bytes: Vec<u8>,
}

/// How rules are read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent switch of the operator")]
pub struct Options {
    /// Files of one domain add their descriptors to it (`MERGE_DOMAIN_CONFIG`).
    pub merge_domains: bool,
    /// Every warning is an error.
    pub strict: bool,
    /// Files that do not end in `.yaml` or `.yml` are skipped.
    pub ignore_non_yaml: bool,
}

/// Rules that can be compiled.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Per domain, in the order of the files.
    pub domains: Vec<DomainSpec>,
    /// What loads but may not be meant.
    pub warnings: Vec<Problem>,
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

/// Reads `sources`, in their order.
///
/// # Errors
/// Every error of every file; with `strict` the warnings too.
pub fn load(sources: &[Source], options: &Options) -> Result<Loaded, Vec<Problem>> {
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let mut domains = Domains { merge: options.merge_domains, ..Domains::default() };
    for source in sources.iter().filter(|source| !options.ignore_non_yaml || is_yaml(&source.name)) {
        let mut file = File::new(&source.name);
        if !is_yaml(&source.name) {
            let text = "read as rules although its name does not end in .yaml or .yml".to_owned();
            warnings.push(Problem::of_file(&source.name, text));
        }
        if let Some(parsed) = file.parse(&source.bytes) {
            domains.add(parsed, &mut file);
        }
        errors.append(&mut file.errors);
        warnings.append(&mut file.warnings);
    }
    warnings.extend(lint::warnings(&domains.parsed));
    warnings.sort_by(|one, two| (&one.file, one.line).cmp(&(&two.file, two.line)));
    if options.strict {
        errors.append(&mut warnings);
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(Loaded { domains: domains.parsed.into_iter().map(|parsed| parsed.spec).collect(), warnings })
}

fn is_yaml(name: &str) -> bool {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase());
    matches!(ending.as_deref(), Some("yaml" | "yml"))
}

/// The domains of all files.
#[derive(Default)]
struct Domains {
    merge: bool,
    parsed: Vec<Parsed>,
    places: HashMap<String, usize>,
}

impl Domains {
    fn add(&mut self, parsed: Parsed, file: &mut File<'_>) {
        let name = parsed.spec.name.clone();
        match self.places.get(&name) {
            None => {
                self.places.insert(name, self.parsed.len());
                self.parsed.push(parsed);
            }
            Some(_) if !self.merge => {
                file.error(parsed.at, format!("duplicate domain '{name}' in config file"));
            }
            Some(&place) => merge(&mut self.parsed[place], parsed, file),
        }
    }
}

/// Adds the top-level descriptors of `more` to a domain of an earlier file.
fn merge(into: &mut Parsed, more: Parsed, file: &mut File<'_>) {
    if let Some((charge, at)) = more.charge {
        match into.charge {
            Some((other, _)) if other != charge => {
                file.error(at, format!("charge differs from the domain's other file {}", into.file));
            }
            _ => file.error_unless(into.spec.charge == charge, at, || {
                format!("charge has to be in the domain's first file {} too", into.file)
            }),
        }
    } else if into.spec.charge != more.spec.charge {
        file.error(
            more.at,
            format!("charge is missing here and set in the domain's other file {}", into.file),
        );
    }
    if more.spec.partition != into.spec.partition {
        file.error(more.at, format!("partition differs from the domain's other file {}", into.file));
    }
    for (composite, at) in more.top_level {
        if into.top_level.iter().any(|(known, _)| *known == composite) {
            let path = format!("{}.{composite}", into.spec.name);
            file.error(at, format!("duplicate descriptor composite key '{path}'"));
        }
        into.top_level.push((composite, at));
    }
    into.spec.descriptors.extend(more.spec.descriptors);
    into.named.extend(more.named);
    into.patterns.extend(more.patterns);
}
