//! Preflights: whether a browser may send what a script of another origin wants to (Fetch standard, section 3.3.2).
//!
//! Answered here, before anybody is asked who sends it: a browser sends no token with a preflight. Owns which route answers: the one that
//! the request to come would take. Refuses to know what is allowed; `http::cors` does.

use std::sync::Arc;

use http::header::HeaderMap;
use http::{Response, StatusCode, request};

use super::failure::Failure;
use crate::http::{Body, Target, cors};
use crate::route::Router;
use crate::snapshot::Route;

/// The route that a preflight asks about, if the gateway answers for it. What else is asked by OPTIONS goes the way of every request: to an
/// application that answers for itself, say.
pub(super) fn asked_about<'r>(
    router: &'r Router<Arc<Route>>,
    target: &Target,
    head: &request::Parts,
) -> Option<&'r Arc<Route>> {
    let method = cors::preflight_method(&head.method, &head.headers)?;
    router.find(target.host(), target.path(), &method).ok().filter(|route| route.cors.is_some())
}

/// What the route allows; whom its answers may be shown to is said in all of them.
pub(super) fn answer(route: &Route, asked: &HeaderMap) -> Result<Response<Body>, Failure> {
    let cors = route.cors.as_ref().filter(|cors| cors.admitted(asked).is_some()).ok_or(Failure::OriginRefused)?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    cors.permit(response.headers_mut());
    Ok(response)
}
