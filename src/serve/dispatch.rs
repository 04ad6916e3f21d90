//! The data path in one function: one generation, one target, one route, one permit, one action.

use std::time::Instant;

use http::Response;

use super::act::act;
use super::context::Exchange;
use super::failure::Failure;
use super::{preflight, redirect, throttle};
use crate::http::Body;

/// Serves one request. The `Permit` is taken by value: without one, nothing is forwarded, read or answered.
pub(super) async fn dispatch(mut exchange: Exchange) -> Result<Response<Body>, Failure> {
    let snapshot = exchange.connection.worker.live.current(); // one generation per request
    let client = exchange.admit(&snapshot); // nothing a client says can speak for us
    exchange.note_taste(&snapshot.pages);
    let target = exchange.target(&client, &snapshot.limits)?;
    exchange.notes.write(|story| story.target = Some(target.clone()));
    exchange.check_direction(&target, &snapshot.boundary)?;
    if let Some(port) = exchange.connection.to_https {
        snapshot.router.admits(target.host())?;
        return Ok(redirect::to_https(&target, port));
    }
    if let Some(asked) = preflight::asked_about(&snapshot.router, &target, &exchange.head) {
        exchange.take_route(asked);
        return preflight::answer(asked, &exchange.head.headers);
    }
    let found = snapshot.router.find(target.host(), target.path(), &exchange.head.method)?;
    exchange.take_route(found);
    if let Some(pending) = throttle::admit_sender(found, &exchange, &client)? {
        pending.decided().await?; // before a token costs anything
    }
    let begun = (!found.policy.is_public()).then(Instant::now);
    let permit = snapshot.authority.authorize(&found.policy, &exchange.asking(&target, &client)).await;
    exchange.notes.write(|story| story.auth = begun.map(|begun| begun.elapsed()));
    let permit = permit.map_err(|denied| {
        found.decisions.denied(denied.reason());
        exchange.refused(denied, &found.policy, &target, &client)
    })?;
    found.decisions.permitted();
    if let Some(pending) = throttle::admit_holder(found, &exchange, &client, &permit)? {
        pending.decided().await?;
    }
    act(found, permit, client, target, exchange, &snapshot).await
}
