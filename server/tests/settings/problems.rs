//! Everything that is wrong is said at once, with who set it and what is allowed.

use std::fs;

use proptest::prelude::*;
use tollgate_server::config::settings::{Environment, Flags, load};

use crate::{environment, problems, sound};

fn problems_of_file(name: &str, text: &str) -> Vec<String> {
    let Ok(directory) = tempfile::tempdir() else { panic!("no temporary folder") };
    let file = directory.path().join(name);
    assert!(fs::write(&file, text).is_ok());
    let shown = file.display().to_string();
    match load(&Environment::default(), &Flags::new().with_settings_file(file)) {
        Ok(_) => Vec::new(),
        Err(error) => {
            error.problems().iter().map(|problem| problem.to_string().replace(&shown, name)).collect()
        }
    }
}

#[test]
fn all_layers_report_together() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(
        directory.path().join("tollgate.toml"),
        "[gprc]\nport = 1\n[grpc]\nport = 70000\nworkers = -1\n[http]\ntimeout = 10\n[store.memory]\non_full = \"panic\"\n",
    )
    .unwrap();
    let variables = environment(&[
        ("DEBUG_PORT", ""),
        ("GRPC_PORT", "x"),
        ("LOG_LEVEL", "loud"),
        ("SHADOW_MODE", "yes"),
        ("TOLLGATE__LOG__LEVLE", "info"),
        ("NEAR_LIMIT_RATIO", "NaN"),
    ])
    .in_directory(directory.path());
    let flags = Flags::new()
        .with_value("--grpc-port", "grpc.port", "-1")
        .with_assignment("http.host=a b")
        .with_assignment("nonsense");

    let error = load(&variables, &flags).unwrap_err();

    let file = directory.path().join("tollgate.toml").display().to_string();
    let text = error.to_string().replace(&file, "FILE");
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "the settings cannot be used",
            "  file FILE: unknown setting gprc.port; did you mean grpc.port?",
            "  file FILE: grpc.port = 70000 is not a whole number from 0 to 65535",
            "  file FILE: grpc.workers = -1 is not a whole number from 0 to 1024",
            "  file FILE: http.timeout = 10 is not a duration such as 500ms, 1m30s or 24h",
            "  file FILE: store.memory.on_full = \"panic\" is not deny, allow or evict",
            "  env DEBUG_PORT: admin.port = \"\" is not a whole number from 0 to 65535",
            "  env GRPC_PORT: grpc.port = \"x\" is not a whole number from 0 to 65535",
            "  env SHADOW_MODE: mode.shadow = \"yes\" is not true or false",
            "  env NEAR_LIMIT_RATIO: metrics.near_limit_ratio = \"NaN\" is not a number from 0 to 1",
            "  env LOG_LEVEL: log.level = \"loud\" is not error, warn, info, debug or trace",
            "  env TOLLGATE__LOG__LEVLE: unknown setting log.levle; did you mean log.level?",
            "  flag --grpc-port: grpc.port = \"-1\" is not a whole number from 0 to 65535",
            "  flag --set: http.host = \"a b\" is not an IP address or a host name",
            "  flag --set: \"nonsense\" is not section.key=value",
        ]
    );
}

#[test]
fn a_port_that_is_no_number_names_its_variable() {
    assert_eq!(
        problems(&[("PORT", "x")]),
        ["env PORT: http.port = \"x\" is not a whole number from 0 to 65535"]
    );
}

#[test]
fn set_but_empty_numbers_durations_and_booleans_are_errors_as_in_the_reference() {
    for (name, words) in
        [("PORT", "number"), ("GRPC_MAX_CONNECTION_AGE", "duration"), ("SHADOW_MODE", "true or false")]
    {
        let problems = problems(&[(name, "")]);
        assert!(
            problems.len() == 1 && problems[0].contains(name) && problems[0].contains(words),
            "{problems:?}"
        );
    }
}

#[test]
fn a_missing_or_odd_named_file_is_an_error() {
    let error = load(&Environment::default(), &Flags::new().with_settings_file("/nowhere/tollgate.toml"))
        .unwrap_err();
    assert!(error.to_string().contains("settings file /nowhere/tollgate.toml: No such file"), "{error}");
    let error = load(&environment(&[("TOLLGATE_SETTINGS", "/nowhere/x.yaml")]), &Flags::new()).unwrap_err();
    assert!(error.to_string().contains("/nowhere/x.yaml"), "{error}");
    assert_eq!(
        problems_of_file("tollgate.json", "{}"),
        ["settings file tollgate.json: the name must end in .toml, .yaml or .yml"]
    );
}

#[test]
fn two_files_in_the_working_directory_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("tollgate.toml"), "").unwrap();
    fs::write(directory.path().join("tollgate.yaml"), "").unwrap();
    let error = load(&Environment::default().in_directory(directory.path()), &Flags::new()).unwrap_err();
    assert!(error.to_string().contains("tollgate.yaml exists too"), "{error}");
}

