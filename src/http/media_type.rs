//! What a message says it is, where that changes how it is passed on.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

const EVENT_STREAM: &[u8] = b"text/event-stream";

/// Whether a message is a stream of events, each of which is worth something only when it comes (HTML, section 9.2).
pub fn is_event_stream(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let media_type = media_type.and_then(|value| value.split(|byte| *byte == b';').next());
    media_type.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(EVENT_STREAM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_by_their_media_type_whatever_its_case_and_parameters() {
        let says = |value: &'static str| {
            is_event_stream(&HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        assert!(says("text/event-stream") && says("Text/Event-Stream ; charset=utf-8"));
        assert!(!says("text/event-streams") && !says("application/json; a=text/event-stream"));
        assert!(!is_event_stream(&HeaderMap::new()));
    }
}
