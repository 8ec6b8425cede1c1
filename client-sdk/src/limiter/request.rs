//! What is asked of the limiter.

use std::time::Duration;

use tollgate_proto::tollgate::v1::{CheckRequest, Criticality, Descriptor, Entry};

use super::error::LimiterError;
use super::key::Key;
use super::wire;

/// Longest idempotency key, in bytes.
const MAX_IDEMPOTENCY_KEY: usize = 256;
/// Most descriptors of one question.
const MAX_DESCRIPTORS: usize = 10_000;
/// Most bytes of all descriptors: one question has to fit into a message.
const MAX_BYTES: usize = 1 << 20;
/// Largest cost: what the wire carries.
const MAX_COST: u64 = i64::MAX as u64;

/// One question: what is counted, and how much of it is wanted.
#[derive(Clone, Debug, Default)]
pub struct Request {
    wire: CheckRequest,
    max_wait: Option<Duration>,
    deadline: Option<Duration>,
}

impl Request {
    /// A question of one descriptor, in the client's own domain, for a cost of 1.
    #[must_use]
    pub fn of<K, V>(entries: impl IntoIterator<Item = (K, V)>) -> Request
    where
        K: Into<String>,
        V: Into<String>,
    {
        Request::default().descriptor(entries)
    }

    /// Adds a descriptor: entries in the order in which the rules nest. All descriptors of a question have to
    /// be within their limits.
    #[must_use]
    pub fn descriptor<K, V>(mut self, entries: impl IntoIterator<Item = (K, V)>) -> Request
    where
        K: Into<String>,
        V: Into<String>,
    {
        self.wire.descriptors.push(descriptor(entries, None));
        self
    }

    /// Adds a descriptor that is charged `cost`, `0..=2^63 - 1`, whatever the question's cost is.
    #[must_use]
    pub fn descriptor_with_cost<K, V>(
        mut self,
        entries: impl IntoIterator<Item = (K, V)>,
        cost: u64,
    ) -> Request
    where
        K: Into<String>,
        V: Into<String>,
    {
        self.wire.descriptors.push(descriptor(entries, Some(cost)));
        self
    }

    /// Whose rules; instead of the client's own domain.
    #[must_use]
    pub fn domain(mut self, domain: impl Into<String>) -> Request {
        self.wire.domain = domain.into();
        self
    }

    /// Charged to each descriptor that has no cost of its own, `0..=2^63 - 1`; 1 if it is not set. 0 looks and
    /// charges nothing.
    #[must_use]
    pub fn cost(mut self, cost: u64) -> Request {
        self.wire.cost = Some(cost);
        self
    }

    /// The caller's name for this question, at most 256 bytes. Asked again with the same name within 5 minutes,
    /// the same answer comes back and nothing is charged; so a question that was lost with its connection is
    /// asked once more.
    #[must_use]
    pub fn idempotency_key(mut self, key: impl Into<Vec<u8>>) -> Request {
        self.wire.idempotency_key = key.into();
        self
    }

    /// The longest wait for its turn that the caller can bear (leaky bucket). Without it, as long as the limit's
    /// queue is. It has nothing to do with the deadline, which is for the decision.
    #[must_use]
    pub fn max_wait(mut self, wait: Duration) -> Request {
        self.max_wait = Some(wait);
        self
    }

    /// How much the caller would mind a refusal by an overloaded limiter.
    #[must_use]
    pub fn criticality(mut self, criticality: Criticality) -> Request {
        self.wire.criticality = criticality.into();
        self
    }

    /// Asks for the names of the rules. Always answered by the service.
    #[must_use]
    pub fn explain(mut self) -> Request {
        self.wire.explain = true;
        self
    }

    /// How long to wait for the decision; instead of the client's own deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Request {
        self.deadline = Some(deadline);
        self
    }

    /// The same question with nothing charged.
    pub(super) fn into_peek(mut self) -> Request {
        self.wire.cost = Some(0);
        self.wire.refund = false;
        for descriptor in &mut self.wire.descriptors {
            descriptor.cost = None;
        }
        self
    }

    /// The same question with the cost given back.
    pub(super) fn into_refund(mut self) -> Request {
        self.wire.refund = true;
        self
    }

    /// Fills what the client knows and checks the rest.
    pub(super) fn prepare(mut self, domain: &str, deadline: Duration) -> Result<Ask, LimiterError> {
        if self.wire.domain.is_empty() {
            self.wire.domain.push_str(domain);
        }
        validate(&self.wire)?;
        let deadline = self.deadline.unwrap_or(deadline);
        self.wire.max_wait = self.max_wait.map(wire::to_wire);
        let key = Key::of(&self.wire.domain, &self.wire.descriptors);
        if key.len() > MAX_BYTES {
            return Err(LimiterError::Invalid("descriptors: at most 1 MiB together".into()));
        }
        Ok(Ask { key, cost: uniform_cost(&self.wire), wire: self.wire, max_wait: self.max_wait, deadline })
    }
}

fn descriptor<K, V>(entries: impl IntoIterator<Item = (K, V)>, cost: Option<u64>) -> Descriptor
where
    K: Into<String>,
    V: Into<String>,
{
    let entry = |(key, value): (K, V)| Entry { key: key.into(), value: value.into() };
    Descriptor { entries: entries.into_iter().map(entry).collect(), cost }
}

