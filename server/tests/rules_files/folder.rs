//! Which files of a folder are read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use tollgate_server::config::rules::{DirOptions, Options, read_dir};

use super::{load, shown};

/// A folder with these files, each with its own path for a text.
fn folder(files: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for file in files {
        let path = dir.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file).unwrap();
    }
    dir
}

fn all() -> DirOptions {
    DirOptions { ignore_dot_files: false, app_prefix: None, only_yaml: false, max_file_bytes: 1000 }
}

fn below(prefix: &str) -> DirOptions {
    DirOptions { app_prefix: Some(prefix.to_owned()), ..all() }
}

fn no_dots() -> DirOptions {
    DirOptions { ignore_dot_files: true, ..all() }
}

fn names(dir: &Path, options: &DirOptions) -> Vec<String> {
    match read_dir(dir, options) {
        Ok(sources) => sources.into_iter().map(|source| source.name).collect(),
        Err(problems) => panic!("{:?}", shown(&problems)),
    }
}

fn problems(dir: &Path, options: &DirOptions) -> Vec<String> {
    match read_dir(dir, options) {
        Ok(sources) => panic!("{sources:?}"),
        Err(problems) => shown(&problems),
    }
}

#[test]
fn with_only_yaml_other_files_are_not_even_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.yaml"), "domain: a").unwrap();
    fs::write(folder.path().join("huge.bin"), "x".repeat(2_000)).unwrap();
    assert!(read_dir(folder.path(), &all()).is_err());
    let found = read_dir(folder.path(), &DirOptions { only_yaml: true, ..all() }).unwrap();
    assert_eq!(found.iter().map(|source| source.name.as_str()).collect::<Vec<_>>(), ["a.yaml"]);
}

#[test]
fn every_file_counts_sorted_by_path() {
    let dir = folder(&["b.yaml", "a.txt", "c/d/e.yaml", "c/b", ".hidden", ".git/config", "c/.x", "Z"]);
    assert_eq!(
        names(dir.path(), &all()),
        [".git/config", ".hidden", "Z", "a.txt", "b.yaml", "c/.x", "c/b", "c/d/e.yaml"]
    );
    assert_eq!(names(dir.path(), &no_dots()), ["Z", "a.txt", "b.yaml", "c/b", "c/d/e.yaml"]);
    let sources = read_dir(dir.path(), &no_dots()).unwrap();
    assert!(sources.iter().all(|source| source.bytes == source.name.as_bytes()));
    assert_eq!(names(folder(&[]).path(), &all()), [""; 0]);
}

#[test]
fn with_a_prefix_the_dotted_path_counts() {
    let dir = folder(
        &[
            "config/a.yaml",
            "config/deep/x/noext",
            "config.top.yaml",
            "config",
            "configx/a.yaml",
            "other/config/a.yaml",
            "a.yaml",
            "config.d/b.yaml",
            ".config/c.yaml",
        ]
        .iter()
        .filter(|name| **name != "config")
        .copied()
        .collect::<Vec<_>>(),
    );
    let expected = ["config.d/b.yaml", "config.top.yaml", "config/a.yaml", "config/deep/x/noext"];
    assert_eq!(names(dir.path(), &below("config")), expected);
    assert_eq!(names(dir.path(), &below("config.deep")), ["config/deep/x/noext"]);
    assert_eq!(names(dir.path(), &below("conf")), [""; 0]);
}

#[test]
fn with_a_prefix_nothing_else_is_touched() {
    let dir = folder(&["config/a.yaml"]);
    symlink("nowhere", dir.path().join("broken")).unwrap();
    symlink(".", dir.path().join("loop")).unwrap();
    assert_eq!(names(dir.path(), &below("config")), ["config/a.yaml"]);
    fs::remove_dir_all(dir.path().join("config")).unwrap();
    symlink("nowhere", dir.path().join("config")).unwrap();
    assert_eq!(problems(dir.path(), &below("config")).len(), 1, "the folder itself is gone");
}

