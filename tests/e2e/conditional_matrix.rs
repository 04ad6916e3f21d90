//! Conditions and ranges against static files, by the letter of RFC 9110 sections 13, 14 and 15: every combination of the conditional
//! fields beside a second opinion that is written after section 13.2.2, and tables of the forms each field may take.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::wire::Message;
use crate::support::{eventually, place};

const ROUTE: &str = "[[route]]\nname = \"files\"\npath = \"/files/\"\nauth = \"public\"\n\
    files = { root = \"root\", cache_control = \"max-age=60\" }\n";

/// When every file here was last modified, in the one form that is sent and the two that are only read (section 5.6.7).
const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const NOW_RFC850: &str = "Sunday, 06-Nov-94 08:49:37 GMT";
const NOW_ASCTIME: &str = "Sun Nov  6 08:49:37 1994";
const EARLIER: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
const MODIFIED_SECS: u64 = 784_111_777;

/// One file that is answered from memory, one that is streamed, and one with nothing in it.
const SMALL: &str = "/files/small.txt";
const LARGE: &str = "/files/large.bin";
const EMPTY: &str = "/files/empty.txt";
const SMALL_LEN: usize = 10;
const LARGE_LEN: usize = 100_000;

fn contents(path: &str) -> Vec<u8> {
    let len = if path == SMALL {
        SMALL_LEN
    } else if path == LARGE {
        LARGE_LEN
    } else {
        0
    };
    (0..len).map(|at| b'0' + u8::try_from(at % 10).unwrap()).collect()
}

async fn gateway() -> Gateway {
    let home = tempfile::tempdir().unwrap();
    for path in [SMALL, LARGE, EMPTY] {
        let name = path.replace("/files/", "root/");
        place(home.path(), &name, contents(path));
        let file = File::options().write(true).open(home.path().join(&name)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(MODIFIED_SECS)).unwrap();
    }
    place(home.path(), "root/folder/index.html", "folder");
    let gateway = Setup::endpoints(["http://127.0.0.1:9".to_owned()]).only(ROUTE).start_in(home).await;
    // The files were touched just now, so their dates are no strong validators yet (section 8.8.2.2).
    eventually("dates that are strong", || async {
        let mut client = Client::plain(gateway.http).await;
        for path in [SMALL, LARGE] {
            let answer = client.get_with(path, &format!("Range: bytes=0-0\r\nIf-Range: {NOW}\r\n")).await;
            if answer.status() != 206 {
                return None;
            }
        }
        Some(())
    })
    .await;
    gateway
}

async fn etag(client: &mut Client, path: &str) -> String {
    client.get(path).await.field("etag").unwrap().to_owned()
}

/// What a condition says, as the second opinion sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// It is not there, or is to be ignored.
    Nothing,
    True,
    False,
}

use Says::{False, Nothing, True};

