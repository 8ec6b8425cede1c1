//! The layers, weakest first: file, the reference's variables, our variables, flags. Each is a list of entries
//! that say who set what; the `config` crate reads the files and merges the lists.

use std::path::{Path, PathBuf};

use config::{Config, ConfigError, FileFormat, Map, Source};
use serde_json::Value;

use super::environment::Environment;
use super::origin::{Origin, Origins};
use super::problem::{Problem, nearest};
use super::schema::{self, DOMAINS, FIELDS, Field};
use super::{Flags, Settings, reference};

/// Prefix of our own variables. Two underscores: Kubernetes sets `TOLLGATE_PORT` for a service named so.
const PREFIX: &str = "TOLLGATE__";
const SEPARATOR: &str = "__";

/// The variable that names the settings file.
const FILE_VARIABLE: &str = "TOLLGATE_SETTINGS";

/// Names that are looked for in the working directory.
const FILE_NAMES: [&str; 3] = ["tollgate.toml", "tollgate.yaml", "tollgate.yml"];

/// One value, and who set it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// All layers, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Layers {
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl Layers {
    /// Reads all layers.
    pub(super) fn read(environment: &Environment, flags: &Flags) -> Layers {
        let mut layers = Layers::default();
        reference::implied(environment, &mut layers);
        layers.add_file(environment, flags);
        reference::aliases(environment, &mut layers);
        layers.add_environment(environment);
        for value in flags.values() {
            layers.add_text(&value.key, &value.text, Origin::Flag(value.flag.clone()));
        }
        layers.problems.extend(flags.problems());
        layers
    }

    /// The settings of all sound entries, who set them, and the problems of the others.
    pub(super) fn merge(self) -> (Settings, Origins, Vec<Problem>) {
        let Layers { entries, mut problems } = self;
        let mut origins = Origins::default();
        for entry in &entries {
            origins.set(&entry.key, entry.origin.clone());
        }
        let settings = deserialize(&entries).unwrap_or_else(|why| {
            problems.push(Problem::Refused { origin: Origin::Default, why });
            Settings::default()
        });
        (settings, origins, problems)
    }

    pub(super) fn add_problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// Adds a setting given as text.
    pub(super) fn add_text(&mut self, key: &str, text: &str, origin: Origin) {
        if key == DOMAINS {
            let tree = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
            return self.add_tree(key, tree, &origin);
        }
        let value = match schema::find(key) {
            Some(field) => field.allowed.read(text).unwrap_or_else(|| Value::from(text)),
            None => Value::from(text),
        };
        self.add_value(key, value, origin);
    }

    /// Adds everything that a file says at and below `key`.
    fn add_tree(&mut self, key: &str, tree: Value, origin: &Origin) {
        match tree {
            Value::Object(children) if schema::find(key).is_none() && !children.is_empty() => {
                for (name, child) in children {
                    self.add_tree(&format!("{key}.{name}"), child, origin);
                }
            }
            Value::Null | Value::Object(_) if schema::is_section(key) => {}
            Value::String(text) if schema::find(key).is_some() => self.add_text(key, &text, origin.clone()),
            leaf => self.add_value(key, leaf, origin.clone()),
        }
    }

    /// Adds a setting, or the reason why it is none.
    fn add_value(&mut self, key: &str, value: Value, origin: Origin) {
        let entry = Entry { key: key.to_owned(), value, origin };
        match flaw(&entry) {
            None => self.entries.push(entry),
            Some(problem) => self.problems.push(problem),
        }
    }

    fn add_environment(&mut self, environment: &Environment) {
        for (name, text) in environment.iter() {
            if let Some(key) = name.strip_prefix(PREFIX) {
                let key = key.to_lowercase().replace(SEPARATOR, ".");
                self.add_text(&key, text, Origin::Env(name.to_owned()));
            }
        }
    }

    fn add_file(&mut self, environment: &Environment, flags: &Flags) {
        let tree = match settings_file(environment, flags) {
            Ok(None) => return,
            Ok(Some(file)) => read_file(&file).map(|tree| (file, tree)),
            Err(problem) => Err(problem),
        };
        match tree {
            Ok((file, Value::Object(sections))) => {
                let origin = Origin::File(file.display().to_string());
                for (name, section) in sections {
                    self.add_tree(&name, section, &origin);
                }
            }
            Ok(_) => {}
            Err(problem) => self.problems.push(problem),
        }
    }
}

