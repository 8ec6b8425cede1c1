//! A file of tests, read with every mistake's line.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use tollgate_core::time::{Span, Time};

use crate::command::dry_run::{instant, span};
use crate::config::yaml::scalar::{Resolved, resolve};
use crate::config::yaml::{Node, Value, parse};

/// When a test begins if its file does not say: a Thursday, as the epoch is, and the start of a year.
const START: &str = "2026-01-01T00:00:00Z";

/// A file of tests.
pub(super) struct TestFile {
    /// `rules`: a folder, relative to the file.
    pub(super) rules: Option<PathBuf>,
    /// `start`
    pub(super) start: Time,
    /// `tests`
    pub(super) cases: Vec<Case>,
}

/// One test.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) requests: Vec<Asked>,
}

/// A request, perhaps made several times.
pub(super) struct Asked {
    pub(super) line: usize,
    pub(super) domain: String,
    /// `at`, or `after` the request before.
    pub(super) at: Span,
    pub(super) times: u32,
    pub(super) every: Span,
    pub(super) descriptors: Vec<AskedDescriptor>,
    pub(super) hits: u32,
    pub(super) patience: Span,
    pub(super) waits_itself: bool,
    pub(super) expect: Expect,
}

/// One descriptor of a request.
pub(super) struct AskedDescriptor {
    pub(super) entries: Vec<(String, String)>,
    pub(super) hits: Option<u64>,
    pub(super) refund: bool,
}

/// What is expected; `None` expects nothing in particular.
#[derive(Default)]
pub(super) struct Expect {
    pub(super) allowed: Option<bool>,
    /// A duration, or `never`.
    pub(super) retry_after: Option<Option<Span>>,
    pub(super) wait: Option<Span>,
    pub(super) remaining: Option<u64>,
    pub(super) limits: Vec<ExpectLimit>,
}

/// What is expected of one descriptor.
#[derive(Default)]
pub(super) struct ExpectLimit {
    /// Name or path of the rule.
    pub(super) rule: Option<String>,
    /// `decided`, `unmatched`, `unlimited`, `replaced` or `unknown_domain`.
    pub(super) outcome: Option<String>,
    pub(super) allowed: Option<bool>,
    pub(super) shadowed: Option<bool>,
    pub(super) remaining: Option<u64>,
    pub(super) used: Option<u64>,
    pub(super) retry_after: Option<Option<Span>>,
}

type Read<T> = Result<T, String>;

/// A mapping whose keys are taken out one by one; what is left is unknown.
struct Fields<'n> {
    node: &'n Node,
    pairs: Vec<(&'n str, &'n Node)>,
}

impl<'n> Fields<'n> {
    fn of(node: &'n Node) -> Read<Fields<'n>> {
        let Value::Mapping(pairs) = &node.value else { return Err(wrong(node, "a mapping")) };
        let pair = |(key, value): &'n (Rc<Node>, Rc<Node>)| Ok((text(key)?, &**value));
        Ok(Fields { node, pairs: pairs.iter().map(pair).collect::<Read<_>>()? })
    }

    fn take(&mut self, name: &str) -> Option<&'n Node> {
        let place = self.pairs.iter().position(|(key, _)| *key == name)?;
        Some(self.pairs.remove(place).1)
    }

