//! The replicas, and which of them is asked.

use std::sync::Arc;

use tollgate_core::load::OutOfRange;
use tollgate_core::load::outlier::{OutlierConfig, Pool};
use tollgate_core::load::rendezvous::{self, Rendezvous};
use tollgate_core::time::Time;

use super::endpoint::{Endpoint, Reach};
use super::random::Random;

/// How a replica is chosen.
#[derive(Clone, Copy, Debug)]
pub(super) enum Route {
    /// The key's owner, the same for all clients: who has its lease.
    Owner(u64),
    /// The one that will answer soonest.
    Fastest,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Pick {
    /// Ask this one.
    Use(Arc<Endpoint>),
    /// None can be asked, but one may be soon.
    Wait,
    /// None can be asked.
    Nobody,
}

/// The replicas of one moment.
#[derive(Debug)]
pub(super) struct Members {
    endpoints: Vec<Arc<Endpoint>>,
    owners: Rendezvous,
    ejection: OutlierConfig,
}

impl Members {
    /// # Errors
    /// A weight out of range.
    pub(super) fn new(endpoints: Vec<Arc<Endpoint>>) -> Result<Members, OutOfRange> {
        let member =
            |endpoint: &Arc<Endpoint>| rendezvous::Member { id: endpoint.id, weight: endpoint.member.weight };
        let owners = Rendezvous::new(endpoints.iter().map(member).collect::<Vec<_>>())?;
        Ok(Members { endpoints, owners, ejection: OutlierConfig::default() })
    }

    pub(super) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Counts who is out.
    pub(super) fn pool(&self, now: Time) -> Pool {
        let mut pool = Pool::default();
        for endpoint in &self.endpoints {
            pool.endpoints += 1;
            if endpoint.outlier.is_ejected(now) {
                pool.ejected += 1;
            } else if endpoint.reach() == Reach::Down {
                pool.unreachable += 1;
            }
        }
        pool
    }

    /// Chooses one. Endpoints that are out are avoided, unless too many are.
    pub(super) fn pick(&self, route: Route, now: Time, random: &Random) -> Pick {
        let panics = self.ejection.panics(self.pool(now));
        let fit = |endpoint: &Endpoint| {
            endpoint.reach() == Reach::Up && (panics || !endpoint.outlier.is_ejected(now))
        };
        let chosen = match route {
            Route::Owner(key) => self.owner(key, fit),
            Route::Fastest => self.faster(fit, now, random),
        };
        // whoever is connected is better than nobody
        let any = || self.endpoints.iter().find(|endpoint| endpoint.reach() == Reach::Up);
        match chosen.or_else(any) {
            Some(endpoint) => Pick::Use(endpoint.clone()),
            None if self.endpoints.iter().any(|endpoint| endpoint.reach() == Reach::Soon) => Pick::Wait,
            None => Pick::Nobody,
        }
    }

    /// The key's owner; if it is not fit, who takes over.
    fn owner(&self, key: u64, fit: impl Fn(&Endpoint) -> bool) -> Option<&Arc<Endpoint>> {
        let owner = self.owners.owner(key).and_then(|index| self.endpoints.get(index));
        if owner.is_some_and(|owner| fit(owner)) {
            return owner;
        }
        let ranked = self.owners.rank(key, self.endpoints.len());
        ranked.into_iter().filter_map(|index| self.endpoints.get(index)).find(|endpoint| fit(endpoint))
    }

    /// The better of two that were drawn (Mitzenmacher, "The power of two choices", 2001).
    fn faster(&self, fit: impl Fn(&Endpoint) -> bool, now: Time, random: &Random) -> Option<&Arc<Endpoint>> {
        let fit = |index: &usize| self.endpoints.get(*index).is_some_and(|endpoint| fit(endpoint));
        let count = (0..self.endpoints.len()).filter(fit).count();
        let mut drawn = (0..self.endpoints.len()).filter(fit);
        let Some((one, two)) = random.two_of(count) else {
            return drawn.next().and_then(|index| self.endpoints.get(index));
        };
        let (first, second) = (one.min(two), one.max(two));
        let first_index = drawn.nth(first)?;
        let second_index = drawn.nth(second - first - 1)?;
        let (first, second) = (self.endpoints.get(first_index)?, self.endpoints.get(second_index)?);
        Some(if second.load(now) < first.load(now) { second } else { first })
    }
}
