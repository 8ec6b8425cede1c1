//! The variables of envoyproxy/ratelimit: those that lead to a warning, to a refusal, or to nothing.

use tollgate_server::config::settings::{Flags, Settings, StoreKind, load};

use crate::{Variables, environment, problems, sound};

/// Variable, a text that asks for something we do not have, and a text that does not.
const UNHONOURED: &[(&str, &str, &str)] = &[
    ("USE_STATSD", "true", "false"),
    ("STATSD_HOST", "statsd", "localhost"),
    ("STATSD_PORT", "9125", "8125"),
    ("STATSD_PROTOCOL", "udp", "tcp"),
    ("USE_DOG_STATSD", "1", "0"),
    ("USE_DOG_STATSD_MOGRIFIERS", "A", ""),
    ("DOG_STATSD_MOGRIFIER_A_PATTERN", "x", ""),
    ("PROMETHEUS_MAPPER_YAML", "/etc/conf.yaml", ""),
    ("EXTRA_TAGS", "env:prod", ""),
    ("CACHE_KEY_PREFIX", "x", ""),
    ("EXPIRATION_JITTER_MAX_SECONDS", "60", "300"),
    ("LOCAL_CACHE_SIZE_IN_BYTES", "1000", "0"),
    ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "true", "false"),
    ("CONFIG_GRPC_XDS_SERVER_CONNECT_RETRY_INTERVAL", "1s", "3s"),
    ("MEMCACHE_HOST_PORT", "x:1", ""),
    ("MEMCACHE_SRV", "_a._b.c", ""),
    ("MEMCACHE_SRV_REFRESH", "1s", "0"),
    ("MEMCACHE_MAX_IDLE_CONNS", "3", "2"),
    ("MEMCACHE_TLS", "true", "false"),
    ("MEMCACHE_TLS_CLIENT_CERT", "/x", ""),
    ("MEMCACHE_TLS_CLIENT_KEY", "/x", ""),
    ("MEMCACHE_TLS_CACERT", "/x", ""),
    ("MEMCACHE_TLS_SKIP_HOSTNAME_VERIFICATION", "true", "false"),
    ("GRPC_MAX_CONCURRENT_STREAMS", "100", "0"),
    ("LIMIT_ALL_DESCRIPTORS_HEADERS_ENABLED", "true", "false"),
    ("DESCRIPTOR_KEY_CONFIG", "/x", ""),
    ("REDIS_SOCKET_TYPE", "tcp", "unix"),
    ("REDIS_TYPE", "CLUSTER", "SINGLE"),
    ("REDIS_AUTH", "x", ""),
    ("REDIS_SENTINEL_AUTH", "x", ""),
    ("REDIS_AUTH_FILE", "/x", ""),
    ("REDIS_AWS_IAM_AUTH", "true", "false"),
    ("REDIS_TLS", "true", "false"),
    ("REDIS_TLS_CLIENT_CERT", "/x", ""),
    ("REDIS_TLS_CLIENT_KEY", "/x", ""),
    ("REDIS_TLS_CACERT", "/x", ""),
    ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true", "false"),
    ("REDIS_TIMEOUT", "1s", "10s"),
    ("REDIS_OP_TIMEOUT", "1s", "0"),
    ("REDIS_POOL_SIZE", "1", "10"),
    ("REDIS_POOL_ON_EMPTY_BEHAVIOR", "CREATE", "WAIT"),
    ("REDIS_PIPELINE_WINDOW", "1ms", "0s"),
    ("REDIS_PIPELINE_LIMIT", "1", "0"),
    ("REDIS_CLUSTER_PIPELINE_PARALLELISM", "2", "1"),
    ("REDIS_PERSECOND", "true", "false"),
    ("REDIS_PERSECOND_URL", "x:1", ""),
    ("REDIS_PERSECOND_TLS", "true", "false"),
    ("REDIS_PERSECOND_POOL_SIZE", "1", "10"),
    ("REDIS_PERSECOND_SOCKET_TYPE", "tcp", "unix"),
    ("REDIS_PERSECOND_TYPE", "CLUSTER", "SINGLE"),
    ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true", "false"),
    ("REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR", "true", "false"),
    ("REDIS_STARTUP_INITIAL_INTERVAL", "2s", "1s"),
    ("REDIS_STARTUP_MAX_INTERVAL", "1s", "30s"),
    ("REDIS_STARTUP_MAX_ELAPSED_TIME", "1s", "0"),
];

