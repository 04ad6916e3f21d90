//! The pure parts of the path of a request, each alone: no sockets, no TLS, no runtime.
//!
//! They answer "which part became slower?"; what a request costs as a whole, and beside other servers, is for `benches/compare`.
//! The names are stable, so that results compare across versions: `cargo bench --bench hot_path -- --save-baseline before`,
//! then `-- --baseline before`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant, SystemTime};

use criterion::{BatchSize, Criterion, Throughput};
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Version, request};
use portcullis::auth::{
    self, Access, Algorithm, Asking, Authority, ClaimPath, Denied, DenyList, Forward, Forwarding, Identity,
    IdentityKey, IdentitySettings, Issuer, IssuerSettings, KeySource, Permit, Policy, PolicySettings, Possession,
    RouteAuth, Secret, SigningKey, UnixSeconds, mint,
};
use portcullis::http::{Boundary, Framing, Http2Budget, Target, TargetError, Violation, hop};
use portcullis::observe::{AccessLog, LogFormat, LogSettings, Metrics, Record, Vocabulary};
use portcullis::route::{Router, Rule};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::json;

/// The allocator of the binary: a hot path's cost is partly its allocations'.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The moment at which every token is judged.
const NOW: u64 = 1_800_000_000;
const HOST: &str = "api.example.com";
const REQUEST_TARGET: &str = "/catalogue/items/4711?expand=price&page=2";
/// Bytes of the request head: a browser's fields, a cookie and a bearer token.
const HEAD_BYTES: usize = 900;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    http_parts(&mut criterion);
    route(&mut criterion);
    for signer in signers() {
        authorize(&mut criterion, &signer);
    }
    permit(&mut criterion);
    access(&mut criterion);
    criterion.final_summary();
}

fn http_parts(criterion: &mut Criterion) {
    let parts = parts();
    criterion.bench_function("target/read", |bencher| {
        bencher.iter(|| Target::read(black_box(&parts), true, 8192).expect("a canonical target"));
    });

    let boundary =
        Boundary::new(Vec::new(), [HeaderName::from_static("x-user-id"), HeaderName::from_static("x-groups")]);
    let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 50_000));
    criterion.bench_function("boundary/admit", |bencher| {
        let admit = |headers: &mut HeaderMap| boundary.admit(headers, peer, true);
        bencher.iter_batched_ref(|| parts.headers.clone(), admit, BatchSize::SmallInput);
    });

    criterion.bench_function("hop/strip", |bencher| {
        bencher.iter_batched_ref(|| parts.headers.clone(), hop::strip, BatchSize::SmallInput);
    });

    let mut group = criterion.benchmark_group("framing");
    group.throughput(Throughput::Bytes(HEAD_BYTES as u64));
    group.bench_function("inspect-900-byte-head", |bencher| {
        let mut bytes = head().into_bytes();
        let mut framing = Framing::default(); // one connection, request after request
        bencher.iter(|| framing.inspect(black_box(&mut bytes)));
        assert!(framing.violation().is_none() && !framing.in_head(), "the head must be good and whole");
    });
    group.finish();

    // A request of 300 bytes after HPACK with its answer of 600, and 64 KiB of an upload: what a read or a write is looked at for.
    let frame = |kind: u8, length: u16| [&[0][..], &length.to_be_bytes(), &[kind, 4, 0, 0, 0, 1]].concat();
    let request = [frame(1, 300), vec![0x82; 300]].concat();
    let upload = [frame(0, 16_384), vec![b'x'; 16_384]].concat().repeat(4);
    for (name, read, written) in [("http2_frames/request", request, 600), ("http2_frames/upload-64k", upload, 26)] {
        criterion.bench_function(name, |bencher| {
            let mut budget = Http2Budget::new(Instant::now());
            budget.admit(&[0; 24], Instant::now); // the preface
            bencher.iter(|| {
                let admitted = budget.admit(black_box(&read), Instant::now);
                budget.sent(black_box(written));
                admitted
            });
            assert!(!budget.is_spent(), "work costs nothing");
        });
    }
}

fn route(criterion: &mut Criterion) {
    let router = fifty_routes();
    let mut group = criterion.benchmark_group("router");
    group.bench_function("find-in-50-by-host", |bencher| {
        bencher.iter(|| {
            *router.find(black_box("host-7.example.com"), "/catalogue/items/4711", &Method::GET).expect("a route")
        });
    });
    group.bench_function("find-in-50-by-path", |bencher| {
        bencher.iter(|| *router.find(black_box(HOST), "/area-17/items/4711/prices", &Method::GET).expect("a route"));
    });
    group.finish();
}

