//! What is asked: a domain and descriptors, borrowed from whatever request carried them.

use smallvec::SmallVec;

use super::spec::Quota;
use crate::limit::{FixedWindow, LimitError, Refused, Window};
use crate::time::Span;

/// Ordered (key, value) pairs, outermost level first.
pub type Entries<'a> = SmallVec<[(&'a str, &'a str); 2]>;

/// One request.
#[derive(Clone, Debug, Default)]
pub struct Query<'a> {
    /// Name space of the rules.
    pub domain: &'a str,
    /// Cost of the descriptors that name none of their own; 0 means 1.
    pub hits: u32,
    /// What is limited, in the caller's order.
    pub descriptors: SmallVec<[Descriptor<'a>; 2]>,
    /// The longest that the caller can be kept waiting for a leaky bucket.
    pub patience: Span,
    /// The caller is told at once when its turn comes and waits by itself, so that rules' `max_hold`, which is
    /// about answers that are held back, does not matter.
    pub waits_itself: bool,
}

/// One thing to limit.
#[derive(Clone, Debug, Default)]
pub struct Descriptor<'a> {
    /// Its levels.
    pub entries: Entries<'a>,
    /// Its own cost; `Some(0)` looks without charging.
    pub hits: Option<u64>,
    /// The cost is given back instead of taken.
    pub refund: bool,
    /// A limit to use instead of the configured one.
    pub limit: Option<Box<Override>>,
}

impl<'a> Descriptor<'a> {
    /// The value of the first entry with that key.
    #[must_use]
    pub fn value_of(&self, key: &str) -> Option<&'a str> {
        self.entries.iter().find(|(name, _)| *name == key).map(|&(_, value)| value)
    }
}

/// A limit that came with the request: an epoch-aligned fixed window.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    quota: Quota,
    window: FixedWindow,
}

impl Override {
    /// A limit of `quota`.
    ///
    /// # Errors
    /// No unit, or a window longer than 100 years.
    pub fn new(quota: Quota) -> Result<Override, LimitError> {
        let window =
            FixedWindow::new(quota.requests_per_unit.into(), Window::Epoch(quota.span()), Refused::Counts)?;
        Ok(Override { quota, window })
    }

    /// The limit as the request states it.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// The limit, ready to step.
    pub(super) fn window(&self, refused: Refused) -> FixedWindow {
        self.window.clone().refusing(refused)
    }
}

impl Query<'_> {
    /// What `descriptor` costs: its own `hits`, else the request's, else 1.
    #[must_use]
    pub fn hits_of(&self, descriptor: &Descriptor<'_>) -> u64 {
        descriptor.hits.unwrap_or_else(|| u64::from(self.hits.max(1)))
    }
}
