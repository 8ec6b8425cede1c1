//! The layout of envoyproxy/ratelimit: its names, its lifetimes, its accounting, so that both servers can count
//! together in one Redis. Only fixed windows, each hit charged on its own, refused ones too; the start of the
//! window is in the name, so that this server's clock rules.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use futures_util::future::join_all;
use smallvec::SmallVec;
use tollgate_core::limit::{Cost, Limit, Retry, Verdict, Window};
use tollgate_core::rules::{Answer, By, Hit, Layout};
use tollgate_core::time::{Span, Time};

use super::groups::{Placed, by_slot, merge};
use super::key::Name;
use super::reply::{Counted, decode_reference};
use super::script::{Counting, encode_reference};
use super::send::Group;
use super::{Options, RedisStore, fault};
use crate::store::{Fault, Replies, Request};

type Told = Result<SmallVec<[Answer; 2]>, Fault>;

impl RedisStore {
    /// Counts every hit as the reference does.
    pub(super) async fn charge_reference(&self, request: &Request<'_>) -> Replies {
        let prefix = &self.sender.options.prefix;
        let placed = request.hits.iter().enumerate().filter_map(|(place, hit)| {
            let limit = hit.rule.limit.as_ref()?;
            let name = Name::reference(prefix, hit, window(limit, request.now)?.0);
            let slot = if self.is_cluster() { name.slot() } else { 0 };
            Some(Placed { place, hit, limit, name, slot })
        });
        let groups = by_slot(placed.collect());
        let told = join_all(groups.iter().map(|group| self.count(request, group))).await;
        merge(request.hits.len(), &groups, told)
    }

    /// The counters of `hits` at `now`, by whichever layout is in use.
    pub(super) fn names(&self, hits: &[Hit<'_>], now: Time) -> Vec<Name> {
        let Options { prefix, layout, .. } = &self.sender.options;
        let name = |hit: &Hit<'_>| {
            let limit = hit.rule.limit.as_ref()?;
            match layout {
                Layout::Tollgate => Some(Name::of(prefix, hit)),
                Layout::Reference => Some(Name::reference(prefix, hit, window(limit, now)?.0)),
            }
        };
        hits.iter().filter_map(name).collect()
    }

    async fn count(&self, request: &Request<'_>, hits: &[Placed<'_, '_>]) -> Told {
        let counting: SmallVec<[Counting; 2]> = hits
            .iter()
            .map(|placed| Counting { cost: placed.hit.ask.cost, ttl_secs: self.ttl(placed.limit) })
            .collect();
        let group = Group {
            slot: hits.first().map_or(0, |placed| placed.slot),
            keys: hits.iter().map(|placed| placed.name.clone().into_bytes()).collect(),
            arguments: encode_reference(&counting),
        };
        let told = self.sender.ask(group, request.patience).await?;
        let counted = decode_reference(&told.bytes, hits.len()).map_err(|_| Fault::Garbled)?;
        let counted = counted.map_err(|text| {
            let fault = fault::of_text(&text);
            self.sender.report.script_failed(fault, &text);
            fault
        })?;
        Ok(hits.iter().zip(counted).map(|(placed, counted)| judged(placed, counted, request.now)).collect())
    }

    /// Seconds that a counter lives after a hit: the window's length, and some more at random, so that many
    /// do not end at once.
    fn ttl(&self, limit: &Limit) -> u64 {
        let length = match limit {
            Limit::FixedWindow(limit) => match limit.window() {
                Window::Epoch(length) => length.as_secs_ceil(),
                Window::Anchored(_) | Window::Calendar(_) => 1,
            },
            _ => 1,
        };
        let most = self.sender.options.expiration_jitter_secs;
        length + if most == 0 { 0 } else { RandomState::default().hash_one(()) % most }
    }
}

/// The window of an aligned limit; no other one is loaded with this layout.
fn window(limit: &Limit, now: Time) -> Option<(Time, Time)> {
    let Limit::FixedWindow(limit) = limit else { return None };
    let Window::Epoch(length) = limit.window() else { return None };
    let start = now - Span::from_micros(now.as_micros() % length.as_micros());
    Some((start, start + *length))
}

/// The reference's verdict: add first, compare then.
fn judged(placed: &Placed<'_, '_>, counted: Counted, now: Time) -> Answer {
    let limit = placed.limit.capacity();
    let end = window(placed.limit, now).map_or(now, |(_, end)| end);
    let allowed = counted.after <= limit || matches!(placed.hit.ask.cost, Cost::Refund(_));
    let retry_after = match placed.hit.ask.cost {
        _ if allowed => Retry::After(Span::ZERO),
        Cost::Take(units) if units > limit => Retry::Never,
        _ => Retry::After(end - now),
    };
    let verdict = Verdict {
        allowed,
        limit,
        remaining: limit.saturating_sub(counted.after),
        used_before: counted.before,
        used: counted.after,
        retry_after,
        reset_after: end - now,
        wait: Span::ZERO,
    };
    Answer { verdict, by: By::Redis }
}
