//! `tollgate explain`: which limits a request would meet, and why.

use std::fmt::Write as _;
use std::process::ExitCode;

use tollgate_core::lease::Terms;
use tollgate_core::rules::{
    Defaults, Descriptor, Explanation, MatchedBy, Matcher, NoRule, Query, Rule, Walked,
};

use super::bad_input;
use crate::cli::{self, ExplainArgs};
use crate::config::compile::compile;
use crate::config::location::Location;
use crate::config::rules::Options;
use crate::config::settings::Rules;

pub(super) fn explain(args: &ExplainArgs) -> ExitCode {
    match load(args) {
        Ok(matcher) => {
            print!("{}", explanation(&matcher, args));
            ExitCode::SUCCESS
        }
        Err(error) => bad_input(&error),
    }
}

fn load(args: &ExplainArgs) -> Result<Matcher, String> {
    let options = Options {
        merge_domains: args.merge_domains,
        ignore_non_yaml: args.ignore_non_yaml,
        resources: false,
        ..Options::default()
    };
    let location = Location::folder(&args.dir, options, Rules::default().max_file_bytes)?;
    let compiled =
        location.read().and_then(|sources| compile(&sources, &location.options, Defaults::default()));
    let texts = |problems: Vec<_>| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    compiled.map(|compiled| compiled.matcher).map_err(texts)
}

fn explanation(matcher: &Matcher, args: &ExplainArgs) -> String {
    let descriptors = args.descriptors();
    let mut query = Query { domain: &args.domain, ..Query::default() };
    query.descriptors =
        descriptors.iter().map(|cli::Descriptor(entries)| descriptor(entries, args.hits)).collect();
    let explained = matcher.explain(&query);
    let replaced: Vec<&str> = explained
        .iter()
        .filter_map(|one| one.rule.ok())
        .flat_map(|rule| rule.replaces.iter().map(|name| &**name))
        .collect();
    let mut text = String::new();
    for (asked, explained) in descriptors.iter().zip(&explained) {
        let entries: Vec<String> =
            asked.0.iter().map(|entry| format!("{}={}", entry.key, entry.value)).collect();
        let _ = writeln!(text, "descriptor {}", entries.join(", "));
        write_one(&mut text, explained, &replaced);
    }
    text
}

fn descriptor(entries: &[cli::Entry], hits: Option<u64>) -> Descriptor<'_> {
    let entries = entries.iter().map(|entry| (entry.key.as_str(), entry.value.as_str())).collect();
    Descriptor { entries, hits, ..Descriptor::default() }
}

fn write_one(text: &mut String, explained: &Explanation<'_>, replaced: &[&str]) {
    for walked in &explained.walk {
        let _ = writeln!(text, "  {}", walk(walked));
    }
    let _ = match explained.rule {
        Err(why) => writeln!(text, "  no limit: {}", no_rule(why)),
        Ok(rule) if !rule.name.is_empty() && replaced.contains(&&*rule.name) => {
            writeln!(text, "  no limit: {} is replaced by another rule of this request", rule.path)
        }
        Ok(rule) => writeln!(text, "  limit: {} ({})", rule.path, terms(rule)),
    };
}

fn walk(walked: &Walked) -> String {
    let asked = format!("{}={}", walked.key, walked.value);
    let shared = if walked.shared { ", all matching values share one counter" } else { "" };
    match &walked.taken {
        None => format!("{asked}: nothing fits"),
        Some((sibling, MatchedBy::Value)) => format!("{asked}: {sibling} by its exact value"),
        Some((sibling, MatchedBy::Pattern)) => {
            format!("{asked}: {sibling}, the first pattern in the file that fits{shared}")
        }
        Some((sibling, MatchedBy::Key)) => format!("{asked}: {sibling} by its key, each value counted apart"),
    }
}

fn no_rule(why: NoRule) -> &'static str {
    match why {
        NoRule::UnknownDomain => "the domain has no rules",
        NoRule::NoEntries => "the descriptor has no entries",
        NoRule::NoMatch => "no rule for this level, and there is no way back to a less specific one",
        NoRule::NoLimitHere => "the rule of the last entry has no rate_limit",
    }
}

fn terms(rule: &Rule) -> String {
    let Some(limit) = &rule.limit else { return "unlimited".to_owned() };
    let quota = rule.quota;
    let mut text =
        format!("{} per {} {}", quota.requests_per_unit, quota.multiplier, quota.unit.name().to_lowercase());
    let _ = write!(text, ", {}, capacity {}", limit.algorithm(), rule.capacity().unwrap_or(limit.capacity()));
    if let Some(Terms::Pool(pool)) = &rule.lease {
        let _ = write!(text, ", {} of it set aside for leases", pool.size());
    }
    if rule.shadow {
        text.push_str(", shadow: counted, never enforced");
    }
    if let Some(rollout) = &rule.rollout {
        let _ = write!(text, ", enforced for {} of its keys", rollout.share());
    }
    if rule.alternative {
        text.push_str(", quota: refuses only together with every other quota rule of the request");
    }
    text
}
