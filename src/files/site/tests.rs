//! A site against a real directory.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use http::header;
use http_body::Body as _;
use http_body_util::BodyExt;
use tempfile::TempDir;

use super::*;

mod fallback;
mod manifest;
mod variants;

const SMALL: u64 = 1024;

struct House {
    directory: TempDir,
    site: Site,
    start: Instant,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir_all(root.join("docs")).unwrap();
        fs::create_dir_all(root.join(".well-known")).unwrap();
        fs::write(directory.path().join("secret"), "secret").unwrap();
        fs::write(root.join("a.css"), "body{}").unwrap();
        fs::write(root.join("docs/index.html"), "<p>docs").unwrap();
        fs::write(root.join(".env"), "secret").unwrap();
        fs::write(root.join(".well-known/security.txt"), "Contact: us").unwrap();
        fs::write(root.join("large.bin"), vec![b'x'; 300_000]).unwrap();
        let site = Site::open(settings(root), None).unwrap();
        Self { directory, site, start: Instant::now() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join("root").join(name)
    }

    async fn get(&self, path: &str) -> Result<Response<Body>, FilesError> {
        self.get_at(0, path).await
    }

    async fn get_at(&self, after_ms: u64, path: &str) -> Result<Response<Body>, FilesError> {
        let now = self.start + Duration::from_millis(after_ms);
        self.site.answer(now, &Method::GET, path, &HeaderMap::new()).await
    }

    async fn text_at(&self, after_ms: u64, path: &str) -> String {
        text(self.get_at(after_ms, path).await.unwrap()).await
    }

    async fn get_with(&self, after_ms: u64, path: &str, lines: &[(header::HeaderName, &str)]) -> Response<Body> {
        let value = |value: &str| HeaderValue::from_str(value).unwrap();
        let headers = lines.iter().map(|(name, text)| (name.clone(), value(text))).collect();
        let now = self.start + Duration::from_millis(after_ms);
        self.site.answer(now, &Method::GET, path, &headers).await.unwrap()
    }

    /// Writes a file that was last changed a minute ago.
    fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.path(name), contents).unwrap();
        let file = OpenOptions::new().write(true).open(self.path(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_mins(1)).unwrap();
    }

    async fn ask(&self, method: Method, path: &str, name: header::HeaderName, value: &str) -> Response<Body> {
        let headers = HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())]);
        self.site.answer(Instant::now(), &method, path, &headers).await.unwrap()
    }
}

fn settings(root: PathBuf) -> SiteSettings {
    SiteSettings {
        compress: None,
        root,
        index: vec!["index.html".into()],
        cache_control: Some(HeaderValue::from_static("max-age=60")),
        listing: false,
        manifest: None,
        fallback: None,
        precompressed: true,
        cache_file_bytes: SMALL,
        cache_total_bytes: 1 << 20,
    }
}

async fn bytes(mut response: Response<Body>) -> Result<Vec<u8>, crate::http::BodyError> {
    let mut received = Vec::new();
    while let Some(frame) = response.body_mut().frame().await {
        received.extend_from_slice(&frame?.into_data().unwrap());
    }
    Ok(received)
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(bytes(response).await.unwrap()).unwrap()
}

fn is_missing(answer: &Result<Response<Body>, FilesError>) -> bool {
    matches!(answer, Err(FilesError::NotFound))
}

#[tokio::test]
async fn a_file_is_served_the_first_time_and_from_memory() {
    let house = House::new();
    for _ in 0..2 {
        let response = house.get("a.css").await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/css; charset=utf-8");
        assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert_eq!(response.headers()[header::CACHE_CONTROL], "max-age=60");
        assert_eq!(text(response).await, "body{}");
    }
    assert!(matches!(house.site.memory.look_up("a.css", house.start), Lookup::Fresh(_)));
}

