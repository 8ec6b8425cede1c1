//! Section `[store.redis]`: what its settings may be, what they imply, what contradicts what.

use std::time::Duration;

use tollgate_server::config::settings::{
    Flags, RedisAddresses, RedisAtStart, RedisLayout, RedisSocket, StoreKind, load,
};

use crate::{Variables, environment, line, problems, sound};

const URL: (&str, &str) = ("REDIS_URL", "redis:6379");
const PEM: &str = "-----BEGIN CERTIFICATE-----\nhunter2\n-----END CERTIFICATE-----\n";

fn ours(key: &str) -> String {
    format!("TOLLGATE__STORE__REDIS__{}", key.to_uppercase())
}

/// The problems of these settings of `store.redis`, beside an address.
fn problems_with(settings: Variables<'_>) -> Vec<String> {
    let named: Vec<_> = settings.iter().map(|(key, text)| (ours(key), *text)).collect();
    let mut variables = vec![URL];
    variables.extend(named.iter().map(|(name, text)| (name.as_str(), *text)));
    problems(&variables)
}

/// The warnings of these settings of `store.redis`, beside an address.
fn warnings_with(settings: Variables<'_>) -> Vec<String> {
    let named: Vec<_> = settings.iter().map(|(key, text)| (ours(key), *text)).collect();
    let mut variables = vec![URL];
    variables.extend(named.iter().map(|(name, text)| (name.as_str(), *text)));
    sound(&variables).warnings
}

#[test]
fn an_address_chooses_the_store_and_nothing_else_is_needed() {
    let effective = sound(&[URL]);
    let store = &effective.settings.store;
    assert_eq!(store.kind, StoreKind::Redis);
    assert_eq!(line(&effective, "store.kind"), "store.kind = \"redis\"   # env REDIS_URL");
    assert!(matches!(store.redis.addresses(), Ok(RedisAddresses::Single(_))));
    assert_eq!(effective.warnings, [""; 0]);
    assert_eq!((store.redis.socket, store.redis.at_start), (RedisSocket::Auto, RedisAtStart::Wait));
    assert_eq!((store.redis.prefix.as_str(), store.redis.layout), ("tg:", RedisLayout::Tollgate));
    assert_eq!((store.redis.max_waiting, store.redis.lanes, store.redis.database), (4_096, 0, 0));
    assert_eq!(store.redis.call_timeout, Duration::from_millis(100));
    assert_eq!(store.denials.max_bytes, 16 << 20);
}

#[test]
fn the_store_redis_needs_an_address() {
    let why = "the store redis has no address: set store.redis.url (REDIS_URL), or store.kind = \"memory\"";
    assert_eq!(
        problems(&[("TOLLGATE__STORE__KIND", "redis")]),
        [format!("env TOLLGATE__STORE__KIND: {why}")]
    );
    let flags = Flags::new().with_value("--store", "store.kind", "redis");
    let error = load(&environment(&[("REDIS_URL", "")]), &flags).unwrap_err();
    assert_eq!(error.problems()[0].to_string(), format!("flag --store: {why}"));
}

#[test]
fn values_have_their_ranges() {
    for (key, good, bad, words) in [
        ("database", "15", "16", "a whole number from 0 to 15"),
        ("wait_replicas", "16", "17", "a whole number from 0 to 16"),
        ("lanes", "64", "65", "a whole number from 0 to 64"),
        ("max_waiting", "1000000", "1000001", "a whole number from 1 to 1000000"),
        ("max_waiting", "1", "0", "a whole number from 1 to 1000000"),
        ("replicas", "100000", "100001", "a whole number from 0 to 100000"),
        ("expiration_jitter_secs", "86400", "86401", "a whole number from 0 to 86400"),
        ("layout", "tollgate", "Reference", "tollgate or reference"),
        ("at_start", "serve", "never", "wait, serve or refuse"),
        ("at_start", "refuse", "", "wait, serve or refuse"),
        ("socket", "tcp", "udp", "auto, tcp or unix"),
        ("kind", "cluster", "ring", "single, sentinel or cluster"),
        ("call_timeout", "1us", "1", "a duration such as 500ms, 1m30s or 24h"),
        ("health_check", "true", "yes", "true or false"),
        ("prefix", "", "{a}", "at most 64 printable ASCII characters without { and }"),
        ("prefix", &"x".repeat(64), &"x".repeat(65), "at most 64 printable ASCII characters without { and }"),
        ("prefix", "a b:~", "\u{e9}", "at most 64 printable ASCII characters without { and }"),
        ("prefix", "!", "a\u{7f}", "at most 64 printable ASCII characters without { and }"),
    ] {
        assert_eq!(problems_with(&[(key, good)]), [""; 0], "{key} {good}");
        let problems = problems_with(&[(key, bad)]);
        assert_eq!(problems.len(), 1, "{key} {bad}: {problems:?}");
        assert!(problems[0].contains(&format!("store.redis.{key} = ")), "{problems:?}");
        assert!(problems[0].ends_with(&format!(" is not {words}")), "{problems:?}");
    }
    let problems = problems(&[("TOLLGATE__STORE__DENIALS__MAX_BYTES", "-1")]);
    assert!(problems[0].ends_with("is not a whole number from 0 to 1099511627776"), "{problems:?}");
}