#[test]
fn what_cannot_be_honoured_is_named_once() {
    for (name, text, harmless) in UNHONOURED {
        let warnings = sound(&[(name, text)]).warnings;
        assert!(
            warnings.len() == 1 && warnings[0].starts_with(&format!("{name} has no effect: ")),
            "{warnings:?}"
        );
        assert_eq!(sound(&[(name, harmless)]).warnings, [""; 0], "{name}={harmless}");
    }
}

#[test]
fn what_costs_nothing_is_accepted_without_a_word() {
    let variables: Variables<'_> = &[
        ("STATS_FLUSH_INTERVAL", "1s"),
        ("GRPC_SERVER_TLS_CERT", "/certs/tls.crt"),
        ("GRPC_SERVER_TLS_KEY", "/certs/tls.key"),
        ("GRPC_SERVER_USE_TLS", "false"),
        ("GRPC_CLIENT_TLS_CACERT", ""),
        ("BACKEND_TYPE", "redis"),
        ("CONFIG_TYPE", "FILE"),
        ("DISABLE_STATS", "false"),
        ("USE_PROMETHEUS", "false"),
        ("ENABLE_NEGATIVE_HITS", "true"),
        ("PATH", "/bin"),
    ];
    let effective = sound(variables);
    assert_eq!(effective.warnings, [""; 0]);
    assert_eq!(effective.settings, Settings::default());
}

#[test]
fn what_hangs_on_a_switch_that_is_off_is_not_mentioned() {
    let variables: Variables<'_> = &[
        ("USE_STATSD", "false"),
        ("STATSD_HOST", "statsd"),
        ("STATSD_PORT", "tcp://10.0.0.1:8125"),
        ("TRACING_ENABLED", "false"),
        ("TRACING_SERVICE_NAME", "x"),
    ];
    assert_eq!(sound(variables).warnings, [""; 0]);
}

#[test]
fn what_protects_something_stops_the_start() {
    for (name, text) in [
        ("GRPC_SERVER_USE_TLS", "true"),
        ("GRPC_CLIENT_TLS_CACERT", "/ca.crt"),
        ("GRPC_SERVER_TLS_CA_CERT", "/ca.crt"),
        ("GRPC_CLIENT_TLS_SAN", "envoy"),
        ("BACKEND_TYPE", "memcache"),
        ("BACKEND_TYPE", "dynamo"),
        ("CONFIG_TYPE", "HTTP"),
        ("CONFIG_TYPE", ""),
    ] {
        let problems = problems(&[(name, text)]);
        assert!(problems.len() == 1 && problems[0].starts_with(&format!("env {name}: ")), "{problems:?}");
    }
}

#[test]
fn redis_is_not_configured_without_an_address() {
    for variables in [&[("BACKEND_TYPE", "redis")], &[("REDIS_URL", "")], &[("REDIS_SOCKET_TYPE", "tcp")]] {
        assert_eq!(sound(variables).settings.store.kind, StoreKind::Memory);
    }
}

#[test]
fn the_flag_for_the_store_wins_over_everything() {
    let variables = environment(&[
        ("REDIS_URL", "redis:6379"),
        ("REDIS_TLS", "true"),
        ("REDIS_AUTH", "x"),
        ("BACKEND_TYPE", "memcache"),
        ("TOLLGATE__STORE__KIND", "redis"),
    ]);
    let effective = load(&variables, &Flags::new().with_value("--store", "store.kind", "memory")).unwrap();
    assert_eq!(effective.settings.store.kind, StoreKind::Memory);
    assert_eq!(
        effective.warnings,
        [
            "BACKEND_TYPE has no effect: the store is memory",
            "REDIS_AUTH has no effect: the store is memory",
            "REDIS_TLS has no effect: the store is memory",
            "REDIS_URL has no effect: the store is memory",
        ]
    );
}

#[test]
fn a_boolean_that_is_none_is_an_error_wherever_it_is_read() {
    for name in [
        "USE_STATSD",
        "USE_PROMETHEUS",
        "DISABLE_STATS",
        "GRPC_SERVER_USE_TLS",
        "REDIS_PERSECOND",
        "REDIS_AWS_IAM_AUTH",
        "REDIS_TLS",
        "REDIS_HEALTH_CHECK_ACTIVE_CONNECTION",
    ] {
        for text in ["", "yes"] {
            let problems = problems(&[(name, text)]);
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert!(
                problems[0].contains(name) && problems[0].contains("is not true or false"),
                "{problems:?}"
            );
        }
    }
}
