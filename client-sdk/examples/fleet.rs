//! A fleet of clients whose backend dies and comes back: what each second looks like.
//!
//! `cargo run -p tollgate-client --example fleet`
//!
//! Without further ado the server is one in this process. With `TOLLGATE=http://127.0.0.1:8081` it is a real one;
//! its configuration must make the circuit obeyed, and as quick as this one:
//!
//! ```toml
//! [breaker]
//! circuits = [{ namespace = "demo", mode = "enforce", window = "4s", short_window = "1s", ramp_step = 0.15 }]
//! ```

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};
use tollgate_client::fleet::{FleetCircuit, FleetClient, FleetSnapshot};
use tollgate_client::{CircuitBreaker, State};
use tollgate_core::breaker::fleet::{FleetMode, FleetSettings, Share};
use tollgate_core::time::Span;

#[path = "support/fleet_server.rs"]
#[allow(dead_code, reason = "tests make it fail in more ways")]
pub(crate) mod server;

use server::FleetServer;

/// Probes of one round, for the whole fleet.
const PROBES: u64 = 10;
/// Between two calls of one client.
const PERIOD: Duration = Duration::from_millis(20);

/// Who takes part, and when what happens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: u32,
    /// The backend dies.
    pub(crate) dies: Duration,
    /// The backend is back.
    pub(crate) revives: Duration,
    /// It must all be over.
    pub(crate) most: Duration,
}

impl Plan {
    pub(crate) const DEMO: Plan = Plan {
        clients: 20,
        dies: Duration::from_secs(3),
        revives: Duration::from_secs(8),
        most: Duration::from_secs(24),
    };
}

/// What has happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Story {
    /// From the death of the backend until every client knew.
    pub(crate) opened_after: Option<Duration>,
    /// From the backend's return until every client was back to normal.
    pub(crate) closed_after: Option<Duration>,
    /// Calls that reached the backend, by the state and the epoch that their client followed.
    sent: BTreeMap<(&'static str, u64), u64>,
    /// Shares of the calls that passed, as they were seen.
    pub(crate) admitted: Vec<f64>,
}

impl Story {
    /// Calls that reached the backend in one state.
    pub(crate) fn sent_while(&self, state: State) -> Vec<u64> {
        let those = self.sent.iter().filter(|((of, _), _)| *of == state.as_str());
        those.map(|(_, sent)| *sent).collect()
    }
}

/// Settings of the circuit: the defaults, but quicker.
pub(crate) fn settings() -> FleetSettings {
    FleetSettings {
        mode: FleetMode::Enforce,
        window: Span::from_secs(4),
        short_window: Span::SECOND,
        ramp_step: Share::percent(15),
        probes: 10,
        ..FleetSettings::default()
    }
}

/// What is called.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    dead: AtomicBool,
    sent: AtomicU64,
    doomed: AtomicU64,
    story: Mutex<Story>,
}

impl Backend {
    pub(crate) fn set_dead(&self, dead: bool) {
        self.dead.store(dead, SeqCst);
    }

    /// Calls that reached it.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(SeqCst)
    }

    /// Of these, those that failed.
    pub(crate) fn doomed(&self) -> u64 {
        self.doomed.load(SeqCst)
    }

    /// A call of a client that sees its circuit so.
    pub(crate) async fn call(&self, seen: Option<FleetSnapshot>) -> io::Result<()> {
        self.sent.fetch_add(1, SeqCst);
        if let Some(seen) = seen {
            *self.story().sent.entry((seen.state.as_str(), seen.epoch.counter)).or_default() += 1;
        }
        sleep(Duration::from_millis(5)).await;
        if self.dead.load(SeqCst) {
            self.doomed.fetch_add(1, SeqCst);
            return Err(io::Error::other("dead"));
        }
        Ok(())
    }

    fn story(&self) -> std::sync::MutexGuard<'_, Story> {
        self.story.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clients that call a backend until they are dropped.
pub(crate) struct Fleet {
    pub(crate) circuits: Vec<FleetCircuit>,
    calls: JoinSet<()>,
}

impl Fleet {
    /// Starts a client for every handle.
    pub(crate) fn start(clients: Vec<FleetClient>, backend: &Arc<Backend>) -> Result<Fleet, Box<dyn Error>> {
        let mut fleet = Fleet { circuits: Vec::new(), calls: JoinSet::new() };
        for (number, client) in (0_u32..).zip(clients) {
            let circuit = FleetCircuit::of(&client).key("demo", "backend");
            // slower than the fleet, so that it can be seen at work: it is what remains when the server is away
            let breaker = CircuitBreaker::builder("backend").consecutive_failures(None).minimum_calls(200);
            let breaker = breaker.fleet(circuit.clone()).build()?;
            let (watched, backend) = (circuit.clone(), backend.clone());
            fleet.circuits.push(circuit);
            let start = PERIOD / 20 * (number % 20);
            fleet.calls.spawn(call_for_ever(start, breaker, backend, watched));
        }
        Ok(fleet)
    }

    /// How many clients follow each state.
    fn states(&self) -> BTreeMap<&'static str, usize> {
        let mut states = BTreeMap::new();
        for seen in self.circuits.iter().filter_map(FleetCircuit::snapshot) {
            *states.entry(seen.state.as_str()).or_default() += 1;
        }
        states
    }

    /// Whether every client follows `state`, and because the server says so.
    pub(crate) fn all(&self, state: State) -> bool {
        let says = |seen: FleetSnapshot| seen.state == state && seen.is_led();
        self.circuits.iter().all(|circuit| circuit.snapshot().is_some_and(says))
    }
}

