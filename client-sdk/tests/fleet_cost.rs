//! What ten thousand circuits of one client cost while nothing happens. Alone in its process: it measures that.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollgate_client::CircuitBreaker;
use tollgate_client::fleet::{FleetCircuit, FleetClient, MAX_CIRCUITS};

/// Processor time of this thread.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// Memory of this process, in KiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn breakers(fleet: Option<&FleetClient>) -> Vec<CircuitBreaker> {
    let build = |number: usize| {
        let builder = CircuitBreaker::builder("many");
        match fleet {
            Some(client) => {
                let circuit = FleetCircuit::of(client).key("demo", format!("target-{number}"));
                builder.fleet(circuit).build().unwrap()
            }
            None => builder.build().unwrap(),
        }
    };
    (0..MAX_CIRCUITS).map(build).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn ten_thousand_idle_circuits_cost_little() {
    let start = resident();
    let alone = breakers(None);
    let without = resident() - start;
    // nobody listens there
    let client = FleetClient::builder("http://127.0.0.1:1").connect_lazy().unwrap();
    let joined = breakers(Some(&client));
    sleep(Duration::from_millis(500)).await;
    let with = resident() - start - without;
    let (begun, used) = (Instant::now(), cpu());
    sleep(Duration::from_secs(2)).await;
    let share = (cpu() - used).as_secs_f64() / begun.elapsed().as_secs_f64();
    let bytes = |kib: usize| kib * 1_024 / MAX_CIRCUITS;
    println!("a breaker {} bytes, with a circuit {} bytes", bytes(without), bytes(with));
    println!("the task of {} idle circuits: {:.3} % of one core", joined.len(), share * 100.0);
    assert_eq!((alone.len(), client.circuits()), (MAX_CIRCUITS, MAX_CIRCUITS));
    assert!(bytes(with) < bytes(without) + 4_096, "{with} KiB, {without} KiB without the fleet");
    assert!(share < 0.02, "{share}");
}
