//! Connections that write questions and read answers, and do nothing else: the generator has to be quicker than
//! the server.

mod answer;
mod http1;
mod http2;
mod ring;

use anyhow::Result;

pub use self::http1::Http1;
pub use self::http2::Http2;
use super::message::Template;
use super::scenario::{Api, Scenario};

/// What an answer says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Go on.
    Admitted,
    /// Do not.
    Refused,
    /// No decision.
    Failed,
}

/// A question under way.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Call {
    /// Nanoseconds from the start at which it was meant to leave.
    pub meant: u64,
    /// Nanoseconds from the start at which it left.
    pub sent: u64,
    /// Its key.
    pub key: u64,
}

/// Receives answers.
pub type Sink<'a> = dyn FnMut(Call, Outcome) + 'a;

/// The bytes of a connection, without the connection.
pub trait Wire: Send {
    /// How many more questions it may have open now.
    fn room(&self) -> usize;

    /// How many are open.
    fn open(&self) -> usize;

    /// Puts a question into what is to be written. There has to be room.
    fn ask(&mut self, call: Call);

    /// What is to be written. Whoever writes drains it.
    fn outgoing(&mut self) -> &mut Vec<u8>;

    /// Reads what has come.
    ///
    /// # Errors
    /// The server says something that we do not understand, or goes.
    fn read(&mut self, bytes: &[u8], answers: &mut Sink<'_>) -> Result<()>;

    /// The questions that have no answer; the connection is lost.
    fn lost(&mut self, answers: &mut Sink<'_>);

    /// Whether the server has asked to ask no more here.
    fn is_leaving(&self) -> bool;
}

/// A new connection's wire.
#[must_use]
pub fn wire(scenario: &Scenario, authority: &str) -> Box<dyn Wire> {
    let template = Template::of(scenario.api, &scenario.request);
    match scenario.api {
        Api::Rls | Api::Check | Api::CheckStream => Box::new(Http2::new(scenario, authority, template)),
        Api::Json => Box::new(Http1::new("/json", authority, template)),
        Api::HttpCheck => Box::new(Http1::new("/v1/check", authority, template)),
    }
}
