//! The generator and its oracle against servers that keep their limit, and one that does not.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tollgate_core::limit::{Ask, Limit, Rate, State, TokenBucket};
use tollgate_core::time::{Span, Time};
use tollgate_loadtest::load::clock::Clock;
use tollgate_loadtest::load::drive::{Target, step};
use tollgate_loadtest::load::measure::Step;
use tollgate_loadtest::load::oracle::{Oracle, Verdict as Judged};
use tollgate_loadtest::load::scenario::Scenario;
use tollgate_proto::envoy::service::ratelimit::v3 as rls;
use tollgate_proto::tollgate::v1;
use tonic::{Request, Response, Status, Streaming};

/// One bucket for all; every tenth refusal of the cheat lets pass.
#[derive(Clone)]
struct Server {
    limit: Limit,
    state: Arc<Mutex<(Option<State>, u64)>>,
    cheats: bool,
    clock: Clock,
}

impl Server {
    fn new(limit: Limit, cheats: bool) -> Server {
        Server { limit, state: Arc::default(), cheats, clock: Clock::start() }
    }

    fn admits(&self) -> bool {
        let now = Time::from_micros(1_000_000 + self.clock.now() / 1_000);
        let mut state = self.state.lock().unwrap();
        let step = self.limit.step(state.0.as_ref(), now, Ask::take(1));
        if let Some(next) = step.state {
            state.0 = Some(next);
        }
        if step.verdict.allowed {
            return true;
        }
        state.1 += 1;
        self.cheats && state.1.is_multiple_of(10)
    }
}

#[tonic::async_trait]
impl rls::rate_limit_service_server::RateLimitService for Server {
    async fn should_rate_limit(
        &self,
        _: Request<rls::RateLimitRequest>,
    ) -> Result<Response<rls::RateLimitResponse>, Status> {
        let overall_code = if self.admits() { 1 } else { 2 };
        Ok(Response::new(rls::RateLimitResponse { overall_code, ..rls::RateLimitResponse::default() }))
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::CheckStreamResponse, Status>> + Send>>;

#[tonic::async_trait]
impl v1::rate_limiter_server::RateLimiter for Server {
    type CheckStreamStream = Answers;

    async fn check(&self, _: Request<v1::CheckRequest>) -> Result<Response<v1::CheckResponse>, Status> {
        Ok(Response::new(v1::CheckResponse { allowed: self.admits(), ..v1::CheckResponse::default() }))
    }

    async fn check_stream(
        &self,
        asked: Request<Streaming<v1::CheckStreamRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let server = self.clone();
        let answers = asked.into_inner().map(move |message| {
            let answer = |item: v1::CheckItem| {
                let decision = v1::CheckResponse { allowed: server.admits(), ..v1::CheckResponse::default() };
                v1::CheckAnswer { id: item.id, answer: Some(v1::check_answer::Answer::Decision(decision)) }
            };
            message.map(|message| v1::CheckStreamResponse {
                answers: message.items.into_iter().map(answer).collect(),
            })
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn lease(&self, _: Request<v1::LeaseRequest>) -> Result<Response<v1::LeaseResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }

    async fn return_lease(
        &self,
        _: Request<v1::ReturnLeaseRequest>,
    ) -> Result<Response<v1::ReturnLeaseResponse>, Status> {
        Err(Status::unimplemented("not asked here"))
    }
}

/// Serves until the runtime is dropped.
fn serve(runtime: &tokio::runtime::Runtime, server: &Server) -> SocketAddr {
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let rls = rls::rate_limit_service_server::RateLimitServiceServer::new(server.clone());
    let native = v1::rate_limiter_server::RateLimiterServer::new(server.clone());
    let routes = tonic::transport::Server::builder().add_service(rls).add_service(native);
    runtime.spawn(routes.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn scenario(api: &str) -> Scenario {
    let text = format!(
        r#"
        name = "test"
        about = "test"
        api = "{api}"
        connections = 3
        rates = [1500]
        warmup = 0.2
        seconds = 0.8
        keys = {{ kind = "one" }}
        limit = {{ algorithm = "token_bucket", count = 300, seconds = 1, burst = 50 }}
        [request]
        domain = "test"
        descriptors = [[{{ key = "user", value = "{{key}}" }}]]
        "#
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.toml");
    std::fs::write(&file, text).unwrap();
    Scenario::read(&file).unwrap()
}

fn asked(api: &str, cheats: bool) -> (Step, Judged) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let limit = TokenBucket::new(Rate::new(300, Span::SECOND).unwrap(), 50).unwrap();
    let limit = Limit::TokenBucket(limit);
    let address = serve(&runtime, &Server::new(limit.clone(), cheats));
    let target = Target { addresses: vec![address], watched: Vec::new() };
    let mut oracle = Oracle::new(limit);
    let step = step(&scenario(api), &target, 1500.0, Some(&mut oracle), &mut |_| {}).unwrap();
    (step, oracle.verdict())
}

#[test]
fn who_keeps_the_limit_is_not_accused() {
    for api in ["rls", "check", "check_stream"] {
        let (step, judged) = asked(api, false);
        assert_eq!(step.failed, 0, "{api}");
        assert_eq!(step.admitted + step.refused, step.meant, "{api}: every question has one answer");
        assert!(step.meant > 900, "{api}: about 1200 were meant, {}", step.meant);
        assert!(step.admitted > 100 && step.refused > 100, "{api}: {} {}", step.admitted, step.refused);
        assert_eq!(judged.broken, 0, "{api}: {judged:?}");
        assert!(judged.admitted >= step.admitted, "{api}: those of the warm-up are judged too");
    }
}

#[test]
fn who_breaks_the_limit_is_caught() {
    for api in ["rls", "check", "check_stream"] {
        let (_, judged) = asked(api, true);
        assert_eq!((judged.keys, judged.broken), (1, 1), "{api}");
        assert!(judged.findings[0].breach.excess() > 0, "{api}");
    }
}

#[test]
fn the_scenarios_of_this_folder_can_be_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() > 10);
    for file in files {
        Scenario::read(&file).unwrap();
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let mut wrong = scenario("rls");
    wrong.connections = 0;
    assert!(wrong.check().unwrap_err().to_string().contains("connections is 0, must be 1 to 10000"));
    let mut wrong = scenario("rls");
    wrong.rates = vec![-1.0];
    assert!(wrong.check().unwrap_err().to_string().contains("a rate is -1"));
}
