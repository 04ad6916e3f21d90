//! The listings of one site: which one is asked for, and how it is answered.
//!
//! Owns: the choice between HTML and JSON (RFC 9110 section 12.5.1), the headers of a listing and its 304, how long one is believed, and
//! how many directories are read at once. Refuses to know: which names there are, and how they are written.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::answer::redirect_to_slash;
use super::directory;
use super::error::FilesError;
use super::listing::{self, Place, STYLE};
use super::open::Root;
use super::resolve::{Wanted, resolve};
use crate::http::conditional::{Validators, Verdict, evaluate};
use crate::http::{Body, accept};

/// A listing is read anew after this long, as files are.
const BELIEVE_FOR: Duration = Duration::from_secs(1);
/// Bytes of listings kept for that long. They save work and share what slow clients are being sent.
const KEPT_BYTES: u64 = 8 * 1024 * 1024;
/// Directories read at once: a large one takes a blocking thread for a while, and files need threads, too.
const READ_AT_ONCE: usize = 2;

const HTML: &str = "text/html";
const JSON: &str = "application/json";
/// Clients ask again each time: nobody is told when a file comes or goes.
const NO_CACHE: HeaderValue = HeaderValue::from_static("no-cache");
const BY_ACCEPT: HeaderValue = HeaderValue::from_static("Accept");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// What a request for a directory says.
#[derive(Debug, Clone, Copy)]
pub struct DirectoryRequest<'r> {
    /// GET or HEAD.
    pub method: &'r Method,
    /// The path below the root, as [`Site::answer`](super::Site::answer) has it.
    pub path: &'r str,
    /// The whole path, decoded, as the client knows it.
    pub shown: &'r str,
    /// The query, without its question mark.
    pub query: Option<&'r str>,
    /// The request's fields.
    pub headers: &'r HeaderMap,
}

/// The listings of one site in one worker.
#[derive(Debug)]
pub(super) struct Lists {
    recent: Cache<Key, Arc<Rendered>, Weight>,
    turns: Arc<Semaphore>,
    policy: HeaderValue,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    path: Box<str>,
    shown: Box<str>,
    page: usize,
    json: bool,
}

#[derive(Debug)]
struct Rendered {
    body: Bytes,
    etag: HeaderValue,
    made: Instant,
}

impl Lists {
    pub(super) fn new() -> Self {
        const EXPECTED: usize = 64;
        let recent = Cache::with_weighter(EXPECTED, KEPT_BYTES, Weight);
        Self { recent, turns: Arc::new(Semaphore::new(READ_AT_ONCE)), policy: policy() }
    }

    /// Answers with 200, 301 or 304. A visit to the file system takes one of `visits`.
    ///
    /// Cancel-safe: a visit that nobody waits for any more ends by itself, and counts until then.
    pub(super) async fn answer(
        &self,
        root: &Arc<Root>,
        visits: &Arc<Semaphore>,
        asked: DirectoryRequest<'_>,
    ) -> Result<Response<Body>, FilesError> {
        let Some(Wanted::Directory(_)) = resolve(asked.path) else { return Err(FilesError::NotFound) };
        if !asked.shown.ends_with('/') {
            let kept = NO_CACHE; // as long as the list it leads to
            return Ok(redirect_to_slash(asked.shown, Some(&kept))); // the root, by the route's own path
        }
        let json = accept::prefers(asked.headers, JSON, HTML);
        let key = Key { path: asked.path.into(), shown: asked.shown.into(), page: page(asked.query), json };
        let now = Instant::now();
        let rendered = match self.believed(&key, now) {
            Some(rendered) => rendered,
            None => self.visit(root, visits, key, now).await?,
        };
        self.tell(&rendered, json, asked)
    }

    fn believed(&self, key: &Key, now: Instant) -> Option<Arc<Rendered>> {
        self.recent.get(key).filter(|rendered| now.saturating_duration_since(rendered.made) < BELIEVE_FOR)
    }

    async fn visit(
        &self,
        root: &Arc<Root>,
        visits: &Arc<Semaphore>,
        key: Key,
        now: Instant,
    ) -> Result<Arc<Rendered>, FilesError> {
        let closed = |closed| FilesError::Io(io::Error::other(closed));
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(closed)?;
        // Those ahead may have read what this request came for.
        if let Some(rendered) = self.believed(&key, now) {
            return Ok(rendered);
        }
        let visit = Arc::clone(visits).acquire_owned().await.map_err(closed)?;
        let (root, wanted) = (Arc::clone(root), key.clone());
        let reading = spawn_blocking(move || {
            let _turns = (turn, visit); // they go with the visit, not with the request
            render(&root, &wanted, now)
        });
        let rendered = reading.await.map_err(io::Error::other).flatten().map_err(FilesError::Io)?;
        let rendered = Arc::new(rendered.ok_or(FilesError::NotFound)?);
        self.recent.insert(key, Arc::clone(&rendered));
        Ok(rendered)
    }

