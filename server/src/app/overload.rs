//! What workers do when they have too much to do, as the settings ask for it.

use std::sync::Arc;

use super::Parts;
use super::options::worker_count;
use crate::breaker::Breakers;
use crate::config::settings::{self, Settings};
use crate::overload::{Gate, Overload};
use crate::transport::Warm;
use tollgate_core::time::Span;

/// One gate for each worker; metrics show what they do.
pub(super) fn watched(settings: &Settings, parts: &Parts) -> anyhow::Result<Arc<Overload>> {
    let overload = Arc::new(Overload::new(settings.overload.queue_delay, worker_count(settings))?);
    let shown = overload.clone();
    parts.metrics.watch_overload(move || shown.figures());
    Ok(overload)
}

/// Looks at how late a worker is, beside what else it begins with.
pub(super) fn beside(gate: &Gate, warm: Warm) -> Warm {
    let gate = gate.clone();
    Arc::new(move || {
        let (gate, warm) = (gate.clone(), warm());
        Box::pin(async move {
            tokio::join!(warm, gate.watch());
        })
    })
}

/// Asks clients of fleet breakers for fewer reports while checks are shed, for as long as it is polled.
pub(super) async fn spare(settings: settings::Overload, overload: Arc<Overload>, breakers: Arc<Breakers>) {
    let floor = Span::from_wide(settings.report_interval.as_micros());
    let tell = |shedding| {
        if shedding {
            tracing::warn!("a worker cannot keep up: the least critical checks are shed");
        } else {
            tracing::info!("all workers keep up again: nothing is shed");
        }
        breakers.set_report_floor(if shedding { floor } else { Span::ZERO });
    };
    overload.follow(tell).await;
}
