//! Where the state of every key lives.

pub mod denied;
pub mod memory;
pub mod redis;
pub mod times;

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use smallvec::SmallVec;
use tollgate_core::limit::{Ask, Limit};
use tollgate_core::rules::{Answer, Charge, Hit, Key};
use tollgate_core::time::{Span, Time};

/// One answer per hit, in the order of the hits.
pub type Answers = SmallVec<[Answer; 2]>;

/// One answer per hit, in the order of the hits, or why there is none.
pub type Replies = SmallVec<[Result<Answer, Fault>; 2]>;

/// Replies that may take a round trip.
pub type Charging<'a> = Pin<Box<dyn Future<Output = Replies> + Send + 'a>>;

/// Whether the counters are as new.
pub type Forgetting<'a> = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send + 'a>>;

/// How many keys are gone.
pub type Clearing<'a> = Pin<Box<dyn Future<Output = Result<u64, Fault>> + Send + 'a>>;

/// What is charged together.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// How the hits depend on one another.
    pub charge: Charge,
    /// What is charged.
    pub hits: &'a [Hit<'a>],
    /// The instant of the request by this server's clock. A store with a clock of its own goes by that.
    pub now: Time,
    /// How long the caller waits for an answer; [`Span::MAX`] is for ever.
    pub patience: Span,
    /// The caller's name for this request, `1..=256` bytes: asked again with the same one, the store gives
    /// the same answers and charges nothing, for [`REMEMBERED`].
    pub id: Option<&'a [u8]>,
    /// Which set of rules the hits come from.
    pub generation: u64,
}

impl<'a> Request<'a> {
    /// Charges `hits` at `now` for a caller who waits as long as it takes.
    #[must_use]
    pub const fn new(charge: Charge, hits: &'a [Hit<'a>], now: Time) -> Request<'a> {
        Request { charge, hits, now, patience: Span::MAX, id: None, generation: 0 }
    }
}

/// How long the answers to a request with an id are remembered.
pub const REMEMBERED: Span = Span::from_secs(300);

/// Where state lives. Each hit is read, decided and written as one indivisible step; with
/// [`Charge::AllOrNothing`] all hits of the call are.
pub trait Store: Send + Sync + 'static {
    /// Charges the hits of `request` if that needs no waiting. `None` has charged nothing: use
    /// [`Store::charge`].
    fn charge_now(&self, request: &Request<'_>) -> Option<Replies> {
        request.hits.is_empty().then(Replies::new)
    }

    /// Charges one counter at `now`, as [`Store::charge_now`] does for a request of one hit without an id.
    /// `None` has charged nothing: use that.
    fn charge_key(&self, _counter: (&Key, &Limit), _ask: Ask, _now: Time) -> Option<Answer> {
        None
    }

    /// Charges the hits of `request`. Answers within the caller's patience, if only with faults.
    fn charge<'a>(&'a self, request: Request<'a>) -> Charging<'a>;

    /// Forgets what the counters of `hits` have used at `now`: they are as new.
    fn forget<'a>(&'a self, hits: &'a [Hit<'a>], now: Time) -> Forgetting<'a>;

    /// Forgets everything of ours. Returns how many keys there were, as far as that is known.
    fn clear(&self) -> Clearing<'_>;

    /// How full the store is.
    fn usage(&self) -> Usage;

    /// How long calls of a store that is elsewhere took, since the start; `None` of one that is not.
    fn call_times(&self) -> Option<times::Times> {
        None
    }

    /// Whether it can be asked, as far as is known.
    fn is_up(&self) -> bool {
        true
    }
}

/// Why a store has no answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Fault {
    /// No answer came in time. The hit may have been charged.
    Timeout,
    /// The connection failed. The hit may have been charged.
    Unreachable,
    /// The store failed a moment ago and is not asked until a probe succeeds.
    Open,
    /// Too many requests wait already.
    Overloaded,
    /// The store is still loading its data.
    Loading,
    /// The store takes no writes: a replica, or too few replicas.
    ReadOnly,
    /// The store has no memory left.
    Full,
    /// The store refuses the login or a command.
    Forbidden,
    /// The state was written by a newer version of this program in a form that this one cannot read.
    Newer,
    /// The charge was not confirmed by as many replicas as it should have been.
    Unreplicated,
    /// The store answered something that makes no sense.
    Garbled,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::Timeout,
        Fault::Unreachable,
        Fault::Open,
        Fault::Overloaded,
        Fault::Loading,
        Fault::ReadOnly,
        Fault::Full,
        Fault::Forbidden,
        Fault::Newer,
        Fault::Unreplicated,
        Fault::Garbled,
    ];

    /// One word, for metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Timeout => "timeout",
            Fault::Unreachable => "unreachable",
            Fault::Open => "open",
            Fault::Overloaded => "overloaded",
            Fault::Loading => "loading",
            Fault::ReadOnly => "read_only",
            Fault::Full => "full",
            Fault::Forbidden => "forbidden",
            Fault::Newer => "newer",
            Fault::Unreplicated => "unreplicated",
            Fault::Garbled => "garbled",
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Fault::Timeout => "no answer in time",
            Fault::Unreachable => "the connection failed",
            Fault::Open => "unavailable a moment ago, waiting for it to come back",
            Fault::Overloaded => "too many requests wait for it",
            Fault::Loading => "it is loading its data",
            Fault::ReadOnly => "it takes no writes",
            Fault::Full => "it has no memory left",
            Fault::Forbidden => "it refuses the login or a command",
            Fault::Newer => "the state was written by a newer version of tollgate",
            Fault::Unreplicated => "too few replicas confirmed the charge",
            Fault::Garbled => "the answer makes no sense",
        })
    }
}

/// How much a store holds.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Live keys.
    pub keys: u64,
    /// Bytes that they take, by the store's own estimate.
    pub bytes: u64,
    /// Times that a new key found no room since the start, by what was answered.
    pub full: Full,
    /// States dropped because they equalled fresh ones.
    pub swept: u64,
    /// What a store in Redis counts.
    pub remote: Option<Remote>,
    /// What a cache of refusals counts.
    pub denials: Option<Denials>,
}

/// What a store in Redis counts. Totals since the start, unless said otherwise.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Remote {
    /// Groups of hits that were sent: one for each request, or one for each slot that a request touches.
    pub groups: u64,
    /// Calls of the script; several groups may share one.
    pub calls: u64,
    /// Groups that got no answer, by [`Fault::ALL`].
    pub faults: [u64; Fault::ALL.len()],
    /// States of another algorithm that were replaced.
    pub replaced: u64,
    /// Values that were no state of ours and were replaced.
    pub corrupt: u64,
    /// Charges of an `all_or_nothing` request over several slots that could not be taken back.
    pub uncancelled: u64,
    /// Groups that wait now, for a call or for its answer.
    pub waiting: u64,
    /// Redis servers that are not asked now, since they failed.
    pub open: u64,
    /// Servers of tollgate that share this Redis, as last counted.
    pub servers: u64,
}

/// What a cache of refusals counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Denials {
    /// Refusals that are remembered now.
    pub keys: u64,
    /// Hits that were refused from memory since the start.
    pub hits: u64,
    /// Requests since the start that the store was not asked about at all.
    pub saved: u64,
}

/// How often the store was full, by answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Full {
    /// The new key was refused.
    pub denied: u64,
    /// The new key was admitted without being counted.
    pub allowed: u64,
    /// Used keys were dropped to make room.
    pub evicted: u64,
}
