//! Where the rules are, and what has to be watched to see them change.

use std::path::{Path, PathBuf};

use super::rules::{DirOptions, Options, Problem, Source, read_dir};
use super::settings::{Effective, Rules, RulesLocation, RulesSource, Runtime};

/// The example rules, relative to the folder of the sources.
const EXAMPLE: &str = "server/config/rules";

/// A folder of rules files and how it is read.
#[derive(Clone, Debug)]
pub struct Location {
    /// The folder.
    pub dir: PathBuf,
    /// Which of its files count.
    pub filter: DirOptions,
    /// How their texts are read.
    pub options: Options,
    /// The folder in which the root itself may be swapped for another (`RUNTIME_WATCH_ROOT`).
    pub swapped_in: Option<PathBuf>,
}

impl Location {
    /// The folder that the settings name.
    ///
    /// # Errors
    /// No folder is named and the example is not here, or the folder cannot be read.
    pub fn of(effective: &Effective) -> Result<Location, String> {
        let options = options(&effective.settings.rules);
        let max_file_bytes = effective.settings.rules.max_file_bytes;
        if options.resources {
            return Ok(Location::nowhere(options));
        }
        match effective.rules_location() {
            RulesLocation::Directory(dir) => Location::folder(&dir, options, max_file_bytes),
            RulesLocation::Runtime(runtime) => Location::runtime(&runtime, options, max_file_bytes),
            RulesLocation::Example if Path::new(EXAMPLE).is_dir() => {
                Location::folder(Path::new(EXAMPLE), options, max_file_bytes)
            }
            RulesLocation::Example => {
                Err("no rules folder is set: use --config DIR (or RUNTIME_ROOT and its family)".to_owned())
            }
        }
    }

    /// A folder of our own kind: read below, dot files (a ConfigMap's `..data`) skipped.
    ///
    /// # Errors
    /// It is no folder that can be read.
    pub fn folder(dir: &Path, options: Options, max_file_bytes: u64) -> Result<Location, String> {
        let filter = DirOptions {
            ignore_dot_files: true,
            app_prefix: None,
            only_yaml: options.ignore_non_yaml,
            max_file_bytes,
        };
        Location { dir: dir.to_path_buf(), filter, options, swapped_in: None }.checked()
    }

    /// No folder: the rules come from a management server.
    fn nowhere(options: Options) -> Location {
        let filter = DirOptions {
            ignore_dot_files: true,
            app_prefix: None,
            only_yaml: options.ignore_non_yaml,
            max_file_bytes: 0,
        };
        Location { dir: PathBuf::new(), filter, options, swapped_in: None }
    }

    /// The reference's layout, with its two ways to watch.
    fn runtime(runtime: &Runtime, options: Options, max_file_bytes: u64) -> Result<Location, String> {
        let below = runtime.root.join(&runtime.subdirectory);
        let (ignore_dot_files, only_yaml) = (runtime.ignore_dot_files, options.ignore_non_yaml);
        if !runtime.watch_root {
            let dir = below.join(&runtime.appdirectory);
            let filter = DirOptions { ignore_dot_files, app_prefix: None, only_yaml, max_file_bytes };
            return Location { swapped_in: None, dir, filter, options }.checked();
        }
        let prefix = runtime.appdirectory.to_string_lossy().replace('/', ".");
        let parent = runtime.root.parent().filter(|parent| !parent.as_os_str().is_empty());
        let swapped_in = Some(parent.unwrap_or(Path::new(".")).to_path_buf());
        let filter = DirOptions { ignore_dot_files, app_prefix: Some(prefix), only_yaml, max_file_bytes };
        Location { dir: below, filter, options, swapped_in }.checked()
    }

    fn checked(self) -> Result<Location, String> {
        match std::fs::read_dir(&self.dir) {
            Ok(_) => Ok(self),
            Err(error) => Err(format!("cannot read the rules folder {}: {error}", self.dir.display())),
        }
    }

    /// Reads every file that counts, sorted by path.
    ///
    /// # Errors
    /// Every file that cannot be read.
    pub fn read(&self) -> Result<Vec<Source>, Vec<Problem>> {
        read_dir(&self.dir, &self.filter)
    }
}

/// How rules are read, by the settings.
#[must_use]
pub fn options(rules: &Rules) -> Options {
    Options {
        merge_domains: rules.merge_domains,
        strict: rules.strict,
        ignore_non_yaml: rules.ignore_non_yaml,
        resources: rules.source == RulesSource::Xds,
    }
}
