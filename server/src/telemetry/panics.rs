//! Panics are faults of this program: each is logged and counted, wherever it happens.

use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static PANICS: AtomicU64 = AtomicU64::new(0);
static WATCHED: Once = Once::new();

/// Logs and counts every panic of the process from now on; what was done about them before is still done.
pub fn watch() {
    WATCHED.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Relaxed);
            let thread = std::thread::current();
            let at = info.location().map(ToString::to_string).unwrap_or_default();
            let why = info.payload_as_str().unwrap_or("no text");
            tracing::error!(thread = thread.name().unwrap_or("unnamed"), at, "panic: {why}");
            before(info);
        }));
    });
}

/// Panics since [`watch`].
#[must_use]
pub fn count() -> u64 {
    PANICS.load(Relaxed)
}
