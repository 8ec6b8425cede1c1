//! The files of the page: all of them are in the program, and nothing comes from elsewhere.

use axum::http::{HeaderName, header};
use axum::response::{IntoResponse, Response};

/// Nothing but our own files, no inline scripts or styles, no frames around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A file of the page.
pub(super) struct File {
    pub(super) path: &'static str,
    kind: &'static str,
    text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// All of them.
pub(super) static FILES: [File; 8] = [
    File { path: "/console", kind: "text/html; charset=utf-8", text: include_str!("page/index.html") },
    File {
        path: "/console/style.css",
        kind: "text/css; charset=utf-8",
        text: include_str!("page/style.css"),
    },
    File { path: "/console/icon.svg", kind: "image/svg+xml", text: include_str!("page/icon.svg") },
    File { path: "/console/main.js", kind: SCRIPT, text: include_str!("page/main.js") },
    File { path: "/console/text.js", kind: SCRIPT, text: include_str!("page/text.js") },
    File { path: "/console/plot.js", kind: SCRIPT, text: include_str!("page/plot.js") },
    File { path: "/console/tables.js", kind: SCRIPT, text: include_str!("page/tables.js") },
    File { path: "/console/override.js", kind: SCRIPT, text: include_str!("page/override.js") },
];

pub(super) fn show(file: &'static File) -> Response {
    let headers: [(HeaderName, &'static str); 6] = [
        (header::CONTENT_TYPE, file.kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        // the page of one version must not meet the scripts of another
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, file.text).into_response()
}
