//! The command line: what can be typed. What the commands do is elsewhere.

mod tools;

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

pub use self::tools::{Format, ReplayArgs, TestArgs, TestFormat};
use crate::config::settings::Flags;
use crate::version::VERSION;

/// Distributed rate limiter, drop-in for envoyproxy/ratelimit.
#[derive(Clone, Debug, Parser)]
#[command(name = "tollgate", version = VERSION, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: SettingsArgs,
}

impl Cli {
    /// The command that was given; `serve` when none was.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command.unwrap_or(Command::Serve(self.serve))
    }
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Answer requests (the default)
    Serve(SettingsArgs),
    /// Check a folder of rules: errors and warnings, and an exit code
    Check(CheckArgs),
    /// Show which limits a request would meet, and why
    Explain(ExplainArgs),
    /// Print the settings in effect, and who set each
    Config(SettingsArgs),
    /// Watch a running server: refused keys, rules, breakers, the store
    Top(TopArgs),
    /// Ask a running server whether it serves: an exit code
    Health(HealthArgs),
    /// Run files of requests with the decisions they should get, on a virtual clock
    Test(TestArgs),
    /// Decide the requests of a traffic log again: by the rules in force and by proposed ones
    Replay(ReplayArgs),
    /// Print the JSON Schema of rules files, for editors
    Schema,
}

/// Flags of `health`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct HealthArgs {
    /// Where the server's gRPC port is, HOST:PORT or unix:PATH [default: grpc.host and grpc.port of the settings]
    #[arg(long, value_name = "ADDRESS")]
    pub addr: Option<String>,
    /// gRPC service to ask about; "" serves as long as the process lives
    #[arg(long, value_name = "NAME", default_value = "ratelimit")]
    pub service: String,
    /// Longest time for the answer
    #[arg(long, value_name = "DURATION", default_value = "3s")]
    pub timeout: String,
    /// How the server is set up
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// Flags that set settings: of `serve` and `config`. All values are texts, so that everything that is wrong is
/// reported at once, with the other layers.
#[derive(Args, Clone, Debug, Default, Eq, PartialEq)]
pub struct SettingsArgs {
    /// Folder of rules files (rules.dir)
    #[arg(long, value_name = "DIR")]
    pub config: Option<String>,
    /// Settings file, .toml or .yaml [default: tollgate.toml or .yaml, if present] [env: TOLLGATE_SETTINGS]
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// memory or redis (store.kind)
    #[arg(long, value_name = "STORE")]
    pub store: Option<String>,
    /// Port for gRPC; 0 lets the system choose (grpc.port)
    #[arg(long, value_name = "PORT")]
    pub grpc_port: Option<String>,
    /// Port for HTTP; 0 lets the system choose (http.port)
    #[arg(long, value_name = "PORT")]
    pub http_port: Option<String>,
    /// Port for metrics and operators; 0 lets the system choose (admin.port)
    #[arg(long, value_name = "PORT")]
    pub admin_port: Option<String>,
    /// Address for gRPC and HTTP (grpc.host, http.host); the admin port keeps its own
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// error, warn, info, debug or trace (log.level)
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Any setting; can be repeated, and the last one wins
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

impl SettingsArgs {
    /// The strongest layer of the settings. A flag of its own is stronger than `--set`.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let mut flags = self.set.iter().fold(Flags::new(), |flags, set| flags.with_assignment(set));
        if let Some(file) = &self.settings {
            flags = flags.with_settings_file(file);
        }
        let own = [
            ("--config", "rules.dir", &self.config),
            ("--store", "store.kind", &self.store),
            ("--grpc-port", "grpc.port", &self.grpc_port),
            ("--http-port", "http.port", &self.http_port),
            ("--admin-port", "admin.port", &self.admin_port),
            ("--host", "grpc.host", &self.host),
            ("--host", "http.host", &self.host),
            ("--log-level", "log.level", &self.log_level),
        ];
        for (flag, key, text) in own {
            if let Some(text) = text {
                flags = flags.with_value(flag, key, text);
            }
        }
        flags
    }
}

/// Flags of `check`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct CheckArgs {
    /// Folder of rules files
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Every warning is an error
    #[arg(long)]
    pub strict: bool,
    /// Merge the files of one domain
    #[arg(long)]
    pub merge_domains: bool,
    /// Read only *.yaml and *.yml
    #[arg(long)]
    pub ignore_non_yaml: bool,
    /// How problems are shown
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Flags of `top`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct TopArgs {
    /// Admin port of the server
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:6070")]
    pub admin: String,
    /// Print once, and end
    #[arg(long)]
    pub once: bool,
    /// Print everything once as JSON
    #[arg(long)]
    pub json: bool,
    /// Most rows of each table
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub rows: usize,
}

/// Flags of `explain`.
#[derive(Args, Clone, Debug, Eq, PartialEq)]
pub struct ExplainArgs {
    /// Folder of rules files
    #[arg(value_name = "DIR")]
    pub dir: PathBuf,
    /// Domain of the request
    #[arg(long, value_name = "NAME")]
    pub domain: String,
    /// Entries of one descriptor, in order
    #[arg(value_name = "KEY=VALUE", required_unless_present = "descriptor")]
    pub entries: Vec<Entry>,
    /// A further descriptor, "key=value,key=value"; can be repeated
    #[arg(long, value_name = "ENTRIES")]
    pub descriptor: Vec<Descriptor>,
    /// Hits that the request adds; 0 only looks
    #[arg(long, value_name = "N")]
    pub hits: Option<u64>,
    /// Merge the files of one domain
    #[arg(long)]
    pub merge_domains: bool,
    /// Read only *.yaml and *.yml
    #[arg(long)]
    pub ignore_non_yaml: bool,
}

impl ExplainArgs {
    /// The descriptors of the request: the one of single entries first.
    #[must_use]
    pub fn descriptors(&self) -> Vec<Descriptor> {
        let first = Some(Descriptor(self.entries.clone())).filter(|descriptor| !descriptor.0.is_empty());
        first.into_iter().chain(self.descriptor.iter().cloned()).collect()
    }
}

/// `key=value`; the value may be empty and may hold `=`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// Before the first `=`.
    pub key: String,
    /// After it.
    pub value: String,
}

impl FromStr for Entry {
    type Err = String;

    fn from_str(text: &str) -> Result<Entry, String> {
        match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => {
                Ok(Entry { key: key.to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("{text:?} is not key=value")),
        }
    }
}

/// `key=value,key=value`; for a value with a comma, give the entries one by one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Descriptor(pub Vec<Entry>);

impl FromStr for Descriptor {
    type Err = String;

    fn from_str(text: &str) -> Result<Descriptor, String> {
        text.split(',').map(Entry::from_str).collect::<Result<_, _>>().map(Descriptor)
    }
}