#[tokio::test]
async fn a_large_file_streams_and_is_not_kept() {
    let house = House::new();
    let response = house.get("large.bin").await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "300000");
    assert_eq!(response.body().size_hint().exact(), Some(300_000));
    assert!(bytes(response).await.unwrap() == vec![b'x'; 300_000]);
    assert!(matches!(house.site.memory.look_up("large.bin", house.start), Lookup::Absent));
}

#[tokio::test]
async fn a_directory_redirects_without_its_slash_and_serves_its_index_with_it() {
    let house = House::new();
    let response = house.get("docs").await.unwrap();
    assert_eq!(response.status(), 301);
    assert_eq!(response.headers()[header::LOCATION], "docs/");
    for _ in 0..2 {
        let response = house.get("docs/").await.unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(text(response).await, "<p>docs");
    }
    assert!(is_missing(&house.get("").await));
}

#[tokio::test]
async fn nothing_outside_the_root_or_hidden_in_it_is_served() {
    let house = House::new();
    symlink("../secret", house.path("link")).unwrap();
    symlink(house.directory.path(), house.path("up")).unwrap();
    let directory = fs::File::open(house.path("")).unwrap();
    rustix::fs::mkfifoat(&directory, "fifo", rustix::fs::Mode::RUSR).unwrap();
    for path in [
        "../secret",
        "..",
        "../",
        "docs/../../secret",
        "docs/../a.css",
        "..\\secret",
        "a.css\0",
        "a.css\0.png",
        "....//secret",
        "/etc/passwd",
        "//etc/passwd",
        "docs//index.html",
        ".env",
        "docs/.env",
        "./a.css",
        "link",
        "up/secret",
        "up",
        "fifo",
        "a.css/",
        "absent",
    ] {
        assert!(is_missing(&house.get(path).await), "{path:?}");
    }
    assert_eq!(house.text_at(0, ".well-known/security.txt").await, "Contact: us");
}

#[tokio::test]
async fn a_link_within_the_root_is_served() {
    let house = House::new();
    symlink("docs/index.html", house.path("link.html")).unwrap();
    assert_eq!(house.text_at(0, "link.html").await, "<p>docs");
}

#[tokio::test]
async fn rfc9110_15_5_6_only_get_and_head_are_allowed() {
    let house = House::new();
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS, Method::PATCH] {
        for path in ["a.css", "absent"] {
            let answer = house.site.answer(Instant::now(), &method, path, &HeaderMap::new()).await;
            assert!(matches!(answer, Err(FilesError::MethodNotAllowed)), "{method}");
        }
    }
}

