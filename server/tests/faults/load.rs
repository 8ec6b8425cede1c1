//! Many requests, and what came of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tollgate_server::store::Fault;

use super::limiter::Limiter;

/// One request of one unit.
#[derive(Clone)]
pub struct Asked {
    pub value: Arc<str>,
    pub at: Instant,
    pub took: Duration,
    /// Whether it was admitted.
    pub answer: Result<bool, Fault>,
}

/// What came of many requests, in order of their ends in each task.
#[derive(Clone, Default)]
pub struct Tally {
    pub asked: Vec<Asked>,
}

impl Tally {
    pub fn admitted(&self) -> u64 {
        self.asked.iter().filter(|asked| asked.answer == Ok(true)).count() as u64
    }

    pub fn admitted_of(&self, value: &str) -> u64 {
        self.only(|asked| &*asked.value == value).admitted()
    }

    pub fn only(&self, wanted: impl Fn(&Asked) -> bool) -> Tally {
        Tally { asked: self.asked.iter().filter(|asked| wanted(asked)).cloned().collect() }
    }

    /// Requests without an answer, by cause.
    pub fn faults(&self) -> BTreeMap<&'static str, u64> {
        let mut faults = BTreeMap::new();
        for fault in self.asked.iter().filter_map(|asked| asked.answer.err()) {
            *faults.entry(fault.name()).or_default() += 1;
        }
        faults
    }

    pub fn faults_of(&self, fault: Fault) -> u64 {
        self.faults().get(fault.name()).copied().unwrap_or_default()
    }

    pub fn assert_no_fault(&self) {
        assert!(self.faults().is_empty(), "{:?} of {}", self.faults(), self.asked.len());
    }

    /// The time that `percent` of the requests took at most. Panics without any.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut times: Vec<Duration> = self.asked.iter().map(|asked| asked.took).collect();
        assert!(!times.is_empty(), "nobody asked");
        times.sort_unstable();
        times[(times.len() * percent / 100).min(times.len() - 1)]
    }

    pub fn longest(&self) -> Duration {
        self.percentile(100)
    }
}

/// Requests one after the other in several tasks, until it is told to stop.
pub struct Load {
    done: Arc<AtomicBool>,
    tasks: JoinSet<Tally>,
}

impl Load {
    /// `tasks` for each limiter, in turn for each of `values`, with `pause` after each request.
    pub fn start(limiters: &[Limiter], values: &[String], tasks: usize, pause: Duration) -> Load {
        let done = Arc::new(AtomicBool::new(false));
        let mut all = JoinSet::new();
        for first in 0..tasks {
            for limiter in limiters {
                let mut values: Vec<Arc<str>> = values.iter().map(|value| value.as_str().into()).collect();
                let turn = first % values.len();
                values.rotate_left(turn);
                all.spawn(ask_on(limiter.clone(), values, pause, done.clone()));
            }
        }
        Load { done, tasks: all }
    }

    pub async fn stop(self) -> Tally {
        self.done.store(true, SeqCst);
        let tallies = self.tasks.join_all().await;
        Tally { asked: tallies.into_iter().flat_map(|tally| tally.asked).collect() }
    }
}

async fn ask_on(limiter: Limiter, values: Vec<Arc<str>>, pause: Duration, done: Arc<AtomicBool>) -> Tally {
    let mut tally = Tally::default();
    for value in values.iter().cycle() {
        if done.load(SeqCst) {
            break;
        }
        tally.asked.push(ask(&limiter, value).await);
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    tally
}

/// One request, timed.
pub async fn ask(limiter: &Limiter, value: &Arc<str>) -> Asked {
    let at = Instant::now();
    let answer = limiter.take(value, 1).await.map(|answer| answer.verdict.allowed);
    Asked { value: value.clone(), at, took: at.elapsed(), answer }
}

/// `count` requests at once.
pub async fn burst(limiter: &Limiter, value: &str, count: usize) -> Tally {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (limiter, value) = (limiter.clone(), Arc::from(value));
        tasks.spawn(async move { ask(&limiter, &value).await });
    }
    Tally { asked: tasks.join_all().await }
}
