//! The variables of envoyproxy/ratelimit: those that are honoured.

use tollgate_server::config::settings::{LogLevel, RulesLocation, Settings};

use crate::{line, problems, sound};

/// Variable, text, and the line that it leads to.
const HONOURED: &[(&str, &str, &str)] = &[
    ("HOST", "::", "http.host = \"::\""),
    ("PORT", "0x50", "http.port = 80"),
    ("DEBUG_HOST", "", "admin.host = \"::\""),
    ("DEBUG_PORT", "0", "admin.port = 0"),
    ("GRPC_HOST", "localhost", "grpc.host = \"localhost\""),
    ("GRPC_PORT", "017621", "grpc.port = 8081"),
    ("GRPC_UDS", "/run/x.sock", "grpc.uds = \"/run/x.sock\""),
    ("GRPC_MAX_CONNECTION_AGE", "1.5h", "grpc.max_connection_age = \"1h30m\""),
    ("GRPC_MAX_CONNECTION_AGE_GRACE", "90s", "grpc.max_connection_age_grace = \"1m30s\""),
    ("LOG_LEVEL", "WARN", "log.level = \"warn\""),
    ("LOG_FORMAT", "json", "log.format = \"json\""),
    ("FORCE_START_WITHOUT_INITIAL_CONFIG", "T", "rules.start_without = true"),
    ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "1", "rules.require_for_health = true"),
    ("MERGE_DOMAIN_CONFIG", "TRUE", "rules.merge_domains = true"),
    ("RUNTIME_ROOT", "/data", "rules.runtime.root = \"/data\""),
    ("RUNTIME_SUBDIRECTORY", "ratelimit", "rules.runtime.subdirectory = \"ratelimit\""),
    ("RUNTIME_APPDIRECTORY", "rules", "rules.runtime.appdirectory = \"rules\""),
    ("RUNTIME_IGNOREDOTFILES", "true", "rules.runtime.ignore_dot_files = true"),
    ("RUNTIME_WATCH_ROOT", "F", "rules.runtime.watch_root = false"),
    ("SHADOW_MODE", "t", "mode.shadow = true"),
    ("QUOTA_MODE", "True", "mode.quota = true"),
    ("RESPONSE_DYNAMIC_METADATA", "true", "response.dynamic_metadata = true"),
    ("LIMIT_RESPONSE_HEADERS_ENABLED", "true", "response.headers_enabled = true"),
    ("LIMIT_LIMIT_HEADER", "X-L", "response.limit_header = \"X-L\""),
    ("LIMIT_REMAINING_HEADER", "X-Rem", "response.remaining_header = \"X-Rem\""),
    ("LIMIT_RESET_HEADER", "X-Res", "response.reset_header = \"X-Res\""),
    ("NEAR_LIMIT_RATIO", "0.75", "metrics.near_limit_ratio = 0.75"),
    ("USE_PROMETHEUS", "true", "metrics.reference_names = true"),
    ("PROMETHEUS_PATH", "/m", "metrics.prometheus_path = \"/m\""),
    ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "true", "metrics.response_time_as_milliseconds = true"),
    ("REDIS_AUTH", "x", "store.redis.auth = \"***\""),
    ("REDIS_SENTINEL_AUTH", "x", "store.redis.sentinel_auth = \"***\""),
    ("REDIS_TYPE", "CLUSTER", "store.redis.kind = \"cluster\""),
    ("REDIS_SOCKET_TYPE", "tcp", "store.redis.socket = \"tcp\""),
    ("REDIS_TLS", "true", "store.redis.tls = true"),
    ("REDIS_TIMEOUT", "1s", "store.redis.timeout = \"1s\""),
    ("REDIS_AUTH_FILE", "/a", "store.redis.auth_file = \"/a\""),
    ("REDIS_TLS_CACERT", "/ca", "store.redis.tls_ca = \"/ca\""),
    ("REDIS_TLS_CLIENT_CERT", "/cert", "store.redis.tls_cert = \"/cert\""),
    ("REDIS_TLS_CLIENT_KEY", "/key", "store.redis.tls_key = \"/key\""),
    ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true", "store.redis.tls_skip_hostname_verification = true"),
    ("REDIS_OP_TIMEOUT", "5ms", "store.redis.call_timeout = \"5ms\""),
    ("REDIS_STARTUP_MAX_ELAPSED_TIME", "1m", "store.redis.startup_timeout = \"1m\""),
    ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true", "store.redis.health_check = true"),
    ("CACHE_KEY_PREFIX", "shop:", "store.redis.prefix = \"shop:\""),
    ("EXPIRATION_JITTER_MAX_SECONDS", "60", "store.redis.expiration_jitter_secs = 60"),
    ("CONFIG_TYPE", "GRPC_XDS_SOTW", "rules.source = \"xds\""),
    ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit", "xds.node_id = \"envoy-ratelimit\""),
    ("CONFIG_GRPC_XDS_NODE_METADATA", "a=b,c=d", "xds.node_metadata = \"a=b,c=d\""),
    ("CONFIG_GRPC_XDS_SERVER_URL", "eg:18001", "xds.server = \"eg:18001\""),
    ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "a:b", "xds.headers = \"***\""),
    ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true", "xds.tls = true"),
    ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "/ca", "xds.tls_ca = \"/ca\""),
    ("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "eg", "xds.tls_server_name = \"eg\""),
    ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "2s", "xds.backoff_initial = \"2s\""),
    ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "90s", "xds.backoff_max = \"1m30s\""),
    ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", "0.25", "xds.backoff_jitter = 0.25"),
    ("XDS_CLIENT_BACKOFF_JITTER", "false", "xds.backoff_jitter = 0.0"),
    ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "1000", "xds.max_message_bytes = 1000"),
    ("LOCAL_CACHE_SIZE_IN_BYTES", "1048576", "store.denials.max_bytes = 1048576"),
];

