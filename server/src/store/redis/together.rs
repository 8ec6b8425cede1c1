//! `all_or_nothing` over several slots: no script can see them all, so every slot charges its part under an
//! id, and if one of them refuses, the others take theirs back by that id.
//!
//! One round trip when the request is admitted, two when it is refused. A charge that cannot be taken back
//! (the server went away in between) stays: that refuses somebody too early, never too late.

use std::hash::BuildHasher as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use futures_util::future::join_all;
use smallvec::SmallVec;
use tollgate_core::limit::Cost;
use tollgate_core::rules::{Answer, Charge, Hit, Refusal, refuses};
use tollgate_core::time::Span;

use super::RedisStore;
use super::groups::{Placed, Question, by_slot, merge};
use super::script::Call;
use crate::store::{Fault, Replies, Request};

type Told = Result<SmallVec<[Answer; 2]>, Fault>;

/// A charge is taken back even if the caller is gone: this long is tried.
const CANCEL: Span = Span::from_secs(1);

impl RedisStore {
    /// Charges all hits or none.
    pub(super) async fn charge_together(&self, request: &Request<'_>) -> Replies {
        let groups = by_slot(self.place(request.hits));
        if let [group] = groups.as_slice() {
            let told = self.charge(request, Call::Charge { charge: Charge::AllOrNothing }, group).await;
            return merge(request.hits.len(), &groups, vec![told]);
        }
        let own;
        let id = match request.id {
            Some(id) => id,
            None => {
                own = fresh_id();
                &own[..]
            }
        };
        let request = Request { id: Some(id), ..*request };
        // refunds cannot refuse: they wait until it is known that the request is admitted
        let charges = looking(request.hits, |cost| matches!(cost, Cost::Refund(_)));
        let first = by_slot(self.place(&charges));
        // no slot can tell on its own whether alternatives elsewhere pass: each charges what it admits
        let call = Call::Charge { charge: Charge::Admitted };
        let told = join_all(first.iter().map(|group| self.charge(&request, call, group))).await;
        let replies = merge(request.hits.len(), &first, told);
        if is_refused(request.hits, &replies) {
            return self.cancel(&request, &first, replies).await;
        }
        if request.hits.iter().any(|hit| matches!(hit.ask.cost, Cost::Refund(_))) {
            return self.refund(&request, replies).await;
        }
        replies
    }

    /// Takes back what the slots that admitted their part have charged.
    async fn cancel(
        &self,
        request: &Request<'_>,
        groups: &[Vec<Placed<'_, '_>>],
        mut replies: Replies,
    ) -> Replies {
        let to_cancel: Vec<&Vec<Placed<'_, '_>>> = groups
            .iter()
            .filter(|group| group.iter().any(|placed| may_be_charged(placed, &replies)))
            .collect();
        let told = join_all(to_cancel.iter().map(|group| self.take_back(request, group))).await;
        for (group, told) in to_cancel.iter().zip(told) {
            let Ok(looks) = told else {
                self.sender.report.uncancelled.fetch_add(1, Relaxed);
                continue;
            };
            // whoever would have admitted it is told as if nobody had asked
            let admitted = |placed: &Placed<'_, '_>, replies: &Replies| {
                replies[placed.place].is_ok_and(|answer| answer.verdict.allowed)
            };
            let pairs = group.iter().zip(looks).filter(|(placed, _)| admitted(placed, &replies));
            for (placed, look) in pairs.collect::<Vec<_>>() {
                replies[placed.place] = Ok(look);
            }
        }
        replies
    }

    async fn take_back(&self, request: &Request<'_>, hits: &[Placed<'_, '_>]) -> Told {
        let (id, now, patience) = (request.id, request.now, CANCEL);
        self.question(Question { call: Call::Cancel, hits, id, now, patience }).await
    }

    /// Gives back what an admitted request gives back.
    async fn refund(&self, request: &Request<'_>, mut replies: Replies) -> Replies {
        let placed = self.place(request.hits);
        let refunds =
            placed.into_iter().filter(|placed| matches!(placed.hit.ask.cost, Cost::Refund(_))).collect();
        let groups = by_slot(refunds);
        let call = Call::Charge { charge: Charge::Admitted };
        // an id of their own: the first round has used the other
        let id = request.id.map(|id| [id, b"r"].concat());
        let request = Request { id: id.as_deref(), ..*request };
        let told = join_all(groups.iter().map(|group| self.charge(&request, call, group))).await;
        for (group, told) in groups.iter().zip(told) {
            for (index, placed) in group.iter().enumerate() {
                replies[placed.place] = match &told {
                    Ok(answers) => answers.get(index).copied().ok_or(Fault::Garbled),
                    Err(fault) => Err(*fault),
                };
            }
        }
        replies
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

/// A part whose answer was lost may have been charged too.
fn may_be_charged(placed: &Placed<'_, '_>, replies: &Replies) -> bool {
    let takes = matches!(placed.hit.ask.cost, Cost::Take(1..));
    takes && replies[placed.place].as_ref().map_or(true, |answer| answer.verdict.allowed)
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
