//! Which media types a client takes: `Accept` (RFC 9110 section 12.5.1). Pure.
//!
//! Owns how two types are weighed against each other. Refuses to know what there is to choose from, and to refuse anything: a client
//! that takes none of it is better served by what there is.

use http::header::{self, HeaderMap};

use super::coding::weight;

/// Whether the client names `kind` itself, and not merely a range it is in: browsers name HTML for what they show, scripts and command
/// lines take anything.
pub fn names(headers: &HeaderMap, kind: &str) -> bool {
    ranges(headers).any(|(range, weight)| weight > 0 && range.eq_ignore_ascii_case(kind))
}

/// Whether the client would rather have `kind` than `other`. At equal weights the type that is named wins, and `other` if both are.
pub fn prefers(headers: &HeaderMap, kind: &str, other: &str) -> bool {
    let (wanted, instead) = (best(headers, kind), best(headers, other));
    wanted.0 > 0 && wanted > instead
}

/// The weight of a type in thousandths, and how closely it is named: the closest range counts, whatever its weight.
fn best(headers: &HeaderMap, kind: &str) -> (u16, u8) {
    let family = kind.split('/').next().unwrap_or_default();
    let mut found: Option<(u8, u16)> = None;
    for (range, weight) in ranges(headers) {
        let close = match range.split_once('/') {
            _ if range.eq_ignore_ascii_case(kind) => 3,
            Some((of, "*")) if of.eq_ignore_ascii_case(family) => 2,
            Some(("*", "*")) => 1,
            _ => continue,
        };
        if found.is_none_or(|(closest, _)| close > closest) {
            found = Some((close, weight));
        }
    }
    found.map_or((0, 0), |(close, weight)| (weight, close))
}

/// The media ranges with their weights, without other parameters. What can't be read counts for nothing.
fn ranges(headers: &HeaderMap) -> impl Iterator<Item = (&str, u16)> {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).filter_map(|item| {
        let mut parts = item.split(';').map(|part| part.trim_matches([' ', '\t']));
        let range = parts.next()?;
        let said = parts.find(|part| part.as_bytes().first_chunk::<2>().is_some_and(|q| q.eq_ignore_ascii_case(b"q=")));
        Some((range, said.map_or(Some(1000), weight)?))
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (header::ACCEPT, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn html_is_named_by_browsers_and_not_by_those_that_take_anything() {
        for (lines, named) in [
            (&[BROWSER][..], true),
            (&["image/png", "Text/HTML"], true),
            (&["text/html;level=1;q=0.001"], true),
            (&["text/html ; Q=1.000"], true),
            (&[], false),
            (&["*/*"], false),
            (&["text/*"], false),
            (&["text/htmlx, text/htm"], false),
            (&["application/json, text/html;q=0"], false),
            (&["text/html;q=0.000"], false),
            (&["text/html;q=2"], false),
        ] {
            assert_eq!(names(&headers(lines), "text/html"), named, "{lines:?}");
        }
    }

    #[test]
    fn json_is_preferred_by_weight_and_then_by_name() {
        for (lines, preferred) in [
            (&["application/json"][..], true),
            (&["application/json, text/plain, */*"], true),
            (&["application/json;q=0.8, text/html;q=0.7"], true),
            (&["text/html;q=0", "application/*"], true),
            (&["*/*;q=0.5, Application/JSON"], true),
            (&["application/*, */*"], true),
            (&[BROWSER], false),
            (&[], false),
            (&["*/*"], false),
            (&["text/html, application/json"], false),
            (&["application/json;q=0.5, */*"], false),
            (&["application/json;q=0, */*;q=0"], false),
            (&["application/json;q=nan"], false),
            (&["image/png"], false),
        ] {
            assert_eq!(prefers(&headers(lines), "application/json", "text/html"), preferred, "{lines:?}");
        }
    }
}
