//! Rules files as an operator writes them: the reference's dialect and errors, our extensions, bad input, folders.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

#[path = "rules_files/charge.rs"]
mod charge;
#[path = "rules_files/dialect.rs"]
mod dialect;
#[path = "rules_files/errors.rs"]
mod errors;
#[path = "rules_files/extensions.rs"]
mod extensions;
#[path = "rules_files/files.rs"]
mod files;
#[path = "rules_files/folder.rs"]
mod folder;
#[path = "rules_files/hostile.rs"]
mod hostile;
#[path = "rules_files/layout.rs"]
mod layout;
#[path = "rules_files/merges.rs"]
mod merges;
#[path = "rules_files/overload.rs"]
mod overload;
#[path = "rules_files/properties.rs"]
mod properties;
#[path = "rules_files/shipped.rs"]
mod shipped;
#[path = "rules_files/warnings.rs"]
mod warnings;

use tollgate_core::rules::{DescriptorSpec, DomainSpec, Layout, RuleSpec};
use tollgate_server::config::rules::{self, Loaded, Options, Problem, Source};

fn source(name: &str, text: impl Into<Vec<u8>>) -> Source {
    Source { name: name.to_owned(), bytes: text.into() }
}

fn load(sources: &[Source], options: &Options) -> Result<Loaded, Vec<Problem>> {
    rules::load(sources, options, Layout::Tollgate)
}

fn load_one(text: impl Into<Vec<u8>>) -> Result<Loaded, Vec<Problem>> {
    load(&[source("a.yaml", text)], &Options::default())
}

fn shown(problems: &[Problem]) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

/// The only domain of `text`, which loads without a warning.
fn sound(text: &str) -> DomainSpec {
    let (domain, warnings) = loaded(text);
    assert!(warnings.is_empty(), "{text}\n{warnings:?}");
    domain
}

/// The only domain of `text`, and its warnings.
fn loaded(text: &str) -> (DomainSpec, Vec<String>) {
    match load_one(text) {
        Ok(mut loaded) => {
            assert_eq!(loaded.domains.len(), 1, "{text}");
            (loaded.domains.remove(0), shown(&loaded.warnings))
        }
        Err(errors) => panic!("{text}\n{:?}", shown(&errors)),
    }
}

/// The errors of `text`, as a person sees them.
fn errors_of(text: impl Into<Vec<u8>>) -> Vec<String> {
    load_one(text).map_or_else(|errors| shown(&errors), |_| Vec::new())
}

/// The only descriptor of a file with these lines under its first `- key: k`.
fn descriptor(lines: &str) -> DescriptorSpec {
    sound(&with_descriptor(lines)).descriptors.remove(0)
}

/// The `rate_limit` of a file with these fields, in flow style, in it.
fn rule(fields: &str) -> RuleSpec {
    match descriptor(&format!("rate_limit: {{{fields}}}")).rule {
        Some(rule) => rule,
        None => panic!("{fields}: no rule"),
    }
}

/// The errors of a file with these fields in its `rate_limit`; the first one stands in column 18 of line 4.
fn rule_errors(fields: &str) -> Vec<String> {
    errors_of(with_descriptor(&format!("rate_limit: {{{fields}}}")))
}

/// A file of which `lines`, indented, stand from line 4, column 5 on.
fn with_descriptor(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|line| format!("    {line}")).collect();
    format!("domain: d\ndescriptors:\n  - key: k\n{}\n", lines.join("\n"))
}
