//! The other writing of an ECDSA token.
//!
//! Owns one fact: where (r, s) signs something, (r, n - s) signs it too, and anybody can compute it. Such a token says the same, by the
//! same key, in other bytes; whoever is refused one by its bytes must be refused both. The other algorithms verified here give a message
//! and a signature's bytes one form. Knows no keys. SEC 1 section 4.1.4, RFC 7518 section 3.4.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// FIPS 186-4 section D.1.2.3: the order n of P-256.
const P256: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];
/// Section D.1.2.4: that of P-384.
const P384: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0,
    0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// The token that says the same in other bytes; `None` where a signature of this length has no second form. Whether it is an ECDSA
/// signature at all is not looked at: of another, what comes out is nobody's token.
pub(super) fn twin_of(token: &str) -> Option<String> {
    let (signed, signature) = token.rsplit_once('.')?;
    let mut signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let order: &[u8] = match signature.len() {
        64 => &P256,
        96 => &P384,
        _ => return None,
    };
    let half = signature.len() / 2;
    subtract_from(order, &mut signature[half..]).then(|| format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// Makes `number` into `order - number`; whether that is not negative.
fn subtract_from(order: &[u8], number: &mut [u8]) -> bool {
    let mut borrow = false;
    for (byte, from) in number.iter_mut().zip(order).rev() {
        let (difference, under) = from.overflowing_sub(*byte);
        let (difference, under_again) = difference.overflowing_sub(u8::from(borrow));
        (*byte, borrow) = (difference, under || under_again);
    }
    !borrow
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::super::fixtures::{self, NOW, Request};
    use super::super::revoke::{DenyList, Entry, RevocationSettings};
    use super::super::{Algorithm, Authority, Issuer, IssuerSettings, Possession, UnixSeconds};
    use super::*;

    fn token(pair: &fixtures::Pair, algorithm: Algorithm) -> String {
        pair.sign(algorithm, &format!(r#"{{"alg":"{algorithm}"}}"#), &format!(r#"{{"exp":{}}}"#, NOW + 9))
    }

    #[test]
    fn a_twin_verifies_and_its_twin_is_the_token() {
        for (pair, algorithm) in [(fixtures::ec256(), Algorithm::Es256), (fixtures::ec384(), Algorithm::Es384)] {
            let settings = IssuerSettings { keys: vec![pair.key()], ..IssuerSettings::named("corp") };
            let issuer = Issuer::compile(settings).unwrap().0;
            let token = token(pair, algorithm);
            let twin = twin_of(&token).unwrap();
            assert_ne!(token, twin);
            fixtures::verified(&issuer, &twin).unwrap();
            assert_eq!(twin_of(&twin).unwrap(), token);
        }
    }

    #[test]
    fn what_is_no_ecdsa_token_has_no_twin_that_verifies() {
        for (pair, algorithm) in [
            (fixtures::rsa(), Algorithm::Rs256),
            (fixtures::secret(), Algorithm::Hs256),
            (fixtures::secret(), Algorithm::Hs512),
            (fixtures::ed(), Algorithm::EdDsa),
        ] {
            let settings =
                IssuerSettings { keys: vec![pair.key()], algorithms: vec![algorithm], ..IssuerSettings::named("corp") };
            let issuer = Issuer::compile(settings).unwrap().0;
            let twin = twin_of(&token(pair, algorithm));
            assert!(twin.is_none_or(|twin| fixtures::verified(&issuer, &twin).is_err()), "{algorithm}");
        }
        let too_large = URL_SAFE_NO_PAD.encode([0xff; 64]);
        for odd in ["", "a", "a.b", "a.b.~", &format!("a.b.{too_large}")] {
            assert_eq!(twin_of(odd), None);
        }
    }

    #[test]
    fn a_token_revoked_by_its_digest_is_revoked_in_both_writings() {
        let home = tempfile::tempdir().unwrap();
        let journal = Some(home.path().join("journal"));
        let settings = RevocationSettings { file: None, journal, entries: 9, issuers: vec![] };
        let now = UnixSeconds::from_secs(NOW);
        let list = DenyList::open(&settings, now).unwrap();
        let settings = IssuerSettings { keys: vec![fixtures::ec256().key()], ..IssuerSettings::named("corp") };
        let policy = fixtures::policy(Arc::new(Issuer::compile(settings).unwrap().0), vec![]);
        let token = token(fixtures::ec256(), Algorithm::Es256);
        list.add(Entry::of_token(&token, None), now).unwrap();
        let authority = Authority::new(8, Arc::new(list), Arc::new(Possession::new(60).unwrap()));
        for writing in [&token, &twin_of(&token).unwrap()] {
            let denied = fixtures::judge(&authority, &policy, &Request::bearing(writing).asking()).unwrap_err();
            assert_eq!(denied.reason(), "revoked");
        }
    }
}
