//! One line of a log as a request: JSON lines of our own, or an access log of Envoy.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use smallvec::SmallVec;
use tollgate_core::rules::{Descriptor, Query};
use tollgate_core::time::{Span, Time};

use super::envoy;
use crate::command::dry_run::instant;
use crate::config::settings::Auth;

/// A request as it was logged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Logged {
    pub(super) at: Time,
    pub(super) domain: String,
    pub(super) descriptors: Vec<LoggedDescriptor>,
    /// Cost of the descriptors that have none of their own.
    pub(super) hits: u32,
}

/// One of its descriptors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LoggedDescriptor {
    pub(super) entries: Vec<(String, String)>,
    pub(super) hits: Option<u64>,
}

impl LoggedDescriptor {
    /// For people: `user=ann, path=/x`.
    pub(super) fn shown(&self) -> String {
        let entries: Vec<_> = self.entries.iter().map(|(key, value)| format!("{key}={value}")).collect();
        entries.join(", ").escape_debug().to_string()
    }
}

impl Logged {
    pub(super) fn query(&self) -> Query<'_> {
        let descriptors = self.descriptors.iter().map(|descriptor| Descriptor {
            entries: descriptor.entries.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
            hits: descriptor.hits,
            ..Descriptor::default()
        });
        Query {
            domain: &self.domain,
            hits: self.hits,
            descriptors: descriptors.collect::<SmallVec<_>>(),
            patience: Span::MAX,
            ..Query::default()
        }
    }
}

/// How lines become requests.
pub(super) struct Mapping {
    /// Of lines that name none.
    pub(super) domain: Option<String>,
    pub(super) auth: Auth,
}

/// A line of our own; unknown fields are an error, so that a misspelt one is not overlooked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    time: Moment,
    domain: Option<String>,
    descriptors: Vec<OwnDescriptor>,
    #[serde(default = "one", alias = "hits_addend", alias = "hitsAddend")]
    hits: u32,
}

fn one() -> u32 {
    1
}

/// Unix seconds, or RFC 3339.
#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Seconds(serde_json::Number),
    Text(String),
}

/// As in `POST /json`, or `[["user", "ann"], ["path", "/x"]]`.
#[derive(Deserialize)]
#[serde(untagged)]
enum OwnDescriptor {
    Pairs(Vec<(String, String)>),
    Entries {
        entries: Vec<Entry>,
        #[serde(default, alias = "hits_addend", alias = "hitsAddend")]
        hits: Option<u64>,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: String,
    value: String,
}

impl Moment {
    fn time(&self) -> Result<Time, String> {
        match self {
            Moment::Text(text) => instant(text).ok_or_else(|| format!("time {text:?} is not RFC 3339")),
            Moment::Seconds(number) => seconds(&number.to_string()),
        }
    }
}

/// Seconds since 1970 with up to six decimals, read without a float.
pub(super) fn seconds(text: &str) -> Result<Time, String> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let decimals: String = decimals.chars().chain("000000".chars()).take(6).collect();
    let micros = whole.parse::<u64>().ok().zip(decimals.parse::<u64>().ok());
    micros
        .and_then(|(whole, decimals)| whole.checked_mul(1_000_000)?.checked_add(decimals))
        .map(Time::from_micros)
        .ok_or_else(|| format!("time {text} is not a number of seconds since 1970"))
}

impl Mapping {
    /// The request of `line`; `None` for an empty one.
    pub(super) fn read(&self, line: &str) -> Result<Option<Logged>, String> {
        let line = line.trim();
        let logged = match line.chars().next() {
            None => return Ok(None),
            Some('{') => {
                let value: BTreeMap<String, Value> =
                    serde_json::from_str(line).map_err(|error| format!("no JSON: {error}"))?;
                if value.contains_key("descriptors") {
                    self.own(line)
                } else {
                    self.access(&envoy::json(value)?)
                }
            }
            Some('[') => self.access(&envoy::text(line)?),
            Some(_) => Err("neither JSON nor an access log in Envoy's default format".to_owned()),
        };
        logged.map(Some)
    }

