//! Signed links: whoever has such a URL may read what it names, for a while.
//!
//! Owns what is signed, and how a link is read and judged. Signed is all that precedes the signature, byte for byte as it stands on the request
//! line: the path, the moment, and every other parameter. So nothing of a link can be changed, added or put behind it. HMAC with SHA-256
//! (RFC 2104), compared in constant time. Knows no routes and no clock.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use percent_encoding::percent_decode;

use super::asking::Asking;
use super::settings::Secret;
use super::time::UnixSeconds;
use crate::http::Target;

/// The parameter that holds the moment from which a link is good no more, in seconds of the Unix epoch.
const EXPIRES: &str = "expires";
/// The parameter that holds the signature, unpadded base64url, and is the last.
const SIGNATURE: &str = "signature";
/// What a signature is about is told by what it begins with: the same secret may sign other things elsewhere.
const KIND: &[u8] = b"portcullis-link-v1\n";
/// Digits of a moment: more are no date of this era.
const MOST_DIGITS: usize = 11;

/// The links that a route takes.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkSettings {
    /// What they may be signed with, at least one; the first signs.
    pub secrets: Vec<Secret>,
    /// How far in the future a link may expire.
    pub max_age_secs: u64,
}

impl LinkSettings {
    /// Bytes of a secret: no fewer than the signature has (RFC 2104 section 3).
    pub const LEAST_SECRET_BYTES: usize = 32;
}

/// Why a link does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkFault {
    /// There is none.
    #[error("the URL is no signed link")]
    Missing,
    /// It has not one moment, and one signature at its end.
    #[error("the link has not exactly one `expires` and one `signature`, which is the last")]
    Malformed,
    /// It is for reading.
    #[error("a link is good for GET and HEAD, and opens no tunnel")]
    Method,
    /// No secret signed this.
    #[error("the link's signature does not verify")]
    Signature,
    /// Its time is over.
    #[error("the link has expired")]
    Expired,
    /// It would be good for longer than any link may be.
    #[error("the link expires later than any may")]
    Lifetime,
}

impl LinkFault {
    /// Every value of [`Self::reason`].
    pub(super) const REASONS: [&'static str; 6] =
        ["link_missing", "link_malformed", "link_method", "link_signature", "link_expired", "link_lifetime"];

    pub(super) fn reason(self) -> &'static str {
        Self::REASONS[self as usize]
    }
}

/// What verifies links.
#[derive(Debug)]
pub(super) struct Links {
    keys: Box<[hmac::Key]>,
    max_age_secs: u64,
}

/// A link as it is presented.
struct Presented<'t> {
    signed: &'t str,
    expires: UnixSeconds,
    signature: Vec<u8>,
}

impl Links {
    pub(super) fn compile(settings: &LinkSettings) -> Self {
        Self { keys: settings.secrets.iter().map(key).collect(), max_age_secs: settings.max_age_secs }
    }

    /// Whether a request presents a link, good or bad.
    pub(super) fn are_in(target: &Target) -> bool {
        target.query().is_some_and(|query| query.split('&').any(|pair| is_called(pair, SIGNATURE)))
    }

    /// A signature is looked at before the clock: only a genuine link is told that it has expired.
    pub(super) fn judge(&self, asking: &Asking<'_>) -> Result<UnixSeconds, LinkFault> {
        if asking.tunnel || !matches!(*asking.method, Method::GET | Method::HEAD) {
            return Err(LinkFault::Method);
        }
        self.check(asking.target, asking.now)
    }

    fn check(&self, target: &Target, now: UnixSeconds) -> Result<UnixSeconds, LinkFault> {
        let link = Presented::read(target.path_and_query().as_str())?;
        self.signed_by(&link).ok_or(LinkFault::Signature)?;
        let left = now.until(link.expires);
        if left.is_zero() {
            return Err(LinkFault::Expired);
        }
        if left > Duration::from_secs(self.max_age_secs) {
            return Err(LinkFault::Lifetime);
        }
        Ok(link.expires)
    }

    /// The position of the secret that signed.
    fn signed_by(&self, link: &Presented<'_>) -> Option<usize> {
        let message = message(link.signed);
        self.keys.iter().position(|key| hmac::verify(key, &message, &link.signature).is_ok())
    }
}