#[test]
fn a_problem_names_who_set_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("none").display().to_string();
    for (settings, name, why) in [
        (
            &[("auth_file", missing.as_str())][..],
            "AUTH_FILE",
            format!("store.redis.auth_file: {missing}: No such file or directory (os error 2)"),
        ),
        (&[("timeout", "0s")], "TIMEOUT", "store.redis.timeout must be longer than 0s".to_owned()),
        (
            &[("call_timeout", "0s")],
            "CALL_TIMEOUT",
            "store.redis.call_timeout must be longer than 0s".to_owned(),
        ),
        (
            &[("kind", "cluster"), ("database", "2")],
            "DATABASE",
            "a cluster has no other database than 0, and store.redis.database = 2".to_owned(),
        ),
        (&[("auth", "ann:")], "AUTH", "store.redis.auth: has a user without a password".to_owned()),
        (
            &[("url", "/run/redis.sock"), ("tls", "true")],
            "TLS",
            "there is no TLS over a Unix socket: unset store.redis.tls".to_owned(),
        ),
        (
            &[("url", "hunter2@redis:6379")],
            "URL",
            "store.redis.url has a host that is neither an IP address nor a host name".to_owned(),
        ),
    ] {
        assert_eq!(problems_with(settings), [format!("env TOLLGATE__STORE__REDIS__{name}: {why}")]);
    }
    assert_eq!(
        problems_with(&[("timeout", "0"), ("call_timeout", "0"), ("url", "x")]).len(),
        3,
        "all at once"
    );
}

#[test]
fn what_redis_would_refuse_does_not_matter_to_the_store_in_memory() {
    let effective = sound(&[
        ("REDIS_URL", "hunter2@redis"),
        ("REDIS_AUTH_FILE", "/nowhere"),
        ("REDIS_TIMEOUT", "0"),
        ("REDIS_TLS_CLIENT_CERT", "/nowhere"),
        ("TOLLGATE__STORE__KIND", "memory"),
    ]);
    assert_eq!(effective.settings.store.kind, StoreKind::Memory);
}

#[test]
fn the_url_names_the_database_unless_a_setting_does() {
    let url = ("REDIS_URL", "redis://redis:6379/5");
    let effective = sound(&[url]);
    assert_eq!(line(&effective, "store.redis.database"), "store.redis.database = 5   # env REDIS_URL");
    assert!(matches!(
        effective.settings.store.redis.addresses(),
        Ok(RedisAddresses::Single(address)) if address.database == 5
    ));
    sound(&[url, ("TOLLGATE__STORE__REDIS__DATABASE", "5")]);
    for database in ["0", "4"] {
        assert_eq!(
            problems(&[url, ("TOLLGATE__STORE__REDIS__DATABASE", database)]),
            [format!(
                "env REDIS_URL: store.redis.url names another database than store.redis.database = {database}"
            )]
        );
    }
}

#[test]
fn an_address_that_asks_for_tls_gets_it() {
    for variables in [
        &[("REDIS_URL", "rediss://redis")][..],
        &[("REDIS_URL", "rediss://redis"), ("REDIS_TLS", "false")],
        &[("REDIS_URL", "a:1,rediss://b:1"), ("REDIS_TYPE", "cluster")],
        &[("REDIS_URL", "m,rediss://s:1,t:1"), ("REDIS_TYPE", "sentinel")],
    ] {
        let effective = sound(variables);
        assert_eq!(line(&effective, "store.redis.tls"), "store.redis.tls = true   # env REDIS_URL");
        assert!(effective.settings.store.redis.addresses().is_ok_and(|addresses| addresses.uses_tls()));
    }
    assert!(!sound(&[URL]).settings.store.redis.tls);
}

#[test]
fn the_references_layout_brings_its_defaults() {
    let layout = ("TOLLGATE__STORE__REDIS__LAYOUT", "reference");
    let effective = sound(&[URL, layout]);
    assert_eq!(effective.settings.store.redis.layout, RedisLayout::Reference);
    let name = layout.0;
    assert_eq!(line(&effective, "store.redis.prefix"), format!("store.redis.prefix = \"\"   # env {name}"));
    assert_eq!(
        line(&effective, "store.denials.max_bytes"),
        format!("store.denials.max_bytes = 0   # env {name}")
    );

    let effective = sound(&[URL, layout, ("CACHE_KEY_PREFIX", "tg:"), ("LOCAL_CACHE_SIZE_IN_BYTES", "1")]);
    assert_eq!(effective.settings.store.redis.prefix, "tg:");
    assert_eq!(effective.settings.store.denials.max_bytes, 524_288);
    assert_eq!(effective.warnings, [""; 0]);
}