fn authorize(criterion: &mut Criterion, signer: &Signer) {
    let policy = policy(signer);
    let target = target();
    let sent = headers_with(&token(signer, 1));
    let mut group = criterion.benchmark_group("authorize");

    let remembers = authority(1024);
    group.bench_function(format!("hit/{}", signer.algorithm), |bencher| {
        bencher.iter(|| judge(&remembers, &policy, black_box(&sent), &target).expect("a permit"));
        assert_eq!(remembers.cached_tokens(), 1, "every call but the first must be a hit");
    });
    let forgets = authority(0);
    group.bench_function(format!("miss/{}", signer.algorithm), |bencher| {
        bencher.iter(|| judge(&forgets, &policy, black_box(&sent), &target).expect("a permit"));
    });
    let forged = headers_with(&forged(signer));
    group.bench_function(format!("forged/{}", signer.algorithm), |bencher| {
        let refused = judge(&remembers, &policy, &forged, &target).expect_err("a forged token");
        assert_eq!(refused.reason(), "bad_signature");
        bencher.iter(|| judge(&remembers, &policy, black_box(&forged), &target).expect_err("a forged token"));
    });
    group.finish();
}

fn authority(cache_entries: usize) -> Authority {
    let possession = Possession::new(60).expect("the system has randomness");
    Authority::new(cache_entries, Arc::new(DenyList::empty()), Arc::new(possession))
}

fn target() -> Target {
    let request = Request::builder().uri(REQUEST_TARGET).header("host", HOST).body(()).expect("a request");
    Target::read(&request.into_parts().0, true, 8192).expect("a target")
}

/// One decision. Every eighth of those that verify gives others their turn, which here is one more poll.
fn judge(authority: &Authority, policy: &Policy, headers: &HeaderMap, target: &Target) -> Result<Permit, Denied> {
    let now = UnixSeconds::from_secs(NOW);
    let asking =
        Asking { method: &Method::GET, headers, target, secure: true, client_certificate: None, tunnel: false, now };
    let mut deciding = pin!(authority.authorize(policy, &asking));
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(decision) = deciding.as_mut().poll(&mut context) {
            return decision;
        }
    }
}

fn permit(criterion: &mut Criterion) {
    let signer = secret_signer();
    let headers = headers_with(&token(&signer, 1));
    let permit = judge(&authority(1), &policy(&signer), &headers, &target()).expect("the token is good");
    criterion.bench_function("permit/apply", |bencher| {
        bencher.iter_batched_ref(|| headers.clone(), |headers| permit.apply(headers), BatchSize::SmallInput);
    });

    let key = KeyPair::generate_for(&PKCS_ED25519).expect("an Ed25519 key");
    let settings = IdentitySettings {
        key: Secret::new(key.serialize_pem().into_bytes()),
        label: "identity.pem".to_owned(),
        issuer: "https://gateway.example.com".into(),
        lifetime_secs: 30,
        header: HeaderName::from_static("x-portcullis-identity"),
    };
    let identity = Identity::new(Arc::new(IdentityKey::compile(&settings).expect("a good key")), "web");
    criterion.bench_function("permit/identity-token", |bencher| {
        let now = UnixSeconds::from_secs(NOW);
        bencher.iter(|| {
            let statement = permit.statement(&identity, &Method::GET, black_box(REQUEST_TARGET));
            statement.expect("a bearer is known").sign(now).expect("a token")
        });
    });
}

fn access(criterion: &mut Criterion) {
    let metrics = Metrics::new(Vocabulary {
        auth_reasons: &Denied::REASONS,
        malformed_reasons: const { &[TargetError::REASONS[0], Violation::REASONS[0]] },
    });
    let mut group = criterion.benchmark_group("access");
    for (name, format) in [("line-json", LogFormat::Json), ("line-text", LogFormat::Text)] {
        let settings = LogSettings {
            level: tracing::Level::INFO,
            format,
            access: true,
            access_file: Some("/dev/null".into()), // the line's making is measured, not a disk
        };
        let log = AccessLog::open(&settings, Arc::clone(&metrics)).expect("/dev/null opens");
        let sink = log.sink();
        let record = record();
        group.bench_function(name, |bencher| bencher.iter(|| sink.write(black_box(&record))));
        drop(sink);
        assert!(log.finish(Duration::from_secs(10)), "the writer must end");
    }
    group.finish();
}

fn record() -> Record<'static> {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_secs(NOW),
        request_id: "0198f1e2a7c34d5e8f60718293a4b5c6",
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        method: b"GET",
        host: HOST.as_bytes(),
        path: REQUEST_TARGET.as_bytes(),
        protocol: Version::HTTP_11,
        status: 200,
        grpc: None,
        route: "api",
        outcome: "ok",
        limit: None,
        issuer: Some("corp"),
        subject: Some("user-1"),
        upstream: Some("web"),
        endpoint: Some("http://127.0.0.1:8000"),
        bytes_in: 0,
        bytes_out: 1742,
        duration: Duration::from_micros(1234),
        auth: Some(Duration::from_nanos(900)),
        queue: None,
        connect: Some(Duration::from_micros(3)),
        first_byte: Some(Duration::from_micros(1100)),
        user_agent: Some(USER_AGENT.as_bytes()),
    }
}

const USER_AGENT: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