/// The values a field takes in the matrix; `@` stands for the entity tag.
type Values = [(Option<&'static str>, Says)];

const IF_MATCH: [(Option<&str>, Says); 6] = [
    (None, Nothing),
    (Some("@"), True),
    (Some("\"x\", @"), True),
    (Some("*"), True),
    (Some("W/@"), False),
    (Some("\"x\""), False),
];
const IF_UNMODIFIED_SINCE: [(Option<&str>, Says); 4] =
    [(None, Nothing), (Some(NOW), True), (Some(EARLIER), False), (Some("soon"), Nothing)];
const IF_NONE_MATCH: [(Option<&str>, Says); 6] = [
    (None, Nothing),
    (Some("@"), False),
    (Some("\"x\", W/@"), False),
    (Some("*"), False),
    (Some("\"x\""), True),
    (Some("W/\"x\", \"y\""), True),
];
const IF_MODIFIED_SINCE: [(Option<&str>, Says); 4] =
    [(None, Nothing), (Some(NOW), False), (Some(EARLIER), True), (Some("yesterday"), Nothing)];
const IF_RANGE: [(Option<&str>, Says); 6] = [
    (None, Nothing),
    (Some("@"), True),
    (Some(NOW), True),
    (Some("W/@"), False),
    (Some("\"x\""), False),
    (Some(LATER), False),
];
/// A range, and what comes of it when it applies.
const RANGE: [(Option<&str>, u16); 3] = [(None, 200), (Some("bytes=2-4"), 206), (Some("bytes=100000-"), 416)];

fn line(name: &str, value: Option<&str>, etag: &str) -> String {
    value.map(|value| format!("{name}: {}\r\n", value.replace('@', etag))).unwrap_or_default()
}

/// Section 13.2.2, for a method that reads.
fn expected(by_tag: [Says; 2], by_date: [Says; 2], same: Says, of_range: u16) -> u16 {
    let [if_match, if_none_match] = by_tag;
    let [if_unmodified_since, if_modified_since] = by_date;
    let first = if if_match == Nothing { if_unmodified_since } else { if_match };
    let second = if if_none_match == Nothing { if_modified_since } else { if_none_match };
    match (first, second, same) {
        (False, ..) => 412,
        (_, False, _) => 304,
        (_, _, False) => 200,
        _ => of_range,
    }
}

/// All pairs of two fields' values.
fn pairs<'v>(one: &'v Values, other: &'v Values) -> impl Iterator<Item = [(Option<&'static str>, Says); 2]> + 'v {
    one.iter().flat_map(move |one| other.iter().map(move |other| [*one, *other]))
}

#[tokio::test]
async fn rfc9110_13_2_2_every_combination_of_conditions_is_judged_in_the_order_of_the_rfc() {
    let gateway = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let mut count = 0;
    for path in [SMALL, LARGE] {
        let etag = etag(&mut client, path).await;
        for [(m, m_says), (nm, nm_says)] in pairs(&IF_MATCH, &IF_NONE_MATCH) {
            for [(us, us_says), (ms, ms_says)] in pairs(&IF_UNMODIFIED_SINCE, &IF_MODIFIED_SINCE) {
                // All values of If-Range and Range would be 18 times the requests; they come by turns.
                count += 1;
                let (if_range, same) = IF_RANGE[count % IF_RANGE.len()];
                let (asked, of_range) = RANGE[count / IF_RANGE.len() % RANGE.len()];
                let fields = [
                    line("If-Range", if_range, &etag),
                    line("If-Modified-Since", ms, &etag),
                    line("If-None-Match", nm, &etag),
                    line("Range", asked, &etag),
                    line("If-Unmodified-Since", us, &etag),
                    line("If-Match", m, &etag),
                ]
                .concat();
                let expected = expected([m_says, nm_says], [us_says, ms_says], same, of_range);
                let answer = client.get_with(path, &fields).await;
                assert_eq!(answer.status(), expected, "{path}\n{fields}");
                judge(path, &answer, &etag);
                let head = client.by("HEAD", path, &fields).await.status();
                let without_range = if matches!(expected, 206 | 416) { 200 } else { expected };
                assert_eq!(head, without_range, "HEAD {path}\n{fields}");
            }
        }
    }
    assert_eq!(count, 2 * 6 * 6 * 4 * 4);
}

/// What each status must carry, whatever led to it.
fn judge(path: &str, answer: &Message, etag: &str) {
    let whole = contents(path);
    let said = |name| answer.field(name);
    assert!(said("date").is_some());
    match answer.status() {
        200 => assert!(answer.body == whole && said("content-range").is_none()),
        206 => {
            assert_eq!(said("content-range"), Some(format!("bytes 2-4/{}", whole.len()).as_str()));
            assert!(answer.body == whole[2..5]);
        }
        304 => {
            assert!(answer.body.is_empty());
            // Section 15.4.5: no field of the contents that are not sent.
            for name in ["content-length", "content-type", "content-range", "transfer-encoding"] {
                assert_eq!(said(name), None, "a 304 with {name}");
            }
        }
        412 => assert_eq!((said("etag"), said("content-range")), (None, None)),
        416 => assert_eq!(said("content-range"), Some(format!("bytes */{}", whole.len()).as_str())),
        status => panic!("{status}"),
    }
    if matches!(answer.status(), 200 | 206 | 304) {
        assert_eq!((said("etag"), said("last-modified")), (Some(etag), Some(NOW)));
        assert_eq!(said("cache-control"), Some("max-age=60"));
    }
    if matches!(answer.status(), 200 | 206) {
        assert_eq!(said("content-length"), Some(answer.body.len().to_string().as_str()));
        assert_eq!(said("accept-ranges"), Some("bytes"));
        assert!(said("content-type").is_some() && said("transfer-encoding").is_none());
    }
}