#[test]
fn a_file_that_cannot_be_parsed_says_where() {
    let toml = problems_of_file("bad.toml", "[grpc]\nport = = 1\n");
    assert!(toml[0].starts_with("settings file bad.toml: ") && toml[0].contains("line 2"), "{toml:?}");
    let secret = problems_of_file("secret.toml", "[store.redis]\nauth = \"hunter2\n");
    assert!(secret[0].contains("line 2") && !secret[0].contains("hunter2"), "{secret:?}");
    let yaml = problems_of_file("bad.yaml", "grpc: [\n");
    assert!(yaml[0].starts_with("settings file bad.yaml: "), "{yaml:?}");
    let twice = problems_of_file("twice.toml", "[grpc]\nport = 1\nport = 2\n");
    assert!(twice[0].contains("duplicate key"), "{twice:?}");
    assert_eq!(problems_of_file("empty.yaml", ""), [""; 0]);
    assert_eq!(problems_of_file("empty.toml", ""), [""; 0]);
}

#[test]
fn sections_and_values_are_told_apart() {
    assert_eq!(
        problems_of_file("odd.yaml", "grpc: 5\nhttp:\n  port: {a: 1}\nadmin:\n  port: [1]\n"),
        [
            "file odd.yaml: admin.port = [1] is not a whole number from 0 to 65535",
            "file odd.yaml: grpc = 5 is not a section with settings of its own",
            "file odd.yaml: http.port = {\"a\":1} is not a whole number from 0 to 65535",
        ]
    );
    assert_eq!(problems(&[("TOLLGATE__", "1"), ("TOLLGATE__GRPC", "1")]).len(), 2);
}

#[test]
fn what_kubernetes_sets_for_a_service_named_tollgate_is_ignored() {
    sound(&[("TOLLGATE_PORT", "tcp://10.0.0.1:8081"), ("TOLLGATE_SERVICE_HOST", "10.0.0.1")]);
}

#[test]
fn header_names_are_checked_and_never_empty() {
    for text in ["", "a b", "x:y", "\u{e4}"] {
        let problems = problems(&[("LIMIT_LIMIT_HEADER", text)]);
        assert_eq!(
            problems,
            [format!("env LIMIT_LIMIT_HEADER: response.limit_header = {text:?} is not an HTTP header name")]
        );
    }
}

#[test]
fn a_mapping_with_an_unknown_source_names_the_sources() {
    for from in ["hedaer:x", "header:", "header:a b", "query:", "Method", ""] {
        let mapping = format!(r#"[[{{"key": "k", "from": "{from}"}}]]"#);
        let problems = problems(&[("TOLLGATE__AUTH__DEFAULT__DESCRIPTORS", &mapping)]);
        assert!(
            problems.len() == 1 && problems[0].contains("header:NAME, query:NAME"),
            "{from}: {problems:?}"
        );
    }
    let problems =
        problems(&[("TOLLGATE__AUTH__DEFAULT__DESCRIPTORS", r#"[[{"key": "", "from": "host"}], []]"#)]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].contains("each entry a key"), "{problems:?}");
}

#[test]
fn one_port_cannot_have_two_owners() {
    assert_eq!(problems(&[("GRPC_PORT", "8080")]), ["env GRPC_PORT: http.port and grpc.port are both 8080"]);
    assert_eq!(
        problems(&[("USE_PROMETHEUS", "true"), ("PROMETHEUS_ADDR", ":6070")]),
        ["env PROMETHEUS_ADDR: admin.port and metrics.prometheus_addr are both 6070"]
    );
    sound(&[("GRPC_PORT", "8080"), ("GRPC_UDS", "/run/tollgate.sock")]);
    sound(&[("GRPC_PORT", "0"), ("PORT", "0"), ("DEBUG_PORT", "0")]);
    sound(&[("GRPC_HOST", "10.0.0.1"), ("GRPC_PORT", "6070")]);
}

#[test]
fn a_ping_needs_time_for_its_answer() {
    let problems = problems(&[("TOLLGATE__GRPC__KEEPALIVE_TIMEOUT", "0s")]);
    assert!(problems.len() == 1 && problems[0].contains("grpc.keepalive_interval = \"0s\""), "{problems:?}");
    sound(&[("TOLLGATE__GRPC__KEEPALIVE_TIMEOUT", "0s"), ("TOLLGATE__GRPC__KEEPALIVE_INTERVAL", "0")]);
}

#[test]
fn a_wrong_secret_is_not_shown() {
    let problems = problems_of_file("secret.toml", "[store.redis]\nauth = 271828\n");
    assert_eq!(problems, ["file secret.toml: store.redis.auth = *** is not text"]);
}

proptest! {
    #[test]
    fn no_text_brings_it_down(name in "[A-Z_]{0,12}|auth__domains|auth__domains__x|grpc__port|[a-z_.]{0,20}", text in "\\PC{0,24}|0[xob_0-9é]{0,8}|[\\[{\"a:,}\\]]{0,12}") {
        let variables = [
            (format!("TOLLGATE__{name}"), text.clone()),
            ("GRPC_PORT".to_owned(), text.clone()),
            ("PROMETHEUS_ADDR".to_owned(), text.clone()),
            ("USE_PROMETHEUS".to_owned(), "1".to_owned()),
            ("REDIS_URL".to_owned(), text.clone()),
            ("HOST".to_owned(), text.clone()),
        ];
        let assignment = format!("{name}={text}");
        match load(&variables.into_iter().collect(), &Flags::new().with_assignment(&assignment)) {
            Ok(effective) => prop_assert!(!effective.to_string().is_empty()),
            Err(error) => prop_assert!(!error.problems().is_empty()),
        }
    }
}
