//! Sections `[response]` and `[mode]`: what an answer carries, and whether refusals take effect.

use serde::{Deserialize, Serialize};

use super::text::HeaderName;

/// `[response]`
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Response {
    /// Answers carry the three headers below, `false`. `LIMIT_RESPONSE_HEADERS_ENABLED`
    pub headers_enabled: bool,
    /// Header with the limit, `RateLimit-Limit`. `LIMIT_LIMIT_HEADER`
    pub limit_header: HeaderName,
    /// Header with what is left, `RateLimit-Remaining`. `LIMIT_REMAINING_HEADER`
    pub remaining_header: HeaderName,
    /// Header with the seconds to the reset, `RateLimit-Reset`. `LIMIT_RESET_HEADER`
    pub reset_header: HeaderName,
    /// Refusals carry `Retry-After`, `false`.
    pub retry_after: bool,
    /// Answers carry the metadata of the matched rules, `false`. `RESPONSE_DYNAMIC_METADATA`
    pub dynamic_metadata: bool,
}

impl Default for Response {
    fn default() -> Response {
        Response {
            headers_enabled: false,
            limit_header: HeaderName::known("RateLimit-Limit"),
            remaining_header: HeaderName::known("RateLimit-Remaining"),
            reset_header: HeaderName::known("RateLimit-Reset"),
            retry_after: false,
            dynamic_metadata: false,
        }
    }
}

/// `[mode]`: switches over all rules.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mode {
    /// Everything is counted and nothing refused, `false`. `SHADOW_MODE`
    pub shadow: bool,
    /// Descriptors are alternatives: refused when all are exhausted, `false`. `QUOTA_MODE`
    pub quota: bool,
}
