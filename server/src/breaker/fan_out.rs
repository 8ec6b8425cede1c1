//! Questions that one answer settles: asked here, or of the server that knows.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;
use tollgate_proto::tollgate::v1 as wire;
use tonic::{Response, Status};

use super::Breakers;
use super::circuits::{Caller, Page};
use super::decode::{self, Reporter, Said, invalid};
use super::key::Key;
use super::members::Owner;
use super::overrides::Wish;
use super::relay::Client;

/// Longest time that another server may take.
const ANSWER: Duration = Duration::from_secs(1);
/// Circuits on a page, if it is not said, and at the most.
const PAGE: u32 = 100;
const LARGEST_PAGE: u32 = 1_000;

/// What is asked of circuits of this server.
impl Breakers {
    pub(super) fn own_report(
        &self,
        key: &Key,
        reporter: &Reporter,
        said: &[Said],
    ) -> Option<wire::Directive> {
        self.circuits.hear(self.now(), key, Caller { reporter, listens: None }, said)
    }

    pub(super) fn own_probe(&self, key: &Key, reporter: &Reporter) -> Option<wire::Directive> {
        self.circuits.acquire_probe(self.now(), key, Caller { reporter, listens: None })
    }

    pub(super) fn own_circuit(&self, key: &Key) -> Result<wire::Circuit, Status> {
        let circuit = self.circuits.get(self.now(), key, &self.me.address);
        circuit.ok_or_else(|| Status::not_found(format!("nobody has reported on {key} lately")))
    }

    pub(super) fn own_page(
        &self,
        asked: &wire::ListCircuitsRequest,
    ) -> Result<wire::ListCircuitsResponse, Status> {
        let page = page(asked)?;
        let mut circuits =
            self.circuits.list(self.now(), &Page { size: page.size + 1, ..page.clone() }, &self.me.address);
        let next_page_token = cut(&mut circuits, page.size);
        Ok(wire::ListCircuitsResponse { circuits, next_page_token })
    }

    pub(super) fn own_override(&self, key: &Key, wish: &Wish) -> Result<wire::Circuit, Status> {
        let forced = match wish {
            Wish::Force(forced) => Some(forced),
            Wish::Free { .. } => None,
        };
        let kept = self.circuits.force(self.now(), key, forced);
        kept.ok_or_else(|| Status::resource_exhausted(format!("this server keeps no circuit {key}")))?;
        self.own_circuit(key)
    }
}

/// What is asked of circuits, whoever owns them.
impl Breakers {
    pub(super) async fn report(
        &self,
        request: wire::ReportOutcomesRequest,
    ) -> Result<wire::ReportOutcomesResponse, Status> {
        let wire::ReportOutcomesRequest { reporter, deltas, claims } = request;
        let reporter = decode::reporter(reporter)?;
        self.counts.reported(deltas.len());
        let heard = decode::heard(wire::SyncRequest { deltas, claims, ..Default::default() })?;
        let mut outgoing = super::Outgoing::default();
        let mut directives = Vec::new();
        let members = self.members.load_full();
        for (key, said) in heard.about {
            let Owner::Peer(name) = members.owner(&key) else {
                directives.extend(self.own_report(&key, &reporter, &said));
                continue;
            };
            super::add(outgoing.entry(name.into()).or_default(), &key, said, false);
        }
        for (name, wire::SyncRequest { deltas, claims, .. }) in outgoing {
            let report =
                wire::ReportOutcomesRequest { reporter: Some(reporter.wire.clone()), deltas, claims };
            let mut client = self.client(&name)?;
            let answer = answered(&name, client.report_own_outcomes(report)).await?;
            directives.extend(answer.directives);
        }
        Ok(wire::ReportOutcomesResponse { directives })
    }

    pub(super) async fn probe(
        &self,
        request: wire::AcquireProbeRequest,
    ) -> Result<wire::AcquireProbeResponse, Status> {
        let key = decode::key(request.key.as_ref(), "key")?;
        let reporter = decode::reporter(request.reporter.clone())?;
        let Some((name, mut client)) = self.owner(&key)? else {
            return Ok(wire::AcquireProbeResponse { directive: self.own_probe(&key, &reporter) });
        };
        answered(&name, client.acquire_own_probe(request)).await
    }

    pub(super) async fn get(&self, request: wire::GetCircuitRequest) -> Result<wire::Circuit, Status> {
        let key = decode::key(request.key.as_ref(), "key")?;
        let Some((name, mut client)) = self.owner(&key)? else { return self.own_circuit(&key) };
        answered(&name, client.get_own_circuit(request)).await
    }

