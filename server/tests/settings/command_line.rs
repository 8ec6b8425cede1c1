//! The command line.

use clap::{CommandFactory, Parser};
use tollgate_server::cli::{Cli, Command, Descriptor, Entry, ExplainArgs, SettingsArgs};
use tollgate_server::config::settings::{Environment, LogLevel, RulesLocation, StoreKind, load};

fn parse(words: &[&str]) -> Result<Command, clap::Error> {
    Cli::try_parse_from([&["tollgate"], words].concat()).map(Cli::into_command)
}

fn settings_args(words: &[&str]) -> SettingsArgs {
    match parse(words) {
        Ok(Command::Serve(args) | Command::Config(args)) => args,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn explain_args(words: &[&str]) -> ExplainArgs {
    match parse(words) {
        Ok(Command::Explain(args)) => args,
        other => panic!("{words:?}: {other:?}"),
    }
}

fn descriptor(entries: &[(&str, &str)]) -> Descriptor {
    let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
    Descriptor(entries.iter().map(entry).collect())
}

#[test]
fn the_definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn serve_is_what_no_command_means() {
    assert_eq!(settings_args(&[]), SettingsArgs::default());
    assert_eq!(settings_args(&["--grpc-port", "0"]), settings_args(&["serve", "--grpc-port", "0"]));
    assert!(parse(&["--grpc-port", "0", "serve"]).is_err());
    assert!(parse(&["--grpc-prot", "0"]).is_err());
}

#[test]
fn every_flag_sets_its_setting() {
    let words = "config --config /rules --store memory --grpc-port 1 --http-port 2 --admin-port 0 --host :: \
                 --log-level debug --set shutdown.grace=1m --set grpc.port=9 --set grpc.uds=a=b";
    let args = settings_args(&words.split_whitespace().collect::<Vec<_>>());

    let effective = load(&Environment::default(), &args.flags()).unwrap();

    let settings = &effective.settings;
    assert_eq!(effective.rules_location(), RulesLocation::Directory("/rules".into()));
    assert_eq!(settings.store.kind, StoreKind::Memory);
    assert_eq!((settings.grpc.port, settings.http.port, settings.admin.port), (1, 2, 0));
    assert_eq!((settings.grpc.host.as_str(), settings.http.host.as_str()), ("::", "::"));
    assert_eq!(settings.admin.host.as_str(), "127.0.0.1");
    assert_eq!(settings.log.level, LogLevel::Debug);
    assert_eq!(settings.shutdown.grace.as_secs(), 60);
    assert_eq!(settings.grpc.uds.as_deref(), Some("a=b".as_ref()));
    assert_eq!(effective.origins.of("grpc.port").to_string(), "flag --grpc-port");
    assert_eq!(effective.origins.of("shutdown.grace").to_string(), "flag --set");
}

#[test]
fn check_takes_a_folder_and_switches() {
    let Ok(Command::Check(args)) =
        parse(&["check", "rules", "--strict", "--merge-domains", "--ignore-non-yaml"])
    else {
        panic!("a legal command");
    };
    assert!(args.strict && args.merge_domains && args.ignore_non_yaml);
    assert!(parse(&["check"]).is_err());
}

#[test]
fn explain_takes_one_descriptor_or_several() {
    let one = explain_args(&["explain", "rules", "--domain", "shop", "a=1", "b=", "c=x=y", "--hits", "3"]);
    assert_eq!(one.descriptors(), [descriptor(&[("a", "1"), ("b", ""), ("c", "x=y")])]);
    assert_eq!((one.domain.as_str(), one.hits), ("shop", Some(3)));

    let more = explain_args(&[
        "explain",
        "rules",
        "--domain",
        "shop",
        "--descriptor",
        "a=1,b=2",
        "--descriptor",
        "c=3",
    ]);
    assert_eq!(more.descriptors(), [descriptor(&[("a", "1"), ("b", "2")]), descriptor(&[("c", "3")])]);
}

#[test]
fn explain_needs_a_domain_and_entries() {
    assert!(parse(&["explain", "rules", "--domain", "shop"]).is_err());
    assert!(parse(&["explain", "rules", "a=1"]).is_err());
    assert!(parse(&["explain", "rules", "--domain", "shop", "a"]).is_err());
    assert!(parse(&["explain", "rules", "--domain", "shop", "=1"]).is_err());
}
