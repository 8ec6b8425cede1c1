//! Every rule with what it does.

use serde_json::{Value, json};
use tollgate_core::limit::Limit;
use tollgate_core::rules::Rule;

use super::history::{Window, rate};
use super::keys::Fullests;
use crate::config::ruleset::Ruleset;
use crate::telemetry::meter::Tally;
use crate::telemetry::metrics::RuleUse;

/// Rules that are shown: those that refuse first, then the busiest.
const SHOWN: usize = 200;

/// How close a rule is to refusing. The order is that of the page.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Standing {
    Over,
    Near,
    Within,
    Idle,
}

impl Standing {
    fn of(came: &Tally) -> Standing {
        match came {
            Tally { refused: 1.., .. } | Tally { shadowed: 1.., .. } => Standing::Over,
            Tally { near_limit: 1.., .. } => Standing::Near,
            Tally { allowed: 1.., .. } => Standing::Within,
            _ => Standing::Idle,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Standing::Over => "over",
            Standing::Near => "near",
            Standing::Within => "within",
            Standing::Idle => "idle",
        }
    }
}

/// What a rule has counted in the window.
struct Busy {
    used: RuleUse,
    came: Tally,
    standing: Standing,
}

/// The table of rules.
pub(super) fn show(
    rules: Option<&Ruleset>,
    uses: Vec<RuleUse>,
    window: &Window,
    fullest: &Fullests,
) -> Value {
    let mut busy: Vec<Busy> = uses.into_iter().map(|used| came(used, window)).collect();
    let of = rules.map_or(0, |rules| rules.matcher().rules().len());
    busy.sort_by(|one, other| {
        let rate = |busy: &Busy| busy.came.allowed + busy.came.refused + busy.came.shadowed;
        let path = |busy: &Busy| (busy.used.domain.clone(), busy.used.rule.clone());
        one.standing
            .cmp(&other.standing)
            .then(rate(other).cmp(&rate(one)))
            .then_with(|| path(one).cmp(&path(other)))
    });
    let known: std::collections::HashMap<&str, &Rule> = rules
        .map(|rules| rules.matcher().rules().iter().map(|rule| (&*rule.path, rule)).collect())
        .unwrap_or_default();
    let rows = busy.iter().take(SHOWN).filter_map(|busy| {
        let path = format!("{}.{}", busy.used.domain, busy.used.rule);
        let rule = known.get(path.as_str()).copied();
        // a rule that is gone, or limits that came with requests, are of interest only while they do something
        (rule.is_some() || busy.standing != Standing::Idle).then(|| row(&path, rule, busy, (window, fullest)))
    });
    json!({ "of": of, "seconds": window.seconds.round(), "shown": rows.collect::<Vec<_>>() })
}

fn came(used: RuleUse, window: &Window) -> Busy {
    let path = (used.domain.clone(), used.rule.clone());
    let before = window.before.get(&path).copied().unwrap_or_default();
    let now = used.tally;
    let came = Tally {
        allowed: now.allowed.saturating_sub(before.allowed),
        refused: now.refused.saturating_sub(before.refused),
        shadowed: now.shadowed.saturating_sub(before.shadowed),
        near_limit: now.near_limit.saturating_sub(before.near_limit),
        ..Tally::default()
    };
    Busy { standing: Standing::of(&came), used, came }
}

fn row(path: &str, rule: Option<&Rule>, busy: &Busy, (window, fullest): (&Window, &Fullests)) -> Value {
    let fullest = fullest.get(path);
    let rate = |times| rate(times, window.seconds);
    json!({
        "rule": path,
        "limit": rule.map_or_else(|| "sent by callers".to_owned(), limit),
        "algorithm": rule.and_then(|rule| rule.limit.as_ref()).map(Limit::algorithm),
        "shadow": rule.is_some_and(|rule| rule.shadow),
        "state": busy.standing.name(),
        "allowed": rate(busy.came.allowed),
        "refused": rate(busy.came.refused),
        "shadowed": rate(busy.came.shadowed),
        "use_percent": fullest.map(|fullest| fullest.percent),
        "fullest": fullest.map(|fullest| &fullest.key),
        "total": [busy.used.tally.allowed, busy.used.tally.refused],
    })
}

/// "5 per minute", "6000 per 5 minutes".
fn limit(rule: &Rule) -> String {
    let quota = rule.quota;
    let unit = quota.unit.name().to_ascii_lowercase();
    match (rule.limit.is_some(), quota.multiplier) {
        (false, _) => "unlimited".to_owned(),
        (true, 0 | 1) => format!("{} per {unit}", quota.requests_per_unit),
        (true, many) => format!("{} per {many} {unit}s", quota.requests_per_unit),
    }
}
