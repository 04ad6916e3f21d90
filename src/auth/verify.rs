//! One token against one issuer.
//!
//! Owns the order of the checks: form, algorithm, type, key, signature, and only then what the claims say. The dates are apart, because
//! they are asked again whenever a verified token comes back. Knows no routes. RFC 7519 section 7.2, RFC 8725 section 3.

use super::claims::Claims;
use super::demand::{Verdict, judge};
use super::denied::Cause;
use super::issuer::{Issuer, Ring, normal_typ};
use super::jws::{Header, Jws};
use super::keys::{Validity, VerifyingKey};
use super::possession::Confirmation;
use super::settings::Algorithm;
use super::time::UnixSeconds;

/// Seconds an issuer's clock may run ahead of ours in `iat`, where the leeway is less. `iat` guards nothing by itself; a date far
/// ahead means a broken or lying issuer.
const IAT_TOLERANCE_SECS: u64 = 60;

/// The claim names that tell kinds of token apart: simplejwt's, Cognito's and Keycloak's.
const TOKEN_TYPE_CLAIMS: [&str; 3] = ["token_type", "token_use", "typ"];

/// A token whose signature and claims its issuer vouches for; whether it is in date depends on when one asks.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) claims: Claims,
    pub(super) subject: Option<Box<str>>,
    pub(super) issued_at: Option<UnixSeconds>,
    /// What it is bound to.
    pub(super) bound_to: Option<Box<Confirmation>>,
    /// When the key that signed it may be used.
    pub(super) key: Validity,
    exp: Option<UnixSeconds>,
    nbf: Option<UnixSeconds>,
}

/// Runs every check; the first that fails is the cause.
pub(super) fn verify(issuer: &Issuer, ring: &Ring, jws: Jws<'_>, now: UnixSeconds) -> Result<Verified, Cause> {
    let algorithm = check_algorithm(ring, &jws.header)?;
    check_typ(issuer, &jws.header)?;
    let key = check_signature(ring, algorithm, &jws, now)?;
    let verified = Verified { key: key.validity, ..Verified::read(issuer, jws.payload)? };
    verified.check_dates(issuer, now)?;
    verified.check_issuer(issuer)?;
    verified.check_audience(issuer)?;
    verified.check_presence(issuer)?;
    verified.check_demands(issuer)?;
    Ok(verified)
}

/// `alg` must be, byte for byte, the name of one the issuer is configured for.
pub(super) fn check_algorithm(ring: &Ring, header: &Header) -> Result<Algorithm, Cause> {
    ring.algorithms.iter().copied().find(|one| one.name() == &*header.alg).ok_or(Cause::AlgorithmNotAllowed)
}

/// `typ` must be one the issuer is configured for, where it is configured for any.
pub(super) fn check_typ(issuer: &Issuer, header: &Header) -> Result<(), Cause> {
    let accepted = &issuer.settings().typ;
    let known = || header.typ.as_deref().is_some_and(|typ| accepted.contains(&normal_typ(typ)));
    if accepted.is_empty() || known() { Ok(()) } else { Err(Cause::WrongTyp) }
}

/// Tries the issuer's keys that fit; returns the one that signed.
pub(super) fn check_signature<'r>(
    ring: &'r Ring,
    algorithm: Algorithm,
    jws: &'r Jws<'_>,
    now: UnixSeconds,
) -> Result<&'r VerifyingKey, Cause> {
    let mut tried = 0;
    for key in ring.keys.candidates(algorithm, jws.header.kid.as_deref(), now) {
        tried += 1;
        if key.verifies(algorithm, jws.signing_input, &jws.signature) {
            return Ok(key);
        }
    }
    Err(if tried == 0 { Cause::UnknownKey } else { Cause::BadSignature })
}

impl Verified {
    /// Reads the claims; proves nothing about them.
    pub(super) fn read(issuer: &Issuer, payload: Vec<u8>) -> Result<Self, Cause> {
        Self::of(issuer, Claims::parse(payload)?)
    }

    /// The same of claims that were read already.
    pub(super) fn of(issuer: &Issuer, claims: Claims) -> Result<Self, Cause> {
        let subject = claims.text(&issuer.settings().subject_claim).map(|text| text.into_owned().into_boxed_str());
        let (exp, nbf, issued_at) = (claims.date("exp")?, claims.date("nbf")?, claims.date("iat")?);
        let bound_to = Confirmation::of(&claims);
        Ok(Self { claims, subject, issued_at, bound_to, key: Validity::default(), exp, nbf })
    }

