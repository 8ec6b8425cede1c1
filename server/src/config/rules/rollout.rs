//! `rollout` and `rollout_outside` of a descriptor.

use tollgate_core::rules::{Layout, Outside, Percentage, RolloutSpec};

use super::file::File;
use super::map::Map;

const OUTSIDE: [(&str, Outside); 2] = [("shadow", Outside::Shadow), ("skip", Outside::Skip)];

/// Reads both; `None` enforces the rule for every key.
pub(super) fn rollout(map: &Map<'_>, shared: bool, file: &mut File<'_>) -> Option<RolloutSpec> {
    let outside = map.choice("rollout_outside", &OUTSIDE, file);
    let Some(text) = map.text("rollout", file) else {
        let lonely = || "rollout_outside needs a rollout".to_owned();
        map.error_unless(!map.has("rollout_outside"), "rollout_outside", lonely, file);
        return None;
    };
    let ours = || "store.redis.layout = \"reference\" has no rollout".to_owned();
    map.error_unless(file.layout == Layout::Tollgate, "rollout", ours, file);
    let nothing = || "rollout needs a rate_limit beside it".to_owned();
    map.error_unless(map.has("rate_limit"), "rollout", nothing, file);
    if shared {
        let text =
            "all values share one counter, so that this rollout takes in all of them or none".to_owned();
        map.warn("rollout", text, file);
    }
    match text.parse::<Percentage>() {
        Ok(share) => Some(RolloutSpec { share, outside: outside.unwrap_or_default() }),
        Err(error) => {
            map.error("rollout", format!("rollout '{text}' is {error}"), file);
            None
        }
    }
}
