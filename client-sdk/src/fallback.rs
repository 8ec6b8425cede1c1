//! What to answer when a call has no result: a cached value, a default, another target.
//!
//! The outermost policy. It is not part of a [`Pipeline`](crate::Pipeline), whose parts do not know the type
//! of a result, but wraps one: `fallback.call(pipeline.call(..))`.

use std::fmt;

use crate::error::Error;

/// Answers in place of a call that failed.
pub struct Fallback<F, W> {
    answer: F,
    when: W,
}

impl<F, W> fmt::Debug for Fallback<F, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fallback")
    }
}

/// For every error but the call's own: the target has not failed this call, it was not asked or not awaited.
fn not_inner<E>(error: &Error<E>) -> bool {
    !matches!(error, Error::Inner(_))
}

impl<F, E> Fallback<F, fn(&Error<E>) -> bool> {
    /// Answers by `answer` when a policy rejected the call or ended it; the call's own errors pass.
    pub fn new<T, R>(answer: F) -> Fallback<F, fn(&Error<E>) -> bool>
    where
        F: Fn(Error<E>) -> R,
        R: Future<Output = Result<T, Error<E>>>,
    {
        Fallback { answer, when: not_inner }
    }
}

impl<F, W> Fallback<F, W> {
    /// Answers whenever `when` says so.
    pub fn when<E, V: Fn(&Error<E>) -> bool>(self, when: V) -> Fallback<F, V> {
        Fallback { answer: self.answer, when }
    }

    /// Awaits `call`, and answers in its place if it fails in a way that is to be covered up.
    ///
    /// # Errors
    /// The call's, if it is not to be covered up, else the answer's.
    pub async fn call<T, E, R>(&self, call: impl Future<Output = Result<T, Error<E>>>) -> Result<T, Error<E>>
    where
        F: Fn(Error<E>) -> R,
        R: Future<Output = Result<T, Error<E>>>,
        W: Fn(&Error<E>) -> bool,
    {
        match call.await {
            Err(error) if (self.when)(&error) => {
                tracing::debug!(%error, "fallback");
                (self.answer)(error).await
            }
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn covers_up_rejections_and_what_it_is_told_to() {
        let rejected = async || Err::<u8, Error<&str>>(Error::limit_exceeded(1));
        let failed = async || Err::<u8, Error<&str>>(Error::Inner("down"));
        let cached = Fallback::new(|_: Error<&str>| async { Ok(7) });
        assert_eq!(cached.call(rejected()).await.unwrap(), 7);
        assert!(cached.call(failed()).await.is_err());
        assert_eq!(cached.call(async { Ok(1) }).await.unwrap(), 1);
        let all = cached.when(|_: &Error<&str>| true);
        assert_eq!(all.call(failed()).await.unwrap(), 7);
    }
}