    /// `now < exp + leeway` and `now >= nbf - leeway`; asked of every request, cached token or not.
    pub(super) fn check_dates(&self, issuer: &Issuer, now: UnixSeconds) -> Result<(), Cause> {
        let leeway = issuer.settings().leeway_secs;
        if self.issued_at.is_some_and(|iat| iat > now.plus(leeway.max(IAT_TOLERANCE_SECS))) {
            return Err(Cause::NotYetValid("iat"));
        }
        if self.nbf.is_some_and(|nbf| nbf > now.plus(leeway)) {
            return Err(Cause::NotYetValid("nbf"));
        }
        if self.expires_at(issuer).is_some_and(|end| now >= end) {
            return Err(Cause::Expired);
        }
        Ok(())
    }

    /// The first moment at which [`Self::check_dates`] says expired.
    pub(super) fn expires_at(&self, issuer: &Issuer) -> Option<UnixSeconds> {
        self.exp.map(|exp| exp.plus(issuer.settings().leeway_secs))
    }

    pub(super) fn check_issuer(&self, issuer: &Issuer) -> Result<(), Cause> {
        let Some(expected) = &issuer.settings().issuer else {
            return Ok(());
        };
        let found = self.claims.find("iss").ok_or_else(|| Cause::MissingClaim("iss".into()))?;
        if found.as_str().is_some_and(|found| *found == **expected) { Ok(()) } else { Err(Cause::WrongIssuer) }
    }

    pub(super) fn check_audience(&self, issuer: &Issuer) -> Result<(), Cause> {
        let accepted = &issuer.settings().audiences;
        if accepted.is_empty() {
            return Ok(());
        }
        match self.claims.audience_among(accepted) {
            Some(true) => Ok(()),
            Some(false) => Err(Cause::WrongAudience),
            None => Err(Cause::MissingClaim("aud".into())),
        }
    }

    pub(super) fn check_presence(&self, issuer: &Issuer) -> Result<(), Cause> {
        if issuer.settings().require_exp && self.exp.is_none() {
            return Err(Cause::MissingClaim("exp".into()));
        }
        let missing = issuer.settings().required_claims.iter().find(|name| self.claims.find(name).is_none());
        missing.map_or(Ok(()), |name| Err(Cause::MissingClaim(name.clone())))
    }

    pub(super) fn check_demands(&self, issuer: &Issuer) -> Result<(), Cause> {
        issuer.settings().require.iter().try_for_each(|demand| match judge(demand, &self.claims) {
            Verdict::Met => Ok(()),
            Verdict::Missing => Err(Cause::MissingClaim(demand.claim.as_str().into())),
            Verdict::Unmet if TOKEN_TYPE_CLAIMS.contains(&demand.claim.as_str()) => {
                Err(Cause::WrongTokenType(demand.claim.as_str().into()))
            }
            Verdict::Unmet => Err(Cause::ClaimRefused(demand.claim.as_str().into())),
        })
    }

    /// Bytes this value holds on the heap beside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        self.claims.heap_bytes() + self.subject.as_ref().map_or(0, |subject| subject.len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixtures::{self, NOW};
    use super::super::settings::{Algorithm, IssuerSettings, KeySource};
    use super::*;

    fn ec_issuer(change: impl FnOnce(&mut IssuerSettings)) -> Issuer {
        let mut settings = IssuerSettings::named("corp");
        settings.keys = vec![fixtures::ec256().key()];
        change(&mut settings);
        Issuer::compile(settings).unwrap().0
    }

    fn token(header: &str, claims: &str) -> String {
        fixtures::ec256().sign(Algorithm::Es256, header, claims)
    }

