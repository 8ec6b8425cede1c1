//! Keeps the rules fresh: a change of the files is loaded as a whole, a bad one leaves the last good in force.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{RecursiveMode, Watcher};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tollgate_core::rules::Defaults;
use tollgate_core::time::Time;

use super::compile::{Compiled, compile};
use super::location::Location;
use super::rules::{Problem, Source};
use super::ruleset::Ruleset;
use crate::clock::Clock;
use crate::engine::Engine;
use crate::health::Health;
use crate::telemetry::metrics::Loaded;

/// A change is loaded once nothing has changed for this long: editors and copies write in several steps.
const SETTLED: Duration = Duration::from_millis(100);
/// … or has gone on changing for this long.
const AT_MOST: Duration = Duration::from_secs(1);
/// Files are looked at this often even if nobody announces a change (network file systems do not).
const LOOK: Duration = Duration::from_secs(5);

/// What became of the latest loads.
#[derive(Debug, Default)]
pub struct ConfigState(Mutex<ConfigSnapshot>);

/// [`ConfigState`] at one moment.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ConfigSnapshot {
    /// When a load was last tried, in milliseconds since the epoch; 0 if never.
    pub last_attempt_unix_ms: u64,
    /// When the rules in force were loaded.
    pub last_good_unix_ms: Option<u64>,
    /// Number of the rules in force.
    pub generation: u64,
    /// Errors of the last load; empty if it was good.
    pub problems: Vec<String>,
    /// Warnings of the rules in force.
    pub warnings: Vec<String>,
    /// Files of the rules in force.
    pub files: usize,
}

impl ConfigState {
    /// The state now.
    #[must_use]
    pub fn snapshot(&self) -> ConfigSnapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn update(&self, change: impl FnOnce(&mut ConfigSnapshot)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Loads rules into an engine.
#[derive(Clone)]
pub struct Loader {
    /// Where they are.
    pub location: Location,
    /// What holds for all of them.
    pub defaults: Defaults,
    /// Where they go.
    pub engine: Arc<Engine>,
    /// Who is told that there are rules.
    pub health: Arc<Health>,
    /// What is remembered of the loads.
    pub state: Arc<ConfigState>,
    /// For the times of the loads.
    pub clock: Arc<dyn Clock>,
}

/// What the files looked like; `None` if they could not all be read.
pub type Fingerprint = Option<u64>;

impl Loader {
    /// Reads the files and, if all of them are good, puts them in force.
    pub async fn load(&self) -> Fingerprint {
        let read = self.location.read();
        let fingerprint = fingerprint(&read);
        let _problems = self.take(read).await;
        fingerprint
    }

    /// Loads again whenever the files differ from `last`, or when `reload` says so. Runs for ever.
    pub async fn watch(self, last: Fingerprint, mut reload: Receiver<()>) {
        let mut last = last;
        let mut asked = false;
        loop {
            let (announce, mut changes) = channel(1);
            // watched anew each time, since a swapped symlink leads elsewhere now; before the files are read,
            // so that no change falls between
            let _watcher = watcher(&self.location, announce);
            let read = self.location.read();
            let now = fingerprint(&read);
            if asked || now != last {
                // what is wrong is logged, and kept in the state
                let _problems = self.take(read).await;
                last = now;
            }
            asked = tokio::select! {
                _ = changes.recv() => false,
                Some(()) = reload.recv() => true,
                () = tokio::time::sleep(LOOK) => false,
            };
            if !asked {
                let _noise = tokio::time::timeout(AT_MOST, settle(&mut changes)).await;
            }
        }
    }

    /// Puts `read` in force, if all of it is good.
    ///
    /// # Errors
    /// Everything that is wrong; the rules in force stay.
    pub async fn take(&self, read: Result<Vec<Source>, Vec<Problem>>) -> Result<(), Vec<String>> {
        let (options, defaults) = (self.location.options, self.defaults);
        let work = move || {
            let sources = read?;
            compile(&sources, &options, defaults).map(|compiled| (compiled, sources.len()))
        };
        let compiled = tokio::task::spawn_blocking(work).await;
        let at = self.clock.now();
        let now = at.as_micros() / 1000;
        self.state.update(|state| state.last_attempt_unix_ms = now);
        match compiled {
            Ok(Ok((compiled, files))) => {
                self.accept(compiled, files, at).await;
                Ok(())
            }
            Ok(Err(problems)) => self.refuse(problems.iter().map(ToString::to_string).collect()),
            Err(error) => self.refuse(vec![format!("loading the rules failed: {error}")]),
        }
    }

    async fn accept(&self, compiled: Compiled, files: usize, at: Time) {
        let now = at.as_micros() / 1000;
        let warnings: Vec<String> = compiled.warnings.iter().map(ToString::to_string).collect();
        for warning in &warnings {
            tracing::warn!("{warning}");
        }
        let rules = Ruleset::new(compiled.matcher, self.engine.metrics());
        let (domains, count) = (rules.matcher().domains().len(), rules.matcher().rules().len());
        tracing::info!(files, domains, rules = count, warnings = warnings.len(), "rules loaded");
        self.engine.metrics().config_loaded(Loaded { at, rules: count, domains, warnings: warnings.len() });
        self.state.update(|state| {
            state.last_good_unix_ms = Some(now);
            state.generation = rules.generation();
            state.problems.clear();
            state.warnings = warnings;
            state.files = files;
        });
        self.engine.use_rules(Arc::new(rules));
        self.health.rules_loaded(domains > 0).await;
    }

    fn refuse(&self, problems: Vec<String>) -> Result<(), Vec<String>> {
        let kept =
            if self.engine.rules().is_some() { "the last good rules stay" } else { "there are no rules" };
        tracing::error!(errors = problems.len(), "error loading new configuration: {kept}");
        for problem in &problems {
            tracing::error!("{problem}");
        }
        self.engine.metrics().config_failed();
        self.state.update(|state| state.problems.clone_from(&problems));
        Err(problems)
    }
}

/// Announces changes in and below the rules folder and of the entries of the folder above the root, where a
/// symlink may be swapped; `None` if the system cannot watch.
fn watcher(location: &Location, announce: Sender<()>) -> Option<notify::RecommendedWatcher> {
    let told = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // a full channel already holds the news
            let _ = announce.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(told)
        .inspect_err(|error| tracing::warn!(%error, "cannot watch for changes: looking every five seconds"))
        .ok()?;
    let swapped = location.swapped_in.iter().map(|folder| (folder, RecursiveMode::NonRecursive));
    for (folder, mode) in swapped.chain([(&location.dir, RecursiveMode::Recursive)]) {
        if let Err(error) = watcher.watch(folder, mode) {
            tracing::debug!(%error, folder = %folder.display(), "cannot watch: looking every five seconds");
        }
    }
    Some(watcher)
}

/// Waits until no change has been announced for a while.
async fn settle(changes: &mut Receiver<()>) {
    while let Ok(Some(())) = tokio::time::timeout(SETTLED, changes.recv()).await {}
}

fn fingerprint(read: &Result<Vec<Source>, Vec<Problem>>) -> Fingerprint {
    let sources = read.as_ref().ok()?;
    let mut hasher = DefaultHasher::new();
    for source in sources {
        source.name.hash(&mut hasher);
        source.bytes.hash(&mut hasher);
    }
    Some(hasher.finish())
}