impl<'t> Presented<'t> {
    fn read(target: &'t str) -> Result<Self, LinkFault> {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        if !query.split('&').any(|pair| is_called(pair, SIGNATURE)) {
            return Err(LinkFault::Missing);
        }
        let (signed, signature) = target.rsplit_once("&signature=").ok_or(LinkFault::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| LinkFault::Malformed)?;
        let (_, query) = signed.split_once('?').ok_or(LinkFault::Malformed)?;
        if query.split('&').any(|pair| is_called(pair, SIGNATURE)) {
            return Err(LinkFault::Malformed);
        }
        let mut moments = query.split('&').filter(|pair| is_called(pair, EXPIRES));
        let (Some(moment), None) = (moments.next(), moments.next()) else { return Err(LinkFault::Malformed) };
        let digits = moment.strip_prefix("expires=").ok_or(LinkFault::Malformed)?;
        let whole = digits.len() <= MOST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        let secs = if whole { digits.parse().ok() } else { None };
        let expires = UnixSeconds::from_secs(secs.ok_or(LinkFault::Malformed)?);
        Ok(Self { signed, expires, signature })
    }
}

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose())
}

fn message(signed: &str) -> Vec<u8> {
    [KIND, signed.as_bytes()].concat()
}

/// Whether a parameter is called so, however its name is escaped.
fn is_called(pair: &str, name: &str) -> bool {
    let found = pair.split('=').next().unwrap_or_default();
    percent_decode(found.as_bytes()).eq(name.bytes())
}

/// The query without what makes a link of it; `None` when nothing is left.
pub(super) fn without_link(query: &str) -> Option<String> {
    let other = |pair: &&str| !is_called(pair, EXPIRES) && !is_called(pair, SIGNATURE);
    let rest: Vec<&str> = query.split('&').filter(other).collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

/// Makes a link of a path and query as they stand on a request line. One that has an `expires` or a `signature` already can't be signed.
pub fn sign_link(settings: &LinkSettings, target: &str, expires: UnixSeconds) -> Result<String, LinkFault> {
    let (mark, query) = target.split_once('?').map_or(("?", ""), |(_, query)| ("&", query));
    if query.split('&').any(|pair| is_called(pair, EXPIRES) || is_called(pair, SIGNATURE)) {
        return Err(LinkFault::Malformed);
    }
    let secret = settings.secrets.first().ok_or(LinkFault::Signature)?;
    let signed = format!("{target}{mark}{EXPIRES}={}", expires.as_secs());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key(secret), &message(&signed)));
    Ok(format!("{signed}&{SIGNATURE}={signature}"))
}

/// A link laid open for its operator.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkInspection {
    /// From when on it is good no more, as it says.
    pub expires: Option<UnixSeconds>,
    /// The position of the secret that signed it.
    pub signed_by: Option<usize>,
    /// Why a GET with it would be refused.
    pub fault: Option<LinkFault>,
}

