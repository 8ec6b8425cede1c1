//! What processes have used, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// CPU time of all threads that a process has had until now, user and system, in steps of 10 ms.
///
/// # Errors
/// There is no such process, or no `/proc`.
pub fn cpu(pid: u32) -> Result<Duration> {
    let file = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    ticks(&text).map(|ticks| Duration::from_millis(ticks * 10)).with_context(|| format!("{file}: {text:?}"))
}

/// CPU time of this process.
///
/// # Errors
/// As [`cpu`].
pub fn own() -> Result<Duration> {
    cpu(std::process::id())
}

/// Resident memory of a process, bytes.
///
/// # Errors
/// As [`cpu`].
pub fn resident(pid: u32) -> Result<u64> {
    let file = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&file).with_context(|| format!("cannot read {file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib * 1024).with_context(|| format!("{file} has no VmRSS"))
}

/// Fields 14 and 15; the name in field 2 may hold spaces and brackets.
fn ticks(stat: &str) -> Option<u64> {
    let rest = &stat[stat.rfind(')')? + 1..];
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_shift_fields() {
        assert_eq!(ticks("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20"), Some(300));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn this_process_uses_something() {
        assert!(resident(std::process::id()).is_ok_and(|bytes| bytes > 100_000));
        assert!(own().is_ok());
    }
}
