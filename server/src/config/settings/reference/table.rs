//! Every variable of the reference, by what becomes of it. `BACKEND_TYPE`, `USE_PROMETHEUS`, `PROMETHEUS_ADDR`
//! and `DISABLE_STATS` are not in the tables: [`super`] treats each on its own; nor are those for
//! TLS (`tls.rs`).
//!
//! Accepted without a word, since nothing is lost: `STATS_FLUSH_INTERVAL` (our counters are live),
//! `ENABLE_NEGATIVE_HITS` (refunds always work). `OTEL_*` and `TRACING_*` are in [`super::tracing`].

/// A variable that we do not honour.
pub(super) struct Variable {
    /// Its name; a `*` at the end stands for any ending.
    pub(super) name: &'static str,
    pub(super) harmless: Harmless,
    /// Why it has no effect, or why it stops the start.
    pub(super) why: &'static str,
    /// The variable without which the reference would not use this one either.
    pub(super) governed_by: Option<&'static str>,
}

/// Values that change nothing.
pub(super) enum Harmless {
    /// Boolean, false.
    Off,
    /// The empty text, and these.
    Texts(&'static [&'static str]),
}

/// Variable, setting.
pub(super) const HONOURED: &[(&str, &str)] = &[
    ("HOST", "http.host"),
    ("PORT", "http.port"),
    ("DEBUG_HOST", "admin.host"),
    ("DEBUG_PORT", "admin.port"),
    ("GRPC_HOST", "grpc.host"),
    ("GRPC_PORT", "grpc.port"),
    ("GRPC_UDS", "grpc.uds"),
    ("GRPC_MAX_CONNECTION_AGE", "grpc.max_connection_age"),
    ("GRPC_MAX_CONNECTION_AGE_GRACE", "grpc.max_connection_age_grace"),
    ("LOG_FORMAT", "log.format"),
    ("FORCE_START_WITHOUT_INITIAL_CONFIG", "rules.start_without"),
    ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "rules.require_for_health"),
    ("MERGE_DOMAIN_CONFIG", "rules.merge_domains"),
    ("RUNTIME_ROOT", "rules.runtime.root"),
    ("RUNTIME_SUBDIRECTORY", "rules.runtime.subdirectory"),
    ("RUNTIME_APPDIRECTORY", "rules.runtime.appdirectory"),
    ("RUNTIME_IGNOREDOTFILES", "rules.runtime.ignore_dot_files"),
    ("RUNTIME_WATCH_ROOT", "rules.runtime.watch_root"),
    ("SHADOW_MODE", "mode.shadow"),
    ("QUOTA_MODE", "mode.quota"),
    ("RESPONSE_DYNAMIC_METADATA", "response.dynamic_metadata"),
    ("LIMIT_RESPONSE_HEADERS_ENABLED", "response.headers_enabled"),
    ("LIMIT_LIMIT_HEADER", "response.limit_header"),
    ("LIMIT_REMAINING_HEADER", "response.remaining_header"),
    ("LIMIT_RESET_HEADER", "response.reset_header"),
    ("NEAR_LIMIT_RATIO", "metrics.near_limit_ratio"),
    ("PROMETHEUS_PATH", "metrics.prometheus_path"),
    ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "metrics.response_time_as_milliseconds"),
    ("REDIS_URL", "store.redis.url"),
    ("REDIS_AUTH", "store.redis.auth"),
    ("REDIS_AUTH_FILE", "store.redis.auth_file"),
    ("REDIS_SENTINEL_AUTH", "store.redis.sentinel_auth"),
    ("REDIS_TLS", "store.redis.tls"),
    ("REDIS_TLS_CACERT", "store.redis.tls_ca"),
    ("REDIS_TLS_CLIENT_CERT", "store.redis.tls_cert"),
    ("REDIS_TLS_CLIENT_KEY", "store.redis.tls_key"),
    ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "store.redis.tls_skip_hostname_verification"),
    ("REDIS_TIMEOUT", "store.redis.timeout"),
    ("REDIS_OP_TIMEOUT", "store.redis.call_timeout"),
    ("REDIS_STARTUP_MAX_ELAPSED_TIME", "store.redis.startup_timeout"),
    ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "store.redis.health_check"),
    ("CACHE_KEY_PREFIX", "store.redis.prefix"),
    ("EXPIRATION_JITTER_MAX_SECONDS", "store.redis.expiration_jitter_secs"),
    ("LOCAL_CACHE_SIZE_IN_BYTES", "store.denials.max_bytes"),
    ("CONFIG_TYPE", "rules.source"),
    ("CONFIG_GRPC_XDS_NODE_ID", "xds.node_id"),
    ("CONFIG_GRPC_XDS_NODE_METADATA", "xds.node_metadata"),
    ("CONFIG_GRPC_XDS_SERVER_URL", "xds.server"),
    ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "xds.headers"),
    ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "xds.tls"),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "xds.tls_cert"),
    ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "xds.tls_key"),
    ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "xds.tls_ca"),
    ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "xds.tls_server_name"),
    ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "xds.backoff_initial"),
    ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "xds.backoff_max"),
    ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", "xds.backoff_jitter"),
    ("XDS_CLIENT_BACKOFF_JITTER", "xds.backoff_jitter"),
    ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "xds.max_message_bytes"),
];

