//! Media types worth compressing (RFC 9110 section 8.3.1). Pure.

/// What stands in the configuration by default. Images, films, archives and web fonts are compressed by their own formats already.
const USUAL: [&str; 17] = [
    "text/*",
    "application/json",
    "application/javascript",
    "application/xml",
    "application/*+json",
    "application/*+xml",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/graphql",
    "application/yaml",
    "application/vnd.ms-fontobject",
    "image/svg+xml",
    "image/bmp",
    "image/x-icon",
    "font/ttf",
    "font/otf",
];

/// A stream of events is for those who wait for it: it is compressed where that is asked for by its name.
const EVENT_STREAM: &str = "text/event-stream";

/// One media type, or all of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaRange {
    /// `type/subtype`.
    Exactly(Box<str>),
    /// `type/*`: everything that begins with this, the slash included.
    Below(Box<str>),
    /// `type/*+suffix`: what begins with the one, the slash included, and ends with the other, the plus included.
    Structured(Box<str>, Box<str>),
}

impl MediaRange {
    /// Reads `type/subtype`, `type/*` or `type/*+suffix`, without parameters; nothing else is one, `*/*` neither.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (kind, subtype) = text.split_once('/')?;
        if !is_token(kind) || kind.contains('*') {
            return None;
        }
        let below = || format!("{kind}/").into_boxed_str();
        match subtype.strip_prefix('*') {
            Some("") => Some(Self::Below(below())),
            Some(rest) => {
                let suffix = rest.strip_prefix('+').filter(|suffix| is_token(suffix) && !suffix.contains('*'))?;
                Some(Self::Structured(below(), format!("+{suffix}").into()))
            }
            None => (is_token(subtype) && !subtype.contains('*')).then(|| Self::Exactly(text.as_str().into())),
        }
    }

    fn holds(&self, essence: &[u8]) -> bool {
        let begins = |with: &str| {
            essence.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with.as_bytes()))
                && essence.len() > with.len()
        };
        match self {
            Self::Exactly(name) => essence.eq_ignore_ascii_case(name.as_bytes()),
            Self::Below(kind) => begins(kind) && !essence.eq_ignore_ascii_case(EVENT_STREAM.as_bytes()),
            Self::Structured(kind, suffix) => {
                let end = essence.len().saturating_sub(suffix.len()).max(kind.len());
                begins(kind) && essence.get(end..).is_some_and(|end| end.eq_ignore_ascii_case(suffix.as_bytes()))
            }
        }
    }
}

/// Several of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaRanges(Vec<MediaRange>);

impl MediaRanges {
    /// Those and no others.
    pub fn new(ranges: Vec<MediaRange>) -> Self {
        Self(ranges)
    }

    /// Whether a `Content-Type` is one of them, whatever its parameters.
    pub fn hold(&self, content_type: &[u8]) -> bool {
        let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        self.0.iter().any(|range| range.holds(essence))
    }
}

impl Default for MediaRanges {
    fn default() -> Self {
        Self(USUAL.iter().filter_map(|text| MediaRange::parse(text)).collect())
    }
}

/// `token` of RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(legal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_can_be_read_and_holds_what_compresses() {
        assert_eq!(MediaRanges::default().0.len(), USUAL.len());
        let usual = |text: &str| MediaRanges::default().hold(text.as_bytes());
        for worth in [
            "text/html; charset=utf-8",
            "Text/CSS",
            "text/javascript",
            "application/json",
            "application/problem+json",
            "application/manifest+json;v=1",
            "application/ld+json",
            "application/xhtml+xml",
            "image/svg+xml",
            "application/wasm",
            "font/ttf",
        ] {
            assert!(usual(worth), "{worth}");
        }
        for not in [
            "text/event-stream",
            "TEXT/EVENT-STREAM; charset=utf-8",
            "image/png",
            "font/woff2",
            "video/mp4",
            "application/zip",
            "application/octet-stream",
            "application/grpc",
            "application/grpc+proto",
            "application/jsonx",
            "application/+jsonx",
            "text/",
            "text",
            "",
        ] {
            assert!(!usual(not), "{not}");
        }
    }

    #[test]
    fn a_stream_of_events_is_meant_only_by_its_name() {
        let named = MediaRanges::new(vec![MediaRange::parse("text/event-stream").unwrap()]);
        assert!(named.hold(b"text/event-stream"));
        assert!(!MediaRanges::new(vec![MediaRange::parse("text/*").unwrap()]).hold(b"text/event-stream"));
    }

    #[test]
    fn a_range_is_read_as_it_is_written_or_not_at_all() {
        assert_eq!(MediaRange::parse("Text/HTML"), Some(MediaRange::Exactly("text/html".into())));
        assert_eq!(MediaRange::parse("text/*"), Some(MediaRange::Below("text/".into())));
        let structured = MediaRange::Structured("application/".into(), "+json".into());
        assert_eq!(MediaRange::parse("application/*+json"), Some(structured));
        for wrong in
            ["", "text", "/", "text/", "*/*", "*/json", "text/*x", "text/x*", "text/*+", "text/html;q=1", "a b/c"]
        {
            assert_eq!(MediaRange::parse(wrong), None, "{wrong}");
        }
    }
}
