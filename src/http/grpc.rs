//! The words of gRPC over HTTP/2: what makes a request a call, how long it may take, and how its end is told.
//!
//! Answers for the gRPC protocol's "Requests" and "Responses" (PROTOCOL-HTTP2) and its list of status codes. A call's outcome stands in
//! the trailers, not in the status; an answer that is nothing but an outcome is "Trailers-Only". Refuses to know why a call failed.

use std::fmt::Write as _;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

/// The field that holds a call's outcome.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// The media type of answers that the gateway makes.
pub const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const MEDIA_TYPE_TEXT: &[u8] = b"application/grpc";

/// No call is timed for longer: the field can say eleven thousand years.
const LONGEST: Duration = Duration::from_hours(365 * 24);

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// Adds this outcome, and a word on it, to trailers or to the head of a Trailers-Only answer.
    pub fn tell(self, message: &str, fields: &mut HeaderMap) {
        fields.insert(STATUS, HeaderValue::from(self as u16));
        fields.insert(MESSAGE, escaped(message));
    }
}

/// The number of the outcome that `fields` tell of; one that is no code is UNKNOWN, as clients take it.
pub fn told(fields: &HeaderMap) -> Option<usize> {
    let number = fields.get(STATUS)?.to_str().ok()?.parse().ok();
    Some(number.filter(|number| *number <= Code::Unauthenticated as usize).unwrap_or(Code::Unknown as usize))
}

/// Whether `fields` tell of a call that went well.
pub fn is_success(fields: &HeaderMap) -> bool {
    told(fields) == Some(Code::Ok as usize)
}

/// Whether a message is gRPC's by its media type: `application/grpc`, alone or with a `+proto` or parameters. gRPC-Web is another
/// protocol, whose outcome is in the body.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else { return false };
    let Some((kind, rest)) = value.as_bytes().split_at_checked(MEDIA_TYPE_TEXT.len()) else { return false };
    kind.eq_ignore_ascii_case(MEDIA_TYPE_TEXT) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// `grpc-timeout` is not one number of at most eight digits and its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("grpc-timeout is malformed")]
pub struct BadTimeout;

/// How long a call may take, if its client says so.
pub fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, BadTimeout> {
    let mut lines = headers.get_all(TIMEOUT).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(BadTimeout);
    }
    parse(line.as_bytes()).map(Some).ok_or(BadTimeout)
}

fn parse(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let span = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(span.min(LONGEST))
}

/// Percent-encoding as the protocol has it for `grpc-message`: everything but visible ASCII and space, and the percent sign itself.
fn escaped(message: &str) -> HeaderValue {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            text.push(char::from(byte));
        } else {
            write!(text, "%{byte:02X}").expect("a string takes any text");
        }
    }
    HeaderValue::from_str(&text).expect("visible ASCII and spaces")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(name: HeaderName, value: &[u8]) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_bytes(value).expect("a legal value"))])
    }

    #[test]
    fn a_call_is_known_by_its_media_type() {
        for (value, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("Application/GRPC+json", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/grpcx", false),
            ("application/json", false),
            ("", false),
        ] {
            assert_eq!(is_grpc(&with(CONTENT_TYPE, value.as_bytes())), is, "{value}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn a_timeout_is_at_most_eight_digits_and_a_unit() {
        for (value, span) in [
            ("1H", Duration::from_hours(1)),
            ("2M", Duration::from_mins(2)),
            ("10S", Duration::from_secs(10)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("5n", Duration::from_nanos(5)),
            ("0S", Duration::ZERO),
            ("00000001S", Duration::from_secs(1)),
            ("99999999H", LONGEST),
        ] {
            assert_eq!(timeout(&with(TIMEOUT, value.as_bytes())), Ok(Some(span)), "{value}");
        }
        for value in ["", "S", "1", "1s", "1h", "+1S", "-1S", "1.5S", "1 S", " 1S", "123456789S", "1SS", "\u{661}S"] {
            assert_eq!(timeout(&with(TIMEOUT, value.as_bytes())), Err(BadTimeout), "{value}");
        }
        let mut twice = with(TIMEOUT, b"1S");
        twice.append(TIMEOUT, HeaderValue::from_static("1S"));
        assert_eq!(timeout(&twice), Err(BadTimeout));
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_message_is_escaped_where_a_field_could_not_hold_it() {
        assert_eq!(escaped("plain text, 1~2"), "plain text, 1~2");
        assert_eq!(escaped("100% \u{fc}\r\n\0"), "100%25 %C3%BC%0D%0A%00");
    }

    #[test]
    fn what_is_told_can_be_read_back() {
        let mut fields = HeaderMap::new();
        assert_eq!(told(&fields), None);
        Code::Unauthenticated.tell("a bearer token is needed", &mut fields);
        assert_eq!(told(&fields), Some(16));
        assert_eq!(fields[MESSAGE], "a bearer token is needed");
        for odd in ["17", "-1", "x", ""] {
            assert_eq!(told(&with(STATUS, odd.as_bytes())), Some(2), "{odd}");
        }
    }

    proptest! {
        #[test]
        fn no_timeout_panics_and_none_is_longer_than_the_longest(text in proptest::collection::vec(any::<u8>(), 0..12)) {
            prop_assert!(parse(&text).is_none_or(|span| span <= LONGEST));
        }

        #[test]
        fn any_message_becomes_a_legal_value_that_decodes_to_itself(message in ".*") {
            let value = escaped(&message);
            let back = percent_encoding::percent_decode(value.as_bytes()).decode_utf8().expect("UTF-8").into_owned();
            prop_assert_eq!(back, message);
        }
    }
}