    fn with<T>(&mut self, name: &str, read: impl FnOnce(&'n Node) -> Read<T>) -> Read<Option<T>> {
        self.take(name).map(read).transpose().map_err(|why| format!("{why} (at {name})"))
    }

    fn finish(self) -> Read<()> {
        match self.pairs.first() {
            None => Ok(()),
            Some((key, node)) => Err(at(node, &format!("unknown key '{key}'"))),
        }
    }
}

fn at(node: &Node, text: &str) -> String {
    format!("{}:{}: {text}", node.at.line, node.at.column)
}

fn wrong(node: &Node, wanted: &str) -> String {
    at(node, &format!("this has to be {wanted}"))
}

fn text(node: &Node) -> Read<&str> {
    match &node.value {
        Value::Scalar { text, .. } => Ok(text),
        _ => Err(wrong(node, "a text")),
    }
}

fn list(node: &Node) -> Read<&[Rc<Node>]> {
    match &node.value {
        Value::Sequence(items) => Ok(items),
        _ => Err(wrong(node, "a list")),
    }
}

fn number<T: TryFrom<i128>>(node: &Node) -> Read<T> {
    let number = match resolve(text(node)?) {
        Resolved::Int(number) => T::try_from(number).ok(),
        _ => None,
    };
    number.ok_or_else(|| wrong(node, "a whole number in range"))
}

fn flag(node: &Node) -> Read<bool> {
    match resolve(text(node)?) {
        Resolved::Bool(flag) => Ok(flag),
        _ => Err(wrong(node, "true or false")),
    }
}

fn duration(node: &Node) -> Read<Span> {
    span(text(node)?).ok_or_else(|| wrong(node, "a duration such as 90s or 15ms"))
}

/// A duration, or `never`.
fn retry(node: &Node) -> Read<Option<Span>> {
    if text(node)? == "never" { Ok(None) } else { duration(node).map(Some) }
}

impl TestFile {
    /// Reads the file at `path`.
    pub(super) fn read(path: &Path) -> Read<TestFile> {
        let name = path.display();
        let bytes = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
        TestFile::parse(&bytes).map_err(|why| format!("{name}:{why}"))
    }