#[test]
fn the_references_layout_needs_redis() {
    let layout = ("TOLLGATE__STORE__REDIS__LAYOUT", "reference");
    let why = "store.redis.layout = \"reference\" needs the store redis: set store.redis.url";
    for variables in [&[layout][..], &[layout, URL, ("TOLLGATE__STORE__KIND", "memory")]] {
        assert_eq!(problems(variables), [format!("env TOLLGATE__STORE__REDIS__LAYOUT: {why}")]);
    }
}

#[test]
fn certificates_are_read_when_tls_is_used() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let (pem, other) = (write("cert.pem", PEM), write("cert.der", "hunter2"));
    let effective = sound(&[
        ("REDIS_URL", "rediss://redis"),
        ("REDIS_TLS_CACERT", &pem),
        ("REDIS_TLS_CLIENT_CERT", &pem),
        ("REDIS_TLS_CLIENT_KEY", &pem),
        ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true"),
    ]);
    assert_eq!(effective.warnings, [""; 0]);

    let with = |settings: Variables<'_>| problems_with(&[&[("tls", "true")], settings].concat());
    let named = |key: &str, why: &str| {
        [format!("env TOLLGATE__STORE__REDIS__{}: store.redis.{key}{why}", key.to_uppercase())]
    };
    assert_eq!(with(&[]), [""; 0]);
    assert_eq!(with(&[("tls_cert", &pem)]), named("tls_cert", " needs store.redis.tls_key too"));
    assert_eq!(with(&[("tls_key", &pem)]), named("tls_key", " needs store.redis.tls_cert too"));
    assert_eq!(with(&[("tls_ca", &other)]), named("tls_ca", &format!(": {other}: is no PEM file")));
    assert_eq!(
        with(&[("tls_cert", &pem), ("tls_key", "/nowhere/x")]),
        named("tls_key", ": /nowhere/x: No such file or directory (os error 2)")
    );
}

#[test]
fn what_is_not_used_is_named() {
    let unused = |key: &str, why: &str| {
        let upper = key.to_uppercase();
        format!("store.redis.{key} (env TOLLGATE__STORE__REDIS__{upper}) has no effect: {why}")
    };
    for (settings, key, why) in [
        (&[("tls_ca", "/x")][..], "tls_ca", "TLS is off, see store.redis.tls"),
        (&[("tls_cert", "/x")], "tls_cert", "TLS is off, see store.redis.tls"),
        (&[("tls_key", "/x")], "tls_key", "TLS is off, see store.redis.tls"),
        (
            &[("tls_skip_hostname_verification", "true")],
            "tls_skip_hostname_verification",
            "TLS is off, see store.redis.tls",
        ),
        (&[("sentinel_auth", "x")], "sentinel_auth", "store.redis.kind is not sentinel"),
        (
            &[("at_start", "serve"), ("startup_timeout", "1m")],
            "startup_timeout",
            "store.redis.at_start is not wait",
        ),
        (
            &[("expiration_jitter_secs", "60")],
            "expiration_jitter_secs",
            "keys of layout tollgate expire when their state does",
        ),
    ] {
        assert_eq!(warnings_with(settings), [unused(key, why)]);
    }
    for used in [
        &[("startup_timeout", "1m")][..],
        &[("layout", "reference"), ("expiration_jitter_secs", "60")],
        &[("kind", "sentinel"), ("url", "m,s:1"), ("sentinel_auth", "x")],
        &[("tls", "true"), ("tls_skip_hostname_verification", "true")],
        &[("expiration_jitter_secs", "300")],
        &[("expiration_jitter_secs", "0")],
    ] {
        assert_eq!(warnings_with(used), [""; 0], "{used:?}");
    }
}

#[test]
fn secrets_of_redis_are_never_shown() {
    let url = "redis://ann:hunter2@redis:6379";
    let effective = sound(&[("REDIS_URL", url), ("REDIS_AUTH", "ann:hunter2")]);
    assert!(!format!("{effective}{effective:?}").contains("hunter2"));
    for url in [
        "redis://ann:hunter2",
        "redis://ann:hunter2@",
        "hunter2@redis",
        "redis://ann:hunter2@redis:x",
        "hunter2://redis",
        "redis://redis/hunter2",
        "redis://redis?password=hunter2",
    ] {
        let problems = problems(&[("REDIS_URL", url), ("REDIS_AUTH", "hunter2:")]);
        assert!(!problems.is_empty(), "{url}");
        assert!(!problems.concat().contains("hunter2"), "{problems:?}");
    }
}
