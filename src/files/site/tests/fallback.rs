//! The page of a single-page application, seen from the requests.

use super::*;

fn house() -> House {
    let house = House::new();
    house.write("app.html", "<p>app");
    let settings = SiteSettings { fallback: Some("app.html".into()), ..settings(house.path("")) };
    House { site: Site::open(settings, None).unwrap(), start: Instant::now(), ..house }
}

#[tokio::test]
async fn paths_of_the_application_are_answered_as_its_page_would_be() {
    let house = house();
    let page = house.get("app.html").await.unwrap();
    fs::create_dir(house.path("bare")).unwrap();
    for path in ["users/7", "users/7/", "deep/v1.2/er", "", "bare/", "a.css/x"] {
        let response = house.get(path).await.unwrap();
        assert_eq!((response.status().as_u16(), response.headers()), (200, page.headers()), "{path:?}");
        assert_eq!(text(response).await, "<p>app");
    }
    let tag = page.headers()[header::ETAG].to_str().unwrap();
    assert_eq!(house.ask(Method::GET, "users/7", header::IF_NONE_MATCH, tag).await.status(), 304);
    assert_eq!(house.ask(Method::HEAD, "users/7", header::IF_NONE_MATCH, "\"x\"").await.status(), 200);
    let posted = house.site.answer(Instant::now(), &Method::POST, "users/7", &HeaderMap::new()).await;
    assert!(matches!(posted, Err(FilesError::MethodNotAllowed)));
}

#[tokio::test]
async fn missing_files_and_refused_paths_never_fall_back() {
    let house = house();
    for path in ["gone.js", "users/7.png", "../secret", "users//7", ".env", "users/.hidden", ".well-known/x", "a\\b"] {
        assert!(is_missing(&house.get(path).await), "{path:?}");
    }
    assert_eq!(house.get("docs").await.unwrap().status(), 301);
    assert_eq!(house.text_at(0, "docs/").await, "<p>docs");
}

#[tokio::test]
async fn a_path_is_not_remembered_and_a_page_that_is_gone_is_missing() {
    let house = house();
    assert_eq!(house.text_at(0, "users").await, "<p>app");
    assert!(matches!(house.site.memory.look_up("users", house.start), Lookup::Absent));
    fs::write(house.path("users"), "a file now").unwrap();
    assert_eq!(house.text_at(0, "users").await, "a file now");
    fs::remove_file(house.path("app.html")).unwrap();
    assert!(is_missing(&house.get_at(1_000, "others").await));
    let page = Some("page".into());
    let site = Site::open(SiteSettings { fallback: page, ..settings(house.path("")) }, None).unwrap();
    assert!(is_missing(&site.answer(Instant::now(), &Method::GET, "others", &HeaderMap::new()).await));
}

#[tokio::test]
async fn the_page_comes_in_the_coding_that_its_client_takes() {
    let house = house();
    fs::write(house.path("app.html.gz"), "GZIP").unwrap();
    let response = house.ask(Method::GET, "users/7", header::ACCEPT_ENCODING, "gzip").await;
    assert_eq!(response.headers()[header::VARY], "Accept-Encoding");
    assert_eq!(text(response).await, "GZIP");
}
