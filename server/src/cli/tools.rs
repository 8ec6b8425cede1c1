//! Flags of the commands that try rules out.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How `check` shows problems.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// A line each, for people.
    #[default]
    Text,
    /// One object, for programs.
    Json,
    /// Annotations of GitHub Actions.
    Github,
}

/// How `test` shows results.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum TestFormat {
    /// A line each, for people.
    #[default]
    Text,
    /// JUnit XML, for CI servers.
    Junit,
}

/// Flags of `test`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct TestArgs {
    /// Files of tests
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Folder of rules files [default: what each file says under rules]
    #[arg(long, value_name = "DIR")]
    pub rules: Option<PathBuf>,
    /// Merge the files of one domain
    #[arg(long)]
    pub merge_domains: bool,
    /// How results are shown
    #[arg(long, value_enum, default_value_t = TestFormat::Text)]
    pub format: TestFormat,
}

/// Flags of `replay`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct ReplayArgs {
    /// Logs: JSON lines, or Envoy's access log as text or JSON; gzip is unpacked, - is standard input
    #[arg(value_name = "LOG", required = true)]
    pub logs: Vec<PathBuf>,
    /// Folder of the rules in force
    #[arg(long, value_name = "DIR")]
    pub rules: PathBuf,
    /// Folder of the proposed rules
    #[arg(long, value_name = "DIR")]
    pub proposed: Option<PathBuf>,
    /// Domain of lines that name none, such as those of access logs
    #[arg(long, value_name = "NAME")]
    pub domain: Option<String>,
    /// A descriptor of each line of an access log; can be repeated [default: section auth of the settings]
    #[arg(long, value_name = "KEY=SOURCE,…")]
    pub map: Vec<String>,
    /// Settings file with a section auth
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// How far apart lines that stand in the wrong order may be
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    pub window: String,
    /// Length of a row of the table by time [default: as short as 120 rows allow]
    #[arg(long, value_name = "DURATION")]
    pub bucket: Option<String>,
    /// How many keys are shown
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub top: usize,
    /// Merge the files of one domain
    #[arg(long)]
    pub merge_domains: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Draw requests and refusals over time as SVG
    #[arg(long, value_name = "FILE")]
    pub plot: Option<PathBuf>,
}
