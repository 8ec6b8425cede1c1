//! What this program is: its version, and what it was built from.

/// The git commit, twelve digits, or what `TOLLGATE_COMMIT` said when this was built; `unknown` without both.
pub const COMMIT: &str = env!("TOLLGATE_BUILD_COMMIT");

/// Version, commit, day of the commit (or of `SOURCE_DATE_EPOCH`), profile and target.
pub const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("TOLLGATE_BUILD_COMMIT"),
    " of ",
    env!("TOLLGATE_BUILD_DAY"),
    ", ",
    env!("TOLLGATE_BUILD_PROFILE"),
    ", ",
    env!("TOLLGATE_BUILD_TARGET"),
    ")"
);
