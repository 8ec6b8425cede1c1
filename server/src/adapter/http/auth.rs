//! `GET /auth/{domain}`: forward-auth for gateways without gRPC (nginx, Caddy, Traefik, HAProxy, …).
//!
//! Descriptors are made from the headers that describe the original request. 200 lets it pass; the status
//! of a refusal can be chosen, since nginx's `auth_request` passes on only 401 and 403.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::extract::{Path, RawQuery, State};
use axum::http::{Extensions, HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tollgate_core::limit::Verdict;
use tollgate_core::rules::{Decision, Descriptor, Entries, Query, Rule, told_remaining};
use tollgate_core::time::Span;

use super::HttpState;
use crate::adapter::headers::{retry_after, value};
use crate::adapter::rls::{patience, permitted};
use crate::config::settings::{AuthEntry, AuthMapping, Source};
use crate::telemetry::metrics::{Answered, Api, ErrorKind};

/// Query parameter that chooses the status of a refusal for one call.
const DENY_STATUS: &str = "deny_status";

pub(super) async fn auth(
    State(state): State<HttpState>,
    Path(domain): Path<String>,
    RawQuery(own_query): RawQuery,
    extensions: Extensions,
    headers: HeaderMap,
) -> Response {
    if let Err(forbidden) = permitted(&extensions, &domain) {
        state.engine.metrics().request(Api::Auth, Answered::Error(ErrorKind::Forbidden));
        return (StatusCode::FORBIDDEN, format!("{forbidden}\n")).into_response();
    }
    let original = Original::read(&headers);
    let own_query = own_query.unwrap_or_default();
    let deny = match deny_status(&own_query, state.auth.deny_status) {
        Ok(status) => status,
        Err(text) => return (StatusCode::BAD_REQUEST, text).into_response(),
    };
    let rules = state.engine.rules();
    let Some(rules) = rules.as_deref() else {
        state.engine.metrics().request(Api::Auth, Answered::Error(ErrorKind::Service));
        return (StatusCode::SERVICE_UNAVAILABLE, "no rate limit configuration loaded\n").into_response();
    };
    let values = descriptors(state.auth.mapping(&domain), &original, &headers, &own_query);
    let query = query(&domain, &values, state.timeout.map_or(Span::MAX, patience));
    let decision = match state.engine.decide(rules, &query).await {
        Ok(decision) => decision,
        Err(undecided) => {
            state.engine.metrics().request(Api::Auth, Answered::Error(ErrorKind::Store));
            return (StatusCode::SERVICE_UNAVAILABLE, format!("{undecided}\n")).into_response();
        }
    };
    let result = if decision.allowed() { Answered::Ok } else { Answered::OverLimit };
    state.engine.metrics().request(Api::Auth, result);
    respond(&decision, deny)
}

fn query<'v>(domain: &'v str, values: &'v [Vec<(&str, Cow<'_, str>)>], patience: Span) -> Query<'v> {
    let descriptors = values.iter().map(|entries| {
        let entries: Entries<'v> = entries.iter().map(|(key, value)| (*key, &**value)).collect();
        Descriptor { entries, ..Descriptor::default() }
    });
    Query { domain, hits: 1, descriptors: descriptors.collect(), patience, ..Query::default() }
}

fn deny_status(own_query: &str, default: u16) -> Result<StatusCode, String> {
    let wanted = parameter(own_query, DENY_STATUS).unwrap_or_else(|| default.to_string());
    let status = wanted.parse().ok().filter(|status| (400..=599).contains(status));
    status
        .and_then(|status| StatusCode::from_u16(status).ok())
        .ok_or_else(|| format!("{DENY_STATUS} '{}' is not a status from 400 to 599\n", wanted.escape_debug()))
}

/// The request that the gateway asks about, as its headers tell it.
struct Original<'h> {
    method: Option<&'h str>,
    host: Option<&'h str>,
    path: Option<&'h str>,
    query: &'h str,
    client: Option<&'h str>,
}