/// What a link says, and what a request with it would be told.
pub fn inspect_link(settings: &LinkSettings, target: &Target, now: UnixSeconds) -> LinkInspection {
    let links = Links::compile(settings);
    let read = Presented::read(target.path_and_query().as_str()).ok();
    LinkInspection {
        expires: read.as_ref().map(|link| link.expires),
        signed_by: read.as_ref().and_then(|link| links.signed_by(link)),
        fault: links.check(target, now).err(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn settings(secrets: &[&str]) -> LinkSettings {
        let secret = |text: &&str| Secret::new(text.as_bytes());
        LinkSettings { secrets: secrets.iter().map(secret).collect(), max_age_secs: 3600 }
    }

    fn ours() -> LinkSettings {
        settings(&["a secret for links of 32 bytes at least"])
    }

    fn target(uri: &str) -> Option<Target> {
        let (head, ()) = Request::builder().uri(uri).header("host", "a").body(()).ok()?.into_parts();
        Target::read(&head, true, 8192).ok()
    }

    fn verdict(settings: &LinkSettings, uri: &str) -> Result<u64, LinkFault> {
        let target = target(uri).unwrap();
        Links::compile(settings).check(&target, UnixSeconds::from_secs(NOW)).map(UnixSeconds::as_secs)
    }

    fn link(target: &str, in_secs: u64) -> String {
        sign_link(&ours(), target, UnixSeconds::from_secs(NOW + in_secs)).unwrap()
    }

    #[test]
    fn a_link_is_good_until_it_expires() {
        for path in ["/media/a%20b.pdf", "/media/%C3%BC.pdf", "/media/a.pdf?size=2&x"] {
            assert_eq!(verdict(&ours(), &link(path, 60)), Ok(NOW + 60), "{path}");
            assert_eq!(verdict(&ours(), &link(path, 0)), Err(LinkFault::Expired), "{path}");
        }
        assert_eq!(verdict(&ours(), &link("/a", 3600)), Ok(NOW + 3600));
        assert_eq!(verdict(&ours(), &link("/a", 3601)), Err(LinkFault::Lifetime));
    }

    #[test]
    fn the_signature_is_what_the_documentation_says() {
        let link = sign_link(
            &settings(&["0123456789abcdef0123456789abcdef"]),
            "/media/a%20b.pdf",
            UnixSeconds::from_secs(NOW),
        );
        // printf 'portcullis-link-v1\n/media/a%%20b.pdf?expires=1800000000' | openssl dgst -sha256 -hmac .. -binary | basenc --base64url
        assert_eq!(
            link.unwrap(),
            "/media/a%20b.pdf?expires=1800000000&signature=D5J-R0ZdC_2sZk9USEYrzKRvhN9oT7-yH4i53YWbgxU"
        );
    }

    #[test]
    fn nothing_of_a_link_can_be_changed() {
        let good = link("/media/a.pdf?size=2", 60);
        let signature = good.rsplit('=').next().unwrap();
        for (from, to) in [
            ("/a.pdf", "/b.pdf"),
            ("/a.pdf", "/%61.pdf"),
            ("size=2", "size=3"),
            ("size=2&", ""),
            (&*format!("expires={}", NOW + 60), &*format!("expires={}", NOW + 61)),
        ] {
            assert_eq!(verdict(&ours(), &good.replace(from, to)), Err(LinkFault::Signature), "{from} {to}");
        }
        for changed in [
            format!("{good}&more=1"),
            format!("{good}="),
            format!("{good}&signature={signature}"),
            good.replace("&signature", "&expires=1900000000&expires=1&signature"),
            good.replace("expires=", "%65xpires="),
            good.replace("expires=", "expires=0x"),
            good.replace("expires=", "expires=99999999999"),
            format!("/a?signature={signature}&expires={}", NOW + 60),
            format!("/a?expires={}&signature=", NOW + 60),
        ] {
            let found = verdict(&ours(), &changed);
            assert!(matches!(found, Err(LinkFault::Malformed | LinkFault::Signature)), "{changed}: {found:?}");
        }
        assert_eq!(verdict(&ours(), "/media/a.pdf?expires=1"), Err(LinkFault::Missing));
    }

    #[test]
    fn secrets_take_turns() {
        let both = settings(&["the next secret, which signs from now", "a secret for links of 32 bytes at least"]);
        assert!(verdict(&both, &link("/a", 60)).is_ok());
        let next = sign_link(&both, "/a", UnixSeconds::from_secs(NOW + 60)).unwrap();
        assert_eq!(verdict(&ours(), &next), Err(LinkFault::Signature));
        let seen = inspect_link(&both, &target(&link("/a", 60)).unwrap(), UnixSeconds::from_secs(NOW));
        assert_eq!((seen.signed_by, seen.fault), (Some(1), None));
    }

    #[test]
    fn what_is_signed_already_is_not_signed_again() {
        for target in ["/a?expires=1", "/a?x&signature=y", "/a?%65xpires=1"] {
            assert_eq!(sign_link(&ours(), target, UnixSeconds::from_secs(NOW)), Err(LinkFault::Malformed), "{target}");
        }
        assert_eq!(without_link("a=1&expires=2&signature=3").as_deref(), Some("a=1"));
        assert_eq!(without_link("expires=2&%73ignature=3"), None);
    }

    proptest! {
        #[test]
        fn no_url_panics_and_none_passes_unsigned(uri in "/[a-z&=?%;]{0,20}(expires=[0-9]{0,12})?(&signature=[A-Za-z0-9_-]{0,44})?") {
            if let Some(target) = target(&uri) {
                prop_assert!(Links::compile(&ours()).check(&target, UnixSeconds::from_secs(NOW)).is_err());
            }
        }

        #[test]
        fn one_changed_byte_spoils_it(at in 0_usize..200, byte in b'!'..=b'~') {
            let good = link("/media/a%20b.pdf?size=2", 60);
            let mut bytes = good.clone().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            let changed = String::from_utf8(bytes).unwrap();
            if let Some(target) = target(&changed).filter(|_| changed != good) {
                prop_assert!(Links::compile(&ours()).check(&target, UnixSeconds::from_secs(NOW)).is_err(), "{}", changed);
            }
        }
    }
}