    fn own(&self, line: &str) -> Result<Logged, String> {
        let own: Own = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let descriptors = own.descriptors.into_iter().map(|descriptor| match descriptor {
            OwnDescriptor::Pairs(entries) => LoggedDescriptor { entries, hits: None },
            OwnDescriptor::Entries { entries, hits } => LoggedDescriptor {
                entries: entries.into_iter().map(|entry| (entry.key, entry.value)).collect(),
                hits,
            },
        });
        Ok(Logged {
            at: own.time.time()?,
            domain: self.domain(own.domain)?,
            descriptors: descriptors.collect(),
            hits: own.hits,
        })
    }

    fn access(&self, access: &envoy::Access) -> Result<Logged, String> {
        let domain = self.domain(None)?;
        let mapping = self.auth.mapping(&domain);
        let descriptors = mapping.descriptors.iter().filter_map(|entries| {
            let values =
                entries.iter().map(|entry| access.value(&entry.from).map(|value| (entry.key.clone(), value)));
            let entries = values.collect::<Option<Vec<_>>>()?;
            Some(LoggedDescriptor { entries, hits: None })
        });
        Ok(Logged { at: access.at, descriptors: descriptors.collect(), domain, hits: 1 })
    }

    fn domain(&self, own: Option<String>) -> Result<String, String> {
        own.or_else(|| self.domain.clone()).ok_or_else(|| "no domain: use --domain".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings::{AuthEntry, AuthMapping, Source};

    fn mapping() -> Mapping {
        Mapping { domain: Some("shop".to_owned()), auth: Auth::default() }
    }

    fn entries(logged: &Logged) -> Vec<String> {
        logged.descriptors.iter().map(LoggedDescriptor::shown).collect()
    }

    #[test]
    fn own_lines_in_both_forms() {
        let line = r#"{"time": 1700000000.25, "domain": "d", "descriptors": [[["user", "ann"], ["path", "/x"]],
            {"entries": [{"key": "ip", "value": "1.1.1.1"}], "hits_addend": 3}], "hits": 2}"#;
        let logged = mapping().read(&line.replace('\n', " ")).unwrap().unwrap();
        assert_eq!(logged.at, Time::from_micros(1_700_000_000_250_000));
        assert_eq!(entries(&logged), ["user=ann, path=/x", "ip=1.1.1.1"]);
        assert_eq!((logged.hits, logged.descriptors[1].hits), (2, Some(3)));
    }

    #[test]
    fn the_default_access_log_of_envoy() {
        let line = r#"[2016-04-15T20:17:00.310Z] "POST /api/v1/locations?x=1 HTTP/2" 204 - 154 0 226 100 "10.0.35.28" "a "q" b" "cc21d9b0" "locations" "tcp://10.0.2.1:80""#;
        let logged = mapping().read(line).unwrap().unwrap();
        assert_eq!(logged.at, instant("2016-04-15T20:17:00.310Z").unwrap());
        let expected = ["remote_address=10.0.35.28", "path=/api/v1/locations"];
        assert_eq!(entries(&logged)[..2], expected);
    }

    #[test]
    fn an_access_log_in_json_with_a_mapping_of_its_own() {
        let from = |key: &str, source: &str| AuthEntry {
            key: key.to_owned(),
            from: Source::try_from(source.to_owned()).unwrap(),
        };
        let lists =
            vec![vec![from("user", "header:x-user"), from("m", "method")], vec![from("q", "query:a")]];
        let auth = Auth { default: AuthMapping { descriptors: lists }, ..Auth::default() };
        let line =
            r#"{"start_time": "2026-01-01T00:00:00Z", "method": "GET", "path": "/p?a=1", "x_user": "ann"}"#;
        let logged = Mapping { auth, ..mapping() }.read(line).unwrap().unwrap();
        assert_eq!(entries(&logged), ["user=ann, m=GET", "q=1"]);
    }

    #[test]
    fn what_is_no_request_says_why() {
        let read = |line: &str| mapping().read(line).unwrap_err();
        assert!(read("hello").contains("neither JSON"));
        assert!(read("{").contains("no JSON"));
        assert!(read(r#"{"time": "noon", "descriptors": []}"#).contains("RFC 3339"));
        assert!(read(r#"{"time": -1, "descriptors": []}"#).contains("since 1970"));
        assert!(read(r#"{"time": 1, "descriptors": [], "hit": 1}"#).contains("unknown field"));
        assert!(read("[yesterday] x").contains("access log"));
        assert_eq!(mapping().read("  "), Ok(None));
    }
}