/// A request head of exactly [`HEAD_BYTES`], in its wire form.
fn head() -> String {
    let fields = [
        format!("GET {REQUEST_TARGET} HTTP/1.1"),
        format!("Host: {HOST}"),
        format!("User-Agent: {USER_AGENT}"),
        "Accept: application/json".to_owned(),
        "Accept-Language: en-GB,en;q=0.7,de;q=0.3".to_owned(),
        "Accept-Encoding: gzip, deflate, br, zstd".to_owned(),
        "Referer: https://api.example.com/catalogue/".to_owned(),
        "Connection: keep-alive".to_owned(),
        "Sec-Fetch-Mode: cors".to_owned(),
        "Sec-Fetch-Site: same-origin".to_owned(),
        format!("Cookie: sessionid={}", "s".repeat(32)),
        "Authorization: Bearer ".to_owned(),
    ];
    let without_token = fields.join("\r\n");
    let token = "t".repeat(HEAD_BYTES - without_token.len() - "\r\n\r\n".len());
    format!("{without_token}{token}\r\n\r\n")
}

/// The head as the parser hands it over.
fn parts() -> request::Parts {
    let head = head();
    let mut request = Request::builder().method(Method::GET).uri(REQUEST_TARGET).version(Version::HTTP_11);
    for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").expect("a field has a colon");
        request = request.header(name, value);
    }
    let (parts, ()) = request.body(()).expect("every field is legal").into_parts();
    parts
}

fn headers_with(token: &str) -> HeaderMap {
    let mut headers = parts().headers;
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).expect("a token is visible ASCII");
    headers.insert(AUTHORIZATION, bearer);
    headers
}

/// 25 routes that a host picks, 25 that a path picks.
fn fifty_routes() -> Router<usize> {
    let by_host = (0..25).map(|n| (vec![format!("host-{n}.example.com").into()], "/catalogue/".to_owned()));
    let by_path = (0..25).map(|n| (Vec::new(), format!("/area-{n}/items/")));
    let rules = by_host.chain(by_path).enumerate();
    Router::new(rules.map(|(value, (hosts, path))| Rule { hosts, path: path.into(), methods: Vec::new(), value }))
}

/// One algorithm with a key pair of its own.
struct Signer {
    algorithm: Algorithm,
    signing: SigningKey,
    verifying: KeySource,
}

fn signers() -> Vec<Signer> {
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).expect("an RSA key");
    let ec = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a P-256 key");
    let ed = KeyPair::generate_for(&PKCS_ED25519).expect("an Ed25519 key");
    vec![
        pair_signer(Algorithm::Rs256, &rsa),
        pair_signer(Algorithm::Es256, &ec),
        pair_signer(Algorithm::EdDsa, &ed),
        secret_signer(),
    ]
}

fn pair_signer(algorithm: Algorithm, pair: &KeyPair) -> Signer {
    Signer {
        algorithm,
        signing: SigningKey::Pem(Secret::new(pair.serialize_pem().into_bytes())),
        verifying: KeySource::Pem { bytes: pair.public_key_pem().into_bytes(), label: "issuer.pem".to_owned() },
    }
}

fn secret_signer() -> Signer {
    let secret = Secret::new(*b"a secret of the benchmarks alone, sixty-four bytes in its length");
    Signer {
        algorithm: Algorithm::Hs256,
        signing: SigningKey::Secret(secret.clone()),
        verifying: KeySource::Secret(secret),
    }
}

/// What a careful route asks: issuer, audience, a scope, and the subject handed on.
fn policy(signer: &Signer) -> Policy {
    let settings = IssuerSettings {
        keys: vec![signer.verifying.clone().into()],
        issuer: Some("https://id.example.com/".into()),
        audiences: vec!["orders".into()],
        algorithms: vec![signer.algorithm],
        ..IssuerSettings::named("corp")
    };
    let (issuer, _warnings) = Issuer::compile(settings).expect("the keys are good");
    let forward = Forward { header: HeaderName::from_static("x-user-id"), claim: ClaimPath::top("sub") };
    let settings = PolicySettings { rule: auth::Rule::Scopes(vec!["read".into()]), ..PolicySettings::of_issuer(0) };
    let access = Access::Token(Box::new(settings));
    let forward = Forwarding { claims: vec![forward], ..Forwarding::default() };
    Policy::compile(&RouteAuth { read: access.clone(), write: access, forward }, &[Arc::new(issuer)])
}

fn token(signer: &Signer, user: u32) -> String {
    let claims = json!({
        "iss": "https://id.example.com/", "aud": "orders", "sub": format!("user-{user}"), "scope": "read write",
        "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 3600, "jti": format!("token-{user}"), "token_type": "access",
    });
    let claims = claims.as_object().expect("claims are an object");
    mint(signer.algorithm, &signer.signing, None, claims).expect("the key signs")
}

/// One token's claims under another token's signature: good in form, wrong in fact.
fn forged(signer: &Signer) -> String {
    let (mine, theirs) = (token(signer, 1), token(signer, 2));
    let (claims, _) = mine.rsplit_once('.').expect("a token has dots");
    let (_, signature) = theirs.rsplit_once('.').expect("a token has dots");
    format!("{claims}.{signature}")
}
