//! `all_or_nothing` over several slots: no script can see them all, so every slot charges its part under an
//! id, and if one of them refuses, the others take theirs back by that id.
//!
//! One round trip when the request is admitted, two when it is refused. What is taken back does not depend on
//! the caller: it goes on if the caller leaves, and a caller whose time is over is answered before it is done.
//! A charge that cannot be taken back (its server went away in between) stays: that refuses somebody too early,
//! never too late.

use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::time::{Instant, timeout};
use tollgate_core::limit::Cost;
use tollgate_core::rules::{Answer, Charge, Hit, Refusal, refuses};
use tollgate_core::time::Span;

use super::RedisStore;
use super::groups::{Placed, asked, by_slot, merge};
use super::reply::{Reply, decode};
use super::script::{Asked, Call, encode};
use super::send::{Group, Sender};
use crate::store::{Fault, REMEMBERED, Replies, Request};

/// How long it is tried to take a charge back.
const TRIED: Span = Span::from_secs(1);

impl RedisStore {
    /// Charges all hits or none.
    pub(super) async fn charge_together(&self, request: &Request<'_>) -> Replies {
        let groups = by_slot(self.place(request.hits));
        if let [group] = groups.as_slice() {
            let told = self.charge(request, Call::Charge { charge: Charge::AllOrNothing }, group).await;
            return merge(request.hits.len(), &groups, vec![told]);
        }
        let own = fresh_id();
        let id = request.id.unwrap_or(&own);
        let request = Request { id: Some(id), ..*request };
        let until = Until::after(request.patience);
        // refunds cannot refuse: they wait until it is known that the request is admitted
        let charges = looking(request.hits, |cost| matches!(cost, Cost::Refund(_)));
        let first = by_slot(self.place(&charges));
        let mut taken_back = TakeBack::new(self, &request, &first);
        // no slot can tell on its own whether alternatives elsewhere pass: each charges what it admits
        let call = Call::Charge { charge: Charge::Admitted };
        let told = join_all(first.iter().map(|group| self.charge(&request, call, group))).await;
        let mut replies = merge(request.hits.len(), &first, told);
        if is_refused(request.hits, &replies) {
            let looks = taken_back.begin(&first, &replies);
            if let Ok(Ok(looks)) = timeout(until.left(), looks).await {
                tell(&first, looks, &mut replies);
            }
            return replies;
        }
        taken_back.groups.clear();
        if request.hits.iter().any(|hit| matches!(hit.ask.cost, Cost::Refund(_))) {
            self.refund(&Request { patience: until.patience(), ..request }, &mut replies).await;
        }
        replies
    }

    /// Gives back what an admitted request gives back.
    async fn refund(&self, request: &Request<'_>, replies: &mut Replies) {
        let placed = self.place(request.hits);
        let refunds =
            placed.into_iter().filter(|placed| matches!(placed.hit.ask.cost, Cost::Refund(_))).collect();
        let groups = by_slot(refunds);
        let call = Call::Charge { charge: Charge::Admitted };
        // an id of their own, which no caller can have given: the first round has used the other
        let id = request.id.map(|id| [&[0], id].concat());
        let request = Request { id: id.as_deref(), ..*request };
        let told = join_all(groups.iter().map(|group| self.charge(&request, call, group))).await;
        let merged = merge(request.hits.len(), &groups, told);
        for placed in groups.iter().flatten() {
            replies[placed.place] = merged[placed.place];
        }
    }
}

/// What has to be taken back if the request is refused, or if its caller leaves before that is known.
struct TakeBack {
    sender: Arc<Sender>,
    groups: Vec<Option<Group>>,
}

/// What each slot tells after it has taken its part back, if it had to.
type Looks = Vec<Option<Vec<u8>>>;

