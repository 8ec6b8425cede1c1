//! TLS, identities and writers: the reference's variables, and what contradicts itself.

use tollgate_server::config::settings::{ClientAuth, TlsVersion};

use crate::{problems, sound};

const ON: [(&str, &str); 3] = [
    ("GRPC_SERVER_USE_TLS", "true"),
    ("GRPC_SERVER_TLS_CERT", "/certs/tls.crt"),
    ("GRPC_SERVER_TLS_KEY", "/certs/tls.key"),
];

#[test]
fn the_references_variables_are_ours() {
    let tls = sound(&ON).settings.grpc.tls;
    assert_eq!(tls.cert.as_deref(), Some("/certs/tls.crt".as_ref()));
    assert_eq!(tls.key.as_deref(), Some("/certs/tls.key".as_ref()));
    assert_eq!((tls.client_auth, tls.min_version), (ClientAuth::Off, TlsVersion::V12));
    for name in ["GRPC_CLIENT_TLS_CACERT", "GRPC_SERVER_TLS_CA_CERT"] {
        let variables =
            [&ON[..], &[(name, "/certs/ca.crt"), ("GRPC_CLIENT_TLS_SAN", "envoy.example")]].concat();
        let effective = sound(&variables);
        let tls = &effective.settings.grpc.tls;
        assert_eq!(tls.client_ca.as_deref(), Some("/certs/ca.crt".as_ref()));
        assert_eq!(tls.client_auth, ClientAuth::Required);
        assert_eq!(tls.allowed_names, ["envoy.example"]);
        assert_eq!(effective.origins.of("grpc.tls.client_auth").to_string(), format!("env {name}"));
    }
    let both = [&ON[..], &[("GRPC_CLIENT_TLS_CACERT", "/a"), ("GRPC_SERVER_TLS_CA_CERT", "/b")]].concat();
    assert_eq!(sound(&both).settings.grpc.tls.client_ca.as_deref(), Some("/a".as_ref()));
}

#[test]
fn without_the_switch_the_files_are_not_used() {
    let variables = [("GRPC_SERVER_USE_TLS", "false"), ON[1], ON[2]];
    assert!(!sound(&variables).settings.grpc.tls.is_on());
}

#[test]
fn a_name_needs_an_authority() {
    let variables = [&ON[..], &[("GRPC_CLIENT_TLS_SAN", "envoy")]].concat();
    assert_eq!(
        problems(&variables),
        ["env GRPC_CLIENT_TLS_SAN: GRPC_CLIENT_TLS_SAN needs GRPC_CLIENT_TLS_CACERT"]
    );
}

/// The one problem of the variables.
fn problem(variables: &[(&str, &str)]) -> String {
    let found = problems(variables);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].clone()
}

#[test]
fn contradictions_are_named() {
    let cert = ("TOLLGATE__HTTP__TLS__CERT", "/c");
    let key = ("TOLLGATE__HTTP__TLS__KEY", "/k");
    let auth = ("TOLLGATE__HTTP__TLS__CLIENT_AUTH", "required");
    let ca = ("TOLLGATE__HTTP__TLS__CLIENT_CA", "/ca");
    let names = ("TOLLGATE__HTTP__TLS__ALLOWED_NAMES", r#"["a", "b*"]"#);
    assert!(problem(&[cert]).contains("http.tls.key must be set"));
    assert!(problem(&[key]).contains("http.tls.cert must be set"));
    assert!(problem(&[auth, ca]).contains("http.tls.client_auth needs http.tls.cert"));
    assert!(problem(&[cert, key, auth]).contains("http.tls.client_auth needs http.tls.client_ca"));
    assert!(problem(&[cert, key, ca]).contains("http.tls.client_ca needs http.tls.client_auth"));
    assert!(problem(&[cert, key, ca, auth, names]).contains("\"b*\" is not a name"));
    let never = ("TOLLGATE__HTTP__TLS__HANDSHAKE_TIMEOUT", "0s");
    assert!(problem(&[cert, key, never]).contains("must be longer than 0s"));
    assert!(problem(&[("TOLLGATE__GRPC__TLS__MIN_VERSION", "1.1")]).contains("is not 1.2 or 1.3"));
    assert!(problem(&[("TOLLGATE__GRPC__MAX_CONNECTIONS", "-1")]).contains("0 to 10000000"));
}

#[test]
fn identities_and_writers_have_to_make_sense() {
    let wrong = |text: &str| problem(&[("TOLLGATE__ACCESS__IDENTITIES", text)]);
    assert!(wrong(r#"[{"domains": ["a"]}]"#).contains("access.identities[0] needs identity or token"));
    assert!(
        wrong(r#"[{"token": "t", "domains": []}]"#)
            .contains("access.identities[0].domains must not be empty")
    );
    assert!(wrong(r#"[{"token": "t", "domains": ["a*b"]}]"#).contains("\"a*b\" is not a domain"));
    assert!(wrong(r#"[{"identity": "a", "domains": ["a"]}]"#).contains("neither grpc.tls.client_auth nor"));
    let unknown = wrong(r#"[{"token": "s3cret", "domain": "a"}]"#);
    assert!(
        unknown.contains("access.identities = *** is not a list") && !unknown.contains("s3cret"),
        "{unknown}"
    );
    assert!(problem(&[("TOLLGATE__ADMIN__WRITERS", r#"["ops"]"#)]).contains("admin.writers needs admin.tls"));
}

#[test]
fn a_token_of_an_identity_is_not_shown() {
    let text = r#"[{"token": "s3cret", "domains": ["a"]}]"#;
    let effective = sound(&[("TOLLGATE__ACCESS__IDENTITIES", text)]);
    assert_eq!(effective.settings.access.identities[0].token.reveal(), "s3cret");
    let shown = effective.to_string();
    assert!(shown.contains(r#"access.identities = [{ domains = ["a"], token = "***" }]"#), "{shown}");
    assert!(!format!("{effective:?}").contains("s3cret"));
}
