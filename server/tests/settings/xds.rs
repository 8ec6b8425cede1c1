//! Section `[xds]`.

use crate::{line, problems, sound};

#[test]
fn what_cannot_be_is_refused_by_name() {
    for (name, text, says) in [
        ("CONFIG_GRPC_XDS_SERVER_URL", "eg", "xds.server must be host:port"),
        ("CONFIG_GRPC_XDS_SERVER_URL", "http://eg:1", "xds.server must be host:port"),
        ("CONFIG_GRPC_XDS_NODE_METADATA", "a", "xds.node_metadata must be name=value,name=value"),
        ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "a", "xds.headers must be name:value,name:value"),
        ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "a b:c", "xds.headers must be name:value,name:value"),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "/x", "xds.tls_cert needs the other one"),
        ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/x", "xds.tls_key needs the other one"),
        ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "0s", "xds.backoff_initial must be longer than 0s"),
        ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "1ms", "xds.backoff_max must be at least xds.backoff_initial"),
    ] {
        let problems = problems(&[(name, text)]);
        let named = format!("env {name}: {says}");
        assert!(problems.len() == 1 && problems[0].starts_with(&named), "{problems:?}");
    }
}

#[test]
fn what_has_no_effect_is_said() {
    let pair = [("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "/c"), ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/k")];
    let xds = ("CONFIG_TYPE", "GRPC_XDS_SOTW");
    let effective = sound(&[xds, pair[0], pair[1]]);
    assert_eq!(
        effective.warnings,
        ["xds.tls_cert (env CONFIG_GRPC_XDS_CLIENT_TLS_CERT) has no effect: xds.tls is false"]
    );
    assert_eq!(
        line(&effective, "xds.tls_key"),
        "xds.tls_key = \"/k\"   # env CONFIG_GRPC_XDS_CLIENT_TLS_KEY"
    );
    let effective = sound(&[xds, ("TOLLGATE__RULES__DIR", "/rules")]);
    assert_eq!(
        effective.warnings,
        ["rules.dir (env TOLLGATE__RULES__DIR) has no effect: rules.source is \"xds\""]
    );
    assert_eq!(
        sound(&[xds, ("RUNTIME_ROOT", "/data"), ("XDS_CLIENT_BACKOFF_JITTER", "true")]).warnings,
        [""; 0]
    );
}
