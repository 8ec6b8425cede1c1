//! From hits to groups of one slot, and from what the script says back to answers.

use std::sync::atomic::Ordering::Relaxed;

use futures_util::future::join_all;
use smallvec::SmallVec;
use tollgate_core::limit::{Ask, Cost, Limit, MAX_COUNT, Window};
use tollgate_core::rules::{Answer, By, Charge, Hit};
use tollgate_core::time::{Span, Time};

use super::key::Name;
use super::reply::{Found, Reply, Told, decode};
use super::script::{Asked, Call, encode};
use super::send::Group;
use super::{RedisStore, fault};
use crate::store::{Fault, REMEMBERED, Replies, Request};

/// Times that a group is sent again with one more window of a calendar.
const MAX_WINDOWS: usize = 5;

/// A hit with its name and its place in the request.
#[derive(Clone)]
pub(super) struct Placed<'h, 'm> {
    pub(super) place: usize,
    pub(super) hit: &'h Hit<'m>,
    pub(super) limit: &'h Limit,
    pub(super) name: Name,
    pub(super) slot: u16,
}

/// Hits of one slot, and what is to be done with them.
pub(super) struct Question<'q, 'h, 'm> {
    pub(super) call: Call,
    pub(super) hits: &'q [Placed<'h, 'm>],
    pub(super) id: Option<&'q [u8]>,
    pub(super) now: Time,
    pub(super) patience: Span,
}

impl RedisStore {
    /// Names the counters of `request`. Rules without a limit are never charged and have none.
    pub(super) fn place<'h, 'm>(&self, hits: &'h [Hit<'m>]) -> Vec<Placed<'h, 'm>> {
        let prefix = &self.sender.options.prefix;
        let placed = hits.iter().enumerate().filter_map(|(place, hit)| {
            let limit = hit.rule.limit.as_ref()?;
            let name = Name::of(prefix, hit);
            let slot = if self.is_cluster() { name.slot() } else { 0 };
            Some(Placed { place, hit, limit, name, slot })
        });
        placed.collect()
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.sender.options.access.target, super::Target::Cluster(_))
    }

    /// Charges every hit on its own.
    pub(super) async fn charge_apart(&self, request: &Request<'_>) -> Replies {
        let groups = by_slot(self.place(request.hits));
        let call = Call::Charge { charge: Charge::Admitted };
        let questions = groups.iter().map(|hits| self.charge(request, call, hits));
        merge(request.hits.len(), &groups, join_all(questions).await)
    }

    /// Charges the hits of one slot.
    pub(super) async fn charge<'h>(
        &self,
        request: &Request<'_>,
        call: Call,
        hits: &[Placed<'h, '_>],
    ) -> Result<SmallVec<[Answer; 2]>, Fault> {
        let (id, now, patience) = (request.id, request.now, request.patience);
        self.question(Question { call, hits, id, now, patience }).await
    }

    /// Asks, again with another window of a calendar as long as the script wants one.
    pub(super) async fn question(
        &self,
        question: Question<'_, '_, '_>,
    ) -> Result<SmallVec<[Answer; 2]>, Fault> {
        let Question { call, hits, id, now, patience } = question;
        let Some(first) = hits.first() else { return Ok(SmallVec::new()) };
        let asked: SmallVec<[Asked<'_>; 2]> = hits.iter().map(asked).collect();
        let mut instants = self.instants(hits, now);
        for _ in 0..MAX_WINDOWS {
            let ttl = id.map(|_| REMEMBERED);
            let arguments = encode(call, &asked, &instants, ttl);
            let group = Group { slot: first.slot, keys: self.keys(hits, id), arguments };
            let told = self.sender.ask(group, patience).await?;
            let reply = decode(&told.bytes, &asked).map_err(|_| Fault::Garbled)?;
            match reply {
                Reply::Answers(answers) if told.replicated || !writes(hits, &answers) => {
                    return Ok(answers.iter().map(|told| self.answer(told)).collect());
                }
                Reply::Answers(_) => return Err(Fault::Unreplicated),
                Reply::Window(instant) => instants.push(instant),
                Reply::Newer => return Err(Fault::Newer),
                Reply::Failed(text) => {
                    let fault = fault::of_text(&text);
                    self.sender.report.script_failed(fault, &text);
                    return Err(fault);
                }
            }
        }
        Err(Fault::Garbled)
    }

    /// The keys of a group: first that of its id, if it has one.
    pub(super) fn keys(&self, hits: &[Placed<'_, '_>], id: Option<&[u8]>) -> Vec<Vec<u8>> {
        let prefix = &self.sender.options.prefix;
        let id = id.zip(hits.first()).map(|(id, first)| first.name.of_id(prefix, id));
        id.into_iter().chain(hits.iter().map(|placed| placed.name.clone().into_bytes())).collect()
    }

    /// The instants whose windows a calendar needs: now by the server's clock, and when that window ends.
    pub(super) fn instants(&self, hits: &[Placed<'_, '_>], now: Time) -> SmallVec<[Time; 4]> {
        let Some(first) = hits.first() else { return SmallVec::new() };
        let theirs = self.sender.topology.load().shard(first.slot).clock(now);
        let mut instants: SmallVec<[Time; 4]> = SmallVec::new();
        for placed in hits {
            let Limit::FixedWindow(limit) = placed.limit else { continue };
            if let Window::Calendar(calendar) = limit.window() {
                let (_, end) = calendar.window(theirs);
                instants.extend(
                    [theirs, end]
                        .into_iter()
                        .filter(|instant| !instants.contains(instant))
                        .collect::<SmallVec<[Time; 2]>>(),
                );
            }
        }
        instants
    }

    fn answer(&self, told: &Told) -> Answer {
        match told.found {
            Found::Expected => {}
            Found::OtherAlgorithm => {
                self.sender.report.replaced.fetch_add(1, Relaxed);
            }
            Found::Corrupt => {
                self.sender.report.corrupt.fetch_add(1, Relaxed);
            }
        }
        Answer { verdict: told.verdict, by: By::Redis }
    }
}

