//! `on_overload`: what a domain answers when too many requests wait for the store.

use tollgate_core::rules::OnFailure;
use tollgate_server::config::rules::Options;

use super::{errors_of, load, loaded, shown, sound, source};

#[test]
fn every_word_and_none() {
    for (line, expected) in [
        ("", None),
        ("on_overload: ~", None),
        ("on_overload: error", Some(OnFailure::Error)),
        ("on_overload: allow", Some(OnFailure::Allow)),
        ("on_overload: deny", Some(OnFailure::Deny)),
        ("on_overload: local", Some(OnFailure::Local)),
    ] {
        assert_eq!(sound(&format!("domain: d\n{line}\n")).on_overload, expected, "{line}");
    }
}

#[test]
fn other_words_and_types_are_errors() {
    for word in ["Deny", "'no one'", "5", "''"] {
        let shown = word.trim_matches('\'');
        assert_eq!(
            errors_of(format!("domain: d\non_overload: {word}\n")),
            [format!(
                "a.yaml:2:14: on_overload '{shown}' is none of error, allow, deny, local (at d: on_overload)"
            )]
        );
    }
    assert_eq!(
        errors_of("domain: d\non_overload: {}\n"),
        [
            "a.yaml:2:14: error loading config file: yaml: unmarshal errors: on_overload has to be a text, not a mapping (at d: on_overload)"
        ]
    );
}

#[test]
fn it_belongs_to_the_domain() {
    let errors = errors_of("domain: d\ndescriptors:\n- key: k\n  on_overload: deny\n");
    assert_eq!(
        errors,
        [
            "a.yaml:4:3: 'on_overload' does not belong to a descriptor but to the root of the file (at d: descriptors[0].on_overload)"
        ]
    );
    let (domain, warnings) = loaded("domain: d\non_overload: deny\non_overload: allow\n");
    assert_eq!(domain.on_overload, Some(OnFailure::Allow));
    assert_eq!(warnings.len(), 1);
}

#[test]
fn files_of_one_domain_agree_on_it_if_both_have_it() {
    let merge = Options { merge_domains: true, ..Options::default() };
    let domain = |line: &str| format!("domain: d\n{line}\n");
    let merged = |one: &str, two: &str| {
        let sources = [source("a.yaml", domain(one)), source("b.yaml", domain(two))];
        load(&sources, &merge).map(|mut loaded| loaded.domains.remove(0).on_overload)
    };
    let deny = Some(OnFailure::Deny);
    for (one, two) in
        [("on_overload: deny", ""), ("", "on_overload: deny"), ("on_overload: deny", "on_overload: deny")]
    {
        assert_eq!(merged(one, two), Ok(deny), "{one} {two}");
    }
    assert_eq!(merged("", ""), Ok(None));
    let errors = merged("on_overload: deny", "on_overload: allow").unwrap_err();
    assert_eq!(
        shown(&errors),
        ["b.yaml:2:14: on_overload differs from the domain's other file a.yaml (at d: on_overload)"]
    );
}
