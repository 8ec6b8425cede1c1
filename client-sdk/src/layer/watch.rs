//! Which part of a response ends a call: the link between a classifier and the type of the response.

use std::error::Error as StdError;

use crate::classify::{Classify, FnClassifier, GrpcClassifier, HttpClassifier, Verdict};
use crate::guard::CallGuard;
use crate::layer::body::{Ending, GuardedBody};

/// What an attempt holds while it is in flight; it settles itself when dropped.
#[derive(Debug, Default)]
pub struct Held(pub(crate) CallGuard);

/// A classifier that layers can use: it knows how far a response has to be followed.
pub trait Watch<Res, E>: Classify<Res, E> + Clone {
    /// What the layer returns in place of `Res`.
    type Response;

    /// Hands `response` on such that `held` is settled when the call is over; `verdict` is what its head
    /// says.
    fn watch(&self, response: Res, verdict: Verdict, held: Held) -> Self::Response;
}

/// Settles a call whose end is the end of its head.
pub(crate) fn settle(mut held: Held, verdict: Verdict, least: std::time::Duration) {
    held.0.head(Some(&verdict));
    held.0.settle(verdict, least);
}

impl<B, E: StdError + 'static> Watch<http::Response<B>, E> for GrpcClassifier {
    type Response = http::Response<GuardedBody<B>>;

    fn watch(&self, response: http::Response<B>, verdict: Verdict, mut held: Held) -> Self::Response {
        let least = Classify::<http::Response<B>, E>::min_attributable(self);
        held.0.head(Some(&verdict));
        if self.head(response.status(), response.headers()).is_some() {
            held.0.settle(verdict, least);
            return response.map(GuardedBody::free);
        }
        response.map(|body| GuardedBody::held(body, held.0, Ending::Grpc(*self), least))
    }
}

impl<B, E: StdError + 'static> Watch<http::Response<B>, E> for HttpClassifier {
    type Response = http::Response<GuardedBody<B>>;

    fn watch(&self, response: http::Response<B>, verdict: Verdict, mut held: Held) -> Self::Response {
        let least = Classify::<http::Response<B>, E>::min_attributable(self);
        held.0.head(Some(&verdict));
        response.map(|body| GuardedBody::held(body, held.0, Ending::Head(verdict), least))
    }
}

#[cfg(feature = "reqwest")]
impl<E> Watch<reqwest::Response, E> for crate::classify::ReqwestClassifier
where
    crate::classify::ReqwestClassifier: Classify<reqwest::Response, E>,
{
    type Response = reqwest::Response;

    fn watch(&self, response: reqwest::Response, verdict: Verdict, held: Held) -> reqwest::Response {
        settle(held, verdict, Classify::<reqwest::Response, E>::min_attributable(self));
        response
    }
}

impl<Res, E, F> Watch<Res, E> for FnClassifier<F>
where
    FnClassifier<F>: Classify<Res, E> + Clone,
{
    type Response = Res;

    fn watch(&self, response: Res, verdict: Verdict, held: Held) -> Res {
        settle(held, verdict, self.min_attributable());
        response
    }
}
