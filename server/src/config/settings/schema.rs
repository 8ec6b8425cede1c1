//! Every setting by name: what it may be, and how its text is read. Environment and flags give text; the
//! reference's rules for it hold in every layer.

use std::fmt;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::duration;

/// One setting.
pub(super) struct Field {
    /// Name, as in `grpc.port`.
    pub(super) key: &'static str,
    pub(super) allowed: Allowed,
}

/// What a setting may be.
pub(super) enum Allowed {
    Switch,
    Whole(RangeInclusive<u64>),
    Ratio,
    Number(RangeInclusive<f64>),
    Duration,
    Text,
    Secret,
    /// Text whose form is explained in words.
    Form(&'static str),
    /// Lists and tables; given as JSON where only text is possible.
    Tree(&'static str),
    /// The same with secrets in it.
    SecretTree(&'static str),
}

const PORT: Allowed = Allowed::Whole(0..=65_535);
const WINDOW: Allowed = Allowed::Whole(65_535..=2_147_483_647);
const BYTES: Allowed = Allowed::Whole(1..=1 << 30);
const HOST: Allowed = Allowed::Form("an IP address or a host name");
const HEADER: Allowed = Allowed::Form("an HTTP header name");
const LEVEL: Allowed = Allowed::Form("error, warn, info, debug or trace");
const ADDRESS: Allowed = Allowed::Form("host:port, :port or nothing");
const SAMPLERS: &str = "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or \
                        parentbased_traceidratio";
const MAPPING: Allowed = Allowed::Tree(
    "a list of descriptors such as [[{key = \"path\", from = \"path\"}]]; a source is header:NAME, query:NAME, \
     method, path, host, client_ip or const:TEXT",
);

const CIRCUITS: Allowed = Allowed::Tree(
    "a list of tables such as [{target = \"pay*\", mode = \"enforce\", min_volume = 50}] with namespace, target, \
     shard, operation, mode and any name of breaker.defaults",
);

const CONNECTIONS: Allowed = Allowed::Whole(0..=10_000_000);
const NAMES: Allowed =
    Allowed::Tree("a list of names such as [\"envoy.example\", \"*.example\", \"spiffe://host/ns/*\"]");
const CLIENT_AUTH: Allowed = Allowed::Form("off, optional or required");
const TLS_VERSION: Allowed = Allowed::Form("1.2 or 1.3");
const IDENTITIES: Allowed = Allowed::SecretTree(
    "a list of tables such as [{identity = \"spiffe://host/shop\", domains = [\"shop*\"]}] with domains and either \
     identity or token",
);

/// All settings, except the mappings of single domains: these are `auth.domains.NAME.descriptors`.
pub(super) const FIELDS: &[Field] = &[
    field("access.identities", IDENTITIES),
    field("admin.host", HOST),
    field("admin.port", PORT),
    field("admin.tls.allowed_names", NAMES),
    field("admin.tls.cert", Allowed::Text),
    field("admin.tls.client_auth", CLIENT_AUTH),
    field("admin.tls.client_ca", Allowed::Text),
    field("admin.tls.handshake_timeout", Allowed::Duration),
    field("admin.tls.key", Allowed::Text),
    field("admin.tls.min_version", TLS_VERSION),
    field("admin.token", Allowed::Secret),
    field("admin.writers", NAMES),
    field("auth.default.descriptors", MAPPING),
    field("auth.deny_status", Allowed::Whole(400..=599)),
    field("breaker.circuits", CIRCUITS),
    field("breaker.defaults.adopt_for", Allowed::Duration),
    field("breaker.defaults.attempt_timeout", Allowed::Duration),
    field("breaker.defaults.failure_rate", Allowed::Ratio),
    field("breaker.defaults.half_open_max", Allowed::Duration),
    field("breaker.defaults.lease", Allowed::Duration),
    field("breaker.defaults.min_volume", Allowed::Whole(1..=1_000_000)),
    field("breaker.defaults.open_cap", Allowed::Duration),
    field("breaker.defaults.open_jitter", Allowed::Ratio),
    field("breaker.defaults.open_max", Allowed::Duration),
    field("breaker.defaults.open_multiplier", Allowed::Number(1.0..=10.0)),
    field("breaker.defaults.open_wait", Allowed::Duration),
    field("breaker.defaults.permit_grace", Allowed::Duration),
    field("breaker.defaults.plain_below", Allowed::Whole(1..=1_000)),
    field("breaker.defaults.probe_failure_rate", Allowed::Ratio),
    field("breaker.defaults.probes", Allowed::Whole(1..=1_000)),
    field("breaker.defaults.quorum_min", Allowed::Whole(1..=1_000)),
    field("breaker.defaults.quorum_share", Allowed::Ratio),
    field("breaker.defaults.ramp_bad", Allowed::Ratio),
    field("breaker.defaults.ramp_every", Allowed::Duration),
    field("breaker.defaults.ramp_growth", Allowed::Number(1.0..=4.0)),
    field("breaker.defaults.ramp_keep", Allowed::Ratio),
    field("breaker.defaults.ramp_min_samples", Allowed::Whole(1..=1_000_000)),
    field("breaker.defaults.ramp_start", Allowed::Ratio),
    field("breaker.defaults.ramp_step", Allowed::Ratio),
    field("breaker.defaults.reopen_min_samples", Allowed::Whole(1..=1_000_000)),
    field("breaker.defaults.reopen_rate", Allowed::Ratio),
    field("breaker.defaults.report_interval", Allowed::Duration),
    field("breaker.defaults.short_failure_rate", Allowed::Ratio),
    field("breaker.defaults.short_volume", Allowed::Whole(1..=1_000_000)),
    field("breaker.defaults.short_window", Allowed::Duration),
    field("breaker.defaults.slow_after", Allowed::Duration),
    field("breaker.defaults.slow_floor", Allowed::Duration),
    field("breaker.defaults.slow_rate", Allowed::Ratio),
    field("breaker.defaults.weight_cap", Allowed::Ratio),
    field("breaker.defaults.window", Allowed::Duration),
    field("breaker.max_circuits", Allowed::Whole(1..=1_000_000)),
    field("breaker.max_keys_per_client", Allowed::Whole(1..=100_000)),
    field("breaker.max_reporters", Allowed::Whole(8..=65_536)),
    field("breaker.mode", Allowed::Form("metrics_only, enforce or off")),
    field("grpc.host", HOST),
    field("grpc.initial_connection_window_bytes", WINDOW),
    field("grpc.initial_stream_window_bytes", WINDOW),
    field("grpc.keepalive_interval", Allowed::Duration),
    field("grpc.keepalive_timeout", Allowed::Duration),
    field("grpc.max_concurrent_streams", Allowed::Whole(1_024..=2_147_483_647)),
    field("grpc.max_connection_age", Allowed::Duration),
    field("grpc.max_connection_age_grace", Allowed::Duration),
    field("grpc.max_connection_age_jitter_percent", Allowed::Whole(0..=50)),
    field("grpc.max_connections", CONNECTIONS),
    field("grpc.max_header_bytes", Allowed::Whole(1_024..=16 << 20)),
    field("grpc.max_message_bytes", BYTES),
    field("grpc.port", PORT),
    field("grpc.tls.allowed_names", NAMES),
    field("grpc.tls.cert", Allowed::Text),
    field("grpc.tls.client_auth", CLIENT_AUTH),
    field("grpc.tls.client_ca", Allowed::Text),
    field("grpc.tls.handshake_timeout", Allowed::Duration),
    field("grpc.tls.key", Allowed::Text),
    field("grpc.tls.min_version", TLS_VERSION),
    field("grpc.uds", Allowed::Text),
    field("grpc.workers", Allowed::Whole(0..=1_024)),
    field("http.host", HOST),
    field("http.max_body_bytes", BYTES),
    field("http.max_connections", CONNECTIONS),
    field("http.port", PORT),
    field("http.timeout", Allowed::Duration),
    field("http.tls.allowed_names", NAMES),
    field("http.tls.cert", Allowed::Text),
    field("http.tls.client_auth", CLIENT_AUTH),
    field("http.tls.client_ca", Allowed::Text),
    field("http.tls.handshake_timeout", Allowed::Duration),
    field("http.tls.key", Allowed::Text),
    field("http.tls.min_version", TLS_VERSION),
    field("log.format", Allowed::Form("text or json")),
    field("log.level", LEVEL),
    field("log.refusals", Allowed::Whole(0..=10_000)),
    field("metrics.durations", Allowed::Switch),
    field("metrics.near_limit_ratio", Allowed::Ratio),
    field("metrics.prometheus_addr", ADDRESS),
    field("metrics.prometheus_path", Allowed::Form("a path that begins with /")),
    field("metrics.reference_names", Allowed::Switch),
    field("metrics.response_time_as_milliseconds", Allowed::Switch),
    field("mode.quota", Allowed::Switch),
    field("mode.shadow", Allowed::Switch),
    field("overload.queue_delay", Allowed::Duration),
    field("overload.report_interval", Allowed::Duration),
    field("peers.advertise", Allowed::Form("host:port or nothing")),
    field("peers.tls.ca", Allowed::Text),
    field("peers.tls.server_name", Allowed::Form("a host name or nothing")),
    field("peers.token", Allowed::Secret),
    field("response.dynamic_metadata", Allowed::Switch),
    field("response.headers_enabled", Allowed::Switch),
    field("response.limit_header", HEADER),
    field("response.remaining_header", HEADER),
    field("response.reset_header", HEADER),
    field("response.retry_after", Allowed::Switch),
    field("rules.dir", Allowed::Text),
    field("rules.ignore_non_yaml", Allowed::Switch),
    field("rules.max_file_bytes", Allowed::Whole(1..=1 << 40)),
    field("rules.merge_domains", Allowed::Switch),
    field("rules.require_for_health", Allowed::Switch),
    field("rules.runtime.appdirectory", Allowed::Text),
    field("rules.runtime.ignore_dot_files", Allowed::Switch),
    field("rules.runtime.root", Allowed::Text),
    field("rules.runtime.subdirectory", Allowed::Text),
    field("rules.runtime.watch_root", Allowed::Switch),
    field("rules.source", Allowed::Form("files or xds")),
    field("rules.start_without", Allowed::Switch),
    field("rules.strict", Allowed::Switch),
    field("shutdown.drain_delay", Allowed::Duration),
    field("shutdown.grace", Allowed::Duration),
    field("store.denials.max_bytes", Allowed::Whole(0..=1 << 40)),
    field("store.kind", Allowed::Form("memory or redis")),
    field("store.memory.max_bytes", Allowed::Whole(1 << 20..=1 << 50)),
    field("store.memory.max_keys", Allowed::Whole(1..=1 << 40)),
    field("store.memory.on_full", Allowed::Form("deny, allow or evict")),
    field("store.redis.at_start", Allowed::Form("wait, serve or refuse")),
    field("store.redis.auth", Allowed::Secret),
    field("store.redis.auth_file", Allowed::Text),
    field("store.redis.call_timeout", Allowed::Duration),
    field("store.redis.database", Allowed::Whole(0..=15)),
    field("store.redis.expiration_jitter_secs", Allowed::Whole(0..=86_400)),
    field("store.redis.health_check", Allowed::Switch),
    field("store.redis.kind", Allowed::Form("single, sentinel or cluster")),
    field("store.redis.lanes", Allowed::Whole(0..=64)),
    field("store.redis.layout", Allowed::Form("tollgate or reference")),
    field("store.redis.max_waiting", Allowed::Whole(1..=1_000_000)),
    field("store.redis.prefix", Allowed::Form("at most 64 printable ASCII characters without { and }")),
    field("store.redis.replicas", Allowed::Whole(0..=100_000)),
    field("store.redis.sentinel_auth", Allowed::Secret),
    field("store.redis.socket", Allowed::Form("auto, tcp or unix")),
    field("store.redis.startup_timeout", Allowed::Duration),
    field("store.redis.timeout", Allowed::Duration),
    field("store.redis.tls", Allowed::Switch),
    field("store.redis.tls_ca", Allowed::Text),
    field("store.redis.tls_cert", Allowed::Text),
    field("store.redis.tls_key", Allowed::Text),
    field("store.redis.tls_skip_hostname_verification", Allowed::Switch),
    field("store.redis.url", Allowed::Secret),
    field("store.redis.wait_replicas", Allowed::Whole(0..=16)),
    field("telemetry.disabled", Allowed::Switch),
    field("telemetry.otlp.endpoint", Allowed::Form("http://host:port, https://host:port, or nothing")),
    field("telemetry.otlp.headers", Allowed::Secret),
    field("telemetry.otlp.metrics_interval", Allowed::Duration),
    field("telemetry.otlp.protocol", Allowed::Form("grpc or http/protobuf")),
    field("telemetry.otlp.timeout", Allowed::Duration),
    field("telemetry.otlp.tls_ca", Allowed::Text),
    field("telemetry.resource_attributes", Allowed::Form("name=value,name=value or nothing")),
    field("telemetry.service_name", Allowed::Form("a name")),
    field("telemetry.traces.descriptors", Allowed::Switch),
    field("telemetry.traces.queue", Allowed::Whole(1..=1_000_000)),
    field("telemetry.traces.ratio", Allowed::Ratio),
    field("telemetry.traces.sampler", Allowed::Form(SAMPLERS)),
    field("xds.backoff_initial", Allowed::Duration),
    field("xds.backoff_jitter", Allowed::Ratio),
    field("xds.backoff_max", Allowed::Duration),
    field("xds.headers", Allowed::Secret),
    field("xds.keepalive_interval", Allowed::Duration),
    field("xds.max_message_bytes", BYTES),
    field("xds.node_id", Allowed::Text),
    field("xds.node_metadata", Allowed::Text),
    field("xds.server", Allowed::Text),
    field("xds.tls", Allowed::Switch),
    field("xds.tls_ca", Allowed::Text),
    field("xds.tls_cert", Allowed::Text),
    field("xds.tls_key", Allowed::Text),
    field("xds.tls_server_name", Allowed::Text),
];

/// The table whose keys are names of domains, with dots in them or not.
pub(super) const DOMAINS: &str = "auth.domains";
static DOMAIN: Field = field("auth.domains.NAME", MAPPING);

const fn field(key: &'static str, allowed: Allowed) -> Field {
    Field { key, allowed }
}

/// The setting of that name.
pub(super) fn find(key: &str) -> Option<&'static Field> {
    match domain_of(key) {
        Some(_) => Some(&DOMAIN),
        None => FIELDS.iter().find(|field| field.key == key),
    }
}

/// Whether settings exist below `key`.
pub(super) fn is_section(key: &str) -> bool {
    let is_below = |field: &Field| field.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    key == DOMAINS || FIELDS.iter().any(is_below)
}

/// The steps from the root to the setting: `auth`, `domains`, `shop.example` for a domain's mapping.
pub(super) fn path(key: &str) -> Vec<&str> {
    match domain_of(key) {
        Some(domain) => DOMAINS.split('.').chain([domain]).collect(),
        None => key.split('.').collect(),
    }
}

fn domain_of(key: &str) -> Option<&str> {
    key.strip_prefix(DOMAINS)?.strip_prefix('.').filter(|domain| !domain.is_empty())
}

impl Allowed {
    /// The value that `text` states; `None` when it states none. Forms are left to their types.
    pub(super) fn read(&self, text: &str) -> Option<Value> {
        match self {
            Allowed::Switch => switch(text).map(Value::from),
            Allowed::Whole(_) => whole(text).map(Value::from),
            Allowed::Ratio | Allowed::Number(_) => {
                text.parse::<f64>().ok().filter(|ratio| ratio.is_finite()).map(Value::from)
            }
            Allowed::Tree(_) | Allowed::SecretTree(_) => serde_json::from_str(text).ok(),
            Allowed::Duration | Allowed::Text | Allowed::Secret | Allowed::Form(_) => Some(Value::from(text)),
        }
    }

    /// Whether the value is of the right kind and within its range. Forms are left to their types.
    pub(super) fn admits(&self, value: &Value) -> bool {
        match self {
            Allowed::Switch => value.is_boolean(),
            Allowed::Whole(range) => value.as_u64().is_some_and(|number| range.contains(&number)),
            Allowed::Ratio => value.as_f64().is_some_and(|number| (0.0..=1.0).contains(&number)),
            Allowed::Number(range) => value.as_f64().is_some_and(|number| range.contains(&number)),
            Allowed::Duration => value.as_str().and_then(duration::parse).is_some(),
            Allowed::Text | Allowed::Secret | Allowed::Form(_) => value.is_string(),
            Allowed::Tree(_) | Allowed::SecretTree(_) => value.is_array() || value.is_object(),
        }
    }
}

/// What is allowed, in words.
impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Allowed::Switch => write!(f, "true or false"),
            Allowed::Whole(range) => write!(f, "a whole number from {} to {}", range.start(), range.end()),
            Allowed::Ratio => write!(f, "a number from 0 to 1"),
            Allowed::Number(range) => write!(f, "a number from {} to {}", range.start(), range.end()),
            Allowed::Duration => write!(f, "a duration such as 500ms, 1m30s or 24h"),
            Allowed::Text | Allowed::Secret => write!(f, "text"),
            Allowed::Form(words) | Allowed::Tree(words) | Allowed::SecretTree(words) => write!(f, "{words}"),
        }
    }
}

