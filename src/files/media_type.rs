//! What a file's name says about its contents. Pure.
//!
//! Owns: the `Content-Type` of an answer (RFC 9110 section 8.3). Refuses to look into the file: `nosniff` tells the
//! browser to leave that alone too.

use http::HeaderValue;

/// The `Content-Type` for a file name; `application/octet-stream` when the extension says nothing.
///
/// Text and its relatives are declared UTF-8: without a charset a browser guesses, and guesses can be steered.
pub(super) fn of(name: &str) -> HeaderValue {
    let Some(essence) = mime_guess::from_path(name).first_raw() else {
        return HeaderValue::from_static("application/octet-stream");
    };
    if !is_text(essence) {
        return HeaderValue::from_static(essence);
    }
    HeaderValue::try_from(format!("{essence}; charset=utf-8")).unwrap_or(HeaderValue::from_static(essence))
}

fn is_text(essence: &str) -> bool {
    let structured = matches!(essence, "application/javascript" | "application/json" | "application/xml");
    structured || essence.starts_with("text/") || essence.ends_with("+xml") || essence.ends_with("+json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_declared_utf_8_and_the_rest_is_not() {
        for (name, expected) in [
            ("a.html", "text/html; charset=utf-8"),
            ("a.css", "text/css; charset=utf-8"),
            ("deep/er/a.js", "text/javascript; charset=utf-8"),
            ("a.mjs", "application/javascript; charset=utf-8"),
            ("a.json", "application/json; charset=utf-8"),
            ("a.xml", "text/xml; charset=utf-8"),
            ("a.svg", "image/svg+xml; charset=utf-8"),
            ("a.PNG", "image/png"),
            ("a.woff2", "font/woff2"),
            ("a.wasm", "application/wasm"),
            ("a", "application/octet-stream"),
            ("a.no-such-extension", "application/octet-stream"),
        ] {
            assert_eq!(of(name), expected, "{name}");
        }
    }
}
