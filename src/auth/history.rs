//! What a judge remembers changes nothing: whatever has happened, it answers as one that has just begun.
//!
//! Owns random histories of two issuers that publish their keys, of revocations and of requests. After each step a judge that has lived
//! through all of it is asked beside one that knows only how things are now, with issuers and keys of its own. A third opinion, which looks
//! at the model alone, says which tokens may pass.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::access::{Access, Forwarding, PolicySettings, RouteAuth};
use super::fixtures::{self, NOW, Pair, Request};
use super::revoke::{DenyList, Entry, RevocationSettings, Revoked};
use super::{
    Algorithm, Authority, Cause, Issuer, IssuerSettings, Policy, Possession, RemoteKeys, RemoteSettings, RemoteSource,
    UnixSeconds,
};
use crate::fetch::Location;

const IDENTIFIER: &str = "https://b/";
const TOKENS: usize = 12;
const CERTIFICATE: [u8; 32] = [9; 32];

/// What one issuer may publish, by turns: no two sets are alike, and one `kid` is used for two keys.
fn published(issuer: usize, variant: usize) -> Vec<Value> {
    let [first, second] = own_keys(issuer).map(|(pair, _)| pair);
    match variant {
        0 => vec![first.jwk("k")],
        1 => vec![first.jwk("k"), second.jwk("l")],
        2 => vec![second.jwk("l")],
        _ => vec![second.jwk("k")],
    }
}