    fn tell(&self, rendered: &Rendered, json: bool, asked: DirectoryRequest<'_>) -> Result<Response<Body>, FilesError> {
        let validators = Validators { etag: rendered.etag.clone(), modified_secs: None, settled: false };
        let known = match evaluate(asked.headers, &validators) {
            Verdict::Proceed => false,
            Verdict::NotModified => true,
            Verdict::Failed => return Err(FilesError::PreconditionFailed),
        };
        let mut headers = HeaderMap::with_capacity(7);
        headers.insert(header::ETAG, rendered.etag.clone());
        headers.insert(header::CACHE_CONTROL, NO_CACHE);
        headers.insert(header::VARY, BY_ACCEPT);
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        if !known {
            let kind = if json { JSON } else { "text/html; charset=utf-8" };
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
            headers.insert(header::CONTENT_LENGTH, rendered.body.len().into());
            if !json {
                headers.insert(header::CONTENT_SECURITY_POLICY, self.policy.clone());
            }
        }
        let silent = known || *asked.method == Method::HEAD;
        let mut response = Response::new(if silent { Body::empty() } else { Body::full(rendered.body.clone()) });
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// Which page is asked for. What is no number asks for the first.
fn page(query: Option<&str>) -> usize {
    let mut fields = query.unwrap_or_default().split('&');
    let number = fields.find_map(|field| field.strip_prefix("page="));
    let number = number.filter(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    number.map_or(1, |number| number.parse().unwrap_or(usize::MAX))
}

fn render(root: &Root, key: &Key, now: Instant) -> io::Result<Option<Rendered>> {
    let Some(Wanted::Directory(directory)) = resolve(&key.path) else { return Ok(None) };
    let Some(listing) = directory::read(root, directory, key.page, now)? else { return Ok(None) };
    let place = Place { shown: &key.shown, parent: !directory.is_empty() };
    let body = if key.json { listing::json(&listing, place) } else { listing::html(&listing, place) };
    let hash = digest::digest(&digest::SHA256, body.as_bytes());
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
    let etag = HeaderValue::try_from(etag).expect("base64url in quotes is visible ASCII");
    Ok(Some(Rendered { body: body.into(), etag, made: now }))
}

/// Nothing is loaded, run or sent; the one style is known by its hash.
fn policy() -> HeaderValue {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'");
    HeaderValue::try_from(policy).expect("base64 between ASCII")
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Key, Arc<Rendered>> for Weight {
    /// Bytes of memory, the bookkeeping by a generous guess.
    fn weight(&self, key: &Key, rendered: &Arc<Rendered>) -> u64 {
        const BOOKKEEPING_BYTES: usize = 512;
        (key.path.len() + key.shown.len() + rendered.body.len() + BOOKKEEPING_BYTES) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use http::HeaderName;
    use http_body_util::BodyExt;
    use tempfile::TempDir;

    use super::*;

    struct House {
        home: TempDir,
        root: Arc<Root>,
        visits: Arc<Semaphore>,
        lists: Lists,
    }

    impl House {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            fs::create_dir(home.path().join("docs")).unwrap();
            fs::write(home.path().join("docs/a.txt"), "0123456789").unwrap();
            let root = Arc::new(Root::open(home.path().to_owned(), Instant::now()).unwrap());
            Self { home, root, visits: Arc::new(Semaphore::new(1)), lists: Lists::new() }
        }

        async fn ask(
            &self,
            method: Method,
            shown: &str,
            query: Option<&str>,
            fields: &[(HeaderName, &str)],
        ) -> Result<Response<Body>, FilesError> {
            let headers =
                fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect();
            let path = shown.strip_prefix("/media").unwrap().trim_start_matches('/');
            let asked = DirectoryRequest { method: &method, path, shown, query, headers: &headers };
            self.lists.answer(&self.root, &self.visits, asked).await
        }

        async fn get(&self, shown: &str, fields: &[(HeaderName, &str)]) -> Response<Body> {
            self.ask(Method::GET, shown, None, fields).await.unwrap()
        }
    }

    async fn text(mut response: Response<Body>) -> String {
        let mut text = String::new();
        while let Some(frame) = response.body_mut().frame().await {
            text.push_str(str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
        text
    }

    #[tokio::test]
    async fn people_get_a_page_that_may_load_and_run_nothing() {
        let house = House::new();
        let answer = house.get("/media/docs/", &[]).await;
        let field = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(field("content-type"), "text/html; charset=utf-8");
        assert_eq!(
            (field("cache-control"), field("vary"), field("x-content-type-options")),
            ("no-cache".into(), "Accept".into(), "nosniff".into())
        );
        let policy = field("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"), "{policy}");
        let length = field("content-length");
        let page = text(answer).await;
        assert_eq!(page.len().to_string(), length);
        assert!(page.contains("Index of /media/docs/") && page.contains("href=\"a.txt\""), "{page}");
        assert_eq!(page.matches("<style>").count(), 1);
        assert!(page.contains(&format!("<style>{STYLE}</style>")), "the policy names the style that is there");
    }

    #[tokio::test]
    async fn programs_get_json_with_a_tag_of_its_own() {
        let house = House::new();
        let page = house.get("/media/docs/", &[]).await;
        let json = house.get("/media/docs/", &[(header::ACCEPT, "application/json")]).await;
        assert_eq!(json.headers()[header::CONTENT_TYPE], JSON);
        assert!(!json.headers().contains_key(header::CONTENT_SECURITY_POLICY));
        assert_ne!(json.headers()[header::ETAG], page.headers()[header::ETAG]);
        assert!(text(json).await.starts_with("{\"path\":\"/media/docs/\",\"page\":1,"));
    }

    #[tokio::test]
    async fn a_client_that_has_it_is_told_so() {
        let house = House::new();
        let etag = house.get("/media/docs/", &[]).await.headers()[header::ETAG].clone();
        let again = house.get("/media/docs/", &[(header::IF_NONE_MATCH, etag.to_str().unwrap())]).await;
        assert_eq!((again.status(), &again.headers()[header::ETAG]), (StatusCode::NOT_MODIFIED, &etag));
        assert!(again.headers().contains_key(header::VARY) && text(again).await.is_empty());
        let refused = house.ask(Method::GET, "/media/docs/", None, &[(header::IF_MATCH, "\"other\"")]).await;
        assert!(matches!(refused, Err(FilesError::PreconditionFailed)));
        let head = house.ask(Method::HEAD, "/media/docs/", None, &[]).await.unwrap();
        assert_eq!(head.headers()[header::ETAG], etag);
        assert_ne!(head.headers()[header::CONTENT_LENGTH], "0");
        assert!(text(head).await.is_empty());
    }

    #[tokio::test]
    async fn a_change_is_seen_when_a_listing_is_not_believed_any_more() {
        let house = House::new();
        let before = text(house.get("/media/docs/", &[]).await).await;
        fs::write(house.home.path().join("docs/b.txt"), "new").unwrap();
        let key = Key { path: "docs/".into(), shown: "/media/docs/".into(), page: 1, json: false };
        let made = house.lists.recent.get(&key).unwrap().made;
        assert!(house.lists.believed(&key, made + Duration::from_millis(999)).is_some());
        assert!(house.lists.believed(&key, made + BELIEVE_FOR).is_none());
        house.lists.recent.remove(&key);
        let after = text(house.get("/media/docs/", &[]).await).await;
        assert!(!before.contains("b.txt") && after.contains("b.txt"));
    }

    #[tokio::test]
    async fn what_is_no_directory_is_not_found() {
        let house = House::new();
        for (shown, query) in [
            ("/media/none/", None),
            ("/media/docs/a.txt/", None),
            ("/media/../", None),
            ("/media/.git/", None),
            ("/media/docs/", Some("page=2")),
            ("/media/docs/", Some("a=b&page=18446744073709551616")),
        ] {
            let answer = house.ask(Method::GET, shown, query, &[]).await;
            assert!(matches!(answer, Err(FilesError::NotFound)), "{shown} {query:?}");
        }
        assert_eq!(house.get("/media", &[]).await.headers()[header::LOCATION], "media/");
    }

    #[test]
    fn the_query_names_a_page_or_the_first_is_meant() {
        for (query, number) in [
            (None, 1),
            (Some(""), 1),
            (Some("page=7"), 7),
            (Some("x=1&page=2&page=3"), 2),
            (Some("page="), 1),
            (Some("page=-1"), 1),
            (Some("page=+1"), 1),
            (Some("page=0"), 0),
            (Some("pages=3"), 1),
        ] {
            assert_eq!(page(query), number, "{query:?}");
        }
    }
}
