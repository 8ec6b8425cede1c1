//! gRPC over HTTP/2, unary and over one stream, with frames that are ready before they are needed.

mod frame;

use anyhow::{Result, bail, ensure};
use prost::encoding::{encode_varint, encoded_len_varint};

use self::frame::{FIRST_WINDOW, HEAD, Head, LARGEST_WINDOW, Requests};
use super::ring::Ring;
use super::{Call, Outcome, Sink, Wire, answer};
use crate::load::message::Template;
use crate::load::scenario::{Api, Scenario};

const RLS: &str = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
const CHECK: &str = "/tollgate.v1.RateLimiter/Check";
const CHECK_STREAM: &str = "/tollgate.v1.RateLimiter/CheckStream";
/// What a message has before it: not compressed, and four bytes of length.
const PREFIX: usize = 5;
/// Most checks in one message of a stream.
const MOST_ITEMS: usize = 1024;
/// Largest frame that every server takes (RFC 9113 §4.2).
const LARGEST_FRAME: usize = 16_384;

/// A connection.
pub struct Http2 {
    api: Api,
    template: Template,
    requests: Requests,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    /// Unary: call n has stream 2n + 1. Stream: call n has id n.
    calls: Ring,
    begun: bool,
    /// Items that wait for the next message of the stream.
    items: Vec<u8>,
    waiting: usize,
    /// Bytes that the server lets us send: to the connection, and on the one stream.
    window: i64,
    stream_window: i64,
    first_stream_window: i64,
    /// Bytes that came since we last opened the window.
    received: u32,
    /// A message of the stream that is not complete.
    message: Vec<u8>,
    in_flight: usize,
    leaving: bool,
}

impl Http2 {
    /// Asks as the scenario says. `authority` is the server's name.
    #[must_use]
    pub fn new(scenario: &Scenario, authority: &str, template: Template) -> Http2 {
        let path = match scenario.api {
            Api::Check => CHECK,
            Api::CheckStream => CHECK_STREAM,
            _ => RLS,
        };
        // one stream lives as long as the connection
        let timeout =
            if scenario.api == Api::CheckStream { 86_400_000 } else { scenario.patience().as_millis() };
        Http2 {
            api: scenario.api,
            template,
            requests: frame::requests(path, authority, &format!("{timeout}m")),
            outgoing: frame::preface(),
            incoming: Vec::new(),
            calls: Ring::default(),
            begun: false,
            items: Vec::new(),
            waiting: 0,
            window: i64::from(FIRST_WINDOW),
            stream_window: i64::from(FIRST_WINDOW),
            first_stream_window: i64::from(FIRST_WINDOW),
            received: 0,
            message: Vec::new(),
            in_flight: usize::try_from(scenario.in_flight).unwrap_or(usize::MAX),
            leaving: false,
        }
    }

    fn headers(&mut self, stream: u32) {
        let block = if self.begun { &self.requests.later } else { &self.requests.first };
        frame::head(&mut self.outgoing, block.len(), frame::HEADERS, frame::END_HEADERS, stream);
        self.outgoing.extend_from_slice(block);
        self.begun = true;
    }

    fn prefix(&mut self, length: usize) {
        self.outgoing.push(0);
        self.outgoing.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    }

    fn item(&mut self, id: u64, key: u64) {
        let check = self.template.len();
        let id_length = if id == 0 { 0 } else { 1 + encoded_len_varint(id) };
        let length = id_length + 1 + encoded_len_varint(check as u64) + check;
        self.items.push(0x0a); // CheckStreamRequest.items
        encode_varint(length as u64, &mut self.items);
        if id != 0 {
            self.items.push(0x08); // CheckItem.id
            encode_varint(id, &mut self.items);
        }
        self.items.push(0x12); // CheckItem.check
        encode_varint(check as u64, &mut self.items);
        self.template.write(key, &mut self.items);
        self.waiting += 1;
    }

