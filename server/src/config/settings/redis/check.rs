//! Settings of Redis that contradict one another, and those that have no effect.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::super::origin::Origins;
use super::super::problem::Problem;
use super::super::store::{Store, StoreKind};
use super::{Flaw, Redis, RedisAtStart, RedisKind, RedisLayout};

const LAYOUT: &str = "store.redis.layout";

/// Everything that is wrong with Redis, if it is the store.
pub(in super::super) fn problems(store: &Store, origins: &Origins) -> Vec<Problem> {
    let flaws = match store.kind {
        StoreKind::Memory => memory(&store.redis).into_iter().collect(),
        StoreKind::Redis => flaws(&store.redis),
    };
    let refused = |Flaw { key, why }| Problem::Refused { origin: origins.of(key).clone(), why };
    flaws.into_iter().map(refused).collect()
}

/// Who sets the layout counts on sharing a Redis.
fn memory(redis: &Redis) -> Option<Flaw> {
    let why = "store.redis.layout = \"reference\" needs the store redis: set store.redis.url";
    (redis.layout == RedisLayout::Reference).then(|| Flaw::new(LAYOUT, why))
}

fn flaws(redis: &Redis) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    match redis.stated_addresses() {
        Ok(addresses) if addresses.uses_tls() => flaws.extend(certificates(redis)),
        Ok(_) => {}
        Err(flaw) => flaws.push(flaw),
    }
    let times = [("store.redis.timeout", redis.timeout), ("store.redis.call_timeout", redis.call_timeout)];
    let zero = times.into_iter().filter(|(_, time)| *time == Duration::ZERO);
    flaws.extend(zero.map(|(key, _)| Flaw::new(key, format!("{key} must be longer than 0s"))));
    flaws
}

/// What is wrong with the files of TLS: seen now, not when the first connection is made.
fn certificates(redis: &Redis) -> Vec<Flaw> {
    const CA: &str = "store.redis.tls_ca";
    const CERT: &str = "store.redis.tls_cert";
    const KEY: &str = "store.redis.tls_key";
    let files = [(CA, &redis.tls_ca), (CERT, &redis.tls_cert), (KEY, &redis.tls_key)];
    let named = files.into_iter().filter_map(|(key, file)| Some((key, file.as_deref()?)));
    let mut flaws: Vec<Flaw> = named.filter_map(|(key, file)| pem(key, file)).collect();
    match (&redis.tls_cert, &redis.tls_key) {
        (Some(_), None) => flaws.push(Flaw::new(CERT, format!("{CERT} needs {KEY} too"))),
        (None, Some(_)) => flaws.push(Flaw::new(KEY, format!("{KEY} needs {CERT} too"))),
        (Some(_), Some(_)) | (None, None) => {}
    }
    flaws
}

fn pem(key: &'static str, file: &Path) -> Option<Flaw> {
    let refused = |why: &str| Some(Flaw::new(key, format!("{key}: {}: {why}", file.display())));
    let begin: &[u8] = b"-----BEGIN ";
    match fs::read(file) {
        Ok(bytes) if bytes.windows(begin.len()).any(|window| window == begin) => None,
        Ok(_) => refused("is no PEM file"),
        Err(error) => refused(&error.to_string()),
    }
}

/// What was set for Redis but has no effect, if it is the store.
pub(in super::super) fn warnings(store: &Store, origins: &Origins) -> Vec<String> {
    if store.kind == StoreKind::Memory {
        return Vec::new();
    }
    let warn = |(key, why): (&str, &str)| format!("{key} ({}) has no effect: {why}", origins.of(key));
    idle(&store.redis).into_iter().map(warn).collect()
}

/// The settings that are not used, and why.
fn idle(redis: &Redis) -> Vec<(&'static str, &'static str)> {
    const NO_TLS: &str = "TLS is off, see store.redis.tls";
    let is_plain = redis.stated_addresses().is_ok_and(|addresses| !addresses.uses_tls());
    let is_jittered = !matches!(redis.expiration_jitter_secs, 0 | 300);
    let unused = [
        ("store.redis.tls_ca", is_plain && redis.tls_ca.is_some(), NO_TLS),
        ("store.redis.tls_cert", is_plain && redis.tls_cert.is_some(), NO_TLS),
        ("store.redis.tls_key", is_plain && redis.tls_key.is_some(), NO_TLS),
        (
            "store.redis.tls_skip_hostname_verification",
            is_plain && redis.tls_skip_hostname_verification,
            NO_TLS,
        ),
        (
            "store.redis.sentinel_auth",
            redis.kind != RedisKind::Sentinel && !redis.sentinel_auth.is_empty(),
            "store.redis.kind is not sentinel",
        ),
        (
            "store.redis.startup_timeout",
            redis.at_start != RedisAtStart::Wait && !redis.startup_timeout.is_zero(),
            "store.redis.at_start is not wait",
        ),
        (
            "store.redis.expiration_jitter_secs",
            redis.layout == RedisLayout::Tollgate && is_jittered,
            "keys of layout tollgate expire when their state does",
        ),
    ];
    unused.into_iter().filter(|(_, is_idle, _)| *is_idle).map(|(key, _, why)| (key, why)).collect()
}
