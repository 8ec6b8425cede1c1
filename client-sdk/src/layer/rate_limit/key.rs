//! What a request is counted by.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderName, Method, Uri};

/// Longest value, in bytes: what is longer is cut, so that a client cannot fill the memory with keys.
const LONGEST: usize = 1_024;

/// A request without its body.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    method: &'a Method,
    uri: &'a Uri,
    headers: &'a HeaderMap,
    extensions: &'a Extensions,
}

impl<'a> RequestView<'a> {
    /// A view of `request`.
    pub fn of<B>(request: &'a http::Request<B>) -> RequestView<'a> {
        RequestView {
            method: request.method(),
            uri: request.uri(),
            headers: request.headers(),
            extensions: request.extensions(),
        }
    }

    /// Its method.
    #[must_use]
    pub const fn method(&self) -> &'a Method {
        self.method
    }

    /// Its target.
    #[must_use]
    pub const fn uri(&self) -> &'a Uri {
        self.uri
    }

    /// Its headers.
    #[must_use]
    pub const fn headers(&self) -> &'a HeaderMap {
        self.headers
    }

    /// What layers and servers know of it.
    #[must_use]
    pub const fn extensions(&self) -> &'a Extensions {
        self.extensions
    }

    /// Whether it speaks gRPC.
    #[must_use]
    pub fn is_grpc(&self) -> bool {
        let kind = self.headers.get(http::header::CONTENT_TYPE);
        kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
    }
}

type Find = dyn Fn(RequestView<'_>) -> Option<String> + Send + Sync;

/// Finds the value of one entry in a request, or that it has none.
#[derive(Clone)]
pub struct KeySource(Arc<Find>);

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySource")
    }
}

impl KeySource {
    /// This value, or that of `other` if the request has none.
    #[must_use]
    pub fn or(self, other: KeySource) -> KeySource {
        from_fn(move |request| self.find(request).or_else(|| other.find(request)))
    }

    /// This value, or `value` if the request has none.
    #[must_use]
    pub fn or_value(self, value: impl Into<String>) -> KeySource {
        self.or(constant(value))
    }

    /// The value, at most 1024 bytes of it.
    pub(super) fn find(&self, request: RequestView<'_>) -> Option<String> {
        let mut value = (self.0)(request)?;
        if value.len() > LONGEST {
            value.truncate(value.floor_char_boundary(LONGEST));
        }
        Some(value)
    }
}

/// What `find` finds.
#[must_use]
pub fn from_fn(find: impl Fn(RequestView<'_>) -> Option<String> + Send + Sync + 'static) -> KeySource {
    KeySource(Arc::new(find))
}

/// Always `value`.
#[must_use]
pub fn constant(value: impl Into<String>) -> KeySource {
    let value = value.into();
    from_fn(move |_| Some(value.clone()))
}

/// The first header of that name, if it is not empty. Bytes that are no UTF-8 are escaped as `\xff`.
///
/// # Panics
/// If `name` is not a header name by RFC 9110 §5.1.
#[must_use]
#[expect(clippy::expect_used, reason = "a name in the program's text; the same as HeaderName::from_static")]
pub fn header(name: &str) -> KeySource {
    let name = HeaderName::from_bytes(name.as_bytes()).expect("a header name");
    from_fn(move |request| {
        let bytes = request.headers.get(&name)?.as_bytes();
        (!bytes.is_empty()).then(|| text(bytes))
    })
}

fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.escape_ascii().to_string(),
    }
}

/// The method: `GET`.
#[must_use]
pub fn method() -> KeySource {
    from_fn(|request| Some(request.method.as_str().to_owned()))
}

/// The path as it came: every different path has a counter of its own. For HTTP, [`matched_path`] is nearly
/// always what is wanted.
#[must_use]
pub fn path() -> KeySource {
    from_fn(|request| Some(request.uri.path().to_owned()))
}

/// The route that matched (axum's `/users/{id}`); for gRPC the path, which is the method's name. None if no
/// route matched, or without the feature `axum`.
#[must_use]
pub fn matched_path() -> KeySource {
    from_fn(|request| {
        let grpc = || request.is_grpc().then(|| request.uri.path().to_owned());
        route(request.extensions).or_else(grpc)
    })
}

#[cfg(feature = "axum")]
fn route(extensions: &Extensions) -> Option<String> {
    extensions.get::<axum::extract::MatchedPath>().map(|path| path.as_str().to_owned())
}

#[cfg(not(feature = "axum"))]
fn route(_: &Extensions) -> Option<String> {
    None
}

/// The address of the peer, as axum's `into_make_service_with_connect_info::<SocketAddr>` or tonic's server know
/// it: of the last proxy, if there is one. IPv4 in IPv6 is IPv4.
#[must_use]
pub fn peer_ip() -> KeySource {
    from_fn(|request| {
        let ip = axum_peer(request.extensions).or_else(|| tonic_peer(request.extensions))?;
        Some(ip.to_canonical().to_string())
    })
}

#[cfg(feature = "axum")]
fn axum_peer(extensions: &Extensions) -> Option<IpAddr> {
    let info = extensions.get::<axum::extract::ConnectInfo<std::net::SocketAddr>>()?;
    Some(info.0.ip())
}

#[cfg(not(feature = "axum"))]
fn axum_peer(_: &Extensions) -> Option<IpAddr> {
    None
}

#[cfg(feature = "tonic")]
fn tonic_peer(extensions: &Extensions) -> Option<IpAddr> {
    let info = extensions.get::<tonic::transport::server::TcpConnectInfo>()?;
    Some(info.remote_addr()?.ip())
}

#[cfg(not(feature = "tonic"))]
fn tonic_peer(_: &Extensions) -> Option<IpAddr> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};

    fn found(source: &KeySource, request: &Request<()>) -> Option<String> {
        source.find(RequestView::of(request))
    }

    fn with_header(value: &[u8]) -> Request<()> {
        let value = HeaderValue::from_bytes(value).unwrap();
        Request::builder().header("x-tenant", value).body(()).unwrap()
    }

    #[test]
    fn odd_bytes_become_text_and_stay_apart() {
        let tenant = header("X-Tenant");
        assert_eq!(found(&tenant, &with_header(b"acme")).unwrap(), "acme");
        assert_eq!(found(&tenant, &with_header(b"a\xff")).unwrap(), "a\\xff");
        assert_ne!(found(&tenant, &with_header(b"\xff")), found(&tenant, &with_header(b"\xfe")));
        assert_eq!(found(&tenant, &with_header("füße".as_bytes())).unwrap(), "füße");
        assert_eq!(found(&tenant, &with_header(b"")), None);
        assert_eq!(found(&tenant, &Request::new(())), None);
        assert_eq!(found(&tenant.or_value("nobody"), &Request::new(())).unwrap(), "nobody");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let long = "ü".repeat(2_000);
        let value = found(&constant(long), &Request::new(())).unwrap();
        assert_eq!((value.len(), value.chars().all(|letter| letter == 'ü')), (1_024, true));
    }

    #[test]
    fn a_grpc_path_is_a_route() {
        let request = |kind: &str| {
            let builder = Request::builder().uri("/shop.Orders/Get").header("content-type", kind);
            builder.body(()).unwrap()
        };
        assert_eq!(found(&matched_path(), &request("application/grpc+proto")).unwrap(), "/shop.Orders/Get");
        assert_eq!(found(&matched_path(), &request("text/plain")), None);
        assert_eq!(found(&path(), &request("text/plain")).unwrap(), "/shop.Orders/Get");
        assert_eq!(found(&method(), &request("text/plain")).unwrap(), "GET");
    }
}
