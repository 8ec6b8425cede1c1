//! `/console/events`: server-sent events. First `state` with everything, then `now` each second.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};
use tokio::sync::watch::Receiver;

use super::{Console, MOST_VIEWERS};
use crate::admin::Shared;

pub(super) async fn show(State(served): Shared) -> Response {
    let console = &served.admin.console;
    if console.news.receiver_count() >= MOST_VIEWERS {
        let why = format!("{MOST_VIEWERS} viewers are here already\n");
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], why).into_response();
    }
    let news = console.news.subscribe();
    let whole = console.whole(&served.admin.writes).await;
    let headers = [(header::CACHE_CONTROL, "no-store")];
    (headers, Sse::new(events(console.clone(), news, whole))).into_response()
}

/// Ends with the viewer, which is noticed at the next event.
fn events(
    console: Arc<Console>,
    news: Receiver<Arc<str>>,
    whole: String,
) -> impl Stream<Item = Result<Event, Infallible>> {
    unfold((console, news, Some(whole)), async |(console, mut news, mut whole)| {
        if let Some(whole) = whole.take() {
            let event = Event::default().event("state").retry(super::SECOND).data(whole);
            return Some((Ok(event), (console, news, None)));
        }
        news.changed().await.ok()?;
        let now = news.borrow_and_update().clone();
        Some((Ok(Event::default().event("now").data(now)), (console, news, None)))
    })
}
