//! The native API as its callers see it: every field of an answer, every error, the stream, the HTTP twin.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod native_world;
mod rls_world;

#[path = "native/admin.rs"]
mod admin;
#[path = "native/check.rs"]
mod check;
#[path = "native/http.rs"]
mod http;
#[path = "native/known.rs"]
mod known;
#[path = "native/overload.rs"]
mod overload;
#[path = "native/stream.rs"]
mod stream;
