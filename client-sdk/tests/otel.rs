//! Breakers as metrics, read as Prometheus reads them.

use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use tollgate_client::breaker::TransitionCounter;
use tollgate_client::{CircuitBreakerConfig, CircuitBreakerRegistry};

#[test]
fn breakers_are_shown_with_their_names() {
    let page = Registry::new();
    let exporter = opentelemetry_prometheus::exporter().with_registry(page.clone());
    let provider = SdkMeterProvider::builder().with_reader(exporter.build().unwrap()).build();
    let meter = provider.meter("test");
    let config = CircuitBreakerConfig { consecutive_failures: Some(2), ..CircuitBreakerConfig::default() };
    let registry = CircuitBreakerRegistry::builder()
        .default_config(config)
        .listener(TransitionCounter::new(&meter))
        .build()
        .unwrap();
    registry.observe(&meter);
    let (good, bad) = (registry.get("good"), registry.get("bad"));
    good.try_acquire().unwrap().success();
    (0..2).for_each(|_| bad.try_acquire().unwrap().failure());
    assert!(bad.try_acquire().is_err());
    let text = TextEncoder::new().encode_to_string(&page.gather()).unwrap();
    let line = |start: &str, parts: &[&str], value: &str| {
        let fits = |line: &&str| line.starts_with(start) && parts.iter().all(|part| line.contains(part));
        let found = text.lines().find(fits).unwrap_or_else(|| panic!("{start} {parts:?} in\n{text}"));
        assert!(found.ends_with(value), "{found}");
    };
    line("circuit_breaker_state", &[r#"name="good""#, r#"state="closed""#], " 1");
    line("circuit_breaker_state", &[r#"name="bad""#, r#"state="open""#], " 1");
    line("circuit_breaker_state", &[r#"name="bad""#, r#"state="closed""#], " 0");
    line("circuit_breaker_not_permitted", &[r#"name="bad""#], " 1");
    line("circuit_breaker_transitions", &[r#"from="closed""#, r#"name="bad""#, r#"to="open""#], " 1");
}