    fn judged(issuer: &Issuer, claims: &str) -> Result<(), Cause> {
        fixtures::verified(issuer, &token(r#"{"alg":"ES256"}"#, claims)).map(|_| ())
    }

    #[test]
    fn every_algorithm_verifies_what_its_key_signed() {
        for (pair, algorithms) in [
            (fixtures::rsa(), &Algorithm::ALL[3..9]),
            (fixtures::ec256(), &[Algorithm::Es256][..]),
            (fixtures::ec384(), &[Algorithm::Es384]),
            (fixtures::ed(), &[Algorithm::EdDsa]),
            (fixtures::secret(), &Algorithm::ALL[..3]),
        ] {
            let (issuer, problems) = Issuer::compile(IssuerSettings {
                keys: vec![pair.key()],
                algorithms: algorithms.to_vec(),
                require_exp: false,
                ..IssuerSettings::named("corp")
            })
            .unwrap();
            assert!(problems.is_empty(), "{problems:?}");
            for algorithm in algorithms {
                let token = pair.sign(*algorithm, &format!(r#"{{"alg":"{algorithm}"}}"#), r#"{"sub":"ann"}"#);
                let verified = fixtures::verified(&issuer, &token).unwrap();
                assert_eq!(verified.subject.as_deref(), Some("ann"), "{algorithm}");
                let forged = format!("{}{}", &token[..token.len() - 6], "AAAAAA");
                assert!(fixtures::verified(&issuer, &forged).is_err(), "{algorithm}");
            }
        }
    }

    #[test]
    fn the_leeway_moves_both_ends_and_the_end_is_exclusive() {
        let strict = ec_issuer(|_| {});
        let lax = ec_issuer(|settings| settings.leeway_secs = 5);
        let exp = |at: u64| format!(r#"{{"exp":{at}}}"#);
        assert_eq!(judged(&strict, &exp(NOW)), Err(Cause::Expired));
        assert_eq!(judged(&strict, &format!(r#"{{"exp":{NOW}.5}}"#)), Ok(()));
        assert_eq!(judged(&lax, &exp(NOW - 5)), Err(Cause::Expired));
        assert_eq!(judged(&lax, &exp(NOW - 4)), Ok(()));
        let nbf = |at: u64| format!(r#"{{"exp":{},"nbf":{at}}}"#, NOW + 9);
        assert_eq!(judged(&strict, &nbf(NOW)), Ok(()));
        assert_eq!(judged(&strict, &nbf(NOW + 1)), Err(Cause::NotYetValid("nbf")));
        assert_eq!(judged(&lax, &nbf(NOW + 5)), Ok(()));
        assert_eq!(judged(&lax, &nbf(NOW + 6)), Err(Cause::NotYetValid("nbf")));
    }

    #[test]
    fn an_issue_date_far_ahead_is_refused() {
        let issuer = ec_issuer(|settings| settings.require_exp = false);
        assert_eq!(judged(&issuer, &format!(r#"{{"iat":{}}}"#, NOW + 60)), Ok(()));
        assert_eq!(judged(&issuer, &format!(r#"{{"iat":{}}}"#, NOW + 61)), Err(Cause::NotYetValid("iat")));
    }

    #[test]
    fn exp_is_demanded_unless_waived() {
        assert_eq!(judged(&ec_issuer(|_| {}), "{}"), Err(Cause::MissingClaim("exp".into())));
        assert_eq!(judged(&ec_issuer(|settings| settings.require_exp = false), "{}"), Ok(()));
    }

    #[test]
    fn typ_compares_without_case_and_prefix() {
        let issuer = ec_issuer(|settings| {
            settings.require_exp = false;
            settings.typ = vec!["Application/at+JWT".into()];
        });
        let with = |typ: &str| fixtures::verified(&issuer, &token(&format!(r#"{{"alg":"ES256"{typ}}}"#), "{}"));
        for typ in [r#","typ":"at+jwt""#, r#","typ":"AT+JWT""#, r#","typ":"application/at+jwt""#] {
            with(typ).unwrap();
        }
        for typ in ["", r#","typ":"JWT""#, r#","typ":"at+jwt2""#] {
            assert_eq!(with(typ).unwrap_err(), Cause::WrongTyp, "{typ}");
        }
    }

    #[test]
    fn a_token_is_tried_with_every_key_that_may_be_meant() {
        let issuer = ec_issuer(|settings| {
            settings.require_exp = false;
            settings.algorithms = vec![Algorithm::Es256];
            let other = KeySource::Pem { bytes: fixtures::certificate_pem().into_bytes(), label: "x".into() };
            settings.keys.insert(0, other.into());
        });
        assert_eq!(judged(&issuer, "{}"), Ok(()), "the second key signed");
        let foreign = token(r#"{"alg":"ES256","kid":"elsewhere"}"#, "{}");
        fixtures::verified(&issuer, &foreign).unwrap();
    }

    #[test]
    fn a_key_is_tried_only_while_it_is_valid() {
        let issuer = |not_before, not_after| {
            ec_issuer(|settings| {
                settings.keys[0].not_before = Some(UnixSeconds::from_secs(not_before));
                settings.keys[0].not_after = Some(UnixSeconds::from_secs(not_after));
            })
        };
        let claims = format!(r#"{{"exp":{}}}"#, NOW + 9);
        assert_eq!(judged(&issuer(NOW, NOW + 1), &claims), Ok(()));
        assert_eq!(judged(&issuer(NOW + 1, NOW + 2), &claims), Err(Cause::UnknownKey), "not yet");
        assert_eq!(judged(&issuer(NOW - 1, NOW), &claims), Err(Cause::UnknownKey), "no longer");
    }
}
