//! `tollgate schema`: the JSON Schema of rules files, for editors and other linters.

use std::io::Write as _;
use std::process::ExitCode;

/// JSON Schema 2020-12 of one rules file.
const RULES: &str = include_str!("../../config/rules.schema.json");

pub(super) fn schema() -> ExitCode {
    // a reader that has seen enough closes the pipe
    let _ = std::io::stdout().write_all(RULES.as_bytes());
    ExitCode::SUCCESS
}
