//! The environment names of envoyproxy/ratelimit: which we honour, which have no effect (one warning each), and
//! which must stop the start, because whoever set them counts on them.

mod table;
mod tls;
mod tracing;

use std::time::Duration;

use super::environment::Environment;
use super::layers::Layers;
use super::origin::{Origin, Origins};
use super::problem::Problem;
use super::schema::switch;
use super::store::StoreKind;
use super::{Settings, duration};
use table::{HONOURED, Harmless, LOWERED, REDIS, REDIS_REFUSED, UNHONOURED, Variable};

/// What the names of the variables of a second Redis begin with.
const SECOND: &str = "REDIS_PERSECOND_";

/// What the variables that we do not honour lead to.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    pub(super) warnings: Vec<String>,
    pub(super) problems: Vec<Problem>,
}

/// What a variable implies unless something else says otherwise: weaker than every other layer but the defaults.
pub(super) fn implied(environment: &Environment, layers: &mut Layers) {
    tracing::implied(environment, layers);
    if wants_prometheus(environment) {
        layers.add_text("metrics.prometheus_addr", ":9090", env("USE_PROMETHEUS"));
    }
}

/// The variables that we honour.
pub(super) fn aliases(environment: &Environment, layers: &mut Layers) {
    for (name, key) in HONOURED {
        if let Some(text) = environment.value(name).and_then(|text| in_our_words(name, text)) {
            layers.add_text(key, text, env(name));
        }
    }
    for (name, key) in LOWERED {
        if let Some(text) = environment.value(name) {
            layers.add_text(key, &text.to_lowercase(), env(name));
        }
    }
    add_prometheus(environment, layers);
    tls::add(environment, layers);
    tracing::aliases(environment, layers);
}

/// The text that means for us what `text` means for the reference; `None` if it is as good as not set.
fn in_our_words<'t>(name: &str, text: &'t str) -> Option<&'t str> {
    match name {
        // its default, no bound at all, is not among ours
        "REDIS_OP_TIMEOUT" => Some(text).filter(|text| duration::parse(text) != Some(Duration::ZERO)),
        "CACHE_KEY_PREFIX" => Some(text).filter(|text| !text.is_empty()),
        "CONFIG_TYPE" => match text {
            "FILE" => Some("files"),
            "GRPC_XDS_SOTW" => Some("xds"),
            _ => None,
        },
        "XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES" => Some(text).filter(|text| !text.is_empty()),
        "XDS_CLIENT_BACKOFF_JITTER" if switch(text) == Some(false) => Some("0"),
        "XDS_CLIENT_BACKOFF_JITTER" if switch(text) == Some(true) => None,
        // raised to the smallest cache
        "LOCAL_CACHE_SIZE_IN_BYTES" if text.parse::<i64>().is_ok_and(i64::is_negative) => Some("1"),
        _ => Some(text),
    }
}

/// The reference opens `PROMETHEUS_ADDR` only with `USE_PROMETHEUS`, and nothing with `DISABLE_STATS`.
fn add_prometheus(environment: &Environment, layers: &mut Layers) {
    if let Some(text) = environment.value("DISABLE_STATS")
        && switch(text).is_none()
    {
        layers.add_problem(not_boolean("DISABLE_STATS", text));
    }
    if let Some(text) = environment.value("USE_PROMETHEUS") {
        let text = if is_on(environment, "DISABLE_STATS") { "false" } else { text };
        layers.add_text("metrics.reference_names", text, env("USE_PROMETHEUS"));
    }
    if let Some(text) = environment.value("PROMETHEUS_ADDR").filter(|_| wants_prometheus(environment)) {
        layers.add_text("metrics.prometheus_addr", text, env("PROMETHEUS_ADDR"));
    }
}

fn wants_prometheus(environment: &Environment) -> bool {
    is_on(environment, "USE_PROMETHEUS") && !is_on(environment, "DISABLE_STATS")
}

