//! What a directory looks like from outside: a page for people, a document for programs. Pure.
//!
//! Owns: the escaping of names in HTML, in links (RFC 3986 section 4.2: every link is a relative reference of one segment) and in JSON.
//! Refuses to know: the file system, which names there are, and who asks.

use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use percent_encoding::utf8_percent_encode;
use serde::Serialize;

use super::answer::RESERVED;

/// One page of the names in a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) entries: Vec<Entry>,
    /// Which page this is, from 1.
    pub(super) page: usize,
    pub(super) pages: usize,
    /// Names on all pages.
    pub(super) total: usize,
    /// Whether there are more names than were read.
    pub(super) cut: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) name: Box<str>,
    pub(super) kind: Kind,
    /// Length in bytes; means nothing for a directory.
    pub(super) size: u64,
    /// Seconds since the Unix epoch; `None` for a time that can't be written.
    pub(super) modified: Option<u64>,
}

/// Directories come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Directory,
    File,
}

/// Where a listing stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'p> {
    /// The path as the client knows it, decoded, with its slash.
    pub(super) shown: &'p str,
    /// Whether the directory above is served, too.
    pub(super) parent: bool,
}

/// The only style of the page, so that a policy can name it by its hash.
pub(super) const STYLE: &str = "\
:root{color-scheme:light dark;font:1rem/1.5 system-ui,sans-serif;--line:#0000001f;--quiet:#595959}\
@media(prefers-color-scheme:dark){:root{--line:#ffffff26;--quiet:#a6a6a6}}\
body{margin:2rem auto;max-width:60rem;padding:0 1rem}\
h1{font-size:1.25rem;overflow-wrap:anywhere}\
table{border-collapse:collapse;width:100%}\
th,td{border-bottom:1px solid var(--line);font-weight:400;padding:.3rem .5rem;text-align:left;vertical-align:top}\
thead th{color:var(--quiet);font-size:.875rem}\
tbody th{overflow-wrap:anywhere;width:100%}\
td{color:var(--quiet);font-variant-numeric:tabular-nums;white-space:nowrap}\
th:nth-child(2),td:nth-child(2){text-align:right}\
nav{display:flex;gap:1rem;margin:1rem 0}\
p{color:var(--quiet)}\
@media(max-width:36rem){th:nth-child(3),td:nth-child(3){display:none}}";

