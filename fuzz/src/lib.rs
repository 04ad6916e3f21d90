//! What is thrown at the judge and at the door: bytes become requests, key sets, proofs, PROXY headers and streams of HTTP/3, and what
//! must never happen is asserted.
//!
//! The fuzzing targets call these, and so does a test of the gateway with random bytes, on the stable compiler.

#![allow(clippy::unwrap_used)] // what is unwrapped here is of our own making

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use portcullis::auth::{
    Access, Algorithm, Asking, Authority, Cause, DenyList, Expectation, Forwarding, Issuer, IssuerSettings, KeySource,
    OriginGuard, Place, Policy, PolicySettings, Possession, RouteAuth, Secret, SigningKey, UnixSeconds, check_key_set,
    check_proof, explain_token, inspect, mint,
};
use portcullis::http::Target;
use portcullis::http::http3::{Fault, Frames, PeerStream, Piece, request_head};
use portcullis::proxy_protocol::{Announced, LONGEST, Progress, Version, read, write};
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;
/// Most bytes of a head.
const SECTION: usize = 200;
const SECRET: &[u8] = b"a secret that everybody who reads this file may know";
/// The Ed25519 key of RFC 8037 appendix A.1.
const ED25519: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
const ED25519_PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
/// The proof of RFC 9449 section 7.1.
const PROOF: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo\
    RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2lj\
    OC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoi\
    ZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-\
    jfxSYoMxhAJpLjA";

/// Bytes become a request; the first two say what kind, the rest what stands in it: a good token with changes, or just those bytes.
///
/// Who is let through must bear, byte for byte, a token that was signed, and a judge that remembers must say what a fresh one says.
/// Whether anybody was comes out.
pub fn authorize(data: &[u8]) -> bool {
    thread_local!(static COURT: RefCell<Option<Court>> = const { RefCell::new(None) });
    let Some((&[kind, place], rest)) = data.split_first_chunk() else { return false };
    COURT.with_borrow_mut(|court| court.get_or_insert_with(Court::new).try_one(kind, place, rest))
}

/// Bytes become a key set, as a file and as what a URL answers.
pub fn jwks(data: &[u8]) {
    let findings = check_key_set(data);
    assert!(!findings.is_empty(), "there is always something to say of a set");
    let source = KeySource::Jwks { bytes: data.to_vec(), label: "fuzz".into() };
    let settings = IssuerSettings { keys: vec![source.into()], ..IssuerSettings::named("fuzz") };
    match Issuer::compile(settings) {
        Ok((issuer, problems)) => {
            assert!(issuer.key_count() > 0 && problems.iter().all(|problem| !problem.fatal));
            let mut private = issuer.public_jwks().into_iter().map(|jwk| jwk.to_json());
            assert!(private.all(|jwk| ["d", "p", "q", "k"].iter().all(|name| jwk.get(*name).is_none())));
        }
        Err(problems) => assert!(problems.iter().any(|problem| problem.fatal)),
    }
}

/// Bytes become a proof of possession: changes of a good one, or just those bytes. What holds must have been signed;
/// whether it does comes out.
pub fn dpop(data: &[u8]) -> bool {
    let Some((&kind, rest)) = data.split_first() else { return false };
    let proof = if kind & 1 == 0 { changed(PROOF, rest) } else { String::from_utf8_lossy(rest).into_owned() };
    let expected = Expectation {
        method: "GET",
        scheme: "https",
        authority: "resource.example.org",
        path: "/protectedresource",
        access_token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
        now: UnixSeconds::from_secs(1_562_262_618),
        window_secs: 60,
        algorithms: &Algorithm::ALL,
    };
    let held = check_proof(&proof, &expected);
    if let Ok(held) = &held {
        let signed = |proof: &str| proof.rsplit_once('.').map(|(signed, _)| signed.to_owned());
        // ECDSA has two signatures of everything, so only what was signed is compared.
        assert!(signed(&proof) == signed(PROOF) || own_key(&proof), "a forged proof holds: {proof}");
        assert!(held.nonce.as_ref().is_none_or(|nonce| nonce.len() <= 256));
    }
    held.is_ok()
}