#[tokio::test]
async fn rfc9110_9_3_2_head_says_what_get_would_and_sends_nothing() {
    let house = House::new();
    for path in ["a.css", "large.bin"] {
        let get = house.get(path).await.unwrap();
        let head = house.site.answer(Instant::now(), &Method::HEAD, path, &HeaderMap::new()).await.unwrap();
        assert_eq!(head.headers(), get.headers());
        assert!(bytes(head).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn rfc9110_13_1_2_a_tag_that_still_holds_is_answered_304() {
    let house = House::new();
    for path in ["a.css", "large.bin"] {
        let etag = house.get(path).await.unwrap().headers()[header::ETAG].to_str().unwrap().to_owned();
        assert!(etag.starts_with('"'));
        for tag in [etag.clone(), format!("W/{etag}")] {
            let response = house.ask(Method::GET, path, header::IF_NONE_MATCH, &tag).await;
            assert_eq!(response.status(), 304);
            assert_eq!(response.headers()[header::ETAG], etag.as_str());
            assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
            assert!(response.body().is_end_stream());
        }
    }
}

#[tokio::test]
async fn rfc9110_15_3_7_a_range_is_cut_from_memory_and_from_the_stream() {
    let house = House::new();
    let response = house.ask(Method::GET, "a.css", header::RANGE, "bytes=1-3").await;
    assert_eq!(response.status(), 206);
    assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes 1-3/6");
    assert_eq!(text(response).await, "ody");
    let response = house.ask(Method::GET, "large.bin", header::RANGE, "bytes=-200000").await;
    assert_eq!(response.headers()[header::CONTENT_RANGE], "bytes 100000-299999/300000");
    assert_eq!(bytes(response).await.unwrap().len(), 200_000);
}

#[tokio::test]
async fn rfc9110_15_3_7_2_several_ranges_come_in_parts_from_memory_and_from_the_stream() {
    let house = House::new();
    house.write("long.txt", (0..100).map(|line| format!("line {line:04}\n")).collect::<Vec<_>>().concat());
    for (path, ranges, parts) in [
        ("long.txt", "bytes=0-8,-10,9000-", [("bytes 0-8/1000", "line 0000"), ("bytes 990-999/1000", "line 0099\n")]),
        ("large.bin", "bytes=-2,0-0", [("bytes 299998-299999/300000", "xx"), ("bytes 0-0/300000", "x")]),
    ] {
        let response = house.ask(Method::GET, path, header::RANGE, ranges).await;
        assert_eq!(response.status(), 206);
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap().to_owned();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let length = response.headers()[header::CONTENT_LENGTH].to_str().unwrap().to_owned();
        let body = text(response).await;
        assert_eq!(body.len().to_string(), length);
        let own = if path == "long.txt" { "text/plain; charset=utf-8" } else { "application/octet-stream" };
        let part = |(range, bytes)| {
            format!("--{boundary}\r\nContent-Type: {own}\r\nContent-Range: {range}\r\n\r\n{bytes}\r\n")
        };
        assert_eq!(body, parts.map(part).concat() + &format!("--{boundary}--\r\n"));
    }
}

#[tokio::test]
async fn rfc9110_15_5_17_a_range_outside_fails_with_the_length() {
    let house = House::new();
    let headers = HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static("bytes=6-"))]);
    let answer = house.site.answer(Instant::now(), &Method::GET, "a.css", &headers).await;
    assert!(matches!(answer, Err(FilesError::RangeNotSatisfiable { len: 6 })));
}

#[tokio::test]
async fn a_replaced_file_is_seen_whole_within_a_second() {
    let house = House::new();
    let old_tag = house.get("a.css").await.unwrap().headers()[header::ETAG].clone();
    fs::write(house.path("new"), "p{top:0}").unwrap();
    fs::rename(house.path("new"), house.path("a.css")).unwrap();
    assert_eq!(house.text_at(799, "a.css").await, "body{}");
    let response = house.get_at(1_000, "a.css").await.unwrap();
    assert_ne!(response.headers()[header::ETAG], old_tag);
    assert_eq!(response.headers()[header::CONTENT_LENGTH], "8");
    assert_eq!(text(response).await, "p{top:0}");
}

#[tokio::test]
async fn a_replaced_root_is_seen_within_a_second_even_by_what_was_read_just_before_it_was_looked_at() {
    let house = House::new();
    let root = house.path("");
    assert_eq!(house.text_at(0, "docs/index.html").await, "<p>docs");
    fs::rename(&root, house.directory.path().join("old")).unwrap();
    fs::create_dir(&root).unwrap();
    fs::write(house.path("a.css"), "p{top:0}").unwrap();
    assert_eq!(house.text_at(90, "a.css").await, "body{}");
    assert_eq!(house.text_at(889, "a.css").await, "body{}");
    assert_eq!(house.text_at(1_000, "a.css").await, "p{top:0}");
}

#[tokio::test]
async fn a_change_that_keeps_length_and_modification_time_is_seen_all_the_same() {
    let house = House::new();
    let path = house.path("a.css");
    assert_eq!(house.text_at(0, "a.css").await, "body{}");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, "same()").unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    assert_eq!(house.text_at(1_000, "a.css").await, "same()");
}