    fn parse(source: &str) -> Read<TestFile> {
        let root = parse(source)
            .map_err(|error| format!("{}:{}: {}", error.at.line, error.at.column, error.text))?
            .ok_or("1:1: no tests")?;
        let mut fields = Fields::of(&root)?;
        let rules = fields.with("rules", text)?.map(PathBuf::from);
        let time =
            |node| instant(text(node)?).ok_or_else(|| wrong(node, "a time such as 2026-01-01T00:00:00Z"));
        let start = fields.with("start", time)?.or_else(|| instant(START)).unwrap_or_default();
        let domain = fields.with("domain", text)?.map(str::to_owned);
        let case = |item: &Rc<Node>| Case::read(item, domain.as_deref());
        let cases = fields.with("tests", |node| list(node)?.iter().map(case).collect::<Read<Vec<_>>>())?;
        let cases = cases.filter(|cases| !cases.is_empty()).ok_or_else(|| at(&root, "no tests"))?;
        fields.finish()?;
        Ok(TestFile { rules, start, cases })
    }
}

impl Case {
    fn read(node: &Node, domain: Option<&str>) -> Read<Case> {
        let mut fields = Fields::of(node)?;
        let name = fields.with("name", text)?.ok_or_else(|| at(node, "a test needs a name"))?.to_owned();
        let own = fields.with("domain", text)?.or(domain);
        let items = fields.with("requests", list)?.unwrap_or_default();
        if items.is_empty() {
            return Err(at(node, "a test needs requests"));
        }
        let (mut requests, mut last) = (Vec::new(), Span::ZERO);
        for item in items {
            let asked = Asked::read(item, own, last)?;
            last = asked.at + super::times(&asked, asked.times.saturating_sub(1));
            requests.push(asked);
        }
        fields.finish()?;
        Ok(Case { name, requests })
    }
}

impl Asked {
    fn read(node: &Node, domain: Option<&str>, last: Span) -> Read<Asked> {
        let mut fields = Fields::of(node)?;
        let own = fields.with("domain", text)?.or(domain);
        let domain = own.ok_or_else(|| at(node, "a request needs a domain"))?.to_owned();
        let (set, after) = (fields.with("at", duration)?, fields.with("after", duration)?);
        let when = match (set, after) {
            (Some(_), Some(_)) => return Err(at(node, "a request is either at a time or after another")),
            (Some(set), None) => set,
            (None, after) => last + after.unwrap_or(Span::ZERO),
        };
        let read =
            |node| list(node)?.iter().map(|item| AskedDescriptor::read(item)).collect::<Read<Vec<_>>>();
        let asked = Asked {
            line: node.at.line,
            domain,
            at: when,
            times: fields.with("times", number::<u32>)?.unwrap_or(1).max(1),
            every: fields.with("every", duration)?.unwrap_or(Span::ZERO),
            descriptors: fields.with("descriptors", read)?.ok_or_else(|| at(node, "no descriptors"))?,
            hits: fields.with("hits", number)?.unwrap_or(1),
            patience: fields.with("patience", duration)?.unwrap_or(Span::MAX),
            waits_itself: fields.with("waits_itself", flag)?.unwrap_or(false),
            expect: fields.with("expect", Expect::read)?.ok_or_else(|| at(node, "nothing is expected"))?,
        };
        fields.finish()?;
        Ok(asked)
    }
}

impl AskedDescriptor {
    /// `{user: ann}`, or `{entries: {user: ann}, hits: 3, refund: true}`.
    fn read(node: &Node) -> Read<AskedDescriptor> {
        let mut fields = Fields::of(node)?;
        let long =
            |(key, value): &(&str, &Node)| *key == "entries" && matches!(value.value, Value::Mapping(_));
        if !fields.pairs.iter().any(long) {
            return Ok(AskedDescriptor { entries: entries(node)?, hits: None, refund: false });
        }
        let read = AskedDescriptor {
            entries: fields.with("entries", entries)?.unwrap_or_default(),
            hits: fields.with("hits", number)?,
            refund: fields.with("refund", flag)?.unwrap_or(false),
        };
        fields.finish()?;
        Ok(read)
    }
}

/// Keys and values in the order of the file.
fn entries(node: &Node) -> Read<Vec<(String, String)>> {
    let fields = Fields::of(node)?;
    fields.pairs.iter().map(|(key, value)| Ok(((*key).to_owned(), text(value)?.to_owned()))).collect()
}

impl Expect {
    /// `allowed`, `refused`, or a mapping.
    fn read(node: &Node) -> Read<Expect> {
        if matches!(node.value, Value::Scalar { .. }) {
            let allowed = verdict(node)?;
            return Ok(Expect { allowed: Some(allowed), ..Expect::default() });
        }
        let mut fields = Fields::of(node)?;
        let limits = |node| list(node)?.iter().map(|item| ExpectLimit::read(item)).collect::<Read<Vec<_>>>();
        let expect = Expect {
            allowed: fields.with("allowed", flag)?,
            retry_after: fields.with("retry_after", retry)?,
            wait: fields.with("wait", duration)?,
            remaining: fields.with("remaining", number)?,
            limits: fields.with("limits", limits)?.unwrap_or_default(),
        };
        if fields.node.at == node.at && fields.pairs.is_empty() && is_empty(&expect) {
            return Err(at(node, "nothing is expected"));
        }
        fields.finish()?;
        Ok(expect)
    }
}

fn is_empty(expect: &Expect) -> bool {
    expect.allowed.is_none()
        && expect.retry_after.is_none()
        && expect.wait.is_none()
        && expect.remaining.is_none()
        && expect.limits.is_empty()
}

fn verdict(node: &Node) -> Read<bool> {
    match text(node)? {
        "allowed" => Ok(true),
        "refused" => Ok(false),
        _ => Err(wrong(node, "allowed, refused or a mapping")),
    }
}

impl ExpectLimit {
    fn read(node: &Node) -> Read<ExpectLimit> {
        const OUTCOMES: [&str; 5] = ["decided", "unmatched", "unlimited", "replaced", "unknown_domain"];
        let mut fields = Fields::of(node)?;
        let outcome = |node| match text(node)? {
            name if OUTCOMES.contains(&name) => Ok(name.to_owned()),
            _ => Err(wrong(node, &format!("one of {}", OUTCOMES.join(", ")))),
        };
        let expect = ExpectLimit {
            rule: fields.with("rule", text)?.map(str::to_owned),
            outcome: fields.with("outcome", outcome)?,
            allowed: fields.with("allowed", flag)?,
            shadowed: fields.with("shadowed", flag)?,
            remaining: fields.with("remaining", number)?,
            used: fields.with("used", number)?,
            retry_after: fields.with("retry_after", retry)?,
        };
        fields.finish()?;
        Ok(expect)
    }
}