/// Asks for the small file with each line of a table; `@` stands for the entity tag.
async fn check(table: &[(&str, u16)]) {
    let gateway = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for path in [SMALL, LARGE] {
        let etag = etag(&mut client, path).await;
        for (fields, status) in table {
            let fields = format!("{}\r\n", fields.replace('@', &etag));
            let answer = client.get_with(path, &fields).await;
            assert_eq!(answer.status(), *status, "{path}\n{fields}");
        }
    }
}

#[tokio::test]
async fn rfc9110_8_8_3_lists_of_entity_tags_are_read_as_they_are_written() {
    check(&[
        ("If-None-Match: @", 304),
        ("If-None-Match:@", 304),
        ("If-None-Match: \t @ \t", 304),
        ("If-None-Match: W/@", 304),
        ("If-None-Match: \"x\",@,\"y\"", 304),
        ("If-None-Match: , ,@", 304),
        ("If-None-Match: \"a,b\", \"\", @", 304),
        ("If-None-Match: \"x\"\r\nIf-None-Match: @", 304),
        ("If-None-Match: *", 304),
        ("If-None-Match: w/@", 200), // section 8.8.3: W is a capital
        ("If-None-Match: W /@", 200),
        ("If-None-Match: \"x\"", 200),
        ("If-None-Match: \"*\"", 200),
        ("If-None-Match: ", 200),
        ("If-None-Match: \"x\" @", 200),
        ("If-None-Match: '@'", 200),
        ("If-None-Match: \"@\"", 200),
        ("If-Match: @", 200),
        ("If-Match: \"x\", @", 200),
        ("If-Match: \"x\"\r\nIf-Match: @", 200),
        ("If-Match: *", 200),
        ("If-Match: W/@", 412),
        ("If-Match: \"x\", W/@", 412),
        ("If-Match: \"x\"", 412),
        ("If-Match: \"*\"", 412),
        ("If-Match: ", 412),
        ("If-Match: @x", 412),
    ])
    .await;
}

