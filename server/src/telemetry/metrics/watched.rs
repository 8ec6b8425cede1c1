//! What is read from other parts of the server whenever the page is made.

use std::sync::Arc;

use super::{Authorities, BreakerSeries, Metrics, PortFigures};
use crate::overload::OverloadFigures;
use crate::store::Store;

impl Metrics {
    /// Shows the usage of `store` from now on; the first one stays.
    pub fn watch_store(&self, store: Arc<dyn Store>) {
        let _first_stays = self.counts.watched.store.set(store);
    }

    /// Shows from now on what `read` says of authorities; the first one stays.
    pub fn watch_authorities(&self, read: impl Fn() -> Authorities + Send + Sync + 'static) {
        let _first_stays = self.counts.watched.authorities.set(Box::new(read));
    }

    /// Shows from now on what `read` says of the ports; the first one stays.
    pub fn watch_ports(&self, read: impl Fn() -> [PortFigures; 3] + Send + Sync + 'static) {
        let _first_stays = self.counts.watched.ports.set(Box::new(read));
    }

    /// Shows from now on what `read` says of circuits; the first one stays.
    pub fn watch_breakers(&self, read: impl Fn() -> BreakerSeries + Send + Sync + 'static) {
        let _first_stays = self.counts.watched.breakers.set(Box::new(read));
    }

    /// Shows from now on what `read` says of overload; the first one stays.
    pub fn watch_overload(&self, read: impl Fn() -> OverloadFigures + Send + Sync + 'static) {
        let _first_stays = self.counts.watched.overload.set(Box::new(read));
    }
}
