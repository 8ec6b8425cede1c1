//! Settings: typed, from five layers, with the origin of each value.
//!
//! Defaults ← `tollgate.toml` or `.yaml` ← the reference's variables (`settings/reference`) ← `TOLLGATE__SECTION__KEY` ←
//! flags. [`load`] reads them all, reports everything that is wrong at once, and never reads the process
//! environment itself. `server/config/tollgate.toml` lists every setting.

mod access;
mod auth;
mod breaker;
mod check;
pub mod duration;
mod environment;
mod flags;
mod implied;
mod layers;
mod listen;
mod operations;
mod origin;
mod overload;
mod print;
mod problem;
mod redis;
mod reference;
mod response;
mod rules;
mod schema;
mod secret;
mod store;
mod telemetry;
mod text;
mod tls;
mod xds;

use serde::{Deserialize, Serialize};

pub use access::{Access, Identity};
pub use auth::{Auth, AuthEntry, AuthMapping, Source};
pub use breaker::{Breaker, BreakerMode, CircuitRule, CompiledRule, Flaw, Peers, Thresholds};
pub use environment::Environment;
pub use flags::Flags;
pub use listen::{Admin, Grpc, Http};
pub use operations::{Log, LogFormat, LogLevel, Metrics, Shutdown};
pub use origin::{Origin, Origins};
pub use overload::Overload;
pub use problem::{Problem, SettingsError};
pub use redis::{
    Redis, RedisAddress, RedisAddresses, RedisAtStart, RedisKind, RedisLayout, RedisLogin, RedisPlace,
    RedisSocket,
};
pub use response::{Mode, Response};
pub use rules::{Rules, RulesLocation, RulesSource, Runtime};
pub use secret::{Secret, SecretUrl};
pub use store::{Denials, Memory, OnFull, Store, StoreKind};
pub use telemetry::{Otlp, OtlpProtocol, Telemetry, TraceSampler, Traces};
pub use text::{Address, HeaderName, Host};
pub use tls::{ClientAuth, PeersTls, Tls, TlsVersion};
pub use xds::Xds;

/// All settings.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The gRPC port.
    pub grpc: Grpc,
    /// The HTTP port.
    pub http: Http,
    /// The admin port.
    pub admin: Admin,
    /// Metrics.
    pub metrics: Metrics,
    /// Where the rules are and how they are read.
    pub rules: Rules,
    /// What answers carry.
    pub response: Response,
    /// Switches over all rules.
    pub mode: Mode,
    /// Where the counters live.
    pub store: Store,
    /// Forward-auth.
    pub auth: Auth,
    /// Circuits that a fleet shares.
    pub breaker: Breaker,
    /// The other servers.
    pub peers: Peers,
    /// What is done when there is too much to do.
    pub overload: Overload,
    /// The log.
    pub log: Log,
    /// Metrics and traces for a collector.
    pub telemetry: Telemetry,
    /// How a server leaves.
    pub shutdown: Shutdown,
    /// Domains bound to identities.
    pub access: Access,
    /// The server that the rules come from.
    pub xds: Xds,
}

/// The settings in effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Effective {
    /// The values.
    pub settings: Settings,
    /// Who set each of them.
    pub origins: Origins,
    /// What was set but has no effect: log each once at start.
    pub warnings: Vec<String>,
}

impl Effective {
    /// Where the rules are.
    #[must_use]
    pub fn rules_location(&self) -> RulesLocation {
        self.settings.rules.location(&self.origins)
    }
}

/// Reads all layers.
///
/// # Errors
///
/// Everything that is wrong in any layer, and settings that contradict one another or cannot be honoured.
pub fn load(environment: &Environment, flags: &Flags) -> Result<Effective, SettingsError> {
    let (mut settings, mut origins, mut problems) = layers::Layers::read(environment, flags).merge();
    implied::fill(&mut settings.store, &mut origins);
    problems.extend(check::problems(&settings, &origins));
    let mut warnings = check::warnings(&settings, &origins);
    let verdict = reference::judge(environment, &settings, &origins);
    problems.extend(verdict.problems);
    warnings.extend(verdict.warnings);
    SettingsError::unless(problems, Effective { settings, origins, warnings })
}