/// What the script is asked. Costs beyond what a state can hold are cut to that: no verdict changes.
pub(super) fn asked<'h>(placed: &Placed<'h, '_>) -> Asked<'h> {
    let cost = match placed.hit.ask.cost {
        Cost::Take(units) => Cost::Take(units.min(MAX_COUNT)),
        Cost::Refund(units) => Cost::Refund(units.min(MAX_COUNT)),
    };
    Asked {
        limit: placed.limit,
        ask: Ask { cost, ..placed.hit.ask },
        shadow: placed.hit.shadow,
        alternative: placed.hit.alternative,
    }
}

/// Whether the answers admit a charge that has to survive.
fn writes(hits: &[Placed<'_, '_>], answers: &[Told]) -> bool {
    hits.iter()
        .zip(answers)
        .any(|(placed, told)| told.verdict.allowed && matches!(placed.hit.ask.cost, Cost::Take(1..)))
}

/// The hits by slot, in the order in which slots first come.
pub(super) fn by_slot<'h, 'm>(placed: Vec<Placed<'h, 'm>>) -> Vec<Vec<Placed<'h, 'm>>> {
    let mut groups: Vec<Vec<Placed<'h, 'm>>> = Vec::new();
    for placed in placed {
        match groups.iter_mut().find(|group| group[0].slot == placed.slot) {
            Some(group) => group.push(placed),
            None => groups.push(vec![placed]),
        }
    }
    groups
}

/// The answers of all groups in the order of the request.
pub(super) fn merge(
    hits: usize,
    groups: &[Vec<Placed<'_, '_>>],
    answers: Vec<Result<SmallVec<[Answer; 2]>, Fault>>,
) -> Replies {
    let mut replies: Replies = (0..hits).map(|_| Err(Fault::Garbled)).collect();
    for (group, answers) in groups.iter().zip(answers) {
        for (index, placed) in group.iter().enumerate() {
            replies[placed.place] = match &answers {
                Ok(answers) => answers.get(index).copied().ok_or(Fault::Garbled),
                Err(fault) => Err(*fault),
            };
        }
    }
    replies
}