/// What is wrong with one entry: unknown, out of range, or of a form that its type refuses.
fn flaw(entry: &Entry) -> Option<Problem> {
    let Some(field) = schema::find(&entry.key) else {
        return Some(unknown(entry));
    };
    if field.allowed.admits(&entry.value) && deserialize(std::slice::from_ref(entry)).is_ok() {
        return None;
    }
    Some(wrong_value(entry, field))
}

fn unknown(entry: &Entry) -> Problem {
    let origin = entry.origin.clone();
    let key = entry.key.clone();
    if schema::is_section(&entry.key) {
        let allowed = "a section with settings of its own".to_owned();
        return Problem::Value { origin, key, text: entry.value.to_string(), allowed };
    }
    let nearest = nearest(&key, FIELDS.iter().map(|field| field.key).chain([DOMAINS]));
    Problem::Unknown { origin, key, nearest }
}

fn wrong_value(entry: &Entry, field: &Field) -> Problem {
    let text = match field.allowed {
        schema::Allowed::Secret | schema::Allowed::SecretTree(_) => "***".to_owned(),
        _ => entry.value.to_string(),
    };
    Problem::Value {
        origin: entry.origin.clone(),
        key: entry.key.clone(),
        text,
        allowed: field.allowed.to_string(),
    }
}

/// Merges the entries, later ones over earlier ones, and gives them their types.
fn deserialize(entries: &[Entry]) -> Result<Settings, String> {
    let builder = entries.iter().fold(Config::builder(), |builder, entry| builder.add_source(entry.clone()));
    let merged: Value =
        builder.build().and_then(Config::try_deserialize).map_err(|error| error.to_string())?;
    // not straight from `config`: it bends texts and numbers into one another
    serde_json::from_value(merged).map_err(|error| error.to_string())
}

impl Source for Entry {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, config::Value>, ConfigError> {
        let tree = schema::path(&self.key).into_iter().rev().fold(self.value.clone(), |inner, step| {
            Value::Object([(step.to_owned(), inner)].into_iter().collect())
        });
        serde_json::from_value(tree).map_err(|error| ConfigError::Foreign(Box::new(error)))
    }
}

/// The file to read: the named one, else the one in the working directory.
fn settings_file(environment: &Environment, flags: &Flags) -> Result<Option<PathBuf>, Problem> {
    if let Some(file) = flags.settings_file() {
        return Ok(Some(file.to_owned()));
    }
    if let Some(file) = environment.value(FILE_VARIABLE).filter(|file| !file.is_empty()) {
        return Ok(Some(PathBuf::from(file)));
    }
    let Some(directory) = environment.directory() else {
        return Ok(None);
    };
    let mut found = FILE_NAMES.iter().map(|name| directory.join(name)).filter(|file| file.exists());
    let first = found.next();
    match (&first, found.next()) {
        (Some(first), Some(second)) => Err(Problem::File {
            file: first.display().to_string(),
            why: format!("{} exists too; remove one, or name one with --settings", second.display()),
        }),
        _ => Ok(first),
    }
}

fn read_file(file: &Path) -> Result<Value, Problem> {
    let refuse = |why: String| Problem::File { file: file.display().to_string(), why };
    let format = match file.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => return Err(refuse("the name must end in .toml, .yaml or .yml".to_owned())),
    };
    let text = std::fs::read_to_string(file).map_err(|error| refuse(error.to_string()))?;
    let source = config::File::from_str(&text, format);
    let read = Config::builder().add_source(source).build().and_then(Config::try_deserialize);
    read.map_err(|error| refuse(without_excerpt(&error.to_string())))
}

/// The message on one line, without the lines of the file that it quotes: they may hold a secret.
fn without_excerpt(message: &str) -> String {
    let is_excerpt =
        |line: &&str| line.trim_start_matches(|c: char| c == ' ' || c.is_ascii_digit()).starts_with('|');
    let lines = message.lines().filter(|line| !is_excerpt(line)).map(str::trim);
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(": ")
}
