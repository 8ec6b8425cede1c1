//! Five layers, who wins, and what `tollgate config` shows.

use std::fs;
use std::path::Path;

use tollgate_server::config::settings::{
    Effective, Environment, Flags, LogLevel, Origin, RulesLocation, Settings, Source, StoreKind, load,
};

use crate::{environment, line, sound};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/tollgate.toml");

fn from_file(file: impl AsRef<Path>) -> Effective {
    match load(&Environment::default(), &Flags::new().with_settings_file(file.as_ref())) {
        Ok(effective) => effective,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_example_file_states_every_default() {
    let effective = from_file(EXAMPLE);
    assert_eq!(effective.settings, Settings::default());
    assert_eq!(effective.warnings, [""; 0]);
    let unset: Vec<_> =
        effective.to_string().lines().filter(|line| line.ends_with("# default")).map(str::to_owned).collect();
    assert_eq!(unset, [""; 0], "missing in the example");
}

#[test]
fn nothing_set_is_the_defaults_and_the_example_rules() {
    let effective = sound(&[]);
    assert_eq!(effective.settings, Settings::default());
    assert_eq!(effective.rules_location(), RulesLocation::Example);
    assert_eq!(effective.settings.log.level, LogLevel::Info);
    assert_eq!(effective.settings.store.kind, StoreKind::Memory);
}

#[test]
fn each_layer_is_stronger_than_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tollgate.toml");
    fs::write(&file, "[grpc]\nport = 1\n[http]\nport = 1\n[admin]\nport = 1\n[log]\nlevel = \"warn\"\n")
        .unwrap();
    let variables = environment(&[
        ("GRPC_PORT", "2"),
        ("PORT", "2"),
        ("DEBUG_PORT", "2"),
        ("TOLLGATE__GRPC__PORT", "3"),
        ("TOLLGATE__HTTP__PORT", "3"),
    ])
    .in_directory(directory.path());
    let flags = Flags::new().with_value("--grpc-port", "grpc.port", "4");

    let effective = load(&variables, &flags).unwrap();

    let settings = &effective.settings;
    assert_eq!((settings.grpc.port, settings.http.port, settings.admin.port), (4, 3, 2));
    let origin = |key| effective.origins.of(key).clone();
    assert_eq!(origin("grpc.port"), Origin::Flag("--grpc-port".to_owned()));
    assert_eq!(origin("http.port"), Origin::Env("TOLLGATE__HTTP__PORT".to_owned()));
    assert_eq!(origin("admin.port"), Origin::Env("DEBUG_PORT".to_owned()));
    assert_eq!(origin("log.level"), Origin::File(file.display().to_string()));
    assert_eq!(origin("grpc.host"), Origin::Default);
    assert_eq!(line(&effective, "http.port"), "http.port = 3   # env TOLLGATE__HTTP__PORT");
    assert_eq!(line(&effective, "grpc.host"), "grpc.host = \"0.0.0.0\"   # default");
}

#[test]
fn a_named_file_wins_over_the_one_in_the_working_directory() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, port: u16| {
        let file = directory.path().join(name);
        fs::write(&file, format!("grpc:\n  port: {port}\n")).unwrap();
        file
    };
    write("tollgate.yaml", 1);
    let named = write("named.yml", 2);
    let flagged = write("flagged.yaml", 3);
    let port = |variables: Environment, flags: &Flags| load(&variables, flags).unwrap().settings.grpc.port;
    let by_variable =
        || environment(&[("TOLLGATE_SETTINGS", named.to_str().unwrap())]).in_directory(directory.path());

    assert_eq!(port(Environment::default().in_directory(directory.path()), &Flags::new()), 1);
    assert_eq!(port(by_variable(), &Flags::new()), 2);
    assert_eq!(port(by_variable(), &Flags::new().with_settings_file(flagged)), 3);
}

#[test]
fn yaml_and_toml_say_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let toml = directory.path().join("one.toml");
    let yaml = directory.path().join("two.yaml");
    fs::write(&toml, "[shutdown]\ngrace = \"1m30s\"\n[auth.domains.\"a.b\"]\ndescriptors = [[{key=\"k\",from=\"host\"}]]\n").unwrap();
    fs::write(
        &yaml,
        "shutdown: {grace: 1m30s}\nhttp:\nauth:\n  domains:\n    a.b:\n      descriptors: [[{key: k, from: host}]]\n",
    )
    .unwrap();
    let (toml, yaml) = (from_file(toml).settings, from_file(yaml).settings);
    assert_eq!(toml, yaml);
    assert_eq!(toml.auth.mapping("a.b").descriptors[0][0].from, Source::Host);
    assert_eq!(toml.auth.mapping("other"), &toml.auth.default);
}