    pub(super) async fn list(
        &self,
        request: wire::ListCircuitsRequest,
    ) -> Result<wire::ListCircuitsResponse, Status> {
        let size = page(&request)?.size;
        let mut all = self.own_page(&request)?;
        let members = self.members.load_full();
        let asked = members.others().map(async |name| {
            let mut client = self.client(name)?;
            answered(name, client.list_own_circuits(request.clone())).await
        });
        let mut more = !all.next_page_token.is_empty();
        for answer in join_all(asked).await {
            let answer = answer?;
            more |= !answer.next_page_token.is_empty();
            all.circuits.extend(answer.circuits);
        }
        let key = |circuit: &wire::Circuit| circuit.key.as_ref().and_then(|key| Key::read(key).ok());
        // while it moves a circuit may be with two: the later owner knows best
        let epoch = |circuit: &wire::Circuit| circuit.epoch.map(|epoch| (epoch.incarnation, epoch.counter));
        all.circuits.sort_by(|one, other| (key(one), epoch(other)).cmp(&(key(other), epoch(one))));
        all.circuits.dedup_by(|one, other| one.key == other.key);
        all.next_page_token = cut(&mut all.circuits, size);
        if all.next_page_token.is_empty() && more {
            all.next_page_token = token(all.circuits.last());
        }
        Ok(all)
    }

    pub(super) async fn force(&self, request: wire::SetOverrideRequest) -> Result<wire::Circuit, Status> {
        let key = decode::key(request.key.as_ref(), "key")?;
        let wish = Wish::read(request.r#override.clone(), self.now())?;
        let (forced, actor, reason) = match &wish {
            Wish::Force(forced) => (Some(forced), &forced.actor, &forced.reason),
            Wish::Free { actor, reason } => (None, actor, reason),
        };
        if forced.is_some() && !self.circuits.overrides.has_room(&key, self.now()) {
            let most = super::overrides::MOST;
            return Err(Status::resource_exhausted(format!("{most} circuits are forced already")));
        }
        self.store_forced(&key, forced).await.map_err(|fault| {
            Status::unavailable(format!("nothing has changed: the store cannot be asked ({})", fault.name()))
        })?;
        let mode = forced.map(|forced| forced.mode);
        let ttl = forced
            .and_then(|forced| forced.until)
            .map(|until| format!("{}s", (until - self.now()).as_secs_ceil()));
        tracing::info!(target: "audit", circuit = %key, ?mode, ttl, actor, reason, "a circuit is forced by hand");
        self.circuits.overrides.set(&key, forced.cloned());
        let Some((name, mut client)) = self.owner(&key)? else { return self.own_override(&key, &wish) };
        let told = answered(&name, client.set_own_override(request)).await;
        told.map_err(|status| {
            let why = format!("stored, and obeyed within seconds; {}", status.message());
            Status::new(status.code(), why)
        })
    }

    /// The other server that owns `key`; `None` if it is this one.
    fn owner(&self, key: &Key) -> Result<Option<(String, Client)>, Status> {
        let members = self.members.load();
        match members.owner(key) {
            Owner::Me => Ok(None),
            Owner::Peer(name) => Ok(Some((name.to_owned(), self.client(name)?))),
        }
    }

    fn client(&self, name: &str) -> Result<Client, Status> {
        let missing = || Status::unavailable(format!("the server {name} cannot be reached; try again"));
        self.links.client(name).ok_or_else(missing)
    }
}

async fn answered<T>(
    name: &str,
    asked: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    match timeout(ANSWER, asked).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        // the circuit is moving; another try finds its new owner
        Ok(Err(status)) if status.code() == tonic::Code::FailedPrecondition => {
            Err(Status::unavailable(format!("{}; try again", status.message())))
        }
        Ok(Err(status))
            if matches!(status.code(), tonic::Code::NotFound | tonic::Code::ResourceExhausted) =>
        {
            Err(status)
        }
        Ok(Err(status)) => {
            Err(Status::unavailable(format!("the server {name} failed: {}", status.message())))
        }
        Err(_) => Err(Status::unavailable(format!("the server {name} does not answer"))),
    }
}

fn page(asked: &wire::ListCircuitsRequest) -> Result<Page<'_>, Status> {
    let size = match asked.page_size {
        0 => PAGE,
        size @ 1..=LARGEST_PAGE => size,
        size => return Err(invalid(format!("page_size is {size}, must be 0 to {LARGEST_PAGE}"))),
    };
    let after = match asked.page_token.as_str() {
        "" => None,
        text => {
            Some(Key::from_text(text).ok_or_else(|| invalid("page_token is not from an answer of ours"))?)
        }
    };
    Ok(Page { namespace: &asked.namespace, after, size: size as usize })
}

/// Cuts the page to its size. Where the next one begins; empty if there is none.
fn cut(circuits: &mut Vec<wire::Circuit>, size: usize) -> String {
    if circuits.len() <= size {
        return String::new();
    }
    circuits.truncate(size);
    token(circuits.last())
}

fn token(last: Option<&wire::Circuit>) -> String {
    let key = last.and_then(|last| Key::read(last.key.as_ref()?).ok());
    key.map(|key| key.to_text()).unwrap_or_default()
}