async fn call_for_ever(
    start: Duration,
    breaker: CircuitBreaker,
    backend: Arc<Backend>,
    circuit: FleetCircuit,
) {
    sleep(start).await;
    loop {
        // a rejected call is not sent, a failed one is counted by the backend
        let _result = breaker.call(backend.call(circuit.snapshot())).await;
        sleep(PERIOD).await;
    }
}

/// Watches the fleet through an outage. Tells what it sees, once a second, to `show`.
///
/// # Errors
/// It is not over in time.
pub(crate) async fn outage(
    plan: Plan,
    clients: Vec<FleetClient>,
    show: fn(&str),
) -> Result<Story, Box<dyn Error>> {
    let backend = Arc::new(Backend::default());
    let fleet = Fleet::start(clients, &backend)?;
    let (start, mut second) = (Instant::now(), 0);
    show("   t  backend  sent  doomed  probes  admit  clients by state");
    loop {
        sleep_until(start + Duration::from_millis(100) * (second + 1)).await;
        second += 1;
        let passed = start.elapsed();
        if passed > plan.most {
            return Err(format!("not over after {passed:?}: {:?}", backend.story()).into());
        }
        backend.set_dead((plan.dies..plan.revives).contains(&passed));
        let closed = watch(plan, passed, &fleet, &backend);
        if second % 10 == 0 || closed {
            show(&line(passed, &fleet, &backend));
        }
        if closed {
            return Ok(backend.story().clone());
        }
    }
}

/// Notes what has changed. True when it is all over.
fn watch(plan: Plan, passed: Duration, fleet: &Fleet, backend: &Backend) -> bool {
    let mut story = backend.story();
    let seen = fleet.circuits.first().and_then(FleetCircuit::snapshot);
    let share = seen.filter(|seen| seen.state == State::Recovering).map(|seen| seen.admit);
    if share.is_some() && story.admitted.last() != share.as_ref() {
        story.admitted.extend(share);
    }
    if story.opened_after.is_none() && passed > plan.dies && fleet.all(State::Open) {
        story.opened_after = Some(passed - plan.dies);
    }
    if story.opened_after.is_some() && passed > plan.revives && fleet.all(State::Closed) {
        story.closed_after = Some(passed - plan.revives);
    }
    story.closed_after.is_some()
}

fn line(passed: Duration, fleet: &Fleet, backend: &Backend) -> String {
    let dead = if backend.dead.load(SeqCst) { "dead" } else { "well" };
    let probes: u64 = backend.story().sent_while(State::HalfOpen).iter().sum();
    let admit = fleet.circuits.first().and_then(FleetCircuit::snapshot).map_or(1.0, |seen| seen.admit);
    let (sent, doomed) = (backend.sent(), backend.doomed());
    let (seconds, percent) = (passed.as_secs_f64(), admit * 100.0);
    let states = fleet.states();
    format!("{seconds:4.1}  {dead:7} {sent:5}  {doomed:6}  {probes:6}  {percent:4.0}%  {states:?}")
}

/// What the story must be.
pub(crate) fn check(story: &Story) {
    let opened = story.opened_after.unwrap_or(Duration::MAX);
    assert!(opened <= Duration::from_secs(3), "the fleet opens soon, not after {opened:?}");
    let while_open: u64 = story.sent_while(State::Open).iter().sum();
    assert_eq!(while_open, 0, "nothing is sent while the circuit is open");
    let rounds = story.sent_while(State::HalfOpen);
    assert!(!rounds.is_empty() && rounds.iter().all(|sent| *sent <= PROBES), "probes by round: {rounds:?}");
    let (first, distinct) = (story.admitted.first(), story.admitted.len());
    assert!(first.is_some_and(|first| *first < 0.25) && distinct >= 3, "a ramp: {:?}", story.admitted);
    assert!(story.closed_after.is_some(), "the fleet comes back");
}

/// The clients: of the server that `TOLLGATE` names, or of one in this process.
fn clients(plan: Plan) -> Result<Vec<FleetClient>, Box<dyn Error>> {
    let address = std::env::var("TOLLGATE").ok();
    let server = FleetServer::start(settings())?;
    let client = |_| match &address {
        Some(address) => FleetClient::builder(address).zone("demo").connect_lazy(),
        None => FleetClient::on(server.channel()).connect_lazy(),
    };
    Ok((0..plan.clients).map(client).collect::<Result<_, _>>()?)
}

/// The example; fails if anything is not as it is told.
pub(crate) async fn run(plan: Plan, show: fn(&str)) -> Result<Story, Box<dyn Error>> {
    let story = outage(plan, clients(plan)?, show).await?;
    check(&story);
    Ok(story)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let story = run(Plan::DEMO, |line| println!("{line}")).await?;
    let (opened, closed) = (story.opened_after.unwrap_or_default(), story.closed_after.unwrap_or_default());
    println!("opened {opened:?} after the backend died, closed {closed:?} after it was back");
    println!("probes by round: {:?}", story.sent_while(State::HalfOpen));
    Ok(())
}
