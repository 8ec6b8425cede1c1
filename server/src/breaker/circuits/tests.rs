use std::sync::Mutex as StdMutex;

use tollgate_core::breaker::fleet::{Claim, Counts as Outcomes, Delta, Epoch, FleetState, Share};
use tollgate_proto::tollgate::v1::CircuitState;

use super::*;
use crate::breaker::decode;
use crate::breaker::overrides::Mode;
use crate::config::settings::{Breaker, BreakerMode};

const START: Time = Time::from_micros(1_000_000_000_000);
/// After this the leases of earlier owners are over.
const LATER: Time = Time::from_micros(1_000_000_000_000 + 60_000_000);

/// Everything that one client was told.
#[derive(Default)]
struct Ear {
    told: StdMutex<Vec<wire::Directive>>,
    lost: AtomicUsize,
}

impl Listener for Ear {
    fn told(&self, _: &Key, directive: wire::Directive) {
        self.told.lock().unwrap().push(directive);
    }

    fn lost(&self, _: &Key) {
        self.lost.fetch_add(1, Relaxed);
    }
}

struct Client {
    number: u64,
    reporter: Reporter,
    ear: Arc<Ear>,
    listener: Arc<dyn Listener>,
    sequence: u64,
}

impl Client {
    fn new(number: u64) -> Client {
        let wire = wire::Reporter { id: number.to_be_bytes().to_vec(), ..Default::default() };
        let ear = Arc::new(Ear::default());
        let listener: Arc<dyn Listener> = ear.clone();
        Client { number, reporter: decode::reporter(Some(wire)).unwrap(), ear, listener, sequence: 0 }
    }

    fn says(&self, circuits: &Circuits, now: Time, said: &[Said]) -> Option<wire::Directive> {
        let listens = Some((self.number, &self.listener));
        circuits.hear(now, &key(), Caller { reporter: &self.reporter, listens }, said)
    }

    fn fails(&mut self, circuits: &Circuits, now: Time, epoch: Epoch) -> Option<wire::Directive> {
        self.sequence += 1;
        let counts = Outcomes { failure: 100, ..Outcomes::default() };
        let delta = Delta { sequence: self.sequence, epoch, counts, ..Delta::default() };
        self.says(circuits, now, &[Said::Happened(Box::new(delta), wire::OutcomeDelta::default())])
    }

    fn told(&self) -> Vec<wire::Directive> {
        std::mem::take(&mut *self.ear.told.lock().unwrap())
    }
}

fn key() -> Key {
    Key::new(["n", "t", "", ""]).unwrap()
}

fn circuits_at(now: Time, most: usize) -> Circuits {
    let breaker = Breaker { mode: BreakerMode::Enforce, ..Breaker::default() };
    let policy = Policy::new(breaker.compile().unwrap()).unwrap();
    Circuits::new(policy, most, Arc::new(Counts::default()), now)
}

/// Circuits that nobody else can have owned.
fn circuits() -> Circuits {
    circuits_at(START, 100)
}

fn clients(count: u64) -> Vec<Client> {
    (1..=count).map(Client::new).collect()
}

fn claims(state: FleetState, incarnation: u64) -> [Said; 1] {
    let epoch = Epoch { incarnation, counter: 3 };
    let claim = Claim { state, epoch, remaining: Span::from_secs(9), admit: Share::NONE, attempt: 1 };
    [Said::Believes(claim, wire::Claim::default())]
}

fn epoch_of(directive: &wire::Directive) -> Epoch {
    let epoch = directive.epoch.unwrap();
    Epoch { incarnation: epoch.incarnation, counter: epoch.counter }
}

/// Opens the circuit for all of `clients`.
fn open(circuits: &Circuits, clients: &mut [Client], now: Time) {
    let first: Vec<_> =
        clients.iter().map(|client| client.says(circuits, now, &[Said::Watches]).unwrap()).collect();
    for (client, told) in clients.iter_mut().zip(first) {
        client.fails(circuits, now, epoch_of(&told));
    }
    let judged = now + Span::from_millis(20);
    circuits.tick(judged);
    for client in clients {
        assert_eq!(client.told().last().unwrap().state(), CircuitState::Open);
    }
}

