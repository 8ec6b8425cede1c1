//! The reference's variables for TLS on its gRPC port, which it reads only with `GRPC_SERVER_USE_TLS`.
//!
//! It trusts the system's authorities beside the one that is named; we trust that one alone.

use serde_json::Value;

use super::{Environment, Layers, Problem, env, is_on, not_boolean, switch};

const USE: &str = "GRPC_SERVER_USE_TLS";
const CERT: &str = "GRPC_SERVER_TLS_CERT";
const KEY: &str = "GRPC_SERVER_TLS_KEY";
const SAN: &str = "GRPC_CLIENT_TLS_SAN";
/// Envoy Gateway sets the second name, which the reference does not read though it should; the last one counts.
const CLIENT_CA: [&str; 2] = ["GRPC_SERVER_TLS_CA_CERT", "GRPC_CLIENT_TLS_CACERT"];

/// Adds what the variables set.
pub(super) fn add(environment: &Environment, layers: &mut Layers) {
    let value = |name: &str| environment.value(name).filter(|text| !text.is_empty());
    if let Some(text) = environment.value(USE)
        && switch(text).is_none()
    {
        layers.add_problem(not_boolean(USE, text));
        return;
    }
    if !is_on(environment, USE) {
        for name in CLIENT_CA.into_iter().chain([SAN]).filter(|name| value(name).is_some()) {
            let why = format!("{name} protects nothing unless {USE} is true; set it, or unset {name}");
            layers.add_problem(Problem::Refused { origin: env(name), why });
        }
        return;
    }
    let (Some(cert), Some(key)) = (value(CERT), value(KEY)) else {
        let why = format!("{USE} needs {CERT} and {KEY}");
        layers.add_problem(Problem::Refused { origin: env(USE), why });
        return;
    };
    layers.add_text("grpc.tls.cert", cert, env(CERT));
    layers.add_text("grpc.tls.key", key, env(KEY));
    let mut asks = false;
    for name in CLIENT_CA {
        if let Some(path) = value(name) {
            layers.add_text("grpc.tls.client_ca", path, env(name));
            layers.add_text("grpc.tls.client_auth", "required", env(name));
            asks = true;
        }
    }
    match value(SAN) {
        Some(san) if asks => {
            layers.add_text("grpc.tls.allowed_names", &Value::from(vec![san]).to_string(), env(SAN));
        }
        Some(_) => {
            let why = format!("{SAN} needs {}", CLIENT_CA[1]);
            layers.add_problem(Problem::Refused { origin: env(SAN), why });
        }
        None => {}
    }
}