#[tokio::test]
async fn an_unchanged_file_is_confirmed_and_keeps_its_contents() {
    let house = House::new();
    house.get("a.css").await.unwrap();
    let Lookup::Fresh(read) = house.site.memory.look_up("a.css", house.start) else { panic!("not kept") };
    let identity = Identity::of(&fs::File::open(house.path("a.css")).unwrap()).unwrap();
    let wall = SystemTime::now();
    let representation = Representation::new(&identity, "a.css", None, wall);
    let content = read.variants.choose(&HeaderMap::new()).content.clone();
    let state = State { files: Variants::new(identity, Vec::new()), hashed: false };
    let held = Variants::new(Held { representation, content }, Vec::new());
    let settled = house.site.memory.keep("a.css", house.start, held, state, true);
    assert_eq!(house.text_at(5_000, "a.css").await, "body{}");
    let later = house.start + Duration::from_secs(5);
    let Lookup::Fresh(confirmed) = house.site.memory.look_up("a.css", later) else { panic!("not confirmed") };
    assert!(Arc::ptr_eq(&settled, &confirmed));
}

#[tokio::test]
async fn a_file_that_goes_or_grows_or_becomes_a_directory_leaves_memory() {
    let house = House::new();
    for path in ["gone", "grown", "turned"] {
        fs::write(house.path(path), "small").unwrap();
        assert_eq!(house.text_at(0, path).await, "small");
    }
    fs::remove_file(house.path("gone")).unwrap();
    fs::write(house.path("grown"), vec![b'y'; 2 * usize::try_from(SMALL).unwrap()]).unwrap();
    fs::remove_file(house.path("turned")).unwrap();
    fs::create_dir(house.path("turned")).unwrap();
    assert!(is_missing(&house.get_at(1_000, "gone").await));
    assert_eq!(house.text_at(1_000, "grown").await.len() as u64, 2 * SMALL);
    assert_eq!(house.get_at(1_000, "turned").await.unwrap().status(), 301);
    for path in ["gone", "grown", "turned"] {
        assert!(matches!(house.site.memory.look_up(path, house.start), Lookup::Absent), "{path}");
    }
}

#[tokio::test]
async fn a_missing_file_is_served_as_soon_as_it_is_there() {
    let house = House::new();
    assert!(is_missing(&house.get("late").await));
    fs::write(house.path("late"), "here").unwrap();
    assert_eq!(house.text_at(0, "late").await, "here");
}

#[tokio::test]
async fn a_file_that_shrinks_while_it_is_sent_breaks_the_body() {
    let house = House::new();
    let mut response = house.get("large.bin").await.unwrap();
    response.body_mut().frame().await.unwrap().unwrap();
    OpenOptions::new().write(true).open(house.path("large.bin")).unwrap().set_len(10).unwrap();
    let error = bytes(response).await.unwrap_err();
    assert!(error.is::<crate::files::TransferError>());
}

#[tokio::test]
async fn more_requests_than_turns_are_all_answered() {
    let house = House::new();
    let mut requests = tokio::task::JoinSet::new();
    let site = Arc::new(house.site);
    for _ in 0..4 * VISITS_AT_ONCE {
        let site = Arc::clone(&site);
        requests.spawn(async move {
            text(site.answer(Instant::now(), &Method::GET, "a.css", &HeaderMap::new()).await.unwrap()).await
        });
    }
    assert!(requests.join_all().await.iter().all(|body| body == "body{}"));
    assert_eq!(site.visits.available_permits(), VISITS_AT_ONCE);
}

#[test]
fn index_names_are_plain_file_names_and_roots_are_directories() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["../a", "a/b", "", ".hidden", "."] {
        let settings = SiteSettings { index: vec![name.into()], ..settings(directory.path().to_owned()) };
        assert_eq!(Site::open(settings, None).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name:?}");
    }
    assert!(Site::open(settings(directory.path().join("absent")), None).is_err());
}