/// A boolean as Go's `strconv.ParseBool` reads it.
pub(super) fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number as Go's `strconv.ParseInt` reads it with base 0: `8081`, `0x1f91`, `0o17621`, `017621`, `8_081`.
fn whole(text: &str) -> Option<u64> {
    let digits = text.strip_prefix('+').unwrap_or(text).to_ascii_lowercase();
    let (radix, rest) = match digits.as_bytes() {
        [b'0', b'x', ..] => (16, &digits[2..]),
        [b'0', b'o', ..] => (8, &digits[2..]),
        [b'0', b'b', ..] => (2, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits.as_str()),
    };
    let is_spaced_well =
        !rest.ends_with('_') && !rest.contains("__") && (radix != 10 || !rest.starts_with('_'));
    let rest = rest.replace('_', "");
    // from_str_radix would take a second sign
    (is_spaced_well && !rest.starts_with('+')).then(|| u64::from_str_radix(&rest, radix).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_read_as_go_reads_them() {
        for text in
            ["8081", "+8081", "0x1f91", "0X1F91", "0o17621", "017621", "0b1111110010001", "8_081", "0x_1f91"]
        {
            assert_eq!(whole(text), Some(8_081), "{text}");
        }
        assert_eq!(whole("0"), Some(0));
        for text in
            ["", "-1", "08", "1.0", "++1", "0x", "0x+1", "_1", "1_", "1__0", " 1", "99999999999999999999"]
        {
            assert_eq!(whole(text), None, "{text:?}");
        }
    }
}
