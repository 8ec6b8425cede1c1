//! What a management server's client counts.

use super::Metrics;
use crate::xds::XdsReading;

/// Reads the counts.
pub(super) type Read = Box<dyn Fn() -> XdsReading + Send + Sync>;

impl Metrics {
    /// Shows from now on what `read` says of the management server; the first one stays.
    pub fn watch_xds(&self, read: impl Fn() -> XdsReading + Send + Sync + 'static) {
        let _first_stays = self.counts.watched.xds.set(Box::new(read));
    }
}