/// Judges the variables that we do not honour.
pub(super) fn judge(environment: &Environment, settings: &Settings, origins: &Origins) -> Verdict {
    let mut verdict = Verdict::default();
    verdict.config_type(environment);
    verdict.backend_type(environment, settings.store.kind, origins);
    for (name, text) in environment.iter() {
        if let Some(variable) = unhonoured(name)
            && !variable.governed_by.is_some_and(|governor| is_off(environment, governor))
            && verdict.matters(variable, name, text)
        {
            verdict.warn(name, variable.why);
        }
        if let Some(variable) = redis_variable(name)
            && verdict.matters(variable, name, text)
        {
            verdict.redis(variable, name, settings.store.kind, environment);
        }
    }
    verdict
}

impl Verdict {
    /// Whether the value differs from what we do anyway.
    fn matters(&mut self, variable: &Variable, name: &str, text: &str) -> bool {
        match variable.harmless {
            Harmless::Off => match switch(text) {
                Some(is_on) => is_on,
                None => {
                    // of a setting its own layer says so
                    if !HONOURED.iter().any(|(honoured, _)| *honoured == name) {
                        self.problems.push(not_boolean(name, text));
                    }
                    false
                }
            },
            Harmless::Texts(texts) => !text.is_empty() && !texts.contains(&text),
        }
    }

    fn config_type(&mut self, environment: &Environment) {
        match environment.value("CONFIG_TYPE") {
            None | Some("FILE" | "GRPC_XDS_SOTW") => {}
            Some(text) => {
                self.refuse("CONFIG_TYPE", &format!("CONFIG_TYPE = {text:?} is not FILE or GRPC_XDS_SOTW"));
            }
        }
    }

    fn backend_type(&mut self, environment: &Environment, store: StoreKind, origins: &Origins) {
        let is_chosen = origins.is_set("store.kind") && store == StoreKind::Memory;
        match environment.value("BACKEND_TYPE") {
            None | Some("" | "redis") => {}
            Some(_) if is_chosen => self.warn("BACKEND_TYPE", "the store is memory"),
            Some("memcache") => self.refuse(
                "BACKEND_TYPE",
                "there is no store in memcache; unset BACKEND_TYPE or pass --store memory",
            ),
            Some(text) => {
                self.refuse("BACKEND_TYPE", &format!("BACKEND_TYPE = {text:?} is not redis; unset it"));
            }
        }
    }

    /// A variable about Redis.
    fn redis(&mut self, variable: &Variable, name: &str, store: StoreKind, environment: &Environment) {
        let is_of_second = name.starts_with(SECOND);
        match store {
            StoreKind::Memory => self.warn(name, "the store is memory"),
            // one that is on is refused by itself, and one that is off needs no settings
            StoreKind::Redis if is_of_second && environment.value("REDIS_PERSECOND").is_some() => {}
            StoreKind::Redis if is_of_second => self.warn(name, "REDIS_PERSECOND is not set"),
            StoreKind::Redis if REDIS_REFUSED.iter().any(|refused| refused.name == variable.name) => {
                self.refuse(name, variable.why);
            }
            StoreKind::Redis if !variable.why.is_empty() => self.warn(name, variable.why),
            StoreKind::Redis => {}
        }
    }

    fn warn(&mut self, name: &str, why: &str) {
        self.warnings.push(format!("{name} has no effect: {why}"));
    }

    fn refuse(&mut self, name: &str, why: &str) {
        self.problems.push(Problem::Refused { origin: env(name), why: why.to_owned() });
    }
}

fn unhonoured(name: &str) -> Option<&'static Variable> {
    let is_named = |variable: &&Variable| match variable.name.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => variable.name == name,
    };
    UNHONOURED.iter().find(is_named)
}

/// Variables of the second Redis carry the names of the first with an infix.
fn redis_variable(name: &str) -> Option<&'static Variable> {
    let base = name.strip_prefix(SECOND).map(|rest| format!("REDIS_{rest}"));
    let base = base.as_deref().unwrap_or(name);
    REDIS.iter().chain(REDIS_REFUSED).find(|variable| variable.name == base)
}

fn is_on(environment: &Environment, name: &str) -> bool {
    environment.value(name).and_then(switch) == Some(true)
}

fn is_off(environment: &Environment, name: &str) -> bool {
    environment.value(name).and_then(switch) == Some(false)
}

fn not_boolean(name: &str, text: &str) -> Problem {
    Problem::Refused { origin: env(name), why: format!("{name} = {text:?} is not true or false") }
}

fn env(name: &str) -> Origin {
    Origin::Env(name.to_owned())
}
