//! HTTP/1.1: one question at a time on each connection.

use anyhow::{Context, Result, ensure};

use super::{Call, Outcome, Sink, Wire};
use crate::load::message::Template;

/// A connection.
#[derive(Debug)]
pub struct Http1 {
    head: Vec<u8>,
    template: Template,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    call: Option<Call>,
    leaving: bool,
}

impl Http1 {
    /// Asks with `POST path`.
    #[must_use]
    pub fn new(path: &str, authority: &str, template: Template) -> Http1 {
        let length = template.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: {authority}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n"
        );
        Http1 {
            head: head.into_bytes(),
            template,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            call: None,
            leaving: false,
        }
    }

    /// The status and the length of the answer, if all of it is here.
    fn complete(&mut self) -> Result<Option<(u16, usize)>> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(&self.incoming)? else { return Ok(None) };
        let status = response.code.context("no status")?;
        let find = |name: &str| {
            let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            header.map(|header| String::from_utf8_lossy(header.value).into_owned())
        };
        let length: usize = find("content-length").context("an answer without content-length")?.parse()?;
        self.leaving |= find("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        Ok((self.incoming.len() >= head + length).then_some((status, head + length)))
    }
}

impl Wire for Http1 {
    fn room(&self) -> usize {
        usize::from(self.call.is_none() && !self.leaving)
    }

    fn open(&self) -> usize {
        usize::from(self.call.is_some())
    }

    fn ask(&mut self, call: Call) {
        self.outgoing.extend_from_slice(&self.head);
        self.template.write(call.key, &mut self.outgoing);
        self.call = Some(call);
    }

    fn outgoing(&mut self) -> &mut Vec<u8> {
        &mut self.outgoing
    }

    fn read(&mut self, bytes: &[u8], answers: &mut Sink<'_>) -> Result<()> {
        self.incoming.extend_from_slice(bytes);
        let Some((status, length)) = self.complete()? else { return Ok(()) };
        self.incoming.drain(..length);
        let call = self.call.take().context("an answer that nobody asked for")?;
        ensure!(self.incoming.is_empty(), "more than one answer to one question");
        answers(
            call,
            match status {
                200 => Outcome::Admitted,
                429 => Outcome::Refused,
                _ => Outcome::Failed,
            },
        );
        Ok(())
    }

    fn lost(&mut self, answers: &mut Sink<'_>) {
        if let Some(call) = self.call.take() {
            answers(call, Outcome::Failed);
        }
    }

    fn is_leaving(&self) -> bool {
        self.leaving
    }
}
