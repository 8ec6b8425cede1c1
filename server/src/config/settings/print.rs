//! `tollgate config`: every setting, its value as TOML, and who set it. Secrets are never shown.

use std::fmt;

use serde_json::Value;

use super::{Effective, schema};

impl fmt::Display for Effective {
    /// One line a setting, sorted; the whole is a settings file again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.rows().map_err(|_| fmt::Error)?;
        rows.iter().try_for_each(|(key, value, origin)| writeln!(f, "{key} = {value}   # {origin}"))
    }
}

impl Effective {
    /// Every setting, sorted: its dotted key, its value as TOML, and who set it.
    ///
    /// # Errors
    /// A setting cannot be written.
    pub fn rows(&self) -> serde_json::Result<Vec<(String, String, String)>> {
        let mut leaves = Vec::new();
        collect("", serde_json::to_value(&self.settings)?, &mut leaves);
        leaves.sort_by(|(one, _), (other, _)| one.cmp(other));
        let row = |(key, value): &(String, Value)| (path(key), toml(value), self.origins.of(key).to_string());
        Ok(leaves.iter().map(row).collect())
    }
}

fn collect(key: &str, value: Value, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(children) if schema::find(key).is_none() => {
            for (name, child) in children {
                let below = if key.is_empty() { name } else { format!("{key}.{name}") };
                collect(&below, child, leaves);
            }
        }
        leaf => leaves.push((key.to_owned(), leaf)),
    }
}

/// The dotted key of TOML, with quotes where a step needs them.
fn path(key: &str) -> String {
    schema::path(key).into_iter().map(step).collect::<Vec<_>>().join(".")
}

fn step(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { text(name) }
}

/// JSON's numbers, booleans and texts are TOML's too; tables differ.
fn toml(value: &Value) -> String {
    match value {
        Value::String(inner) => text(inner),
        Value::Array(items) => format!("[{}]", items.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{} = {}", step(name), toml(value)));
            format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

fn text(inner: &str) -> String {
    // JSON leaves DEL as it is, TOML does not allow it
    Value::from(inner).to_string().replace('\u{7f}', "\\u007f")
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[test]
    fn the_schema_has_every_setting_and_no_other() {
        let mut leaves = Vec::new();
        collect("", serde_json::to_value(Settings::default()).unwrap(), &mut leaves);
        let mut keys: Vec<_> = leaves.iter().map(|(key, _)| key.as_str()).collect();
        keys.sort_unstable();
        let known: Vec<_> = schema::FIELDS.iter().map(|field| field.key).collect();
        assert_eq!(keys, known);
    }
}
