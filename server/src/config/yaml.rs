//! YAML 1.1 as rules files are written in it: a small tree that knows the place of every node.
//!
//! Scalars keep their source text; what they mean is decided where they are used, by [`scalar`].

pub mod scalar;

use std::collections::HashMap;
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};

/// Levels that may be nested.
const MAX_DEPTH: usize = 64;
/// Nodes of a document, aliases expanded.
const MAX_NODES: usize = 1_000_000;

/// A place in a file, both numbers from 1.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
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
    /// Nodes below and including it, aliases expanded.
    size: usize,
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
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| scan_error(&error))?;
        if matches!(event, Event::DocumentEnd | Event::StreamEnd) {
            break;
        }
        builder.take(event, span)?;
    }
    Ok(builder.root)
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
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), YamlError> {
        let at = Position { line: span.start.line().max(1), column: span.start.col() + 1 };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let string = tag.is_some_and(|tag| tag.suffix == "str" || tag.handle == "!");
                let plain = style == ScalarStyle::Plain && !string;
                let value = Value::Scalar { text: text.into_owned(), plain };
                self.add(Rc::new(Node { at, value, size: 1 }), anchor, at)
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

    fn begin(&mut self, at: Position, anchor: usize, mapping: bool) -> Result<(), YamlError> {
        if self.open.len() >= MAX_DEPTH {
            return Err(YamlError { at, text: format!("nested deeper than {MAX_DEPTH} levels") });
        }
        self.open.push(Open { at, anchor, items: Vec::new(), mapping });
        Ok(())
    }

    fn end(&mut self, at: Position) -> Result<(), YamlError> {
        let Some(Open { at: began, anchor, items, mapping }) = self.open.pop() else { return Ok(()) };
        let size = items.iter().fold(1_usize, |size, item| size.saturating_add(item.size));
        let value = if mapping { Value::Mapping(pairs(items)) } else { Value::Sequence(items) };
        self.add(Rc::new(Node { at: began, value, size }), anchor, at)
    }

    fn add(&mut self, node: Rc<Node>, anchor: usize, at: Position) -> Result<(), YamlError> {
        if node.size > MAX_NODES {
            return Err(YamlError { at, text: format!("more than {MAX_NODES} nodes, aliases expanded") });
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

fn pairs(items: Vec<Rc<Node>>) -> Vec<(Rc<Node>, Rc<Node>)> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| items.next().zip(items.next())).collect()
}