#[test]
fn a_mounted_config_map_is_seen_once_without_dot_files() {
    let dir = folder(&["..2026_01_01/a.yaml", "..2026_01_01/b.yaml"]);
    symlink("..2026_01_01", dir.path().join("..data")).unwrap();
    for file in ["a.yaml", "b.yaml"] {
        fs::write(dir.path().join("..2026_01_01").join(file), format!("domain: {file}\n")).unwrap();
        symlink(format!("..data/{file}"), dir.path().join(file)).unwrap();
    }
    assert_eq!(names(dir.path(), &no_dots()), ["a.yaml", "b.yaml"]);
    let sources = read_dir(dir.path(), &all()).unwrap();
    assert_eq!(sources.len(), 6);
    assert_eq!(
        load(&sources, &Options::default()).unwrap_err().len(),
        4,
        "duplicate domains, as in the reference"
    );
}

#[test]
fn links_that_lead_nowhere_or_back_are_reported_and_the_others_too() {
    let dir = folder(&["a.yaml", "sub/b.yaml"]);
    symlink("nowhere", dir.path().join("dangling.yaml")).unwrap();
    symlink("self.yaml", dir.path().join("self.yaml")).unwrap();
    symlink("..", dir.path().join("sub/up")).unwrap();
    symlink("../sub", dir.path().join("sub/again")).unwrap();
    let found = problems(dir.path(), &all());
    let mut begins = ["dangling.yaml: cannot read the file: ", "self.yaml: cannot read the file: "].to_vec();
    begins.extend(["sub/again: the folder contains itself", "sub/up: the folder contains itself"]);
    assert_eq!(found.len(), 4, "{found:?}");
    for (found, begin) in found.iter().zip(begins) {
        assert!(found.starts_with(begin), "{found}");
    }
}

#[test]
fn a_link_to_a_folder_or_a_file_is_followed() {
    let dir = folder(&["a.yaml"]);
    let other = folder(&["x/b.yaml", "c.yaml"]);
    symlink(other.path().join("x"), dir.path().join("linked")).unwrap();
    symlink(other.path().join("c.yaml"), dir.path().join("d.yaml")).unwrap();
    assert_eq!(names(dir.path(), &all()), ["a.yaml", "d.yaml", "linked/b.yaml"]);
}

#[test]
fn many_ways_to_one_folder_end() {
    let dir = folder(&[]);
    for level in 0..24 {
        let folder = dir.path().join(format!("f{level}"));
        fs::create_dir(&folder).unwrap();
        for way in ["x", "y"] {
            symlink(format!("../f{}", level + 1), folder.join(way)).unwrap();
        }
    }
    fs::create_dir(dir.path().join("f24")).unwrap();
    let found = problems(&dir.path().join("f0"), &all());
    assert_eq!(found, ["more than 10000 folders"]);
}

#[test]
fn what_is_no_file_is_not_opened() {
    let dir = folder(&["a.yaml"]);
    let made = Command::new("mkfifo").arg(dir.path().join("pipe.yaml")).status().unwrap();
    assert!(made.success());
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("sock")).unwrap();
    symlink("/dev/zero", dir.path().join("zero")).unwrap();
    let found = problems(dir.path(), &all());
    let expected = ["pipe.yaml", "sock", "zero"].map(|name| format!("{name}: not a regular file"));
    assert_eq!(found, expected);
    assert_eq!(names(dir.path(), &below("a")), ["a.yaml"]);
}

#[test]
fn a_large_file_is_an_error_that_names_the_sizes() {
    let dir = folder(&["small.yaml"]);
    fs::write(dir.path().join("large.yaml"), vec![b'#'; 10 << 20]).unwrap();
    fs::write(dir.path().join("edge.yaml"), vec![b'#'; 1000]).unwrap();
    fs::write(dir.path().join("over.yaml"), vec![b'#'; 1001]).unwrap();
    assert_eq!(
        problems(dir.path(), &all()),
        [
            "large.yaml: has 10485760 bytes, more than the 1000 that are read",
            "over.yaml: has 1001 bytes, more than the 1000 that are read",
        ]
    );
}

#[test]
fn a_folder_that_is_not_there_is_an_error() {
    let dir = folder(&["file"]);
    for name in ["missing", "file"] {
        let found = problems(&dir.path().join(name), &all());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("cannot read the folder: "), "{found:?}");
    }
}

#[test]
fn a_name_that_is_no_utf_8_does_not_stop_the_others() {
    use std::os::unix::ffi::OsStrExt;
    let dir = folder(&["a.yaml"]);
    fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"b\xff.yaml")), "x").unwrap();
    assert_eq!(names(dir.path(), &all()), ["a.yaml", "b\u{fffd}.yaml"]);
}