/// What every descriptor is charged, if that is the same for all.
fn uniform_cost(wire: &CheckRequest) -> Option<u64> {
    let own = wire.cost.unwrap_or(1);
    wire.descriptors.iter().all(|descriptor| descriptor.cost.is_none_or(|cost| cost == own)).then_some(own)
}

fn validate(wire: &CheckRequest) -> Result<(), LimiterError> {
    let invalid = |message: &str| Err(LimiterError::Invalid(message.into()));
    if wire.domain.is_empty() {
        return invalid("domain: set one in the request or in the client");
    }
    if wire.descriptors.is_empty() || wire.descriptors.len() > MAX_DESCRIPTORS {
        return invalid("descriptors: 1 to 10000 are needed");
    }
    if wire.idempotency_key.len() > MAX_IDEMPOTENCY_KEY {
        return invalid("idempotency_key: at most 256 bytes");
    }
    let costs = wire.descriptors.iter().filter_map(|descriptor| descriptor.cost);
    if costs.chain(wire.cost).any(|cost| cost > MAX_COST) {
        return invalid("cost: 0 to 2^63-1");
    }
    for descriptor in &wire.descriptors {
        if descriptor.entries.is_empty() {
            return invalid("descriptors: each needs an entry");
        }
        if descriptor.entries.iter().any(|entry| entry.key.is_empty()) {
            return invalid("descriptors: an entry's key is empty");
        }
    }
    Ok(())
}

/// A question, ready to be asked.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    /// As it goes out.
    pub(super) wire: CheckRequest,
    /// What it counts.
    pub(super) key: Key,
    /// What each descriptor is charged, if that is the same for all.
    pub(super) cost: Option<u64>,
    /// The longest wait for a turn; `None` is any.
    pub(super) max_wait: Option<Duration>,
    /// How long the decision may take.
    pub(super) deadline: Duration,
}

impl Ask {
    /// The cost, if an answer from memory is as good as one from the service: a plain charge.
    pub(super) fn plain_cost(&self) -> Option<u64> {
        let plain = !self.wire.refund && !self.wire.explain && self.wire.idempotency_key.is_empty();
        self.cost.filter(|&cost| plain && cost > 0)
    }

    /// The most that any descriptor is charged.
    pub(super) fn largest_cost(&self) -> u64 {
        let own = self.wire.cost.unwrap_or(1);
        let costs = self.wire.descriptors.iter().map(|descriptor| descriptor.cost.unwrap_or(own));
        costs.max().unwrap_or(own)
    }

    /// Whether it may be asked twice.
    pub(super) fn repeatable(&self) -> bool {
        let looks = self.cost == Some(0);
        looks || !self.wire.idempotency_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(request: Request) -> Result<Ask, LimiterError> {
        request.prepare("shop", Duration::from_millis(50))
    }

    fn message(request: Request) -> String {
        prepared(request).unwrap_err().to_string()
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        assert!(message(Request::default()).contains("descriptors"));
        assert!(message(Request::of([("", "x")])).contains("key is empty"));
        assert!(message(Request::of([("a", "b")]).cost(1 << 63)).contains("cost"));
        assert!(message(Request::of([("a", "b")]).idempotency_key(vec![0; 257])).contains("idempotency_key"));
        assert!(message(Request::of([("a", "b".repeat(1 << 20))])).contains("1 MiB"));
        let nowhere = Request::of([("a", "b")]).prepare("", Duration::from_millis(1)).unwrap_err();
        assert!(nowhere.to_string().contains("domain"));
    }

    #[test]
    fn any_wait_will_do_unless_one_is_named() {
        assert_eq!(prepared(Request::of([("a", "b")])).unwrap().wire.max_wait, None);
        let ask = prepared(Request::of([("a", "b")]).max_wait(Duration::ZERO)).unwrap();
        assert_eq!(ask.wire.max_wait, Some(prost_types::Duration { seconds: 0, nanos: 0 }));
    }

    #[test]
    fn only_plain_charges_are_answered_from_memory() {
        let request = || Request::of([("a", "b")]);
        assert_eq!(prepared(request().cost(3)).unwrap().plain_cost(), Some(3));
        assert_eq!(prepared(request().into_peek()).unwrap().plain_cost(), None);
        assert_eq!(prepared(request().into_refund()).unwrap().plain_cost(), None);
        assert_eq!(prepared(request().explain()).unwrap().plain_cost(), None);
        assert_eq!(prepared(request().idempotency_key(*b"x")).unwrap().plain_cost(), None);
        let mixed = request().descriptor_with_cost([("c", "d")], 2);
        assert_eq!(prepared(mixed).unwrap().plain_cost(), None);
    }

    #[test]
    fn looks_and_named_questions_may_be_asked_twice() {
        assert!(prepared(Request::of([("a", "b")]).into_peek()).unwrap().repeatable());
        assert!(prepared(Request::of([("a", "b")]).idempotency_key(*b"x")).unwrap().repeatable());
        assert!(!prepared(Request::of([("a", "b")])).unwrap().repeatable());
    }
}
