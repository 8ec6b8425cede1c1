//! Wire request to [`Query`], borrowing every text.

use tollgate_core::rules::{Descriptor, Override, Query, Quota, Unit};
use tollgate_proto::envoy::extensions::common::ratelimit::v3 as common;
use tollgate_proto::envoy::service::ratelimit::v3 as wire;

use crate::adapter::Invalid;
use crate::adapter::bounded::MAX_DESCRIPTORS;

/// The largest cost: above it the reference's counters would wrap.
const MAX_HITS: u64 = i64::MAX as u64;

/// Checks `request` in the reference's order and reads it.
pub(super) fn query(request: &wire::RateLimitRequest) -> Result<Query<'_>, Invalid> {
    if request.domain.is_empty() {
        return Err(Invalid::EmptyDomain);
    }
    if request.descriptors.is_empty() {
        return Err(Invalid::NoDescriptors);
    }
    if request.descriptors.len() > MAX_DESCRIPTORS {
        return Err(Invalid::TooMany {
            what: "descriptors",
            found: request.descriptors.len(),
            most: MAX_DESCRIPTORS,
        });
    }
    let mut query = Query { domain: &request.domain, hits: request.hits_addend, ..Query::default() };
    for (place, descriptor) in request.descriptors.iter().enumerate() {
        query.descriptors.push(self::descriptor(place, descriptor)?);
    }
    Ok(query)
}

fn descriptor(place: usize, wire: &common::RateLimitDescriptor) -> Result<Descriptor<'_>, Invalid> {
    let hits = wire.hits_addend;
    if let Some(hits) = hits.filter(|&hits| hits > MAX_HITS) {
        return Err(Invalid::Hits { descriptor: place, hits });
    }
    let entries = wire.entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
    let limit = wire.limit.as_ref().map(|limit| limit_override(place, limit)).transpose()?;
    Ok(Descriptor { entries, hits, refund: wire.is_negative_hits, limit })
}

fn limit_override(
    descriptor: usize,
    wire: &common::rate_limit_descriptor::RateLimitOverride,
) -> Result<Box<Override>, Invalid> {
    let Some(unit) = Unit::from_number(wire.unit) else {
        return Err(Invalid::Unit { descriptor, unit: wire.unit });
    };
    let multiplier = wire.unit_multiplier.unwrap_or(1);
    if multiplier == 0 {
        return Err(Invalid::Multiplier { descriptor });
    }
    let quota = Quota { requests_per_unit: wire.requests_per_unit, unit, multiplier };
    Override::new(quota).map(Box::new).map_err(|error| Invalid::Limit { descriptor, error })
}
