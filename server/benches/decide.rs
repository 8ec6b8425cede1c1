//! Nanoseconds of processor time of a whole decision inside the process: decode, match, charge, settle, count,
//! encode. No network. Medians of five interleaved runs. Linux only.

use std::hint::black_box;
use std::sync::Arc;

use tollgate_core::rules::Defaults;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tollgate_proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;
use tollgate_proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tollgate_server::adapter::rls::{RlsOptions, RlsService};
use tollgate_server::clock::SystemClock;
use tollgate_server::config::compile::compile;
use tollgate_server::config::rules::{Options, Source};
use tollgate_server::config::ruleset::Ruleset;
use tollgate_server::engine::Engine;
use tollgate_server::fallback::{Fallback, Servers};
use tollgate_server::store::memory::{Bounds, MemoryStore, OnFull};
use tollgate_server::telemetry::metrics::{MetricOptions, Metrics};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RUNS: usize = 5;
const ROUNDS: usize = 200_000;
const ALGORITHMS: [&str; 4] = ["fixed_window", "token_bucket", "sliding_window", "leaky_bucket"];

fn service() -> Result<RlsService, String> {
    let mut rules = "domain: bench\ndescriptors:\n".to_owned();
    for algorithm in ALGORITHMS {
        let terms = match algorithm {
            "fixed_window" | "sliding_window" => "unit: hour, requests_per_unit: 4294967295",
            _ => "unit: second, requests_per_unit: 10000000",
        };
        rules += &format!("  - key: {algorithm}\n    rate_limit: {{ {terms}, algorithm: {algorithm} }}\n");
    }
    let metrics = Arc::new(Metrics::new(MetricOptions {
        near_limit_ratio: 0.8,
        reference_names: false,
        stripes: 1,
        response_time_as_milliseconds: false,
    }));
    let bounds = Bounds { max_keys: 10_000_000, max_bytes: u64::MAX, on_full: OnFull::Deny };
    let engine = Arc::new(Engine::new(
        Arc::new(MemoryStore::new(bounds)),
        Arc::new(Fallback::new(Servers::new(1))),
        Arc::new(SystemClock),
        metrics,
    ));
    let source = Source { name: "bench.yaml".into(), bytes: rules.into_bytes() };
    let problems = |problems: Vec<_>| format!("{problems:?}");
    let compiled = compile(&[source], &Options::default(), Defaults::default()).map_err(problems)?;
    engine.use_rules(Arc::new(Ruleset::new(compiled.matcher, engine.metrics())));
    Ok(RlsService::new(engine, Arc::new(RlsOptions::default())))
}

fn descriptor(key: &str, value: usize) -> RateLimitDescriptor {
    let entry = Entry { key: key.into(), value: format!("value-{value:012}") };
    RateLimitDescriptor { entries: vec![entry], ..RateLimitDescriptor::default() }
}

fn request(descriptors: Vec<RateLimitDescriptor>) -> RateLimitRequest {
    RateLimitRequest { domain: "bench".into(), descriptors, hits_addend: 0 }
}

/// Nanoseconds that this thread has run on a processor: what others run beside it does not count.
fn on_processor() -> f64 {
    let status = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    status.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(f64::NAN)
}

async fn nanos(service: &RlsService, requests: &[RateLimitRequest]) -> f64 {
    let began = on_processor();
    for round in 0..ROUNDS {
        // far apart, so that the processor cannot guess the next key
        let request = &requests[round.wrapping_mul(7_919) % requests.len()];
        let _answer = black_box(service.answer(black_box(request), None).await);
    }
    #[expect(clippy::cast_precision_loss, reason = "a figure for people")]
    let rounds = ROUNDS as f64;
    (on_processor() - began) / rounds
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), String> {
    let service = service()?;
    let mut cases: Vec<(String, Vec<RateLimitRequest>)> = Vec::new();
    for algorithm in ["fixed_window", "token_bucket", "sliding_window"] {
        cases.push((format!("{algorithm}, hot key"), vec![request(vec![descriptor(algorithm, 0)])]));
    }
    let many = |count: usize| (0..count).map(|key| request(vec![descriptor("fixed_window", key)])).collect();
    cases.push(("fixed_window, 100 000 keys".into(), many(100_000)));
    let four = (0..4).map(|key| descriptor("fixed_window", key)).collect();
    cases.push(("four descriptors, hot keys".into(), vec![request(four)]));
    let unmatched = descriptor("nobody", 0);
    cases.push(("no rule matches".into(), vec![request(vec![unmatched])]));

    let mut figures: Vec<Vec<f64>> = cases.iter().map(|_| Vec::new()).collect();
    for _ in 0..RUNS {
        for ((_, requests), figures) in cases.iter().zip(&mut figures) {
            figures.push(nanos(&service, requests).await);
        }
    }
    println!("{:<30}{:>8}   medians of {RUNS}", "ns per decision", "");
    for ((name, _), mut figures) in cases.into_iter().zip(figures) {
        figures.sort_by(f64::total_cmp);
        println!("{name:<30}{:>8.0}", figures[RUNS / 2]);
    }
    Ok(())
}