/// Bytes become the beginning of a relay's connection; whether they begin with a whole header comes out.
///
/// The verdict must not depend on how they arrive, nothing behind the header may count, and what is announced can be written anew.
pub fn proxy_header(data: &[u8]) -> bool {
    let Ok(Progress::Whole { announced, length }) = read(data) else {
        let end = (0..=data.len()).find(|end| read(&data[..*end]) != Ok(Progress::More));
        assert_eq!(end.map_or(Ok(Progress::More), |end| read(&data[..end])), read(data));
        return false;
    };
    assert!(length <= data.len().min(LONGEST));
    assert_eq!(read(&data[..length]), read(data));
    assert!((0..length).all(|end| read(&data[..end]) == Ok(Progress::More)));
    if let Announced::Relayed { source, destination } = announced {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        for version in [Version::V1, Version::V2] {
            let header = write(version, source, destination);
            let Ok(Progress::Whole { announced: Announced::Relayed { source: from, destination: to }, .. }) =
                read(&header)
            else {
                panic!("what was written is no header: {}", header.escape_ascii())
            };
            assert_eq!([from, to].map(canonical), [source, destination].map(canonical));
        }
    }
    true
}

/// Bytes become a stream of HTTP/3: a request with a length that the first byte says, or one of the client's own. Whether they are a whole
/// request comes out.
///
/// It must not matter how they arrive, no more is held than may be, and what passes for a head has nothing in it that HTTP/1.1 would
/// read another way.
pub fn http3(data: &[u8]) -> bool {
    let Some((&kind, stream)) = data.split_first() else { return false };
    let mut peer = PeerStream::default();
    let whole = peer.read(stream);
    let mut piecewise = PeerStream::default();
    assert_eq!(stream.chunks(1).try_for_each(|byte| piecewise.read(byte)), whole);
    assert_eq!(peer.role(), piecewise.role());

    let announced = (kind & 1 == 1).then_some(u64::from(kind >> 1));
    let pieces = received(stream, usize::MAX, announced);
    assert_eq!(received(stream, 1 + usize::from(kind) % 7, announced), pieces);
    let Ok((heads, content)) = pieces else { return false };
    assert!(heads.len() == 1 && heads[0].len() <= SECTION);
    assert!(announced.is_none_or(|length| length == content.len() as u64));
    let Ok((head, length)) = request_head(&heads[0], SECTION) else { return false };
    assert!(length.is_none_or(|length| head.headers["content-length"] == length.to_string()));
    for (name, value) in &head.headers {
        assert!(!["connection", "transfer-encoding", "upgrade"].contains(&name.as_str()));
        assert!(value.as_bytes().iter().all(|byte| !b"\r\n\0".contains(byte)));
    }
    if let Ok(target) = Target::read(&head, true, SECTION) {
        assert!(target.path_and_query().as_str().bytes().all(|byte| byte.is_ascii_graphic()));
    }
    true
}

/// The heads and the content of a request that comes in parts of `step` bytes.
fn received(stream: &[u8], step: usize, announced: Option<u64>) -> Result<(Vec<Bytes>, Vec<u8>), Fault> {
    let (mut frames, mut heads, mut content) = (Frames::new(SECTION), Vec::new(), Vec::new());
    for part in stream.chunks(step) {
        let mut input = Bytes::copy_from_slice(part);
        while let Some(piece) = frames.next(&mut input)? {
            match piece {
                Piece::Head(head) => {
                    heads.push(head);
                    if let Some(length) = announced {
                        frames.announce(length);
                    }
                }
                Piece::Data(data) => content.extend_from_slice(&data),
                Piece::Trailers => {}
            }
        }
    }
    frames.end().map(|()| (heads, content))
}

/// Whether a proof brings another key than the good one: whoever finds such a key may sign with it, and a token says whose it is.
fn own_key(proof: &str) -> bool {
    let header = |proof: &str| {
        let header = URL_SAFE_NO_PAD.decode(proof.split('.').next()?).ok()?;
        serde_json::from_slice::<Value>(&header).ok()
    };
    header(proof).and_then(|header| header.get("jwk").cloned())
        != header(PROOF).and_then(|header| header.get("jwk").cloned())
}

