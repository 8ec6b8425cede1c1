//! Writes down what is built: the commit, its day, the profile and the target, for `tollgate --version`.
//!
//! Two builds of one commit are equal: the day is that of `SOURCE_DATE_EPOCH` or of the commit, never today's.

use std::env;
use std::path::Path;
use std::process::Command;

const UNKNOWN: &str = "unknown";
const SECONDS_PER_DAY: u64 = 86_400;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for name in ["TOLLGATE_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    // HEAD moves with a checkout, its log with a commit
    for name in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    let given = env::var("TOLLGATE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(|| git(&["rev-parse", "--short=12", "HEAD"]));
    say("TOLLGATE_BUILD_COMMIT", commit.as_deref().unwrap_or(UNKNOWN));
    let seconds = env::var("SOURCE_DATE_EPOCH").ok().or_else(|| git(&["log", "-1", "--format=%ct"]));
    let day = seconds.and_then(|seconds| seconds.parse().ok()).map(day);
    say("TOLLGATE_BUILD_DAY", day.as_deref().unwrap_or(UNKNOWN));
    for (name, from) in [("TOLLGATE_BUILD_PROFILE", "PROFILE"), ("TOLLGATE_BUILD_TARGET", "TARGET")] {
        say(name, env::var(from).as_deref().unwrap_or(UNKNOWN));
    }
}

fn say(name: &str, value: &str) {
    println!("cargo::rustc-env={name}={}", value.lines().next().unwrap_or(UNKNOWN));
}

/// What git answers about the folder of this package; `None` without git or outside of a clone.
fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    Some(text).filter(|text| !text.is_empty())
}

/// The day of a Unix time as `YYYY-MM-DD` (Howard Hinnant, "chrono-compatible low-level date algorithms").
fn day(seconds: u64) -> String {
    let days = seconds / SECONDS_PER_DAY + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}