/// The page for people. It holds no script and asks for nothing.
pub(super) fn html(listing: &Listing, place: Place<'_>) -> String {
    const BYTES_OF_A_ROW: usize = 256;
    let mut page = String::with_capacity(2048 + listing.entries.len() * BYTES_OF_A_ROW);
    let shown = escaped(place.shown);
    page.push_str("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
    page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
    write(
        &mut page,
        format_args!("<title>Index of {shown}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"),
    );
    write(&mut page, format_args!("<h1>Index of <bdi>{shown}</bdi></h1>\n"));
    if place.parent {
        page.push_str("<nav aria-label=\"Up\"><a href=\"../\">Parent directory</a></nav>\n");
    }
    if listing.entries.is_empty() {
        page.push_str("<p>Nothing is here.</p>\n");
    } else {
        page.push_str("<table>\n<thead><tr><th scope=\"col\">Name</th><th scope=\"col\">Size</th>");
        page.push_str("<th scope=\"col\">Modified (UTC)</th></tr></thead>\n<tbody>\n");
        for entry in &listing.entries {
            row(&mut page, entry);
        }
        page.push_str("</tbody>\n</table>\n");
    }
    foot(&mut page, listing);
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

fn row(page: &mut String, entry: &Entry) {
    let slash = if entry.kind == Kind::Directory { "/" } else { "" };
    // Whatever a name holds, a colon above all, it stays one segment of a path.
    let link = utf8_percent_encode(&entry.name, RESERVED);
    let name = escaped(&entry.name);
    // A name may turn the direction of what is written after it, unless it is on its own.
    write(page, format_args!("<tr><th scope=\"row\"><a href=\"{link}{slash}\"><bdi>{name}{slash}</bdi></a></th><td>"));
    if entry.kind == Kind::File {
        write(page, format_args!("<data value=\"{}\">{}</data>", entry.size, readable(entry.size)));
    }
    page.push_str("</td><td>");
    if let Some(stamp) = entry.modified.and_then(stamp) {
        let minute = stamp.get(..16).unwrap_or(&stamp).replace('T', " ");
        write(page, format_args!("<time datetime=\"{stamp}\">{minute}</time>"));
    }
    page.push_str("</td></tr>\n");
}

fn foot(page: &mut String, listing: &Listing) {
    if listing.pages > 1 {
        page.push_str("<nav aria-label=\"Pages\">");
        if let Some(link) = previous(listing) {
            write(page, format_args!("<a rel=\"prev\" href=\"{link}\">Previous</a> "));
        }
        write(page, format_args!("<span>Page {} of {}</span>", listing.page, listing.pages));
        if let Some(link) = next(listing) {
            write(page, format_args!(" <a rel=\"next\" href=\"{link}\">Next</a>"));
        }
        page.push_str("</nav>\n");
    }
    if listing.total > 0 {
        let noun = if listing.total == 1 { "entry" } else { "entries" };
        write(page, format_args!("<p>{} {noun}</p>\n", listing.total));
    }
    if listing.cut {
        page.push_str("<p>There is more in this directory than is listed.</p>\n");
    }
}

/// The document for programs.
pub(super) fn json(listing: &Listing, place: Place<'_>) -> String {
    let entry = |entry: &Entry| JsonEntry {
        name: entry.name.clone(),
        kind: if entry.kind == Kind::Directory { "directory" } else { "file" },
        size: (entry.kind == Kind::File).then_some(entry.size),
        modified: entry.modified.and_then(stamp),
    };
    let document = Json {
        path: place.shown,
        page: listing.page,
        pages: listing.pages,
        total: listing.total,
        truncated: listing.cut,
        previous: previous(listing),
        next: next(listing),
        entries: listing.entries.iter().map(entry).collect(),
    };
    serde_json::to_string(&document).expect("texts, numbers and arrays of them are JSON") + "\n"
}

#[derive(Serialize)]
struct Json<'p> {
    path: &'p str,
    page: usize,
    pages: usize,
    total: usize,
    truncated: bool,
    previous: Option<String>,
    next: Option<String>,
    entries: Vec<JsonEntry>,
}

#[derive(Serialize)]
struct JsonEntry {
    name: Box<str>,
    kind: &'static str,
    size: Option<u64>,
    modified: Option<String>,
}

fn previous(listing: &Listing) -> Option<String> {
    (listing.page > 1).then(|| format!("?page={}", listing.page - 1))
}

fn next(listing: &Listing) -> Option<String> {
    (listing.page < listing.pages).then(|| format!("?page={}", listing.page + 1))
}

/// RFC 3339 in UTC. It knows four digits of a year.
fn stamp(secs: u64) -> Option<String> {
    const END_OF_9999: u64 = 253_402_300_799;
    (secs <= END_OF_9999).then(|| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(secs)).to_string())
}

