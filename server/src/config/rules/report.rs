//! The problems of one file.

use std::collections::HashSet;

use super::Problem;
use crate::config::yaml::Position;

/// Errors and warnings of one file that are kept, each. Nobody reads more, and a hostile file has millions.
pub(super) const MAX_PROBLEMS: usize = 1_000;

/// Bytes of a message.
const MAX_BYTES: usize = 1_000;

/// Problems, each once although an alias may lead to it many times.
#[derive(Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    known: HashSet<(Position, String)>,
    left_out: usize,
}

impl Report {
    pub(super) fn add(&mut self, at: Position, text: String, problem: impl FnOnce(String) -> Problem) {
        let text = shortened(text);
        if self.problems.len() >= MAX_PROBLEMS {
            self.left_out += 1;
        } else if self.known.insert((at, text.clone())) {
            let problem = problem(text);
            self.problems.push(Problem { path: shortened(problem.path), ..problem });
        }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.problems.len() + self.left_out
    }

    /// In the order of the file.
    pub(super) fn finish(mut self, file: &str, what: &str) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        if self.left_out > 0 {
            let text = format!("{} more {what} of this file are left out", self.left_out);
            self.problems.push(Problem::of_file(file, text));
        }
        self.problems
    }
}

/// A text that quotes a file may be as long as the file.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_BYTES {
        text.truncate(text.floor_char_boundary(MAX_BYTES));
        text.push('…');
    }
    text
}