#[test]
fn a_new_owner_is_silent_until_it_has_heard_what_clients_believe() {
    let (circuits, clients) = (circuits(), clients(6));
    for client in &clients {
        assert_eq!(client.says(&circuits, START, &claims(FleetState::Open, 7)), None);
    }
    assert!(clients.iter().all(|client| client.told().is_empty()));
    circuits.tick(START + Span::from_millis(1_500));
    for client in &clients {
        let told = client.told();
        assert_eq!((told.len(), told[0].state()), (1, CircuitState::Open));
        assert_eq!(told[0].probe_in.unwrap().seconds, 9);
    }
}

#[test]
fn deltas_after_a_claim_do_not_take_it_back() {
    let (circuits, mut clients) = (circuits(), clients(6));
    for client in &mut clients {
        client.says(&circuits, START, &claims(FleetState::Open, 7));
        client.fails(&circuits, START, Epoch { incarnation: 7, counter: 3 });
    }
    circuits.tick(START + Span::from_millis(1_500));
    assert!(clients.iter().all(|client| client.told()[0].state() == CircuitState::Open));
}

#[test]
fn an_owner_whose_clock_is_behind_is_obeyed_all_the_same() {
    let (circuits, clients) = (circuits(), clients(6));
    let ahead = START.as_micros() + 3_600_000_000;
    // the first two say nothing of it: the circuit is there before the claim is heard
    for client in &clients[..2] {
        client.says(&circuits, START, &[Said::Watches]);
    }
    for client in &clients {
        client.says(&circuits, START, &claims(FleetState::Open, ahead));
    }
    circuits.tick(START + Span::from_millis(1_500));
    let told = clients[0].told();
    assert!(epoch_of(&told[0]).incarnation > ahead && told[0].state() == CircuitState::Open, "{told:?}");
    // nobody can push it to the end of time
    let liar = Client::new(9);
    liar.says(&circuits, START, &claims(FleetState::Open, u64::MAX - 1));
    let seen = circuits.get(START, &key(), "").unwrap();
    assert!(seen.epoch.unwrap().incarnation < ahead + 10);
}

#[test]
fn whoever_says_nothing_is_told_again_before_its_lease_is_half_over() {
    let (circuits, clients) = (circuits(), clients(3));
    for client in &clients {
        client.says(&circuits, LATER, &[Said::Watches]).unwrap();
    }
    let mut last = LATER;
    let mut next = circuits.tick(LATER).unwrap();
    for _ in 0..20 {
        assert!(next > last, "the timer must not run hot");
        last = next;
        next = circuits.tick(next).unwrap();
        for client in &clients {
            assert!(client.told().len() <= 1, "once a look is enough");
        }
    }
    assert!(last >= LATER + Span::from_secs(20));
    // from one look to the next no client waits longer than half of ten seconds
    let quiet = Client::new(7);
    quiet.says(&circuits, last, &[Said::Watches]);
    let due = last + Span::from_secs(5);
    while let Some(wake) = circuits.tick(next).filter(|wake| *wake <= due) {
        next = wake;
    }
    assert!(!quiet.told().is_empty());
}

#[test]
fn permits_go_to_clients_and_not_more_than_there_are() {
    let (circuits, mut clients) = (circuits(), clients(30));
    open(&circuits, &mut clients, LATER);
    let mut now = LATER + Span::from_millis(20);
    let mut permits = BTreeSet::new();
    let mut holders = BTreeSet::new();
    while now < LATER + Span::from_secs(4) {
        now = circuits.tick(now).unwrap();
        let told =
            clients.iter().flat_map(|client| client.told().into_iter().map(|told| (client.number, told)));
        for (number, directive) in told.filter(|(_, directive)| !directive.permits.is_empty()) {
            assert_eq!(directive.state(), CircuitState::HalfOpen);
            permits.extend(directive.permits.into_iter().map(|permit| permit.id));
            holders.insert(number);
        }
    }
    assert!((1..=10).contains(&permits.len()), "{}", permits.len());
    assert!(holders.len() >= permits.len().div_ceil(2), "{} of {}", holders.len(), permits.len());
}