fn own_keys(issuer: usize) -> [(&'static Pair, Algorithm); 2] {
    match issuer {
        0 => [(fixtures::ec256(), Algorithm::Es256), (fixtures::ed(), Algorithm::EdDsa)],
        _ => [(fixtures::ec384(), Algorithm::Es384), (fixtures::rsa(), Algorithm::Rs256)],
    }
}

/// Whether a set holds the key by which a token with this header would be verified.
fn holds(variant: usize, key: usize, kid: Option<&str>) -> bool {
    match (variant, key) {
        (0 | 1, 0) | (3, 1) => kid != Some("l"),
        (1 | 2, 1) => kid != Some("k"),
        _ => false,
    }
}

/// A token, and what is true of it.
struct Made {
    token: String,
    issuer: usize,
    key: usize,
    kid: Option<&'static str>,
    /// Whether its `iss` is that of the second issuer.
    says_b: bool,
    exp: u64,
    bound: Bound,
    forged: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Bound {
    No,
    Key,
    Certificate,
}

fn make(number: usize) -> Made {
    let (issuer, key, kid, says_b, lasts, bound, forged) = match number {
        0 => (0, 0, Some("k"), false, 500, Bound::No, false),
        1 => (0, 1, Some("l"), false, 500, Bound::No, false),
        2 => (0, 0, Some("k"), true, 500, Bound::No, false),
        3 => (1, 0, Some("k"), true, 500, Bound::No, false),
        4 => (1, 1, Some("l"), true, 500, Bound::No, false),
        5 => (1, 0, Some("k"), false, 500, Bound::No, false),
        6 => (0, 0, None, false, 40, Bound::No, false),
        7 => (1, 1, None, true, 80, Bound::No, false),
        8 => (0, 0, Some("k"), false, 500, Bound::Key, false),
        9 => (1, 0, Some("k"), true, 500, Bound::Certificate, false),
        10 => (0, 0, Some("k"), false, 500, Bound::No, true),
        _ => (1, 1, Some("k"), true, 500, Bound::No, false),
    };
    let exp = NOW + lasts;
    let mut claims = json!({ "sub": subject(number), "jti": jti(number), "iat": NOW - 50, "exp": exp });
    if says_b {
        claims["iss"] = json!(IDENTIFIER);
    }
    match bound {
        Bound::No => {}
        Bound::Key => {
            let thumbprint = super::jwk::parse_public(&public(fixtures::ed())).unwrap().thumbprint;
            claims["cnf"] = json!({ "jkt": URL_SAFE_NO_PAD.encode(thumbprint) });
        }
        Bound::Certificate => claims["cnf"] = json!({ "x5t#S256": URL_SAFE_NO_PAD.encode(CERTIFICATE) }),
    }
    let (pair, algorithm) = own_keys(issuer)[key];
    let mut header = json!({ "alg": algorithm.name() });
    if let Some(kid) = kid {
        header["kid"] = json!(kid);
    }
    let mut token = pair.sign(algorithm, &header.to_string(), &claims.to_string());
    if forged {
        token.replace_range(token.len() - 8.., "AAAAAAAA");
    }
    Made { token, issuer, key, kid, says_b, exp, bound, forged }
}

fn subject(number: usize) -> String {
    format!("subject-{}", number % 3)
}

fn jti(number: usize) -> String {
    format!("token-{number}")
}

fn public(pair: &Pair) -> Value {
    let mut jwk = pair.jwk("k");
    jwk.as_object_mut().unwrap().remove("kid");
    jwk
}

/// How a token is revoked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum By {
    Jti,
    Subject,
    Digest,
    JtiOfA,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Publish { issuer: usize, variant: usize },
    Revoke(By, usize),
    TakeBack(By, usize),
    Pass(u64),
    Present { policy: usize, token: usize, holder: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let by = || prop::sample::select(vec![By::Jti, By::Subject, By::Digest, By::JtiOfA]);
    prop_oneof![
        2 => (0..2_usize, 0..4_usize).prop_map(|(issuer, variant)| Step::Publish { issuer, variant }),
        1 => (by(), 0..TOKENS).prop_map(|(by, token)| Step::Revoke(by, token)),
        1 => (by(), 0..TOKENS).prop_map(|(by, token)| Step::TakeBack(by, token)),
        1 => (1..25_u64).prop_map(Step::Pass),
        10 => (0..3_usize, 0..TOKENS, any::<bool>())
            .prop_map(|(policy, token, holder)| Step::Present { policy, token, holder }),
    ]
}

/// Two issuers, the keys they are fed by, and what three routes ask of them: the first, the second, or either.
struct Place {
    keys: [Arc<RemoteKeys>; 2],
    policies: [Policy; 3],
}

impl Place {
    fn new(variants: [usize; 2]) -> Self {
        let keys = [0, 1].map(|issuer| Arc::new(remote(issuer)));
        let issuers = [0, 1].map(|number| {
            let mut settings = IssuerSettings::named(["a", "b"][number]);
            settings.remote = Some(keys[number].settings().clone());
            settings.issuer = (number == 1).then(|| IDENTIFIER.into());
            Arc::new(Issuer::compile(settings).unwrap().0.fed_by(Arc::clone(&keys[number])))
        });
        let policies = [vec![0], vec![1], vec![0, 1]].map(|wanted| {
            let access = Access::Token(Box::new(PolicySettings { issuers: wanted, ..PolicySettings::of_issuer(0) }));
            let auth = RouteAuth { read: access.clone(), write: access, forward: Forwarding::default() };
            Policy::compile(&auth, &issuers)
        });
        let place = Self { keys, policies };
        variants.iter().enumerate().for_each(|(issuer, variant)| place.publish(issuer, *variant));
        place
    }

    fn publish(&self, issuer: usize, variant: usize) {
        self.keys[issuer].brought(&json!({ "keys": published(issuer, variant) }).to_string());
    }
}

/// Keys that nobody fetches: what they are is told.
fn remote(issuer: usize) -> RemoteKeys {
    let location = Location::parse(&format!("http://127.0.0.1:9/{issuer}"), true).unwrap();
    let mut settings = RemoteSettings::new(RemoteSource::KeySet(location));
    settings.fetch.plain_http = true;
    settings.fetch.ca_pem = Some(authorities().to_vec());
    settings.cooldown = Duration::from_hours(1);
    RemoteKeys::new(settings).unwrap()
}

/// Some authority, so that not each of the many sets reads the system's.
fn authorities() -> &'static [u8] {
    static PEM: OnceLock<Vec<u8>> = OnceLock::new();
    PEM.get_or_init(|| fixtures::certificate_pem().into_bytes())
}

/// How things are.
struct Model {
    variants: [usize; 2],
    revoked: Vec<(By, usize)>,
    now: u64,
    proofs: usize,
}

impl Model {
    fn is_revoked(&self, number: usize, made: &Made) -> bool {
        self.revoked.iter().any(|(by, other)| match by {
            By::Jti | By::Digest => *other == number,
            By::JtiOfA => *other == number && made.issuer == 0,
            By::Subject => other % 3 == number % 3,
        })
    }

    /// Whether this token may pass at all: of the issuer that the policy means, by a key it publishes now, in time, and not revoked.
    fn may_pass(&self, policy: usize, number: usize, made: &Made, holder: bool) -> bool {
        let meant = match policy {
            2 => usize::from(made.says_b),
            only => only,
        };
        meant == made.issuer
            && (meant == 0 || made.says_b)
            && holds(self.variants[meant], made.key, made.kid)
            && self.now < made.exp
            && !made.forged
            && (holder || made.bound == Bound::No)
            && !self.is_revoked(number, made)
    }
}

fn request(made: &Made, model: &Model, holder: bool) -> Request {
    let mut request = match (made.bound, holder) {
        (Bound::Key, true) => {
            let claims = json!({
                "jti": model.proofs.to_string(), "htm": "GET", "htu": "https://gateway.test/", "iat": model.now,
                "ath": URL_SAFE_NO_PAD.encode(digest(&SHA256, made.token.as_bytes())),
            });
            let header = json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": public(fixtures::ed()) });
            let proof = fixtures::ed().sign(Algorithm::EdDsa, &header.to_string(), &claims.to_string());
            let fields = [("authorization", format!("DPoP {}", made.token)), ("dpop", proof)];
            Request::new(Method::GET, "/", &fields.each_ref().map(|(name, value)| (*name, value.as_str())))
        }
        _ => Request::bearing(&made.token),
    };
    request.client_certificate = Some(if holder { CERTIFICATE } else { [1; 32] });
    request.now = UnixSeconds::from_secs(model.now);
    request
}

/// The answer as far as anybody could tell the difference.
fn answer(authority: &Authority, policy: &Policy, request: &Request) -> Result<(String, Option<String>), Cause> {
    let permit = fixtures::judge(authority, policy, &request.asking()).map_err(|denied| denied.cause().clone())?;
    Ok((permit.issuer().unwrap().name().to_owned(), permit.subject().map(str::to_owned)))
}

fn judge(revoked: &Arc<DenyList>, entries: usize) -> Authority {
    Authority::new(entries, Arc::clone(revoked), Arc::new(Possession::new(60).unwrap()))
}

fn entry(by: By, made: &[Made], number: usize) -> Entry {
    let revoked = match by {
        By::Jti => Revoked::Jti { jti: jti(number).into(), issuer: None },
        By::JtiOfA => Revoked::Jti { jti: jti(number).into(), issuer: Some("a".into()) },
        By::Subject => Revoked::Sub { sub: subject(number).into(), before: NOW, issuer: None },
        By::Digest => return Entry::of_token(&made[number].token, None),
    };
    Entry { revoked, until: None }
}

fn list(home: &TempDir) -> Arc<DenyList> {
    let journal = Some(home.path().join("journal"));
    let settings =
        RevocationSettings { file: None, journal, entries: 1000, shared: false, issuers: vec!["a".into(), "b".into()] };
    Arc::new(DenyList::open(&settings, UnixSeconds::from_secs(NOW)).unwrap())
}

fn live_through(steps: &[Step]) -> Result<(), TestCaseError> {
    let made: Vec<Made> = (0..TOKENS).map(make).collect();
    let home = tempfile::tempdir().unwrap();
    let revoked = list(&home);
    let mut model = Model { variants: [0, 0], revoked: vec![], now: NOW, proofs: 0 };
    let (place, warm) = (Place::new(model.variants), judge(&revoked, 8));
    for step in steps {
        let now = UnixSeconds::from_secs(model.now);
        match *step {
            Step::Publish { issuer, variant } => {
                model.variants[issuer] = variant;
                place.publish(issuer, variant);
            }
            Step::Revoke(by, token) => {
                revoked.add(entry(by, &made, token), now).unwrap();
                if !model.revoked.contains(&(by, token)) {
                    model.revoked.push((by, token));
                }
            }
            Step::TakeBack(by, token) => {
                revoked.remove(&entry(by, &made, token), now).unwrap();
                // A subject is one entry, whichever of its tokens it was revoked for.
                let same = |other: &(By, usize)| {
                    other.0 == by && (other.1 == token || by == By::Subject && other.1 % 3 == token % 3)
                };
                model.revoked.retain(|other| !same(other));
            }
            Step::Pass(secs) => model.now += secs,
            Step::Present { policy, token, holder } => {
                model.proofs += 1;
                let request = request(&made[token], &model, holder);
                let fresh = Place::new(model.variants);
                let expected = answer(&judge(&revoked, 0), &fresh.policies[policy], &request);
                let found = answer(&warm, &place.policies[policy], &request);
                prop_assert_eq!(&found, &expected, "token {} under policy {}", token, policy);
                let may = model.may_pass(policy, token, &made[token], holder);
                prop_assert_eq!(found.is_ok(), may, "token {} under policy {}: {:?}", token, policy, found);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]
    #[test]
    fn a_judge_with_a_past_answers_as_one_without(steps in prop::collection::vec(step(), 1..60)) {
        live_through(&steps)?;
    }
}
