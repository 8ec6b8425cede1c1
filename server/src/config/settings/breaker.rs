//! Section `[breaker]`: circuits that a fleet of clients shares. Section `[peers]`: how servers share them.

mod thresholds;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tollgate_core::breaker::fleet::FleetConfig;

use self::thresholds::Common;
pub use self::thresholds::Thresholds;
use super::origin::Origins;
use super::problem::Problem;
use super::secret::Secret;
use super::store::{Store, StoreKind};

/// `[breaker]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// What circuits do that no pattern names, `metrics_only`.
    pub mode: BreakerMode,
    /// Circuits that this server keeps, `20000`, from 1 to 1000000; one more is not kept.
    pub max_circuits: u32,
    /// Clients that one circuit tells apart, `4096`, from 8 to 65536.
    pub max_reporters: u32,
    /// Circuits that one stream may name, `1000`, from 1 to 100000.
    pub max_keys_per_client: u32,
    /// Thresholds.
    pub defaults: Thresholds,
    /// Patterns, the first that matches a circuit rules it; empty.
    pub circuits: Vec<CircuitRule>,
}

impl Default for Breaker {
    fn default() -> Breaker {
        Breaker {
            mode: BreakerMode::MetricsOnly,
            max_circuits: 20_000,
            max_reporters: 4_096,
            max_keys_per_client: 10_000,
            defaults: Thresholds::default(),
            circuits: Vec::new(),
        }
    }
}

/// What a circuit does.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerMode {
    /// It tells what it would do.
    #[default]
    MetricsOnly,
    /// It opens, and clients obey.
    Enforce,
    /// It is not kept.
    Off,
}

/// Circuits of a kind, and what is different about them. In a pattern `*` stands for any text.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct CircuitRule {
    /// Pattern of namespaces, `*`.
    #[serde(default = "any")]
    pub namespace: String,
    /// Pattern of targets, `*`.
    #[serde(default = "any")]
    pub target: String,
    /// Pattern of shards, `*`.
    #[serde(default = "any")]
    pub shard: String,
    /// Pattern of operations, `*`.
    #[serde(default = "any")]
    pub operation: String,
    /// What they do; as `breaker.mode` if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<BreakerMode>,
    /// Thresholds that differ, by their names.
    #[serde(flatten)]
    pub changes: Map<String, Value>,
}

fn any() -> String {
    "*".to_owned()
}

/// A pattern, and what it says of its circuits.
#[derive(Clone, Debug)]
pub struct CompiledRule {
    /// Patterns of namespace, target, shard and operation.
    pub patterns: [String; 4],
    /// `None`: they are not kept.
    pub config: Option<Arc<FleetConfig>>,
}

impl Breaker {
    /// Every pattern with its thresholds; the last one matches every circuit.
    ///
    /// # Errors
    /// A threshold is out of its range or unknown; the setting's name and what it may be.
    pub fn compile(&self) -> Result<Vec<CompiledRule>, Flaw> {
        let mut rules = Vec::with_capacity(self.circuits.len() + 1);
        for (index, rule) in self.circuits.iter().enumerate() {
            let compiled = self.compile_rule(rule);
            rules.push(compiled.map_err(|why| Flaw::new("breaker.circuits", format!("[{index}]: {why}")))?);
        }
        let common = Common { mode: self.mode, max_reporters: self.max_reporters };
        let defaults = self.defaults.compile(common);
        let defaults = defaults.map_err(|why| Flaw::new("breaker.defaults", format!(".{why}")))?;
        rules.push(CompiledRule {
            patterns: [any(), any(), any(), any()],
            config: (self.mode != BreakerMode::Off).then(|| Arc::new(defaults)),
        });
        Ok(rules)
    }

    fn compile_rule(&self, rule: &CircuitRule) -> Result<CompiledRule, String> {
        let mode = rule.mode.unwrap_or(self.mode);
        let thresholds = self.defaults.changed(&rule.changes)?;
        let config = thresholds.compile(Common { mode, max_reporters: self.max_reporters })?;
        let patterns = [&rule.namespace, &rule.target, &rule.shard, &rule.operation].map(Clone::clone);
        Ok(CompiledRule { patterns, config: (mode != BreakerMode::Off).then(|| Arc::new(config)) })
    }
}

impl Thresholds {
    /// These with some of them set anew.
    fn changed(&self, changes: &Map<String, Value>) -> Result<Thresholds, String> {
        let Ok(Value::Object(mut all)) = serde_json::to_value(self) else {
            return Err("the defaults cannot be read".to_owned());
        };
        for (name, value) in changes {
            all.insert(name.clone(), value.clone());
            // one by one, since the error of a value does not say whose it is
            let read = Thresholds::deserialize(Value::Object(all.clone()));
            read.map_err(|error| format!("{name} = {value}: {error}"))?;
        }
        Thresholds::deserialize(Value::Object(all)).map_err(|error| error.to_string())
    }
}

/// What is wrong with a setting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Flaw {
    /// Which setting.
    pub key: &'static str,
    /// What follows its name.
    pub why: String,
}

impl Flaw {
    fn new(key: &'static str, why: impl Into<String>) -> Flaw {
        Flaw { key, why: why.into() }
    }
}

