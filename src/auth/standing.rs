//! Whether what a permit was given for still holds, asked while a long exchange goes on.
//!
//! Owns the two ways a token ends after it was let in: its date, and a revocation. What else has changed since (rules, keys, what its
//! issuer would say of it) is asked of the next request.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::policy::TokenPolicy;
use super::revoke::{DenyList, Presented};
use super::time::UnixSeconds;
use super::verify::Verified;

/// How long a standing is taken for granted: the list of revocations changes without a sign, and the clock may be set.
const LOOK: Duration = Duration::from_secs(5);

/// Why a permit holds no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lapse {
    /// Its token has expired.
    Expired,
    /// Its token was revoked.
    Revoked,
}

/// The token of a permit, kept to be judged again.
pub struct Standing {
    pub(super) revoked: Arc<DenyList>,
    pub(super) verified: Arc<Verified>,
    pub(super) policy: Arc<TokenPolicy>,
    /// The position of the token's issuer among the policy's candidates.
    pub(super) candidate: usize,
    pub(super) digests: [[u8; 32]; 2],
    /// Which version of the list was asked last.
    pub(super) asked: Option<u64>,
    pub(super) expires: Option<UnixSeconds>,
}

impl Standing {
    /// The same for something that may outlive its token, unless that is revoked.
    #[must_use]
    pub fn past_expiry(self) -> Self {
        Self { expires: None, ..self }
    }

    /// For how long it holds before it must be asked again. Cheap as long as nothing was revoked: a look at a counter.
    pub fn holds(&mut self, now: UnixSeconds) -> Result<Duration, Lapse> {
        let version = self.revoked.version();
        if self.asked.replace(version) != Some(version) {
            let issuer = self.policy.candidates[self.candidate].issuer.name();
            if is_revoked(&self.revoked, issuer, &self.verified, &self.digests, now) {
                self.asked = None; // it stays so however often one asks
                return Err(Lapse::Revoked);
            }
        }
        let Some(expires) = self.expires else { return Ok(LOOK) };
        let left = now.until(expires);
        if left.is_zero() { Err(Lapse::Expired) } else { Ok(left.min(LOOK)) }
    }
}

impl fmt::Debug for Standing {
    /// It holds claims: only what it would be asked for shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Standing").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Whether the list denies a token, of which any of `digests` may stand there.
pub(super) fn is_revoked(
    list: &DenyList,
    issuer: &str,
    verified: &Verified,
    digests: &[[u8; 32]; 2],
    now: UnixSeconds,
) -> bool {
    let jti = verified.claims.text("jti");
    let asked = if list.needs_digest() { &digests[..] } else { &digests[..1] };
    asked.iter().any(|digest| {
        let presented = Presented {
            issuer,
            jti: jti.as_deref(),
            subject: verified.subject.as_deref(),
            issued_at: verified.issued_at,
            digest,
        };
        list.denies(&presented, now)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::access::Place;
    use super::super::fixtures::{self, NOW, Request};
    use super::super::possession::Possession;
    use super::super::revoke::{Entry, RevocationSettings, Revoked};
    use super::super::{Authority, Policy};
    use super::*;

    fn at(secs: u64) -> UnixSeconds {
        UnixSeconds::from_secs(NOW + secs)
    }

    /// A list that takes additions, and who looks at it.
    fn judge() -> (tempfile::TempDir, Arc<DenyList>, Authority) {
        let home = tempfile::tempdir().unwrap();
        let settings = RevocationSettings {
            file: None,
            journal: Some(home.path().join("journal")),
            entries: 100,
            shared: false,
            issuers: vec!["django".into()],
        };
        let list = Arc::new(DenyList::open(&settings, at(0)).unwrap());
        let authority = Authority::new(8, Arc::clone(&list), Arc::new(Possession::new(60).unwrap()));
        (home, list, authority)
    }

    fn standing(authority: &Authority, policy: &Policy, token: &str) -> Standing {
        let permit = fixtures::judge(authority, policy, &Request::bearing(token).asking()).unwrap();
        authority.standing(&permit).unwrap()
    }

    fn revoke(list: &DenyList, revoked: Revoked) {
        list.add(Entry { revoked, until: None }, at(0)).unwrap();
    }

    #[test]
    fn it_holds_to_the_second_in_which_the_token_would_be_refused() {
        let (_home, _list, authority) = judge();
        let token = fixtures::django_token(r#""user_id":1"#);
        let mut standing = standing(&authority, &fixtures::policy(fixtures::django(), vec![]), &token);
        assert_eq!(standing.holds(at(0)), Ok(LOOK));
        assert_eq!(standing.holds(at(298)), Ok(Duration::from_secs(2)));
        assert_eq!(standing.holds(at(300)), Err(Lapse::Expired));
        assert_eq!(standing.past_expiry().holds(at(9999)), Ok(LOOK));
    }

    #[test]
    fn whatever_revokes_the_token_ends_it_wherever_the_token_stood() {
        let token = fixtures::django_token(r#""user_id":1"#);
        for revoked in [
            Revoked::Jti { jti: "9f2c".into(), issuer: None },
            Revoked::Sub { sub: "1".into(), before: NOW, issuer: None },
            Revoked::Token { digest: token_digest_of(&token) },
            Revoked::Token { digest: whole_digest_of(&token) },
        ] {
            for forwards in [true, false] {
                let (_home, list, authority) = judge();
                let policy = fixtures::policy_with(fixtures::django(), |settings, forwarding| {
                    settings.places = vec![Place::Authorization];
                    forwarding.token = forwards;
                });
                let mut standing = standing(&authority, &policy, &token);
                assert_eq!(standing.holds(at(1)), Ok(LOOK));
                revoke(&list, Revoked::Jti { jti: "another".into(), issuer: None });
                assert_eq!(standing.holds(at(2)), Ok(LOOK));
                revoke(&list, revoked.clone());
                assert_eq!(standing.holds(at(3)), Err(Lapse::Revoked), "{revoked:?}");
                assert_eq!(standing.holds(at(4)), Err(Lapse::Revoked));
                assert_eq!(standing.past_expiry().holds(at(9999)), Err(Lapse::Revoked));
            }
        }
    }

    #[test]
    fn what_was_revoked_between_the_permit_and_the_first_look_is_noticed() {
        let (_home, list, authority) = judge();
        let token = fixtures::django_token(r#""user_id":1"#);
        let mut standing = standing(&authority, &fixtures::policy(fixtures::django(), vec![]), &token);
        revoke(&list, Revoked::Jti { jti: "9f2c".into(), issuer: None });
        assert_eq!(standing.holds(at(0)), Err(Lapse::Revoked));
    }

    #[test]
    fn who_bears_no_token_has_nothing_to_lose() {
        let (_home, _list, authority) = judge();
        let permit = fixtures::judge(&authority, &Policy::public(), &Request::bearing("x").asking()).unwrap();
        assert!(authority.standing(&permit).is_none());
    }

    fn token_digest_of(token: &str) -> [u8; 32] {
        super::super::revoke::token_digest(token.as_bytes())
    }

    fn whole_digest_of(token: &str) -> [u8; 32] {
        super::super::revoke::digest_of(token.as_bytes())
    }
}
