//! The rules that we ship and show load without a warning; the reference's own style loads unchanged.

use std::path::Path;

use tollgate_core::rules::{Defaults, Matcher};
use tollgate_server::config::rules::{DirOptions, Options, read_dir};

use super::{load, shown, sound};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn loads(dir: &str) -> usize {
    let options =
        DirOptions { ignore_dot_files: true, app_prefix: None, only_yaml: false, max_file_bytes: 1 << 20 };
    let sources = read_dir(&root().join(dir), &options).unwrap();
    let loaded = match load(&sources, &Options { strict: true, ..Options::default() }) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{:?}", shown(&problems)),
    };
    let matcher = Matcher::build(loaded.domains, Defaults::default()).unwrap();
    matcher.rules().len()
}

#[test]
fn the_example_rules() {
    assert!(loads("config/rules") > 5);
}

#[test]
fn rules_written_for_the_reference() {
    assert_eq!(loads("tests/rules"), 16);
}

#[test]
fn the_rules_of_the_readme() {
    let readme = std::fs::read_to_string(root().join("../README.md")).unwrap();
    let blocks: Vec<&str> = readme
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|block| block.starts_with("domain:"))
        .collect();
    assert!(!blocks.is_empty());
    for block in blocks {
        assert!(!sound(block).descriptors.is_empty());
    }
}