/// The same for words that the reference takes in any case.
pub(super) const LOWERED: &[(&str, &str)] = &[
    ("LOG_LEVEL", "log.level"),
    ("REDIS_TYPE", "store.redis.kind"),
    ("REDIS_SOCKET_TYPE", "store.redis.socket"),
];

const NO_STATSD: &str = "there is no statsd sink; scrape /metrics";
const NO_MEMCACHE: &str = "there is no store in memcache";

/// Nothing depends on them but what they name.
pub(super) const UNHONOURED: &[Variable] = &[
    variable("USE_STATSD", Harmless::Off, NO_STATSD),
    governed("STATSD_HOST", &["localhost"], NO_STATSD, "USE_STATSD"),
    governed("STATSD_PORT", &["8125"], NO_STATSD, "USE_STATSD"),
    governed("STATSD_PROTOCOL", &["tcp"], NO_STATSD, "USE_STATSD"),
    variable("USE_DOG_STATSD", Harmless::Off, NO_STATSD),
    governed("USE_DOG_STATSD_MOGRIFIERS", &[], NO_STATSD, "USE_DOG_STATSD"),
    governed("DOG_STATSD_MOGRIFIER_*", &[], NO_STATSD, "USE_DOG_STATSD"),
    texts("PROMETHEUS_MAPPER_YAML", &[], "the reference's built-in names are used"),
    texts("EXTRA_TAGS", &[], "metrics have no extra tags; add them when scraping"),
    variable("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", Harmless::Off, "set charge: admitted in the rules"),
    texts(
        "CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL",
        &["3s"],
        "set XDS_CLIENT_BACKOFF_INITIAL_INTERVAL",
    ),
    texts("MEMCACHE_HOST_PORT", &[], NO_MEMCACHE),
    texts("MEMCACHE_SRV", &[], NO_MEMCACHE),
    texts("MEMCACHE_SRV_REFRESH", &["0", "0s"], NO_MEMCACHE),
    texts("MEMCACHE_MAX_IDLE_CONNS", &["2"], NO_MEMCACHE),
    variable("MEMCACHE_TLS", Harmless::Off, NO_MEMCACHE),
    texts("MEMCACHE_TLS_CLIENT_CERT", &[], NO_MEMCACHE),
    texts("MEMCACHE_TLS_CLIENT_KEY", &[], NO_MEMCACHE),
    texts("MEMCACHE_TLS_CACERT", &[], NO_MEMCACHE),
    variable("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", Harmless::Off, NO_MEMCACHE),
    texts("GRPC_MAX_CONCURRENT_STREAMS", &["0"], "set TOLLGATE__GRPC__MAX_CONCURRENT_STREAMS"),
    variable("LIMIT_ALL_DESCRIPTORS_HEADERS_ENABLED", Harmless::Off, "headers describe one descriptor"),
    texts("DESCRIPTOR_KEY_CONFIG", &[], "the number of metric series is bounded anyway"),
];

