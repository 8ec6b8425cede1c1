//! Our circuit breaker beside its peers. See the README.

#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock, and peers have no other")]

mod apart;
mod cost;
mod real_time;
#[allow(dead_code, reason = "shared with the tests of the core")]
#[path = "../../../../core/tests/breaker/run.rs"]
mod run;
#[allow(dead_code, reason = "shared with the tests of the core")]
#[path = "../../../../core/tests/breaker/script.rs"]
mod script;
mod subjects;
mod vectors;

fn main() {
    let verbose = std::env::args().any(|argument| argument == "-v");
    cost::print();
    println!();
    vectors::print(verbose);
}