impl TakeBack {
    fn new(store: &RedisStore, request: &Request<'_>, groups: &[Vec<Placed<'_, '_>>]) -> TakeBack {
        let group = |hits: &Vec<Placed<'_, '_>>| {
            let asked: SmallVec<[Asked<'_>; 2]> = hits.iter().map(asked).collect();
            let instants = store.instants(hits, request.now);
            let arguments = encode(Call::Cancel, &asked, &instants, Some(REMEMBERED));
            let slot = hits.first().map_or(0, |placed| placed.slot);
            Some(Group { slot, keys: store.keys(hits, request.id), arguments })
        };
        TakeBack { sender: store.sender.clone(), groups: groups.iter().map(group).collect() }
    }

    /// Begins to take back the parts that are or may be charged.
    fn begin(&mut self, groups: &[Vec<Placed<'_, '_>>], replies: &Replies) -> tokio::task::JoinHandle<Looks> {
        for (group, hits) in self.groups.iter_mut().zip(groups) {
            if !hits.iter().any(|placed| may_be_charged(placed, replies)) {
                *group = None;
            }
        }
        let (sender, groups) = (self.sender.clone(), std::mem::take(&mut self.groups));
        tokio::spawn(async move { join_all(groups.into_iter().map(|group| take_back(&sender, group))).await })
    }
}

impl Drop for TakeBack {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (sender, groups) = (self.sender.clone(), std::mem::take(&mut self.groups));
        if !groups.is_empty() {
            runtime.spawn(async move {
                join_all(groups.into_iter().map(|group| take_back(&sender, group))).await;
            });
        }
    }
}

async fn take_back(sender: &Arc<Sender>, group: Option<Group>) -> Option<Vec<u8>> {
    let told = sender.ask(group?, TRIED).await.map(|told| told.bytes);
    let done = told.ok().filter(|bytes| bytes.first() == Some(&0));
    if done.is_none() {
        sender.report.uncancelled.fetch_add(1, Relaxed);
    }
    done
}

/// Whoever would have admitted the request is told as if nobody had asked.
fn tell(groups: &[Vec<Placed<'_, '_>>], looks: Looks, replies: &mut Replies) {
    for (hits, look) in groups.iter().zip(looks) {
        let asked: SmallVec<[Asked<'_>; 2]> = hits.iter().map(asked).collect();
        let Some(Ok(Reply::Answers(told))) = look.map(|bytes| decode(&bytes, &asked)) else { continue };
        for (placed, told) in hits.iter().zip(told) {
            let reply = &mut replies[placed.place];
            *reply = reply.map(|answer| Answer {
                verdict: if answer.verdict.allowed { told.verdict } else { answer.verdict },
                ..answer
            });
        }
    }
}

/// Whether what was answered refuses the request. What was not answered refuses nothing.
fn is_refused(hits: &[Hit<'_>], replies: &Replies) -> bool {
    let known: SmallVec<[(Hit<'_>, Answer); 4]> = hits
        .iter()
        .zip(replies)
        .filter_map(|(hit, reply)| reply.ok().map(|answer| (hit.clone(), answer)))
        .collect();
    let missing = known.len() < hits.len();
    let (known, answers): (Vec<Hit<'_>>, Vec<Answer>) = known.into_iter().unzip();
    match refuses(&known, &answers) {
        Refusal::Certain => true,
        // one that was not asked might have passed
        Refusal::Alternatives => !missing,
        Refusal::None => false,
    }
}

/// A part whose answer was lost on the way may have been charged too.
fn may_be_charged(placed: &Placed<'_, '_>, replies: &Replies) -> bool {
    let takes = matches!(placed.hit.ask.cost, Cost::Take(1..));
    takes
        && match &replies[placed.place] {
            Ok(answer) => answer.verdict.allowed,
            Err(fault) => !matches!(fault, Fault::Open | Fault::Overloaded),
        }
}

/// The hits, of which those with a cost that `only_look` picks charge nothing.
fn looking<'m>(hits: &[Hit<'m>], only_look: impl Fn(Cost) -> bool) -> Vec<Hit<'m>> {
    let look = |hit: &Hit<'m>| {
        let mut hit = hit.clone();
        if only_look(hit.ask.cost) {
            hit.ask.cost = Cost::Take(0);
        }
        hit
    };
    hits.iter().map(look).collect()
}

/// When a caller's patience ends.
#[derive(Clone, Copy)]
struct Until(Instant);

impl Until {
    fn after(patience: Span) -> Until {
        let longest = patience.min(Span::from_secs(3_600));
        Until(Instant::now() + Duration::from_micros(longest.as_micros()))
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    fn patience(self) -> Span {
        Span::from_wide(self.left().as_micros())
    }
}

/// A name that no other request has: a random number of this process, and a count.
fn fresh_id() -> [u8; 16] {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // the standard library's hasher is keyed by the system's randomness
    let process = PROCESS.get_or_init(|| std::hash::RandomState::new().hash_one(std::process::id()));
    let mut id = [0; 16];
    id[..8].copy_from_slice(&process.to_be_bytes());
    id[8..].copy_from_slice(&COUNT.fetch_add(1, Relaxed).to_be_bytes());
    id
}
