//! Rules from a management server.

use std::sync::Arc;

use tollgate_core::rules::Matcher;

use super::Parts;
use super::options::unless_zero;
use crate::config::ruleset::Ruleset;
use crate::config::settings::{RulesSource, Settings, Xds};
use crate::xds::{Backoff, XdsClient, XdsNode, XdsOptions, XdsTls};

/// Whether the server is not ready before the first rules.
pub(super) fn holds_back(settings: &Settings) -> bool {
    settings.rules.source == RulesSource::Xds && !settings.rules.start_without
}

/// The client. With `rules.start_without` there are rules without a domain until it has the first ones: every
/// request passes.
pub(super) fn client(settings: &Settings, parts: &Parts) -> anyhow::Result<XdsClient> {
    if settings.rules.start_without {
        let none = Matcher::build(Vec::new(), parts.loader.defaults)?;
        parts.engine.use_rules(Arc::new(Ruleset::new(none, &parts.metrics)));
        tracing::warn!("rules.start_without: every request passes until the management server sends rules");
    }
    let client = XdsClient::new(options(&settings.xds), parts.loader.clone())?;
    let figures = client.figures();
    parts.metrics.watch_xds(move || figures.read());
    Ok(client)
}

fn options(xds: &Xds) -> XdsOptions {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let all = |pairs: Option<Vec<(&str, &str)>>| pairs.unwrap_or_default().into_iter().map(owned).collect();
    XdsOptions {
        server: xds.server.clone(),
        node: XdsNode { id: xds.node_id.clone(), metadata: all(xds.node_metadata()) },
        headers: all(xds.headers()),
        max_message_bytes: usize::try_from(xds.max_message_bytes).unwrap_or(usize::MAX),
        keepalive_interval: unless_zero(xds.keepalive_interval),
        backoff: Backoff::new(xds.backoff_initial, xds.backoff_max, xds.backoff_jitter),
        tls: xds.tls.then(|| XdsTls {
            ca: xds.tls_ca.clone(),
            pair: xds.tls_cert.clone().zip(xds.tls_key.clone()),
            server_name: xds.tls_server_name.clone(),
        }),
    }
}