#[test]
fn whoever_unlistens_hears_no_more_and_a_quiet_circuit_is_forgotten() {
    let (circuits, clients) = (circuits(), clients(2));
    for client in &clients {
        client.says(&circuits, LATER, &[Said::Watches]);
    }
    circuits.unlisten(LATER, &key(), 1);
    circuits.tick(LATER + Span::from_secs(6));
    assert!(clients[0].told().is_empty() && !clients[1].told().is_empty());
    let much_later = LATER + Span::from_secs(1_000);
    circuits.sweep(much_later);
    assert_eq!(circuits.len(), 1, "somebody watches it");
    circuits.unlisten(LATER, &key(), 2);
    circuits.sweep(LATER + Span::from_secs(100));
    assert_eq!(circuits.len(), 1, "it may be asked for again");
    circuits.sweep(much_later);
    assert_eq!((circuits.len(), circuits.tick(much_later)), (0, None), "and no wake is left");
}

#[test]
fn circuits_of_another_owner_are_let_go_and_their_clients_know() {
    let (circuits, clients) = (circuits(), clients(2));
    for client in &clients {
        client.says(&circuits, LATER, &[Said::Watches]);
    }
    circuits.release(LATER, |_| true);
    assert_eq!(circuits.len(), 1);
    circuits.release(LATER, |_| false);
    assert_eq!((circuits.len(), circuits.tick(LATER)), (0, None));
    assert!(clients.iter().all(|client| client.ear.lost.load(Relaxed) == 1));
    // for a while whoever comes may hold what another owner said
    assert_eq!(clients[0].says(&circuits, LATER, &[Said::Watches]), None);
}

#[test]
fn at_the_bound_those_that_rest_make_room_and_others_do_not() {
    let circuits = circuits_at(START, 20);
    let client = Client::new(1);
    let name = |number: u64| Key::new(["n", &format!("t{number}"), "", ""]).unwrap();
    let hear = |key: &Key, listens| {
        circuits.hear(LATER, key, Caller { reporter: &client.reporter, listens }, &[Said::Watches]).is_some()
    };
    for number in 0..20 {
        assert!(hear(&name(number), Some((1, &client.listener))));
    }
    assert!((20..100).all(|number| !hear(&name(number), None)), "all are watched");
    (0..20).for_each(|number| circuits.unlisten(LATER, &name(number), 1));
    // each lock makes room for its own: of many keys some find it
    assert!((20..100).filter(|number| hear(&name(*number), None)).count() >= 15);
    assert!(circuits.len() <= 20);
}

#[test]
fn what_a_person_wants_for_long_outlasts_the_core() {
    let circuits = circuits();
    let forced = Forced { mode: Mode::ForcedOpen, until: None, actor: "ann".into(), reason: "x".into() };
    circuits.force(LATER, &key(), Some(&forced)).unwrap();
    let client = Client::new(1);
    assert_eq!(client.says(&circuits, LATER, &[Said::Watches]).unwrap().state(), CircuitState::ForcedOpen);
    let weeks_later = LATER + Span::from_secs(8 * 86_400);
    circuits.tick(weeks_later);
    circuits.sweep(weeks_later);
    assert_eq!(circuits.get(weeks_later, &key(), "").unwrap().state(), CircuitState::ForcedOpen);
    circuits.force(weeks_later, &key(), None).unwrap();
    assert_eq!(circuits.get(weeks_later, &key(), "").unwrap().state(), CircuitState::Recovering);
}

/// One client has five hundred calls that succeed, and tells of each.
fn succeed(circuits: &Circuits, number: u64, epoch: Epoch) {
    let client = Client::new(number);
    for sequence in 1..=500 {
        let counts = Outcomes { success: 1, ..Outcomes::default() };
        let delta = Delta { sequence, epoch, counts, ..Delta::default() };
        let said = [Said::Happened(Box::new(delta), wire::OutcomeDelta::default())];
        client.says(circuits, LATER, &said).unwrap();
    }
}

#[test]
fn what_comes_from_many_threads_is_counted_once_each() {
    let circuits = circuits();
    let epoch = epoch_of(&Client::new(1).says(&circuits, LATER, &[Said::Watches]).unwrap());
    std::thread::scope(|scope| {
        for number in 1..=4 {
            let circuits = &circuits;
            scope.spawn(move || succeed(circuits, number, epoch));
        }
        // the timer in between
        for _ in 0..200 {
            circuits.tick(LATER);
        }
    });
    let seen = circuits.get(LATER, &key(), "").unwrap();
    assert_eq!((seen.calls, seen.reporters), (2_000, 4));
}