#[test]
fn mappings_of_domains_add_up_over_the_layers() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("settings.toml");
    fs::write(
        &file,
        "[auth.domains.\"shop.example\"]\ndescriptors = []\n[auth.domains.two]\ndescriptors = []\n",
    )
    .unwrap();
    let variables = environment(&[(
        "TOLLGATE__AUTH__DOMAINS",
        r#"{"shop.example": {"descriptors": [[{"key": "tenant", "from": "header:X-Tenant"}]]}}"#,
    )]);

    let effective = load(&variables, &Flags::new().with_settings_file(file)).unwrap();

    let shop = effective.settings.auth.mapping("shop.example");
    assert_eq!(shop.descriptors[0][0].from, Source::Header("x-tenant".to_owned()));
    assert!(effective.settings.auth.mapping("two").descriptors.is_empty());
    assert_eq!(
        line(&effective, "auth.domains.\"shop.example\""),
        "auth.domains.\"shop.example\" = { descriptors = [[{ from = \"header:x-tenant\", key = \"tenant\" }]] }   \
         # env TOLLGATE__AUTH__DOMAINS"
    );
}

#[test]
fn what_is_printed_can_be_read_again() {
    let effective = sound(&[
        (
            "TOLLGATE__AUTH__DOMAINS",
            r#"{"a \"b\".c": {"descriptors": [[{"key": "k", "from": "const:\u007f\n"}]]}}"#,
        ),
        ("GRPC_MAX_CONNECTION_AGE", "90s"),
        ("USE_PROMETHEUS", "1"),
        ("NEAR_LIMIT_RATIO", "1"),
        ("TOLLGATE__STORE__MEMORY__MAX_BYTES", "1125899906842624"),
        ("REDIS_URL", "redis:6379"),
        ("REDIS_TYPE", "cluster"),
        ("TOLLGATE__STORE__REDIS__LAYOUT", "reference"),
        ("TOLLGATE__STORE__REDIS__AT_START", "serve"),
    ]);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("printed.toml");
    fs::write(&file, effective.to_string()).unwrap();
    assert_eq!(from_file(file).settings, effective.settings);
}

#[test]
fn lines_are_sorted_by_section_and_name() {
    let printed = sound(&[]).to_string();
    let keys: Vec<_> =
        printed.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
    assert!(keys.is_sorted());
    assert_eq!(keys.len(), printed.lines().count());
}

#[test]
fn secrets_are_never_shown() {
    let effective = sound(&[
        ("REDIS_URL", "redis://user:hunter2@redis:6379"),
        ("REDIS_AUTH", "hunter2"),
        ("REDIS_SENTINEL_AUTH", "hunter2"),
        ("TOLLGATE__STORE__KIND", "memory"),
    ]);
    assert_eq!(effective.settings.store.redis.auth.reveal(), "hunter2");
    assert!(!format!("{effective}{effective:?}").contains("hunter2"));
    assert_eq!(line(&effective, "store.redis.auth"), "store.redis.auth = \"***\"   # env REDIS_AUTH");
    assert_eq!(
        line(&effective, "store.redis.url"),
        "store.redis.url = \"redis://***@redis:6379\"   # env REDIS_URL"
    );
}

#[test]
fn a_folder_of_rules_wins_over_the_references_way_to_name_it() {
    let variables = environment(&[("RUNTIME_ROOT", "/data"), ("RUNTIME_WATCH_ROOT", "false")]);
    let effective = load(&variables, &Flags::new().with_value("--config", "rules.dir", "/rules")).unwrap();
    assert_eq!(effective.rules_location(), RulesLocation::Directory("/rules".into()));
    assert_eq!(
        effective.warnings,
        [
            "rules.runtime.root (env RUNTIME_ROOT) has no effect: rules.dir (flag --config) wins",
            "rules.runtime.watch_root (env RUNTIME_WATCH_ROOT) has no effect: rules.dir (flag --config) wins",
        ]
    );

    let RulesLocation::Runtime(runtime) = load(&variables, &Flags::new()).unwrap().rules_location() else {
        panic!("RUNTIME_ROOT names the folder");
    };
    assert_eq!(runtime.root, Path::new("/data"));
    assert_eq!(runtime.appdirectory, Path::new("config"));
    assert!(!runtime.watch_root);
}
