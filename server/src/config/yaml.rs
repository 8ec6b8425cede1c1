//! YAML 1.1 as rules files are written in it: a small tree that knows the place of every node.
//!
//! Scalars keep their source text; what they mean is decided where they are used, by [`scalar`].

pub mod scalar;

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Levels that may be nested.
const MAX_DEPTH: usize = 64;
/// Nodes of a document, aliases expanded, unless its text is longer than this.
const MAX_NODES: usize = 1_000_000;

/// Text that weighs as much as a node: an alias of a long one must not multiply it.
const BYTES_PER_NODE: usize = 64;

/// A place in a file, both numbers from 1.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// One node and where it begins.
#[derive(Debug)]
pub struct Node {
    /// Its first character.
    pub at: Position,
    /// What it is.
    pub value: Value,
    /// Nodes below and including it, aliases expanded; long texts count as several.
    size: usize,
    /// Levels of collections, aliases expanded; 0 for a scalar.
    depth: usize,
}

impl Node {
    fn new(at: Position, value: Value) -> Node {
        let (mut size, mut depth) = (1_usize, 0);
        let mut count = |node: &Node| {
            size = size.saturating_add(node.size);
            depth = depth.max(node.depth + 1);
        };
        match &value {
            Value::Scalar { text, .. } => size = size.saturating_add(text.len() / BYTES_PER_NODE),
            Value::Sequence(items) => items.iter().for_each(|item| count(item)),
            Value::Mapping(pairs) => pairs.iter().for_each(|(key, value)| {
                count(key);
                count(value);
            }),
        }
        if !matches!(value, Value::Scalar { .. }) {
            depth = depth.max(1);
        }
        Node { at, value, size, depth }
    }
}

/// What a node is.
#[derive(Debug)]
pub enum Value {
    /// Text, and whether it was written without quotes and without a tag that makes it a string.
    Scalar {
        /// As written, escapes and folding resolved.
        text: String,
        /// Its meaning may be a number, a boolean, null.
        plain: bool,
    },
    /// A list.
    Sequence(Vec<Rc<Node>>),
    /// Pairs in the order of the file; keys may repeat.
    Mapping(Vec<(Rc<Node>, Rc<Node>)>),
}

/// Why a text is no YAML that can be used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct YamlError {
    /// Where.
    pub at: Position,
    /// Why.
    pub text: String,
}

/// Reads the first document of `text`; `None` if there is nothing in it. What follows is not looked at.
///
/// # Errors
/// Bad syntax, or more nesting, nodes or aliases than a rules file can need.
pub fn parse(text: &str) -> Result<Option<Rc<Node>>, YamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // the parser would take a NUL for the end of the file
    let legal = text.find(|c| !is_legal(c)).map_or(text, |place| &text[..place]);
    let mut builder = Builder {
        most: text.len().max(MAX_NODES),
        legal: legal.chars().count(),
        last_line: legal.rsplit(['\n', '\r']).next().unwrap_or_default().chars().count(),
        ..Builder::default()
    };
    for event in Parser::new_from_str(legal) {
        let (event, span) = event.map_err(|error| scan_error(&error))?;
        if matches!(event, Event::DocumentEnd | Event::StreamEnd) {
            let cut = legal.len() < text.len() && span.start.index() >= builder.legal;
            return if cut { Err(control_character(legal)) } else { Ok(builder.root) };
        }
        builder.take(event, span)?;
    }
    Ok(builder.root)
}

/// What YAML 1.1 calls printable.
fn is_legal(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

fn control_character(before: &str) -> YamlError {
    let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    YamlError { at: Position { line, column }, text: "control characters are not allowed".to_owned() }
}

fn scan_error(error: &ScanError) -> YamlError {
    let marker = error.marker();
    let at = Position { line: marker.line().max(1), column: marker.col() + 1 };
    YamlError { at, text: error.info().to_owned() }
}

/// A collection whose end has not come yet.
struct Open {
    at: Position,
    anchor: usize,
    items: Vec<Rc<Node>>,
    mapping: bool,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
    /// Nodes that the document may have, aliases expanded.
    most: usize,
    /// Characters that are looked at.
    legal: usize,
    /// Characters after the last line break.
    last_line: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let at = Position { line: span.start.line().max(1), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let string = tag.is_some_and(|tag| tag.suffix == "str" || tag.handle == "!");
                let plain = style == ScalarStyle::Plain && !string;
                let mut text = text.into_owned();
                if self.is_cut_short(style, span) && text.ends_with('\n') {
                    text.pop();
                }
                let value = Value::Scalar { text, plain };
                self.add(Rc::new(Node::new(at, value)), anchor, at)
            }
            Event::SequenceStart(anchor, _) => self.begin(at, anchor, false),
            Event::MappingStart(anchor, _) => self.begin(at, anchor, true),
            Event::SequenceEnd | Event::MappingEnd => self.end(at),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.add(node, 0, at),
                None => Err(YamlError { at, text: "an alias inside of its own anchor".to_owned() }),
            },
            _ => Ok(()),
        }
    }

    /// Whether a block scalar ends with a line that the file does not end. The parser ends it, YAML 1.1 does not.
    fn is_cut_short(&self, style: ScalarStyle, span: Span) -> bool {
        let block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        block && span.end.index() >= self.legal && self.last_line > 0 && self.last_line >= span.start.col()
    }

    fn begin(&mut self, at: Position, anchor: usize, mapping: bool) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        self.open.push(Open { at, anchor, items: Vec::new(), mapping });
        Ok(())
    }

    fn end(&mut self, at: Position) -> Result<(), YamlError> {
        let Some(Open { at: began, anchor, items, mapping }) = self.open.pop() else { return Ok(()) };
        let value = if mapping { Value::Mapping(pairs(items)) } else { Value::Sequence(items) };
        self.add(Rc::new(Node::new(began, value)), anchor, at)
    }

    fn add(&mut self, node: Rc<Node>, anchor: usize, at: Position) -> Result<(), YamlError> {
        if node.size > self.most {
            return Err(YamlError { at, text: format!("more than {} nodes, aliases expanded", self.most) });
        }
        if self.open.len() + node.depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            Some(open) => open.items.push(node),
            None => self.root = Some(node),
        }
        Ok(())
    }
}

fn too_deep(at: Position) -> YamlError {
    YamlError { at, text: format!("nested deeper than {MAX_DEPTH} levels") }
}

fn pairs(items: Vec<Rc<Node>>) -> Vec<(Rc<Node>, Rc<Node>)> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| items.next().zip(items.next())).collect()
}
