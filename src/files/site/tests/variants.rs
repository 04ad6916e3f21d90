//! Precompressed siblings, seen from the requests.

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RANGE, VARY};

use super::*;

/// A small stylesheet and a large script, each with siblings.
fn house() -> House {
    let house = House::new();
    house.write("a.css", "body{}");
    house.write("large.bin", vec![b'x'; 300_000]);
    for (suffix, small, large) in [(".zst", "Z", 'z'), (".br", "BR", 'b'), (".gz", "GZIP", 'g')] {
        fs::write(house.path(&format!("a.css{suffix}")), small).unwrap();
        fs::write(house.path(&format!("large.bin{suffix}")), large.to_string().repeat(2000)).unwrap();
    }
    house
}

fn field(response: &Response<Body>, name: header::HeaderName) -> Option<&str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn rfc9110_12_5_3_each_client_gets_the_coding_it_takes_from_memory_and_from_the_stream() {
    let house = house();
    for (path, kind, lengths) in [
        ("a.css", "text/css; charset=utf-8", ["6", "1", "2", "4"]),
        ("large.bin", "application/octet-stream", ["300000", "2000", "2000", "2000"]),
    ] {
        let mut tags = Vec::new();
        for _ in 0..2 {
            for (accepted, coding, length) in [
                ("identity", None, lengths[0]),
                ("gzip, zstd, br", Some("zstd"), lengths[1]),
                ("gzip, br", Some("br"), lengths[2]),
                ("gzip", Some("gzip"), lengths[3]),
            ] {
                let response = house.get_with(0, path, &[(ACCEPT_ENCODING, accepted)]).await;
                assert_eq!(field(&response, CONTENT_ENCODING), coding, "{path} {accepted}");
                assert_eq!(field(&response, CONTENT_TYPE), Some(kind));
                assert_eq!(field(&response, CONTENT_LENGTH), Some(length), "{path} {accepted}");
                assert_eq!(field(&response, VARY), Some("Accept-Encoding"));
                tags.push(field(&response, ETAG).unwrap().to_owned());
                assert_eq!(bytes(response).await.unwrap().len().to_string(), length);
            }
        }
        assert_eq!(tags[..4], tags[4..]);
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 4, "a strong tag differs with the coding: {tags:?}");
    }
    assert!(house.get("a.css").await.unwrap().headers().get(CONTENT_ENCODING).is_none());
}

#[tokio::test]
async fn rfc9110_13_1_2_and_14_conditions_and_ranges_are_about_the_chosen_variant() {
    let house = house();
    for path in ["a.css", "large.bin"] {
        let tag = |response: &Response<Body>| field(response, ETAG).unwrap().to_owned();
        let gzip = tag(&house.get_with(0, path, &[(ACCEPT_ENCODING, "gzip")]).await);
        let plain = tag(&house.get(path).await.unwrap());
        for (accepted, condition, status) in
            [("gzip", &gzip, 304), ("identity", &plain, 304), ("gzip", &plain, 200), ("br", &gzip, 200)]
        {
            let lines = [(ACCEPT_ENCODING, accepted), (IF_NONE_MATCH, condition.as_str())];
            let response = house.get_with(0, path, &lines).await;
            assert_eq!(response.status(), status, "{path} {accepted} {condition}");
            assert_eq!(field(&response, VARY), Some("Accept-Encoding"));
        }
        let part = house.get_with(0, path, &[(ACCEPT_ENCODING, "gzip"), (RANGE, "bytes=1-2")]).await;
        assert_eq!((part.status().as_u16(), field(&part, VARY)), (206, Some("Accept-Encoding")));
        assert_eq!((field(&part, ETAG), field(&part, CONTENT_ENCODING)), (Some(&*gzip), Some("gzip")));
        assert_eq!(text(part).await, if path == "a.css" { "ZI" } else { "gg" });
    }
}

#[tokio::test]
async fn a_file_without_siblings_says_nothing_of_codings() {
    let house = House::new();
    let response = house.get_with(0, "a.css", &[(ACCEPT_ENCODING, "gzip")]).await;
    assert_eq!((field(&response, VARY), field(&response, CONTENT_ENCODING)), (None, None));
    let site = Site::open(SiteSettings { precompressed: false, ..settings(house.path("")) }, None).unwrap();
    house.write("a.css.gz", "GZIP");
    fs::write(house.path("a.css.gz"), "GZIP").unwrap();
    let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
    let response = site.answer(Instant::now(), &Method::GET, "a.css", &headers).await.unwrap();
    assert_eq!(field(&response, VARY), None);
    assert_eq!(text(response).await, "body{}");
}

#[tokio::test]
async fn a_sibling_that_appears_changes_or_vanishes_is_seen_within_a_second() {
    let house = House::new();
    house.write("a.css", "body{}");
    let gzip = [(ACCEPT_ENCODING, "gzip")];
    assert_eq!(text(house.get_with(0, "a.css", &gzip).await).await, "body{}");
    fs::write(house.path("a.css.gz"), "GZIP").unwrap();
    assert_eq!(text(house.get_with(799, "a.css", &gzip).await).await, "body{}");
    assert_eq!(text(house.get_with(1_000, "a.css", &gzip).await).await, "GZIP");
    fs::write(house.path("a.css.gz"), "gzip").unwrap();
    assert_eq!(text(house.get_with(2_000, "a.css", &gzip).await).await, "gzip");
    fs::write(house.path("a.css"), "p{top:0}").unwrap();
    house.write("a.css.gz", "of before");
    assert_eq!(text(house.get_with(3_000, "a.css", &gzip).await).await, "p{top:0}");
    fs::write(house.path("a.css.gz"), "GZ").unwrap();
    assert_eq!(text(house.get_with(4_000, "a.css", &gzip).await).await, "GZ");
    fs::remove_file(house.path("a.css.gz")).unwrap();
    assert_eq!(text(house.get_with(5_000, "a.css", &gzip).await).await, "p{top:0}");
}

#[tokio::test]
async fn a_directory_is_answered_with_the_sibling_of_its_index() {
    let house = House::new();
    fs::write(house.path("docs/index.html.br"), "BR").unwrap();
    let response = house.get_with(0, "docs/", &[(ACCEPT_ENCODING, "br")]).await;
    assert_eq!(field(&response, CONTENT_TYPE), Some("text/html; charset=utf-8"));
    assert_eq!(text(response).await, "BR");
}
