//! The settings as an operator meets them: layers, origins, the reference's variables, errors, the printed form.

#[path = "settings/command_line.rs"]
mod command_line;
#[path = "settings/durations.rs"]
mod durations;
#[path = "settings/layers.rs"]
mod layers;
#[path = "settings/problems.rs"]
mod problems;
#[path = "settings/redis.rs"]
mod redis;
#[path = "settings/redis_addresses.rs"]
mod redis_addresses;
#[path = "settings/redis_variables.rs"]
mod redis_variables;
#[path = "settings/reference.rs"]
mod reference;
#[path = "settings/reference_refusals.rs"]
mod reference_refusals;
#[path = "settings/tls.rs"]
mod tls;
#[path = "settings/xds.rs"]
mod xds;

use tollgate_server::config::settings::{Effective, Environment, Flags, load};

type Variables<'a> = &'a [(&'a str, &'a str)];

fn environment(variables: Variables<'_>) -> Environment {
    variables.iter().copied().collect()
}

/// The settings that these variables lead to.
fn sound(variables: Variables<'_>) -> Effective {
    match load(&environment(variables), &Flags::new()) {
        Ok(effective) => effective,
        Err(error) => panic!("{variables:?}: {error}"),
    }
}

/// The problems that these variables lead to, one text each.
fn problems(variables: Variables<'_>) -> Vec<String> {
    match load(&environment(variables), &Flags::new()) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems().iter().map(ToString::to_string).collect(),
    }
}

/// The printed line of one setting.
fn line(effective: &Effective, key: &str) -> String {
    let text = effective.to_string();
    let is_meant = |line: &&str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(" = "));
    text.lines().find(is_meant).unwrap_or_default().to_owned()
}