    /// One message with all that wait, in as many frames as it takes.
    fn send_items(&mut self) {
        if self.waiting == 0 {
            return;
        }
        if !self.begun {
            self.headers(1);
        }
        let items = std::mem::take(&mut self.items);
        self.waiting = 0;
        let mut message = Vec::with_capacity(PREFIX + items.len());
        message.push(0);
        message.extend_from_slice(&u32::try_from(items.len()).unwrap_or(u32::MAX).to_be_bytes());
        message.extend_from_slice(&items);
        for part in message.chunks(LARGEST_FRAME) {
            frame::head(&mut self.outgoing, part.len(), frame::DATA, 0, 1);
            self.outgoing.extend_from_slice(part);
        }
        self.spend(message.len());
    }

    fn spend(&mut self, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.window -= bytes;
        self.stream_window -= bytes;
    }

    fn frame(&mut self, head: Head, payload: &[u8], answers: &mut Sink<'_>) -> Result<()> {
        match head.kind {
            frame::DATA => self.data(head, payload, answers),
            frame::HEADERS => self.end(head, answers),
            frame::RST_STREAM => self.reset(head.stream, answers),
            frame::SETTINGS => self.settings(head, payload),
            frame::PING if head.flags & frame::ACK == 0 => {
                frame::head(&mut self.outgoing, payload.len(), frame::PING, frame::ACK, 0);
                self.outgoing.extend_from_slice(payload);
                Ok(())
            }
            frame::GOAWAY => {
                self.leaving = true;
                Ok(())
            }
            frame::WINDOW_UPDATE => {
                let Some((by, _)) = payload.split_first_chunk() else { bail!("a short WINDOW_UPDATE") };
                let by = i64::from(u32::from_be_bytes(*by) & LARGEST_WINDOW);
                let window = if head.stream == 0 { &mut self.window } else { &mut self.stream_window };
                *window += by;
                Ok(())
            }
            // what is in them is not read
            frame::CONTINUATION => Ok(()),
            _ => Ok(()),
        }
    }

    fn data(&mut self, head: Head, payload: &[u8], answers: &mut Sink<'_>) -> Result<()> {
        ensure!(head.flags & frame::PADDED == 0, "padded answers are not expected");
        self.received += u32::try_from(payload.len())?;
        if self.received > 1 << 28 {
            frame::window_update(&mut self.outgoing, 0, self.received);
            if self.api == Api::CheckStream {
                frame::window_update(&mut self.outgoing, 1, self.received);
            }
            self.received = 0;
        }
        if self.api == Api::CheckStream {
            self.message.extend_from_slice(payload);
            return self.messages(answers);
        }
        if payload.is_empty() {
            return Ok(());
        }
        let length = message_length(payload)?;
        ensure!(payload.len() == PREFIX + length, "an answer in more than one frame is not expected");
        let message = &payload[PREFIX..];
        let outcome = if self.api == Api::Rls { answer::rls(message) } else { answer::check(message) };
        settle(&mut self.calls, u64::from(head.stream / 2), outcome, answers);
        Ok(())
    }

    fn messages(&mut self, answers: &mut Sink<'_>) -> Result<()> {
        let mut read = 0;
        while self.message.len() - read >= PREFIX {
            let rest = &self.message[read..];
            let length = message_length(rest)?;
            let Some(message) = rest.get(PREFIX..PREFIX + length) else { break };
            // a message without answers asks us to leave
            self.leaving |= message.is_empty();
            answer::stream(message, |id, outcome| settle(&mut self.calls, id, outcome, answers))?;
            read += PREFIX + length;
        }
        self.message.drain(..read);
        Ok(())
    }

    /// Headers that end a stream which has no answer: an error.
    fn end(&mut self, head: Head, answers: &mut Sink<'_>) -> Result<()> {
        if head.flags & frame::END_STREAM == 0 {
            return Ok(());
        }
        ensure!(self.api != Api::CheckStream, "the server has ended the stream");
        settle(&mut self.calls, u64::from(head.stream / 2), Outcome::Failed, answers);
        Ok(())
    }

    fn reset(&mut self, stream: u32, answers: &mut Sink<'_>) -> Result<()> {
        ensure!(self.api != Api::CheckStream, "the server has reset the stream");
        settle(&mut self.calls, u64::from(stream / 2), Outcome::Failed, answers);
        Ok(())
    }

