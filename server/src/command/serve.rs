//! `tollgate serve`

use std::process::{ExitCode, exit};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Sender, channel};

use super::{bad_input, effective};
use crate::app::{App, Listeners, run};
use crate::cli::SettingsArgs;
use crate::config::settings::Effective;
use crate::telemetry::log::{self, LogHandle};

/// Exit status of a server that has not finished its calls.
const INTERRUPTED: i32 = 3;

pub(super) fn serve(args: &SettingsArgs) -> ExitCode {
    let effective = match effective(args) {
        Ok(effective) => effective,
        Err(error) => return bad_input(&error),
    };
    let log = log::init(&effective.settings.log);
    for warning in &effective.warnings {
        tracing::warn!("{warning}");
    }
    match start(effective, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The runtime of everything but the calls: admin, loading rules, accepting.
fn start(effective: Effective, log: LogHandle) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("control")
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listeners = Listeners::bind(&effective.settings).await?;
        let (ask, reload) = channel(1);
        let signals = Signals::listen()?;
        tokio::spawn(reload_on_hangup(signal(SignalKind::hangup())?, ask));
        run(App::new(effective, listeners, log, reload), signals.wait()).await
    })
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the first; the second one then ends the process at once.
    async fn wait(mut self) {
        self.next().await;
        tokio::spawn(async move {
            self.next().await;
            tracing::warn!("asked to stop again: open calls are cut off");
            exit(INTERRUPTED);
        });
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn reload_on_hangup(mut hangup: Signal, ask: Sender<()>) {
    while hangup.recv().await.is_some() {
        // one that waits already stands for this one too
        let _ = ask.try_send(());
    }
}
