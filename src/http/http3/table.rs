//! The static table of QPACK (RFC 9204 appendix A), and the way back from a field to its place there.

use std::sync::LazyLock;

/// Field lines by index.
#[rustfmt::skip]
pub(super) static ENTRIES: [(&str, &str); 99] = [
    (":authority", ""), (":path", "/"), ("age", "0"), ("content-disposition", ""), ("content-length", "0"),
    ("cookie", ""), ("date", ""), ("etag", ""), ("if-modified-since", ""), ("if-none-match", ""),
    ("last-modified", ""), ("link", ""), ("location", ""), ("referer", ""), ("set-cookie", ""),
    (":method", "CONNECT"), (":method", "DELETE"), (":method", "GET"), (":method", "HEAD"), (":method", "OPTIONS"),
    (":method", "POST"), (":method", "PUT"), (":scheme", "http"), (":scheme", "https"), (":status", "103"),
    (":status", "200"), (":status", "304"), (":status", "404"), (":status", "503"), ("accept", "*/*"),
    ("accept", "application/dns-message"), ("accept-encoding", "gzip, deflate, br"), ("accept-ranges", "bytes"),
    ("access-control-allow-headers", "cache-control"), ("access-control-allow-headers", "content-type"),
    ("access-control-allow-origin", "*"), ("cache-control", "max-age=0"), ("cache-control", "max-age=2592000"),
    ("cache-control", "max-age=604800"), ("cache-control", "no-cache"), ("cache-control", "no-store"),
    ("cache-control", "public, max-age=31536000"), ("content-encoding", "br"), ("content-encoding", "gzip"),
    ("content-type", "application/dns-message"), ("content-type", "application/javascript"),
    ("content-type", "application/json"), ("content-type", "application/x-www-form-urlencoded"),
    ("content-type", "image/gif"), ("content-type", "image/jpeg"), ("content-type", "image/png"),
    ("content-type", "text/css"), ("content-type", "text/html; charset=utf-8"), ("content-type", "text/plain"),
    ("content-type", "text/plain;charset=utf-8"), ("range", "bytes=0-"),
    ("strict-transport-security", "max-age=31536000"),
    ("strict-transport-security", "max-age=31536000; includesubdomains"),
    ("strict-transport-security", "max-age=31536000; includesubdomains; preload"),
    ("vary", "accept-encoding"), ("vary", "origin"), ("x-content-type-options", "nosniff"),
    ("x-xss-protection", "1; mode=block"), (":status", "100"), (":status", "204"), (":status", "206"),
    (":status", "302"), (":status", "400"), (":status", "403"), (":status", "421"), (":status", "425"),
    (":status", "500"), ("accept-language", ""), ("access-control-allow-credentials", "FALSE"),
    ("access-control-allow-credentials", "TRUE"), ("access-control-allow-headers", "*"),
    ("access-control-allow-methods", "get"), ("access-control-allow-methods", "get, post, options"),
    ("access-control-allow-methods", "options"), ("access-control-expose-headers", "content-length"),
    ("access-control-request-headers", "content-type"), ("access-control-request-method", "get"),
    ("access-control-request-method", "post"), ("alt-svc", "clear"), ("authorization", ""),
    ("content-security-policy", "script-src 'none'; object-src 'none'; base-uri 'none'"), ("early-data", "1"),
    ("expect-ct", ""), ("forwarded", ""), ("if-range", ""), ("origin", ""), ("purpose", "prefetch"), ("server", ""),
    ("timing-allow-origin", "*"), ("upgrade-insecure-requests", "1"), ("user-agent", ""), ("x-forwarded-for", ""),
    ("x-frame-options", "deny"), ("x-frame-options", "sameorigin"),
];

/// Where a field stands in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Name and value stand there.
    Whole(usize),
    /// The name does.
    Name(usize),
    Nowhere,
}

/// Indices in the order of what they stand for.
static SORTED: LazyLock<[usize; ENTRIES.len()]> = LazyLock::new(|| {
    let mut sorted = std::array::from_fn(|index| index);
    sorted.sort_unstable_by_key(|index| ENTRIES[*index]);
    sorted
});

pub(super) fn find(name: &str, value: &[u8]) -> Place {
    let key = |index: &usize| (ENTRIES[*index].0, ENTRIES[*index].1.as_bytes());
    match SORTED.binary_search_by(|index| key(index).cmp(&(name, value))) {
        Ok(at) => Place::Whole(SORTED[at]),
        Err(at) => {
            // Of one name all stand together, and the nearest is one of them if there is any.
            let near = [at.checked_sub(1), Some(at)].into_iter().flatten().filter_map(|at| SORTED.get(at));
            near.copied().find(|index| ENTRIES[*index].0 == name).map_or(Place::Nowhere, Place::Name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_by_what_it_stands_for_and_every_name_by_itself() {
        for (index, (name, value)) in ENTRIES.iter().enumerate() {
            assert_eq!(find(name, value.as_bytes()), Place::Whole(index));
            for other in [&b"!"[..], b"m", b"\xff"] {
                assert!(matches!(find(name, other), Place::Name(found) if ENTRIES[found].0 == *name), "{name}");
            }
        }
        for name in ["", "a", "contenu", "x-request-id", "zzz"] {
            assert_eq!(find(name, b"x"), Place::Nowhere, "{name}");
        }
    }

    #[test]
    fn some_places_are_as_rfc_9204_has_them() {
        for (index, entry) in [
            (0, (":authority", "")),
            (25, (":status", "200")),
            (55, ("range", "bytes=0-")),
            (62, ("x-xss-protection", "1; mode=block")),
            (83, ("alt-svc", "clear")),
            (95, ("user-agent", "")),
            (98, ("x-frame-options", "sameorigin")),
        ] {
            assert_eq!(ENTRIES[index], entry);
        }
    }
}