    fn settings(&mut self, head: Head, payload: &[u8]) -> Result<()> {
        if head.flags & frame::ACK != 0 {
            return Ok(());
        }
        ensure!(payload.len().is_multiple_of(6), "SETTINGS of {} bytes", payload.len());
        for setting in payload.chunks_exact(6) {
            let [a, b, c, d, e, f] = *setting else { bail!("a short setting") };
            let value = u32::from_be_bytes([c, d, e, f]);
            match u16::from_be_bytes([a, b]) {
                frame::INITIAL_WINDOW_SIZE => {
                    self.stream_window += i64::from(value) - self.first_stream_window;
                    self.first_stream_window = i64::from(value);
                }
                frame::MAX_CONCURRENT_STREAMS if self.api != Api::CheckStream => {
                    self.in_flight = self.in_flight.min(usize::try_from(value)?);
                }
                _ => {}
            }
        }
        frame::head(&mut self.outgoing, 0, frame::SETTINGS, frame::ACK, 0);
        Ok(())
    }
}

/// Tells the outcome of a call that has none yet.
fn settle(calls: &mut Ring, number: u64, outcome: Outcome, answers: &mut Sink<'_>) {
    if let Some(call) = calls.take(number) {
        answers(call, outcome);
    }
}

fn message_length(bytes: &[u8]) -> Result<usize> {
    let Some(([compressed, length @ ..], _)) = bytes.split_first_chunk::<PREFIX>() else {
        bail!("an answer of {} bytes", bytes.len());
    };
    ensure!(*compressed == 0, "a compressed answer");
    Ok(usize::try_from(u32::from_be_bytes(*length))?)
}

impl Wire for Http2 {
    fn room(&self) -> usize {
        if self.leaving {
            return 0;
        }
        let free = self.in_flight.saturating_sub(self.calls.len());
        let each = i64::try_from(self.template.len() + 32).unwrap_or(i64::MAX);
        let (window, waiting) = match self.api {
            Api::CheckStream => (self.window.min(self.stream_window), self.items.len()),
            _ => (self.window, 0),
        };
        let bytes = window - i64::try_from(waiting).unwrap_or(i64::MAX);
        free.min(usize::try_from(bytes / each).unwrap_or(0))
    }

    fn open(&self) -> usize {
        self.calls.len()
    }

    fn ask(&mut self, call: Call) {
        let number = self.calls.push(call);
        if self.api == Api::CheckStream {
            self.item(number, call.key);
            if self.waiting == MOST_ITEMS {
                self.send_items();
            }
            return;
        }
        let stream = u32::try_from(2 * number + 1).unwrap_or(u32::MAX);
        self.headers(stream);
        let length = self.template.len();
        frame::head(&mut self.outgoing, PREFIX + length, frame::DATA, frame::END_STREAM, stream);
        self.prefix(length);
        self.template.write(call.key, &mut self.outgoing);
        self.window -= i64::try_from(PREFIX + length).unwrap_or(i64::MAX);
        // numbers of streams end at 2^31; long before that the connection is replaced
        self.leaving |= number >= 1 << 29;
    }

    fn outgoing(&mut self) -> &mut Vec<u8> {
        self.send_items();
        &mut self.outgoing
    }

    fn read(&mut self, bytes: &[u8], answers: &mut Sink<'_>) -> Result<()> {
        // most reads begin and end with whole frames: only what is left over is kept
        let kept = std::mem::take(&mut self.incoming);
        let joined;
        let mut rest = if kept.is_empty() {
            bytes
        } else {
            joined = [kept.as_slice(), bytes].concat();
            &joined
        };
        while let Some(head) = Head::read(rest) {
            let Some(payload) = rest.get(HEAD..HEAD + head.length) else { break };
            self.frame(head, payload, answers)?;
            rest = &rest[HEAD + head.length..];
        }
        self.incoming = rest.to_vec();
        Ok(())
    }

    fn lost(&mut self, answers: &mut Sink<'_>) {
        for call in self.calls.drain() {
            answers(call, Outcome::Failed);
        }
    }

    fn is_leaving(&self) -> bool {
        self.leaving
    }
}