const SHARED: &str =
    "connections are shared, and no request waits for one; store.redis.lanes is their number";
const BATCHED: &str = "requests of one moment travel together by themselves";
const TOGETHER: &str = "all parts of a request travel at once";
const RETRIED: &str = "lost connections are made again at intervals of its own";
const READONLY: &str = "a connection to a server that takes no writes is always left";

/// Variables about Redis; each also with the prefix `REDIS_PERSECOND_`. Those with a reason have no effect, the
/// others are settings.
pub(super) const REDIS: &[Variable] = &[
    redis("REDIS_URL", &[]),
    redis("REDIS_SOCKET_TYPE", &["unix"]),
    redis("REDIS_TYPE", &["SINGLE", "single"]),
    redis("REDIS_AUTH", &[]),
    redis("REDIS_AUTH_FILE", &[]),
    redis("REDIS_SENTINEL_AUTH", &[]),
    variable("REDIS_TLS", Harmless::Off, ""),
    redis("REDIS_TLS_CLIENT_CERT", &[]),
    redis("REDIS_TLS_CLIENT_KEY", &[]),
    redis("REDIS_TLS_CACERT", &[]),
    variable("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", Harmless::Off, ""),
    redis("REDIS_TIMEOUT", &["10s"]),
    redis("REDIS_OP_TIMEOUT", &["0", "0s"]),
    texts("REDIS_POOL_SIZE", &["10"], SHARED),
    texts("REDIS_POOL_ON_EMPTY_BEHAVIOR", &["WAIT"], SHARED),
    texts("REDIS_PIPELINE_WINDOW", &["0", "0s"], BATCHED),
    texts("REDIS_PIPELINE_LIMIT", &["0"], BATCHED),
    texts("REDIS_CLUSTER_PIPELINE_PARALLELISM", &["1"], TOGETHER),
    variable("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", Harmless::Off, ""),
    variable("REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR", Harmless::Off, READONLY),
    texts("REDIS_STARTUP_INITIAL_INTERVAL", &["1s"], RETRIED),
    texts("REDIS_STARTUP_MAX_INTERVAL", &["30s"], RETRIED),
    redis("REDIS_STARTUP_MAX_ELAPSED_TIME", &["0", "0s"]),
    redis("CACHE_KEY_PREFIX", &[]),
    redis("EXPIRATION_JITTER_MAX_SECONDS", &["300", "0"]),
    redis("LOCAL_CACHE_SIZE_IN_BYTES", &["0"]),
];

/// Those without which Redis would not be used as whoever set them expects.
pub(super) const REDIS_REFUSED: &[Variable] = &[
    variable(
        "REDIS_AWS_IAM_AUTH",
        Harmless::Off,
        "there is no login with AWS IAM; unset REDIS_AWS_IAM_AUTH, and set REDIS_AUTH or REDIS_AUTH_FILE",
    ),
    variable(
        "REDIS_PERSECOND",
        Harmless::Off,
        "one Redis holds all counters, there is no second one for limits per second; unset REDIS_PERSECOND",
    ),
];

const fn variable(name: &'static str, harmless: Harmless, why: &'static str) -> Variable {
    Variable { name, harmless, why, governed_by: None }
}

const fn texts(name: &'static str, harmless: &'static [&'static str], why: &'static str) -> Variable {
    variable(name, Harmless::Texts(harmless), why)
}

const fn redis(name: &'static str, harmless: &'static [&'static str]) -> Variable {
    texts(name, harmless, "")
}

const fn governed(
    name: &'static str,
    harmless: &'static [&'static str],
    why: &'static str,
    governor: &'static str,
) -> Variable {
    Variable { name, harmless: Harmless::Texts(harmless), why, governed_by: Some(governor) }
}
