//! Which files of a folder count, and their texts.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Problem, Source, is_yaml};

/// Folders below folders that are followed; more is a loop of symlinks.
const MAX_DEPTH: usize = 32;
/// Folders that are read: symlinks may lead to each one along many ways.
const MAX_FOLDERS: usize = 10_000;

/// Which files count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DirOptions {
    /// Names that begin with a dot are skipped, folders too (`RUNTIME_IGNOREDOTFILES`). A mounted ConfigMap
    /// shows every file twice without it.
    pub ignore_dot_files: bool,
    /// Only files whose path, dots for slashes, begins with this and a dot (`RUNTIME_WATCH_ROOT`).
    pub app_prefix: Option<String>,
    /// Only files that end in `.yaml` or `.yml`.
    pub only_yaml: bool,
    /// A larger file is an error.
    pub max_file_bytes: u64,
}

/// Reads every file below `dir` that counts, sorted by path. Symlinks are followed.
///
/// # Errors
/// Every file or folder that cannot be read.
pub fn read_dir(dir: &Path, options: &DirOptions) -> Result<Vec<Source>, Vec<Problem>> {
    let mut walk =
        Walk { options, sources: Vec::new(), problems: Vec::new(), above: HashSet::new(), folders: 0 };
    walk.folder(dir, "", 0);
    walk.sources.sort_by(|one, two| one.name.cmp(&two.name));
    walk.problems.sort_by(|one, two| one.file.cmp(&two.file));
    if walk.folders > MAX_FOLDERS {
        walk.problem("", &format!("more than {MAX_FOLDERS} folders"));
    }
    if walk.problems.is_empty() { Ok(walk.sources) } else { Err(walk.problems) }
}

struct Walk<'o> {
    options: &'o DirOptions,
    sources: Vec<Source>,
    problems: Vec<Problem>,
    /// The real paths of the folders that are being read.
    above: HashSet<PathBuf>,
    folders: usize,
}

impl Walk<'_> {
    fn folder(&mut self, folder: &Path, below: &str, depth: usize) {
        self.folders += 1;
        if self.folders > MAX_FOLDERS {
            return;
        }
        let (real, entries) =
            match fs::canonicalize(folder).and_then(|real| Ok((real, fs::read_dir(folder)?))) {
                Ok(found) => found,
                Err(error) => return self.problem(below, &format!("cannot read the folder: {error}")),
            };
        if depth > MAX_DEPTH || !self.above.insert(real.clone()) {
            return self.problem(below, "the folder contains itself through a symlink");
        }
        for entry in entries {
            match entry {
                Ok(entry) => self.entry(&entry.path(), &entry.file_name().to_string_lossy(), below, depth),
                Err(error) => self.problem(below, &format!("cannot read the folder: {error}")),
            }
        }
        self.above.remove(&real);
    }

    fn entry(&mut self, path: &Path, name: &str, below: &str, depth: usize) {
        if self.options.ignore_dot_files && name.starts_with('.') {
            return;
        }
        let name = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
        match fs::metadata(path) {
            _ if !self.may_count(&name) => {}
            Err(error) => self.problem(&name, &format!("cannot read the file: {error}")),
            Ok(found) if found.is_dir() => self.folder(path, &name, depth + 1),
            Ok(_) if !self.counts(&name) || (self.options.only_yaml && !is_yaml(&name)) => {}
            Ok(found) if !found.is_file() => self.problem(&name, "not a regular file"),
            Ok(found) if found.len() > self.options.max_file_bytes => {
                let most = self.options.max_file_bytes;
                self.problem(
                    &name,
                    &format!("has {} bytes, more than the {most} that are read", found.len()),
                );
            }
            Ok(_) => match fs::read(path) {
                Ok(bytes) => self.sources.push(Source { name, bytes }),
                Err(error) => self.problem(&name, &format!("cannot read the file: {error}")),
            },
        }
    }

    /// Whether it counts, or a file below it would.
    fn may_count(&self, name: &str) -> bool {
        self.counts(name)
            || self.options.app_prefix.as_ref().is_some_and(|prefix| {
                let below = format!("{}.", name.replace('/', "."));
                format!("{prefix}.").starts_with(&below)
            })
    }

    fn counts(&self, name: &str) -> bool {
        self.options.app_prefix.as_ref().is_none_or(|prefix| {
            let dotted = name.replace('/', ".");
            dotted.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('.'))
        })
    }

    fn problem(&mut self, name: &str, text: &str) {
        self.problems.push(Problem::of_file(name, text.to_owned()));
    }
}
