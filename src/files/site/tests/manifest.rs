//! A manifest, seen from the requests.

use super::*;
use crate::files::ManifestSettings;

const FOREVER: &str = "public, max-age=315360000, immutable";

fn manifest(names: &[(&str, &str)]) -> String {
    let paths: Vec<_> = names.iter().map(|(name, hashed)| format!("\"{name}\": \"{hashed}\"")).collect();
    format!("{{\"paths\": {{{}}}, \"version\": \"1.1\"}}", paths.join(", "))
}

fn with_manifest(names: &[(&str, &str)]) -> House {
    let house = House::new();
    house.write("m.json", manifest(names));
    house.write("a.1f.css", "body{}");
    house.write("large.2e.bin", vec![b'x'; 300_000]);
    let settings = SiteSettings {
        manifest: Some(ManifestSettings { name: "m.json".into(), cache_control: HeaderValue::from_static(FOREVER) }),
        ..settings(house.path(""))
    };
    let manifest = Arc::new(Manifest::open(&settings.root, "m.json").unwrap());
    House { site: Site::open(settings, Some(manifest)).unwrap(), start: Instant::now(), ..house }
}

async fn cache_control(house: &House, after_ms: u64, path: &str) -> String {
    let response = house.get_at(after_ms, path).await.unwrap();
    response.headers()[header::CACHE_CONTROL].to_str().unwrap().to_owned()
}

#[tokio::test]
async fn names_with_a_digest_are_kept_for_ever_and_all_others_as_the_route_says() {
    let house = with_manifest(&[("a.css", "a.1f.css"), ("large.bin", "large.2e.bin")]);
    for _ in 0..2 {
        for (path, expected) in [
            ("a.1f.css", FOREVER),
            ("large.2e.bin", FOREVER),
            ("a.css", "max-age=60"),
            ("large.bin", "max-age=60"),
            ("docs/", "max-age=60"),
            ("m.json", "max-age=60"),
        ] {
            assert_eq!(cache_control(&house, 0, path).await, expected, "{path}");
        }
    }
    let etag = house.get("a.1f.css").await.unwrap().headers()[header::ETAG].to_str().unwrap().to_owned();
    let unchanged = house.ask(Method::GET, "a.1f.css", header::IF_NONE_MATCH, &etag).await;
    assert_eq!(unchanged.status(), 304);
    assert_eq!(unchanged.headers()[header::CACHE_CONTROL], FOREVER);
}

#[tokio::test]
async fn a_new_manifest_changes_what_is_in_memory_too() {
    let house = with_manifest(&[("a.css", "a.1f.css")]);
    assert_eq!(cache_control(&house, 0, "a.1f.css").await, FOREVER);
    assert_eq!(cache_control(&house, 0, "a.css").await, "max-age=60");
    house.write("m.json", manifest(&[("b.css", "b.33.css")]));
    house.write("b.33.css", "p{}");
    assert_eq!(cache_control(&house, 1_000, "b.33.css").await, FOREVER);
    assert_eq!(cache_control(&house, 1_000, "a.1f.css").await, "max-age=60");
    fs::remove_file(house.path("m.json")).unwrap();
    assert_eq!(cache_control(&house, 3_000, "b.33.css").await, FOREVER);
}
