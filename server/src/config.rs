//! Configuration: settings of the process, rules of the limits, and keeping the rules fresh.

pub mod compile;
pub mod location;
pub mod rules;
pub mod ruleset;
pub mod settings;
pub mod watch;
pub mod yaml;