impl<'h> Original<'h> {
    fn read(headers: &'h HeaderMap) -> Original<'h> {
        let first = |names: &[&str]| names.iter().find_map(|name| text(headers, name));
        let uri = first(&["x-forwarded-uri", "x-original-uri", "x-original-url"]).map(origin_form);
        let (path, query) = uri.map_or((None, ""), |uri| match uri.split_once('?') {
            Some((path, query)) => (Some(path), query),
            None => (Some(uri), ""),
        });
        let forwarded = first(&["x-forwarded-for"]).and_then(|list| list.split(',').next()).map(str::trim);
        let client = first(&["x-real-ip"]).or(forwarded).filter(|text| text.parse::<IpAddr>().is_ok());
        Original {
            method: first(&["x-forwarded-method", "x-original-method"]),
            host: first(&["x-forwarded-host", "x-original-host", "host"]),
            path,
            query,
            client,
        }
    }
}

/// The path and query of a URI that may be absolute.
fn origin_form(uri: &str) -> &str {
    let Some((_, rest)) = uri.split_once("://") else { return uri };
    rest.find('/').map_or("/", |at| &rest[at..])
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers
        .get(name)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
        .filter(|text| !text.is_empty())
}

/// One descriptor per list of the mapping; a list whose source is missing makes none.
fn descriptors<'a>(
    mapping: &'a AuthMapping,
    original: &Original<'a>,
    headers: &'a HeaderMap,
    own_query: &'a str,
) -> Vec<Vec<(&'a str, Cow<'a, str>)>> {
    let one = |entries: &'a Vec<AuthEntry>| {
        let entry = |entry: &'a AuthEntry| {
            source(&entry.from, original, headers, own_query).map(|value| (entry.key.as_str(), value))
        };
        entries.iter().map(entry).collect::<Option<Vec<_>>>()
    };
    mapping.descriptors.iter().filter_map(one).collect()
}

fn source<'a>(
    source: &'a Source,
    original: &Original<'a>,
    headers: &'a HeaderMap,
    own_query: &'a str,
) -> Option<Cow<'a, str>> {
    match source {
        Source::Header(name) => text(headers, name).map(Cow::Borrowed),
        Source::Query(name) => {
            parameter(own_query, name).or_else(|| parameter(original.query, name)).map(Cow::Owned)
        }
        Source::Method => original.method.map(Cow::Borrowed),
        Source::Path => original.path.map(Cow::Borrowed),
        Source::Host => original.host.map(Cow::Borrowed),
        Source::ClientIp => original.client.map(Cow::Borrowed),
        Source::Const(text) => Some(Cow::Borrowed(text)),
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn respond(decision: &Decision<'_>, deny: StatusCode) -> Response {
    let mut response = if decision.allowed() {
        StatusCode::OK.into_response()
    } else {
        (deny, "rate limit exceeded\n").into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after(decision) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some((rule, verdict)) = decision.tightest() {
        let name = policy_name(rule);
        insert(headers, "ratelimit-policy", &policy(rule, &name));
        insert(headers, "ratelimit", &state(verdict, &name));
    }
    response
}

fn insert(headers: &mut HeaderMap, name: &'static str, text: &str) {
    if let Some(value) = value(text) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// The rule's name as an RFC 9651 string; rules without a (printable) one are called `default`.
fn policy_name(rule: &Rule) -> String {
    let printable = |text: &str| !text.is_empty() && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    let name = if printable(&rule.name) { &*rule.name } else { "default" };
    format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""))
}

/// `RateLimit-Policy` of draft-ietf-httpapi-ratelimit-headers-10: quota and window.
fn policy(rule: &Rule, name: &str) -> String {
    format!("{name};q={};w={}", rule.quota.requests_per_unit, rule.quota.span().as_secs_ceil())
}

/// `RateLimit` of the same draft: what is left, and seconds until the limit resets.
fn state(verdict: &Verdict, name: &str) -> String {
    format!("{name};r={};t={}", told_remaining(verdict), verdict.reset_after.as_secs_ceil())
}