#[test]
fn every_alias_is_honoured() {
    for (name, text, expected) in HONOURED {
        let effective = sound(&[(name, text)]);
        let (key, _) = expected.split_once(" = ").unwrap();
        assert_eq!(line(&effective, key), format!("{expected}   # env {name}"));
    }
}

#[test]
fn what_the_reference_takes_for_unset_is_unset() {
    for (name, text, key) in [
        ("REDIS_OP_TIMEOUT", "0", "store.redis.call_timeout"),
        ("REDIS_OP_TIMEOUT", "0s", "store.redis.call_timeout"),
        ("CACHE_KEY_PREFIX", "", "store.redis.prefix"),
    ] {
        let effective = sound(&[(name, text)]);
        assert_eq!(effective.settings, Settings::default(), "{name}={text}");
        assert!(line(&effective, key).ends_with("# default"), "{name}={text}");
    }
}

#[test]
fn a_small_cache_is_raised_as_the_reference_does() {
    for (text, bytes) in [
        ("-1", 524_288),
        ("1", 524_288),
        ("524287", 524_288),
        ("524288", 524_288),
        ("524289", 524_289),
        ("0", 0),
    ] {
        let effective = sound(&[("LOCAL_CACHE_SIZE_IN_BYTES", text)]);
        assert_eq!(
            line(&effective, "store.denials.max_bytes"),
            format!("store.denials.max_bytes = {bytes}   # env LOCAL_CACHE_SIZE_IN_BYTES")
        );
    }
}

#[test]
fn an_address_of_redis_is_kept_when_memory_is_chosen() {
    let effective = sound(&[("REDIS_URL", "redis:6379"), ("TOLLGATE__STORE__KIND", "memory")]);
    assert_eq!(line(&effective, "store.redis.url"), "store.redis.url = \"redis:6379\"   # env REDIS_URL");
}

#[test]
fn levels_of_the_reference_are_mapped() {
    for (text, level) in [
        ("panic", LogLevel::Error),
        ("FATAL", LogLevel::Error),
        ("error", LogLevel::Error),
        ("warning", LogLevel::Warn),
        ("Info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ] {
        assert_eq!(sound(&[("LOG_LEVEL", text)]).settings.log.level, level, "{text}");
    }
}

#[test]
fn prometheus_has_its_own_address_only_when_it_is_used() {
    let address = |variables| {
        let effective = sound(variables);
        let listen = effective.settings.metrics.prometheus_addr.listen();
        listen.map(|(host, port)| host.with_port(port))
    };
    assert_eq!(address(&[("USE_PROMETHEUS", "true")]).as_deref(), Some("[::]:9090"));
    assert_eq!(
        address(&[("USE_PROMETHEUS", "true"), ("PROMETHEUS_ADDR", ":19001")]).as_deref(),
        Some("[::]:19001")
    );
    assert_eq!(
        address(&[("USE_PROMETHEUS", "1"), ("PROMETHEUS_ADDR", "10.0.0.1:1")]).as_deref(),
        Some("10.0.0.1:1")
    );
    assert_eq!(address(&[("PROMETHEUS_ADDR", ":19001")]), None);
    assert_eq!(address(&[("USE_PROMETHEUS", "false"), ("PROMETHEUS_ADDR", ":19001")]), None);
    assert_eq!(address(&[("USE_PROMETHEUS", "true"), ("DISABLE_STATS", "true")]), None);
    for text in ["19001", "::1:1", ":x", ":70000", "a b:1"] {
        assert_eq!(problems(&[("USE_PROMETHEUS", "1"), ("PROMETHEUS_ADDR", text)]).len(), 1, "{text}");
    }
}

#[test]
fn the_default_address_of_prometheus_yields_to_the_settings_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("tollgate.toml"), "metrics.prometheus_addr = \":1\"\n").unwrap();
    let environment = crate::environment(&[("USE_PROMETHEUS", "true")]).in_directory(directory.path());
    let effective = tollgate_server::config::settings::load(
        &environment,
        &tollgate_server::config::settings::Flags::new(),
    )
    .unwrap();
    assert_eq!(effective.settings.metrics.prometheus_addr.listen().map(|(_, port)| port), Some(1));
    assert!(effective.settings.metrics.reference_names);
}

#[test]
fn istios_sample_starts() {
    let effective = sound(&[
        ("LOG_LEVEL", "debug"),
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("USE_STATSD", "false"),
        ("RUNTIME_ROOT", "/data"),
        ("RUNTIME_SUBDIRECTORY", "ratelimit"),
        ("RUNTIME_WATCH_ROOT", "false"),
        ("RUNTIME_IGNOREDOTFILES", "true"),
        ("HOST", "::"),
        ("GRPC_HOST", "::"),
    ]);
    assert_eq!(effective.warnings, ["REDIS_SOCKET_TYPE has no effect: the store is memory"]);
    assert!(effective.settings.grpc.host.is_dual_stack());
    assert_eq!(effective.settings.http.host.with_port(8080), "[::]:8080");
    assert!(
        matches!(effective.rules_location(), RulesLocation::Runtime(runtime) if runtime.ignore_dot_files)
    );
}
