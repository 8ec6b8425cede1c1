//! While a message is under way, the checks after it gather until it is answered.
//!
//! The answer is the clock: whoever was answered by one message asks again in the next, so that messages are as
//! large as there are callers, and a server is woken once for all of them. What a check waits is the rest of a
//! round trip. Servers that take longer than [`LONGEST`] are far away, or busy: then nothing waits.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::Context;
use std::time::Duration;

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep, sleep_until};

/// The longest that a check gathers company. Tokio's timer rounds it up to whole milliseconds; it only runs out
/// if an answer takes much longer than usual.
const LONGEST: Duration = Duration::from_millis(1);
/// The usual round trip follows a new one by this part.
const WEIGHT: u64 = 8;
/// A round trip counts as no longer than this.
const SLOWEST: Duration = Duration::from_millis(8);

/// Messages that went and came, as the writer and the reader of a stream tell each other.
#[derive(Debug)]
pub(super) struct Rounds {
    began: Instant,
    /// When the message went whose answer is timed, in microseconds from `began` on; 0 if none is.
    timed: AtomicU64,
    /// How long a round trip usually takes, in microseconds.
    usual: AtomicU64,
    /// Messages that came.
    heard: AtomicU64,
    writer: AtomicWaker,
}

impl Default for Rounds {
    fn default() -> Rounds {
        Rounds {
            began: Instant::now(),
            timed: AtomicU64::new(0),
            usual: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            writer: AtomicWaker::new(),
        }
    }
}

impl Rounds {
    fn micros(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    /// A message came, or none will: what gathers may go.
    pub(super) fn heard(&self) {
        let timed = self.timed.swap(0, Relaxed);
        if timed > 0 {
            let slowest = u64::try_from(SLOWEST.as_micros()).unwrap_or(u64::MAX);
            let took = (self.micros() - timed).min(slowest);
            let usual = self.usual.load(Relaxed);
            self.usual.store((usual * (WEIGHT - 1) + took) / WEIGHT, Relaxed);
        }
        self.heard.fetch_add(1, Relaxed);
        self.wake();
    }

    /// Lets the writer look again.
    pub(super) fn wake(&self) {
        self.writer.wake();
    }

    fn is_near(&self) -> bool {
        u128::from(self.usual.load(Relaxed)) < LONGEST.as_micros()
    }
}

/// What the writer knows of the last message that it sent.
#[derive(Debug, Default)]
pub(super) struct Hold {
    /// Messages that had come when it went.
    heard: u64,
    /// When what gathers goes, whatever has come.
    until: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Hold {
    /// A message goes.
    pub(super) fn sent(&mut self, rounds: &Rounds) {
        self.heard = rounds.heard.load(Relaxed);
        self.until = None;
        // the answer to the first of several is timed
        let _timed = rounds.timed.compare_exchange(0, rounds.micros(), Relaxed, Relaxed);
    }

    /// Whether to wait for the answer to the last message, if there are any who `asked` and are not answered.
    /// The writer is woken when there is none to wait for any more.
    pub(super) fn holds(
        &mut self,
        rounds: &Rounds,
        asked: impl FnOnce() -> bool,
        cx: &mut Context<'_>,
    ) -> bool {
        if !rounds.is_near() {
            return false;
        }
        rounds.writer.register(cx.waker());
        if rounds.heard.load(Relaxed) != self.heard || !asked() {
            return false;
        }
        let until = *self.until.get_or_insert_with(|| Instant::now() + LONGEST);
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        timer.as_mut().poll(cx).is_pending()
    }
}
