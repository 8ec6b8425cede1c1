//! Section `[rules]`: where the rules are, and how strictly they are read.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::origin::Origins;
use super::text::optional_path;

/// `[rules]`
#[expect(clippy::struct_excessive_bools, reason = "each is an independent switch of the operator")]
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rules {
    /// `files`, or `xds`: from the management server of section `[xds]`; `files`. `CONFIG_TYPE`
    pub source: RulesSource,
    /// Folder of rules files, empty; wins over `rules.runtime`. Dot files are ignored, changes are followed.
    /// Flag `--config`
    #[serde(with = "optional_path")]
    pub dir: Option<PathBuf>,
    /// The reference's way to name the folder; used when `dir` is empty.
    pub runtime: Runtime,
    /// Files of one domain are merged rather than refused, `false`. `MERGE_DOMAIN_CONFIG`
    pub merge_domains: bool,
    /// Every warning about the rules is an error, `false`.
    pub strict: bool,
    /// Only `*.yaml` and `*.yml` are read, `false` (the reference reads every file).
    pub ignore_non_yaml: bool,
    /// Largest rules file in bytes, `16777216` (16 MiB).
    pub max_file_bytes: u64,
    /// Ports open before the first rules are loaded, `false`. `FORCE_START_WITHOUT_INITIAL_CONFIG`
    pub start_without: bool,
    /// Healthy only while at least one domain is loaded, `false`. `HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED`
    pub require_for_health: bool,
}

impl Rules {
    /// Where the rules are: `dir`, else `runtime` when any part of it was set, else the example.
    #[must_use]
    pub fn location(&self, origins: &Origins) -> RulesLocation {
        match &self.dir {
            Some(dir) => RulesLocation::Directory(dir.clone()),
            None if origins.any_below("rules.runtime") => RulesLocation::Runtime(self.runtime.clone()),
            None => RulesLocation::Example,
        }
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            source: RulesSource::Files,
            dir: None,
            runtime: Runtime::default(),
            merge_domains: false,
            strict: false,
            ignore_non_yaml: false,
            max_file_bytes: 16 << 20,
            start_without: false,
            require_for_health: false,
        }
    }
}

/// Where rules come from.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RulesSource {
    /// A folder.
    #[default]
    Files,
    /// A management server.
    Xds,
}

/// `[rules.runtime]`: the folder as the reference's `RUNTIME_*` variables name it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// `/srv/runtime_data/current`, usually a symbolic link that is replaced. `RUNTIME_ROOT`
    pub root: PathBuf,
    /// Below `root`, empty. `RUNTIME_SUBDIRECTORY`
    pub subdirectory: PathBuf,
    /// Below that, `config`. `RUNTIME_APPDIRECTORY`
    pub appdirectory: PathBuf,
    /// Rules are read again when `root` is replaced, `true`; `false`: when a file of the folder changes.
    /// `RUNTIME_WATCH_ROOT`
    pub watch_root: bool,
    /// Files and folders whose name begins with a dot are not read, `false`. `RUNTIME_IGNOREDOTFILES`
    pub ignore_dot_files: bool,
}

impl Default for Runtime {
    fn default() -> Runtime {
        Runtime {
            root: PathBuf::from("/srv/runtime_data/current"),
            subdirectory: PathBuf::new(),
            appdirectory: PathBuf::from("config"),
            watch_root: true,
            ignore_dot_files: false,
        }
    }
}

/// Where the rules are, decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum RulesLocation {
    /// This folder: dot files are ignored, changes are followed.
    Directory(PathBuf),
    /// The folder and the watch point that the reference would use.
    Runtime(Runtime),
    /// Nothing was said: the example rules.
    Example,
}
