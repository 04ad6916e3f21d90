//! Holds Cargo.lock to the releases below which a known flaw reaches this gateway.
#![allow(clippy::unwrap_used)]

use std::path::Path;

/// A crate, the lowest release that may be built in, and what is wrong before it.
const FLOORS: [(&str, [u64; 3], &str); 6] = [
    ("hyper", [1, 11, 0], "a Content-Length before a Transfer-Encoding stayed beside it: request smuggling"),
    ("h2", [0, 4, 4], "a flood of CONTINUATION frames costs processor time without bound (RUSTSEC-2024-0332)"),
    ("jsonwebtoken", [10, 3, 0], "a claim of the wrong type passed as if it were absent (GHSA-h395-gr6q-cpjc)"),
    ("quinn-proto", [0, 11, 14], "malformed transport parameters panic the endpoint (RUSTSEC-2026-0037)"),
    ("rustls", [0, 23, 18], "a fragmented ClientHello panics the acceptor (RUSTSEC-2024-0399)"),
    ("rustls-webpki", [0, 103, 13], "a malformed revocation list panics the verifier (RUSTSEC-2026-0104)"),
];

/// Every release of `name` in the lock file.
fn locked(lock: &toml::Table, name: &str) -> Vec<[u64; 3]> {
    let packages = lock["package"].as_array().unwrap().iter();
    let same = packages.filter(|package| package["name"].as_str() == Some(name));
    same.map(|package| release(package["version"].as_str().unwrap())).collect()
}

fn release(version: &str) -> [u64; 3] {
    let numbers = version.split(['-', '+']).next().unwrap();
    let numbers: Vec<u64> = numbers.split('.').map(|number| number.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn no_crate_is_older_than_its_security_floor() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock = std::fs::read_to_string(path).unwrap().parse().unwrap();
    for (name, floor, reason) in FLOORS {
        let versions = locked(&lock, name);
        assert!(!versions.is_empty(), "{name} is not built in any more: take it off this list");
        for version in versions {
            assert!(version >= floor, "{name} {version:?} is older than {floor:?}: {reason}");
        }
    }
}

#[test]
fn releases_compare_by_number() {
    assert!(release("0.103.13") > release("0.103.9"));
    assert!(release("1.11.0") > release("1.9.12"));
    assert_eq!(release("11.1.0-rc.1+build"), [11, 1, 0]);
}