#[tokio::test]
async fn rfc9110_5_6_7_dates_of_all_three_forms_are_read_and_others_are_ignored() {
    let line = |name: &str, date: &str| format!("{name}: {date}");
    let mut table = Vec::new();
    for same in [NOW, NOW_RFC850, NOW_ASCTIME] {
        table.push((line("If-Modified-Since", same), 304));
        table.push((line("If-Unmodified-Since", same), 200));
        table.push((format!("Range: bytes=0-0\r\nIf-Range: {same}"), 206));
    }
    for later in [LATER, "Sunday, 06-Nov-94 08:49:38 GMT", "Sun Nov  6 08:49:38 1994", "Fri, 01 Jan 2100 00:00:00 GMT"]
    {
        table.push((line("If-Modified-Since", later), 304));
        table.push((line("If-Unmodified-Since", later), 200));
        table.push((format!("Range: bytes=0-0\r\nIf-Range: {later}"), 200)); // section 13.1.5: exactly, or not at all
    }
    for earlier in [EARLIER, "Sunday, 06-Nov-94 08:49:36 GMT", "Sun Nov  6 08:49:36 1994"] {
        table.push((line("If-Modified-Since", earlier), 200));
        table.push((line("If-Unmodified-Since", earlier), 412));
        table.push((format!("Range: bytes=0-0\r\nIf-Range: {earlier}"), 200));
    }
    // Each would decide otherwise if it were read for what it seems to mean.
    for malformed in [
        "",
        "0",
        "784111778",
        "1994-11-06T08:49:38Z",
        "Sun, 32 Nov 1994 08:49:38 GMT",
        "Sun, 06 Nov 1994 25:49:38 GMT",
        "Sun, 06 Nov 1994 08:49:38 +0000",
        "Sun, 06 Nov 1994 08:49:38 CET",
        "Sun, 06 Nov 1994 08:49:38",
        "06 Nov 1994 08:49:38 GMT",
        "Sun, 06 Nov 1994 08:49:38 GMT, Sun, 06 Nov 1994 08:49:38 GMT",
        "\"Sun, 06 Nov 1994 08:49:38 GMT\"",
        "Sun, 06 Nov 1994 08:49:38 GMT; length=10",
    ] {
        table.push((line("If-Modified-Since", malformed), 200));
        table.push((line("If-Unmodified-Since", &malformed.replace(":38", ":36").replace("778", "776")), 200));
    }
    table.push((format!("If-Modified-Since: {LATER}\r\nIf-Modified-Since: {LATER}"), 200));
    table.push((format!("If-Unmodified-Since: {EARLIER}\r\nIf-Unmodified-Since: {EARLIER}"), 200));
    check(&table.iter().map(|(fields, status)| (fields.as_str(), *status)).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn rfc9110_13_1_5_if_range_is_one_strong_validator_and_nothing_without_a_range() {
    check(&[
        ("If-Range: @", 200),
        ("If-Range: \"x\"", 200),
        ("Range: bytes=0-0\r\nIf-Range: @", 206),
        ("Range: bytes=0-0\r\nIf-Range:   @  ", 206),
        ("Range: bytes=0-0\r\nIf-Range: W/@", 200),
        ("Range: bytes=0-0\r\nIf-Range: @, \"x\"", 200),
        ("Range: bytes=0-0\r\nIf-Range: \"x\", @", 200),
        ("Range: bytes=0-0\r\nIf-Range: *", 200),
        ("Range: bytes=0-0\r\nIf-Range: ", 200),
        ("Range: bytes=0-0\r\nIf-Range: @\r\nIf-Range: @", 200),
        ("Range: bytes=999999-\r\nIf-Range: @", 416),
        ("Range: bytes=999999-\r\nIf-Range: \"x\"", 200),
    ])
    .await;
}

#[tokio::test]
async fn rfc9110_14_1_2_ranges_of_every_shape_are_cut_to_the_file_refused_or_ignored() {
    let gateway = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for path in [SMALL, LARGE, EMPTY] {
        let whole = contents(path);
        let len = whole.len();
        let part = |from: usize, to: usize| (206, format!("bytes {from}-{}/{len}", to - 1), whole[from..to].to_vec());
        let outside = || (416, format!("bytes */{len}"), Vec::new());
        let ignored = || (200, String::new(), whole.clone());
        let cut = |from: usize, to: usize| if from < len { part(from, to.min(len)) } else { outside() };
        let last = |count: usize| if len == 0 { ignored() } else { part(len.saturating_sub(count), len) };
        for (range, (status, content_range, body)) in [
            ("bytes=0-0", cut(0, 1)),
            ("bytes=0-", cut(0, len)),
            ("bytes=1-3", cut(1, 4)),
            ("bytes=9-9", cut(9, 10)),
            ("bytes=10-", cut(10, len)),
            ("bytes=99999-", cut(99_999, len)),
            ("bytes=100000-", outside()),
            ("bytes=5-18446744073709551615", cut(5, len)),
            ("bytes=5-99999999999999999999999999999", cut(5, len)),
            ("bytes=18446744073709551615-", outside()),
            ("bytes=99999999999999999999999999999-", outside()),
            ("bytes=-1", last(1)),
            ("bytes=-10", last(10)),
            ("bytes=-99999999999999999999999999999", last(len)),
            ("bytes=-0", outside()),
            ("BYTES=0-0", cut(0, 1)),
            ("bytes= 0-0", cut(0, 1)),
            ("bytes=0-0,", cut(0, 1)),
            ("bytes=00-00", cut(0, 1)),
            ("bytes=3-1", ignored()),
            ("bytes=-", ignored()),
            ("bytes=", ignored()),
            ("bytes", ignored()),
            ("bytes=a-b", ignored()),
            ("bytes=0x0-0x1", ignored()),
            ("bytes=0-0;q=1", ignored()),
            ("bytes=1 - 3", ignored()),
            ("bytes=--1", ignored()),
            ("bytes=+1-3", ignored()),
            ("bytes=1.0-3", ignored()),
            ("bytes 0-0", ignored()),
            ("lines=0-0", ignored()),
            ("none", ignored()),
            ("bytes=0-0\r\nRange: bytes=1-1", ignored()),
        ] {
            let answer = client.get_with(path, &format!("Range: {range}\r\n")).await;
            assert_eq!(answer.status(), status, "{range} of {path}");
            assert_eq!(answer.field("content-range").unwrap_or_default(), content_range, "{range} of {path}");
            assert!(status == 416 || answer.body == body, "{range} of {path}");
            let head = client.by("HEAD", path, &format!("Range: {range}\r\n")).await;
            assert_eq!((head.status(), head.field("content-range")), (200, None), "HEAD with {range} of {path}");
            assert_eq!(head.field("content-length"), Some(len.to_string().as_str()));
        }
    }
}

#[tokio::test]
async fn rfc9110_13_2_1_conditions_mean_nothing_where_the_answer_would_be_no_success() {
    let gateway = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let conditions = [
        "If-None-Match: *\r\n".to_owned(),
        "If-Match: *\r\n".to_owned(),
        "If-Match: \"x\"\r\n".to_owned(),
        format!("If-Modified-Since: {LATER}\r\n"),
        format!("If-Unmodified-Since: {EARLIER}\r\n"),
        "Range: bytes=0-0\r\n".to_owned(),
    ];
    for condition in conditions {
        for (method, path, status) in [
            ("GET", "/files/none", 404),
            ("HEAD", "/files/none", 404),
            ("GET", "/files/folder", 301),
            ("GET", "/files/.env", 404),
            ("POST", SMALL, 405),
            ("PUT", SMALL, 405),
            ("DELETE", "/files/none", 405),
        ] {
            let answer = client.by(method, path, &condition).await;
            assert_eq!(answer.status(), status, "{method} {path}\n{condition}");
            assert_eq!(answer.field("content-range"), None, "{method} {path}\n{condition}");
        }
    }
}

#[tokio::test]
async fn rfc9110_8_8_what_is_sent_once_validates_later_in_every_way() {
    let gateway = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for path in [SMALL, LARGE, EMPTY, "/files/folder/"] {
        let first = client.get(path).await;
        let (etag, modified) = (first.field("etag").unwrap(), first.field("last-modified").unwrap());
        // Section 8.8.1: a strong tag, one for a state of the file; section 8.8.2.1: no date later than that of the answer.
        assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 2, "{etag}");
        for condition in [
            format!("If-None-Match: {etag}\r\nIf-Modified-Since: {modified}\r\n"),
            format!("If-None-Match: {etag}\r\n"),
            format!("If-Modified-Since: {modified}\r\n"),
        ] {
            let again = client.get_with(path, &condition).await;
            assert_eq!((again.status(), again.field("etag")), (304, Some(etag)), "{path}\n{condition}");
        }
        for condition in [format!("If-Match: {etag}\r\n"), format!("If-Unmodified-Since: {modified}\r\n")] {
            let again = client.get_with(path, &condition).await;
            assert_eq!((again.status(), again.body == first.body), (200, true), "{path}\n{condition}");
        }
    }
}