/// `[peers]`
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Peers {
    /// What servers of one fleet show to each other. Empty: every server judges circuits by its own streams.
    pub token: Secret,
    /// `host:port` at which the other servers reach this one's gRPC port. Empty: the address from which it
    /// reaches Redis, and the port on which it listens.
    pub advertise: String,
    /// TLS to the other servers.
    pub tls: super::PeersTls,
}

/// What makes no sense in both sections.
pub(super) fn problems(breaker: &Breaker, peers: &Peers, origins: &Origins) -> Vec<Problem> {
    let patterns = breaker.compile().err();
    let refused = |Flaw { key, why }: Flaw| {
        let set = if key == "breaker.defaults" { first_below(origins, key) } else { origins.of(key).clone() };
        Problem::Refused { origin: set, why: format!("{key}{why}") }
    };
    patterns.into_iter().chain(address(peers)).chain(token(peers)).map(refused).collect()
}

fn first_below(origins: &Origins, key: &str) -> super::Origin {
    origins.below(key).next().map_or(super::Origin::Default, |(_, origin)| origin.clone())
}

fn address(peers: &Peers) -> Option<Flaw> {
    if peers.advertise.is_empty() {
        return None;
    }
    if peers.token.is_empty() {
        return Some(Flaw::new("peers.advertise", " needs peers.token"));
    }
    let sound = peers.advertise.rsplit_once(':').is_some_and(|(host, port)| {
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'|' | b'/' | b'@' | b'?' | b'#');
        !host.is_empty() && host.bytes().all(plain) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    let why = format!(" = {:?} is not host:port with a port from 1 to 65535", peers.advertise);
    (!sound).then(|| Flaw::new("peers.advertise", why))
}

/// It travels in a header.
fn token(peers: &Peers) -> Option<Flaw> {
    let sound = peers.token.reveal().bytes().all(|byte| byte.is_ascii_graphic());
    (!sound).then(|| Flaw::new("peers.token", " must have printable ASCII characters only, and no space"))
}

/// What was set but has no effect.
pub(super) fn warnings(peers: &Peers, store: &Store, origins: &Origins) -> Vec<String> {
    let alone = store.kind == StoreKind::Memory && !peers.token.is_empty();
    let set = origins.of("peers.token");
    alone
        .then(|| format!("peers.token ({set}) has no effect: only servers of one Redis share circuits"))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: Value) -> CircuitRule {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_pattern_changes_what_it_names_and_nothing_else() {
        let circuits = vec![rule(serde_json::json!({
            "target": "pay*", "mode": "enforce", "min_volume": 7, "window": "20s"
        }))];
        let rules = Breaker { circuits, ..Breaker::default() }.compile().unwrap();
        let changed = rules[0].config.as_ref().unwrap().settings();
        assert_eq!((changed.min_volume, changed.window.as_micros()), (7, 20_000_000));
        assert_eq!(changed.short_window.as_micros(), 2_000_000);
        assert_eq!(rules[0].patterns, ["*", "pay*", "*", "*"]);
        assert_eq!(rules[1].config.as_ref().unwrap().settings().min_volume, 100);
    }

    #[test]
    fn the_defaults_are_those_of_the_core() {
        let rules = Breaker::default().compile().unwrap();
        assert_eq!(**rules[0].config.as_ref().unwrap(), FleetConfig::default());
    }

    #[test]
    fn what_makes_no_sense_names_the_setting() {
        let why = |json| {
            let breaker = Breaker { circuits: vec![rule(json)], ..Breaker::default() };
            let flaw = breaker.compile().unwrap_err();
            format!("{}{}", flaw.key, flaw.why)
        };
        assert_eq!(
            why(serde_json::json!({ "probes": 0 })),
            "breaker.circuits[0]: probes is 0, must be 1 to 1000"
        );
        assert!(why(serde_json::json!({ "prob": 1 })).contains("prob = 1: unknown field `prob`"));
        assert!(why(serde_json::json!({ "window": "ten" })).contains("window = \"ten\": not a duration"));
    }

    #[test]
    fn off_keeps_no_circuit() {
        let circuits = vec![rule(serde_json::json!({ "namespace": "x", "mode": "off" }))];
        let rules = Breaker { circuits, ..Breaker::default() }.compile().unwrap();
        assert!(rules[0].config.is_none() && rules[1].config.is_some());
    }

    #[test]
    fn an_address_for_peers_is_a_host_and_a_port() {
        let flaw = |advertise: &str| {
            address(&Peers {
                token: Secret::from("t".to_owned()),
                advertise: advertise.to_owned(),
                ..Peers::default()
            })
        };
        for sound in ["", "host:8081", "10.0.0.1:1", "[::1]:65535"] {
            assert_eq!(flaw(sound), None, "{sound}");
        }
        for wrong in ["host", "host:", ":8081", "host:0", "host:65536", "a|b:1", "http://x:1"] {
            assert!(flaw(wrong).is_some(), "{wrong}");
        }
        let token_of =
            |text: &str| token(&Peers { token: Secret::from(text.to_owned()), ..Peers::default() });
        assert!(token_of("").is_none() && token_of("a-Z_9~").is_none());
        assert!(token_of("a b").is_some() && token_of("\u{e9}").is_some());
        let alone = Peers { token: Secret::default(), advertise: "host:1".to_owned(), ..Peers::default() };
        assert!(address(&alone).unwrap().why.contains("needs peers.token"));
    }
}