/// Two issuers, a policy for each mix of them, and judges.
struct Court {
    policies: [Policy; 3],
    good: Vec<String>,
    warm: Authority,
    possession: Arc<Possession>,
    revoked: Arc<DenyList>,
    runtime: tokio::runtime::Runtime,
}

impl Court {
    fn new() -> Self {
        let issuers = [shared(), published()].map(Arc::new);
        let policies = [vec![0], vec![1], vec![0, 1]].map(|issuers_asked| {
            let settings = PolicySettings {
                issuers: issuers_asked,
                places: vec![
                    Place::Authorization,
                    Place::Cookie("jwt".into()),
                    Place::Header("x-token".parse().unwrap()),
                    Place::Query("token".into()),
                    Place::WebSocketProtocol,
                ],
                guard: Some(OriginGuard::default()),
                ..PolicySettings::of_issuer(0)
            };
            let access = Access::Token(Box::new(settings));
            let forward = Forwarding { all_claims: Some("x-claims".parse().unwrap()), ..Forwarding::default() };
            Policy::compile(&RouteAuth { read: access.clone(), write: access, forward }, &issuers)
        });
        let (possession, revoked) = (Arc::new(Possession::new(60).unwrap()), Arc::new(DenyList::empty()));
        Self {
            policies,
            good: good_tokens(),
            warm: Authority::new(64, Arc::clone(&revoked), Arc::clone(&possession)),
            possession,
            revoked,
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap(),
        }
    }

    fn try_one(&self, kind: u8, place: u8, rest: &[u8]) -> bool {
        let base = &self.good[usize::from(kind >> 2) % self.good.len()];
        let token: Vec<u8> = if kind & 1 == 0 { changed(base, rest).into_bytes() } else { rest.to_vec() };
        let method = if kind & 2 == 0 { Method::GET } else { Method::POST };
        let Some((head, target)) = request(method, place, &token) else { return false };
        let asking = Asking {
            method: &head.method,
            headers: &head.headers,
            target: &target,
            secure: true,
            client_certificate: None,
            tunnel: false,
            now: UnixSeconds::from_secs(NOW),
        };
        let policy = &self.policies[usize::from(place >> 4) % 3];
        let fresh = Authority::new(0, Arc::clone(&self.revoked), Arc::clone(&self.possession));
        let found = self.answer(&self.warm, policy, &asking);
        assert_eq!(found, self.answer(&fresh, policy, &asking), "what is remembered changes the answer");
        if found.is_ok() {
            let bearing = [head.uri.to_string().into_bytes()].into_iter();
            let mut fields = bearing.chain(head.headers.values().map(|value| value.as_bytes().to_vec()));
            let holds = |bytes: &[u8]| {
                self.good.iter().any(|good| bytes.windows(good.len()).any(|window| window == good.as_bytes()))
            };
            assert!(fields.any(|field| holds(&field)), "a token passes that nobody signed");
        }
        if let Ok(token) = str::from_utf8(&token) {
            let steps = explain_token(policy, &head.method, asking.target.path(), token, UnixSeconds::from_secs(NOW));
            assert!(!steps.is_empty());
            drop(inspect(token));
        }
        found.is_ok()
    }

    fn answer(&self, judge: &Authority, policy: &Policy, asking: &Asking<'_>) -> Result<Option<String>, Cause> {
        let permit = self.runtime.block_on(judge.authorize(policy, asking));
        let permit = permit.map_err(|denied| denied.cause().clone())?;
        let mut headers = asking.headers.clone();
        permit.apply(&mut headers);
        drop(permit.query(asking.target.query()));
        Ok(permit.subject().map(str::to_owned))
    }
}

fn shared() -> Issuer {
    let keys = vec![KeySource::Secret(Secret::new(SECRET)).into()];
    Issuer::compile(IssuerSettings { keys, ..IssuerSettings::named("shared") }).unwrap().0
}

fn published() -> Issuer {
    let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": ED25519_PUBLIC, "kid": "k" }] });
    let keys = vec![KeySource::Jwks { bytes: set.to_string().into_bytes(), label: "rfc8037".into() }.into()];
    let issuer = Some("https://b/".into());
    Issuer::compile(IssuerSettings { keys, issuer, ..IssuerSettings::named("published") }).unwrap().0
}