/// A size in the largest unit of which there is one, in tenths.
fn readable(size: u64) -> String {
    let unit = |power: u32| 1 << (10 * power);
    let Some((power, name)) =
        [(4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")].into_iter().find(|(power, _)| size >= unit(*power))
    else {
        return format!("{size} B");
    };
    let (whole, rest) = (size / unit(power), size % unit(power));
    format!("{whole}.{} {name}", rest * 10 / unit(power))
}

/// Safe between tags and in quoted attributes.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn write(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(name: &str, size: u64) -> Entry {
        Entry { name: name.into(), kind: Kind::File, size, modified: Some(1_795_000_000) }
    }

    fn listing(entries: Vec<Entry>) -> Listing {
        Listing { total: entries.len(), entries, page: 1, pages: 1, cut: false }
    }

    const ROOT: Place<'_> = Place { shown: "/media/", parent: false };

    #[test]
    fn names_are_escaped_in_text_and_encoded_in_links() {
        for (name, link, text) in [
            ("a b.txt", "a%20b.txt", "a b.txt"),
            (
                "<script>alert(1)</script>",
                "%3Cscript%3Ealert%281%29%3C%2Fscript%3E",
                "&lt;script&gt;alert(1)&lt;/script&gt;",
            ),
            ("\"'&.txt", "%22%27%26.txt", "&quot;&#39;&amp;.txt"),
            ("100%?#.txt", "100%25%3F%23.txt", "100%?#.txt"),
            ("javascript:alert(1)", "javascript%3Aalert%281%29", "javascript:alert(1)"),
            ("grüße.txt", "gr%C3%BC%C3%9Fe.txt", "grüße.txt"),
            ("%2e%2e", "%252e%252e", "%2e%2e"),
        ] {
            let page = html(&listing(vec![file(name, 1)]), ROOT);
            assert!(page.contains(&format!("<a href=\"{link}\"><bdi>{text}</bdi></a>")), "{name}: {page}");
        }
    }

    #[test]
    fn directories_have_their_slash_and_no_size() {
        let directory = Entry { name: "docs".into(), kind: Kind::Directory, size: 4096, modified: None };
        let page = html(&listing(vec![directory]), Place { shown: "/a<b>/", parent: true });
        assert!(page.contains("<a href=\"docs/\"><bdi>docs/</bdi></a></th><td></td><td></td>"), "{page}");
        assert!(page.contains("<title>Index of /a&lt;b&gt;/</title>") && page.contains("href=\"../\""), "{page}");
        assert!(!html(&listing(vec![]), ROOT).contains("href"), "nothing leads out of the root");
    }

    #[test]
    fn json_holds_what_the_page_holds() {
        let directory = Entry { name: "docs".into(), kind: Kind::Directory, size: 4096, modified: None };
        let listing =
            Listing { page: 2, pages: 3, total: 2001, cut: true, ..listing(vec![directory, file("a\"b", 10)]) };
        assert_eq!(
            json(&listing, ROOT),
            "{\"path\":\"/media/\",\"page\":2,\"pages\":3,\"total\":2001,\"truncated\":true,\"previous\":\"?page=1\",\
             \"next\":\"?page=3\",\"entries\":[{\"name\":\"docs\",\"kind\":\"directory\",\"size\":null,\"modified\":null},\
             {\"name\":\"a\\\"b\",\"kind\":\"file\",\"size\":10,\"modified\":\"2026-11-18T11:06:40Z\"}]}\n"
        );
        let page = html(&listing, ROOT);
        for part in ["?page=1", "?page=3", "Page 2 of 3", "2001 entries", "more in this directory than is listed"] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }

    #[test]
    fn times_that_cannot_be_written_are_left_out() {
        assert_eq!(stamp(0).as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(stamp(253_402_300_799).as_deref(), Some("9999-12-31T23:59:59Z"));
        assert_eq!(stamp(253_402_300_800), None);
        assert_eq!(stamp(u64::MAX), None);
    }

    #[test]
    fn sizes_are_shown_in_units_of_1024() {
        for (size, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1023.9 KiB"),
            (1_572_864, "1.5 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(readable(size), shown);
        }
    }

    proptest! {
        #[test]
        fn no_name_gets_out_of_its_place(name in "[a<>&\"'`=/:?#% é\u{202e}]{1,12}") {
            let page = html(&listing(vec![file(&name, 1)]), Place { shown: &name, parent: false });
            let plain = html(&listing(vec![file("a", 1)]), Place { shown: "a", parent: false });
            let count = |page: &str, sign: char| page.matches(sign).count();
            for sign in ['<', '>', '"', '\''] {
                prop_assert_eq!(count(&page, sign), count(&plain, sign), "{}", page);
            }
            let link = page.split("<th scope=\"row\"><a href=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            prop_assert!(!link.contains([':', '/', '?', '#']), "{}", link);
        }
    }
}
