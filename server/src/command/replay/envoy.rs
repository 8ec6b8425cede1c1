//! Envoy's access logs: the default text format, and JSON with the field names that its documentation uses.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;
use tollgate_core::time::Time;

use super::line::seconds;
use crate::command::dry_run::instant;
use crate::config::settings::Source;

/// What Envoy writes for a value that it does not have.
const MISSING: &str = "-";
/// Fields of a JSON log that may hold the time, the first one wins; others likewise.
const TIME: [&str; 4] = ["start-time", "time", "timestamp", "@timestamp"];
const METHOD: [&str; 2] = ["method", ":method"];
const PATH: [&str; 3] = ["x-envoy-original-path", "path", ":path"];
const HOST: [&str; 3] = ["authority", ":authority", "host"];
const CLIENT: [&str; 4] =
    ["x-forwarded-for", "client-ip", "downstream-remote-address-without-port", "downstream-remote-address"];

/// Parts of a default text line, split at its quotes: five quoted ones follow the request.
const MIN_PARTS: usize = 13;

/// One request of an access log.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) at: Time,
    /// Names in lower case, words joined with `-`.
    fields: BTreeMap<String, String>,
}

/// A line of the default text format.
pub(super) fn text(line: &str) -> Result<Access, String> {
    let bad = || "not an access log in Envoy's default format".to_owned();
    let parts: Vec<&str> = line.split('"').collect();
    let time = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(time, _)| time);
    let at = time.and_then(instant).ok_or_else(bad)?;
    if parts.len() < MIN_PARTS {
        return Err(bad());
    }
    let (method, rest) = parts[1].split_once(' ').ok_or_else(bad)?;
    let path = rest.rsplit_once(' ').map_or(rest, |(path, _)| path);
    // a user agent may hold quotes: what stands after it is counted from the end
    let authority = parts[parts.len() - 4];
    let (first, last) = (5, parts.len() - 8);
    let agent = parts.get(first..=last).map(|agent| agent.join("\"")).unwrap_or_default();
    let fields = [
        ("method", method),
        ("path", path),
        ("x-forwarded-for", parts[3]),
        ("user-agent", &agent),
        ("x-request-id", parts[parts.len() - 6]),
        ("authority", authority),
    ];
    let present = fields.into_iter().filter(|(_, value)| !value.is_empty() && *value != MISSING);
    Ok(Access { at, fields: present.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() })
}

/// A line of JSON; headers may stand in an object `headers` or `request_headers` of their own.
pub(super) fn json(object: BTreeMap<String, Value>) -> Result<Access, String> {
    let mut fields = BTreeMap::new();
    for (name, value) in object {
        match value {
            Value::Object(headers) if name.ends_with("headers") => {
                headers.into_iter().for_each(|(name, value)| add(&mut fields, &name, &value));
            }
            value => add(&mut fields, &name, &value),
        }
    }
    let time = first(&fields, &TIME).ok_or("no start_time, time or timestamp")?;
    let at = instant(time).map_or_else(|| seconds(time), Ok)?;
    Ok(Access { at, fields })
}

fn add(fields: &mut BTreeMap<String, String>, name: &str, value: &Value) {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null | Value::Array(_) | Value::Object(_) => return,
    };
    if !text.is_empty() && text != MISSING {
        fields.insert(name.to_ascii_lowercase().replace('_', "-"), text);
    }
}

fn first<'f>(fields: &'f BTreeMap<String, String>, names: &[&str]) -> Option<&'f str> {
    names.iter().find_map(|name| fields.get(*name)).map(String::as_str)
}

impl Access {
    /// The value of `source`, if the log has it.
    pub(super) fn value(&self, source: &Source) -> Option<String> {
        let first = |names: &[&str]| first(&self.fields, names);
        let uri = first(&PATH).map(|uri| uri.split_once('?').unwrap_or((uri, "")));
        match source {
            Source::Header(name) => first(&[&name.replace('_', "-")]).map(str::to_owned),
            Source::Query(name) => {
                let mut pairs = form_urlencoded::parse(uri?.1.as_bytes());
                pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
            }
            Source::Method => first(&METHOD).map(str::to_owned),
            Source::Path => uri.map(|(path, _)| path.to_owned()),
            Source::Host => first(&HOST).map(str::to_owned),
            Source::ClientIp => first(&CLIENT).and_then(address),
            Source::Const(text) => Some(text.clone()),
        }
    }
}

/// The first address of a list, without a port.
fn address(list: &str) -> Option<String> {
    let first = list.split(',').next().unwrap_or_default().trim();
    let bare = first.parse::<IpAddr>().ok();
    let address = bare.or_else(|| first.parse::<std::net::SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address| address.to_string())
}
