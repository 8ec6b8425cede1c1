//! The layout holds: who may name whom, how long a file may be, which crates may be in the graph.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::{Path, PathBuf};

/// A folder (or file) and what nothing in it may name.
const FORBIDDEN: [(&str, &[&str]); 9] = [
    (
        "core/src",
        &["tokio", "tonic", "redis", "tracing", "hyper", "axum", "std::fs", "std::net", "std::thread"],
    ),
    ("core/src", &["SystemTime", "Instant", "async fn", ".await", "println!"]),
    ("server/src/adapter", &["redis::", "moka", "dashmap", "crate::store", "crate::transport", "crate::app"]),
    // it is asked by adapters and transport, and read by config: it may know none of them
    (
        "server/src/access.rs",
        &["tonic", "hyper", "axum", "crate::adapter", "crate::transport", "crate::config", "crate::engine"],
    ),
    ("server/src/store", &["tonic", "prost", "axum", "hyper", "crate::adapter", "crate::engine"]),
    ("server/src/engine.rs", &["tonic", "prost", "axum", "redis::", "dashmap", "crate::adapter"]),
    ("server/src/config", &["tonic::", "axum", "crate::adapter", "crate::transport", "crate::app"]),
    ("server/src/transport", &["crate::store", "crate::config", "crate::engine", "crate::app"]),
    ("server/src/telemetry", &["crate::adapter", "crate::transport", "crate::app"]),
];

const MAX_LINES: usize = 400;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every file below `folder` (or `folder` itself) with one of `endings`.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    if folder.is_file() {
        return vec![folder.to_path_buf()];
    }
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if path.is_dir() && !hidden && entry.file_name() != "target" {
            found.extend(files(&path, endings));
        } else if path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known)) {
            found.push(path);
        }
    }
    found
}

/// The code of a file: without comments, and without the tests at its end.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn nobody_names_what_is_not_theirs() {
    let mut broken = Vec::new();
    for (folder, words) in FORBIDDEN {
        let found = files(&root().join(folder), &["rs"]);
        assert!(!found.is_empty(), "{folder} is gone: mend this test");
        for file in found {
            let code = code(&fs::read_to_string(&file).unwrap());
            let named = words.iter().filter(|word| code.contains(**word));
            broken.extend(named.map(|word| format!("{} names {word}", file.display())));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_file_is_longer_than_its_subject_needs() {
    let long: Vec<String> = files(&root(), &["rs", "lua", "py", "sh"])
        .into_iter()
        .map(|file| (fs::read_to_string(&file).unwrap().lines().count(), file))
        .filter(|(lines, _)| *lines > MAX_LINES)
        .map(|(lines, file)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn only_clock_reads_the_clock() {
    for file in files(&root().join("server/src"), &["rs"]) {
        let code = code(&fs::read_to_string(&file).unwrap());
        let reads = code.contains("SystemTime::now") || code.contains("std::time::Instant");
        assert!(!reads || file.ends_with("clock.rs"), "{} reads a clock", file.display());
    }
}

#[test]
fn at_most_one_tls_provider_is_in_the_graph_and_it_is_ring() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).unwrap();
    for provider in ["aws-lc-rs", "aws-lc-sys", "openssl", "openssl-sys", "native-tls"] {
        assert!(!lock.contains(&format!("name = \"{provider}\"\n")), "{provider} is in Cargo.lock");
    }
}

#[test]
fn core_depends_on_no_runtime() {
    let manifest = fs::read_to_string(root().join("core/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    let names: Vec<&str> = dependencies.lines().filter_map(|line| line.split(['.', ' ']).next()).collect();
    let known = ["", "blake3", "foldhash", "jiff", "smallvec", "thiserror"];
    assert!(names.iter().all(|name| known.contains(name)), "new dependency of core: {names:?}");
}
