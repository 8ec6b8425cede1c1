//! The reference's variables about Redis when the store is Redis: settings, without effect, or refused.

use crate::{Variables, problems, sound};

const URL: (&str, &str) = ("REDIS_URL", "redis:6379");

fn with_url(variables: Variables<'_>) -> Vec<(&str, &str)> {
    [&[URL], variables].concat()
}

#[test]
fn what_redis_needs_no_more_is_named_with_the_reason() {
    for (name, text, harmless, why) in [
        (
            "REDIS_POOL_SIZE",
            "20",
            "10",
            "connections are shared, and no request waits for one; store.redis.lanes is their number",
        ),
        (
            "REDIS_POOL_ON_EMPTY_BEHAVIOR",
            "CREATE",
            "WAIT",
            "connections are shared, and no request waits for one; store.redis.lanes is their number",
        ),
        ("REDIS_PIPELINE_WINDOW", "1ms", "0", "requests of one moment travel together by themselves"),
        ("REDIS_PIPELINE_LIMIT", "8", "0", "requests of one moment travel together by themselves"),
        ("REDIS_CLUSTER_PIPELINE_PARALLELISM", "4", "1", "all parts of a request travel at once"),
        (
            "REDIS_CLOSE_CONNECTION_ON_READONLY_ERROR",
            "true",
            "false",
            "a connection to a server that takes no writes is always left",
        ),
        (
            "REDIS_STARTUP_INITIAL_INTERVAL",
            "2s",
            "1s",
            "lost connections are made again at intervals of its own",
        ),
        (
            "REDIS_STARTUP_MAX_INTERVAL",
            "1m",
            "30s",
            "lost connections are made again at intervals of its own",
        ),
    ] {
        let warnings = sound(&with_url(&[(name, text)])).warnings;
        assert_eq!(warnings, [format!("{name} has no effect: {why}")]);
        assert_eq!(sound(&with_url(&[(name, harmless)])).warnings, [""; 0], "{name}={harmless}");
    }
}

#[test]
fn what_is_a_setting_has_an_effect_and_no_warning() {
    let effective = sound(&with_url(&[
        ("REDIS_SOCKET_TYPE", "tcp"),
        ("REDIS_TYPE", "SINGLE"),
        ("REDIS_AUTH", "ann:x"),
        ("REDIS_TLS", "true"),
        ("REDIS_TLS_SKIP_HOSTNAME_VERIFICATION", "true"),
        ("REDIS_TIMEOUT", "1s"),
        ("REDIS_OP_TIMEOUT", "20ms"),
        ("REDIS_HEALTH_CHECK_ACTIVE_CONNECTION", "true"),
        ("REDIS_STARTUP_MAX_ELAPSED_TIME", "1m"),
        ("CACHE_KEY_PREFIX", "shop:"),
        ("LOCAL_CACHE_SIZE_IN_BYTES", "1048576"),
        ("BACKEND_TYPE", "redis"),
    ]));
    assert_eq!(effective.warnings, [""; 0]);
}

#[test]
fn what_would_use_another_redis_or_login_stops_the_start() {
    let why =
        "one Redis holds all counters, there is no second one for limits per second; unset REDIS_PERSECOND";
    let second = [
        ("REDIS_PERSECOND", "true"),
        ("REDIS_PERSECOND_URL", "other:6379"),
        ("REDIS_PERSECOND_AUTH", "hunter2"),
    ];
    assert_eq!(problems(&with_url(&second)), [format!("env REDIS_PERSECOND: {why}")]);
    assert_eq!(
        problems(&with_url(&[("REDIS_AWS_IAM_AUTH", "true")])),
        [
            "env REDIS_AWS_IAM_AUTH: there is no login with AWS IAM; unset REDIS_AWS_IAM_AUTH, and set REDIS_AUTH \
             or REDIS_AUTH_FILE"
        ]
    );
    sound(&with_url(&[("REDIS_PERSECOND", "false"), ("REDIS_AWS_IAM_AUTH", "false")]));
    assert_eq!(sound(&second).warnings.len(), 3, "the store is memory");
}

#[test]
fn a_second_redis_that_is_not_used_stops_nothing() {
    let second = [("REDIS_PERSECOND_URL", "other:6379"), ("REDIS_PERSECOND_POOL_SIZE", "5")];
    assert_eq!(
        sound(&with_url(&second)).warnings,
        [
            "REDIS_PERSECOND_POOL_SIZE has no effect: REDIS_PERSECOND is not set",
            "REDIS_PERSECOND_URL has no effect: REDIS_PERSECOND is not set",
        ]
    );
    let off = [second[0], second[1], ("REDIS_PERSECOND", "false")];
    assert_eq!(sound(&with_url(&off)).warnings, [""; 0]);
}

#[test]
fn everything_that_is_wrong_is_said_at_once() {
    let problems = problems(&[
        ("REDIS_URL", "redis"),
        ("REDIS_TIMEOUT", "0"),
        ("REDIS_PERSECOND", "1"),
        ("REDIS_AWS_IAM_AUTH", "1"),
        ("REDIS_TLS", "maybe"),
    ]);
    let who: Vec<_> = problems.iter().filter_map(|problem| problem.split(": ").next()).collect();
    assert_eq!(
        who,
        [
            "env REDIS_TLS",
            "env REDIS_URL",
            "env REDIS_TIMEOUT",
            "env REDIS_AWS_IAM_AUTH",
            "env REDIS_PERSECOND"
        ]
    );
}