/// Tokens that pass somewhere. Neither HMAC nor Ed25519 has a second form of a signature.
fn good_tokens() -> Vec<String> {
    let der = [
        &b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20"[..],
        &URL_SAFE_NO_PAD.decode(ED25519).unwrap(),
    ];
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.concat()));
    let (secret, pair) = (SigningKey::Secret(Secret::new(SECRET)), SigningKey::Pem(Secret::new(pem.into_bytes())));
    let claims = |more: Value| {
        let mut claims = json!({ "sub": "ann", "exp": NOW + 60 });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims.as_object().unwrap().clone()
    };
    let b = json!({ "iss": "https://b/", "scope": "read" });
    let bound = json!({ "cnf": { "jkt": URL_SAFE_NO_PAD.encode(digest(&SHA256, b"nobody's")) } });
    vec![
        mint(Algorithm::Hs256, &secret, None, &claims(json!({}))).unwrap(),
        mint(Algorithm::Hs256, &secret, Some("any"), &claims(b.clone())).unwrap(),
        mint(Algorithm::EdDsa, &pair, Some("k"), &claims(b)).unwrap(),
        mint(Algorithm::Hs256, &secret, None, &claims(bound)).unwrap(),
    ]
}

/// A request with `token` in the place that `place` names.
fn request(method: Method, place: u8, token: &[u8]) -> Option<(http::request::Parts, Target)> {
    let with = |before: &[u8], after: &[u8]| HeaderValue::from_bytes(&[before, token, after].concat()).ok();
    let mut uri = "/".to_owned();
    let fields: Vec<(&str, Option<HeaderValue>)> = match place & 15 {
        0 => vec![("authorization", with(b"Bearer ", b""))],
        1 => vec![("authorization", with(b"DPoP ", b"")), ("dpop", Some(HeaderValue::from_static(PROOF)))],
        2 => vec![("cookie", with(b"a=1; jwt=", b"; b=2"))],
        3 => vec![("cookie", with(b"jwt=", b"")), ("origin", Some(HeaderValue::from_static("https://gateway.test")))],
        4 => vec![("x-token", with(b"", b""))],
        5 => {
            uri = format!("/?a=1&token={}", str::from_utf8(token).ok()?);
            vec![]
        }
        6 => vec![("sec-websocket-protocol", with(b"bearer, ", b", chat"))],
        7 => vec![("authorization", with(b"Bearer ", b"")), ("x-token", with(b"", b""))],
        8 => vec![("authorization", with(b"Bearer ", b"")), ("authorization", with(b"bearer ", b""))],
        9 => vec![("cookie", with(b"", b""))],
        10 => vec![("sec-websocket-protocol", with(b"", b""))],
        11 => vec![("dpop", with(b"", b"")), ("authorization", Some(HeaderValue::from_static("DPoP a.b.c")))],
        12 => {
            uri = format!("/{}", str::from_utf8(token).ok()?);
            vec![("authorization", Some(HeaderValue::from_static("Bearer")))]
        }
        _ => vec![("authorization", with(b"", b""))],
    };
    let mut request = Request::builder().method(method).uri(uri).header("host", "gateway.test");
    for (name, value) in fields {
        request = request.header(name, value?);
    }
    let (head, ()) = request.body(()).ok()?.into_parts();
    let target = Target::read(&head, true, 65_536).ok()?;
    Some((head, target))
}

/// `text` with changes: each four bytes say what, where and with which byte.
fn changed(text: &str, changes: &[u8]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for &[what, high, low, byte] in changes.as_chunks().0 {
        let at = usize::from(u16::from_be_bytes([high, low])) % (bytes.len() + 1);
        match what % 6 {
            0 if at < bytes.len() => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            4 if at < bytes.len() => bytes[at] ^= 1 << (byte % 8),
            _ => {
                let copied = bytes[at..].iter().copied().take(usize::from(byte)).collect::<Vec<_>>();
                bytes.extend(copied);
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
