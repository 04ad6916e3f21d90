//! Pages that a browser is shown in place of the gateway's own words.
//!
//! A page changes what is said of a failure and nothing else: its status, its challenge and when to come back stay. Refuses to know
//! why a failure came about; nothing of the request gets into a page.

use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue, VARY};

use super::ErrorPage;
use crate::http::Body;

const ACCEPT: HeaderValue = HeaderValue::from_static("Accept");

/// Puts the page for its status into a failure's answer, if there is one and the client takes it. Where there is one the answer depends
/// on what the client takes, whatever that is (RFC 9110 section 12.5.5).
pub(super) fn show(pages: &[ErrorPage], takes_page: bool, answer: &mut Response<Body>) {
    let status = answer.status().as_u16();
    let Some(page) = pages.iter().find(|page| page.status == status) else { return };
    answer.headers_mut().append(VARY, ACCEPT);
    if takes_page {
        answer.headers_mut().insert(CONTENT_TYPE, page.media_type.clone());
        *answer.body_mut() = Body::full(page.body.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FilesError;
    use crate::serve::failure::Failure;
    use crate::serve::respond::rescue;
    use crate::upstream::UpstreamFailure;

    fn shown(failure: &Failure, takes_page: bool) -> Response<Body> {
        let page = |status, text: &'static str| ErrorPage {
            status,
            media_type: HeaderValue::from_static("text/html; charset=utf-8"),
            body: text.into(),
        };
        let mut answer = rescue(failure);
        show(&[page(405, "not so"), page(503, "later")], takes_page, &mut answer);
        answer
    }

    #[test]
    fn a_page_changes_what_is_said_and_nothing_else() {
        let answer = shown(&Failure::Upstream(UpstreamFailure::QueueTimeout), true);
        let fields = ["content-type", "retry-after", "vary"].map(|name| answer.headers()[name].clone());
        assert_eq!(
            (answer.status().as_u16(), fields),
            (503, ["text/html; charset=utf-8", "1", "Accept"].map(HeaderValue::from_static))
        );
        assert_eq!(http_body::Body::size_hint(answer.body()).exact(), Some(5));
        let answer = shown(&Failure::Files(FilesError::MethodNotAllowed), true);
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["allow"]),
            (405, &HeaderValue::from_static("GET, HEAD"))
        );
    }

    #[test]
    fn who_takes_no_page_gets_what_it_would_and_is_told_that_there_is_another() {
        let answer = shown(&Failure::ReadOnly, false);
        assert_eq!(
            (&answer.headers()["content-type"], &answer.headers()["vary"]),
            (&HeaderValue::from_static("application/problem+json"), &ACCEPT)
        );
    }

    #[test]
    fn a_status_without_a_page_is_answered_as_ever() {
        let answer = shown(&Failure::BodyTooLarge, true);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
        assert!(!answer.headers().contains_key("vary"));
    }
}
