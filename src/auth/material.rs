//! The one gate every verification key passes, wherever it was read from.
//!
//! Owns what a key must be to be right: RFC 7518 sections 3.2 (HMAC secret at least the hash), 3.3 (RSA 2048 bits), 3.4 (point on
//! the curve of the algorithm), RFC 8037. Knows no file formats and verifies nothing; it gives out what a verifier is made of.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256,
    RsaPublicKeyComponents,
};

use super::settings::{Algorithm, Family, Secret};

/// The longest RSA modulus the library verifies with, in bits.
const MAX_RSA_BITS: usize = 8192;
const MIN_RSA_BITS: usize = 2048;

/// Why a key was refused, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BadKey {
    pub(super) message: String,
    pub(super) hint: String,
}

impl BadKey {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: hint.into() }
    }
}

/// The curves whose signatures are verified here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

/// Key material that has passed the gate.
#[derive(Clone)]
pub(super) struct Material(Parts);

/// Points and Ed25519 keys serve one algorithm each, so they are kept as the library reads them. An RSA key serves six.
#[derive(Clone)]
enum Parts {
    Secret(Secret),
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
    Ec(Curve, ParsedPublicKey),
    Ed(ParsedPublicKey),
}

/// What a verifier is made of.
pub(super) enum Raw<'m> {
    Secret(&'m [u8]),
    Rsa(&'m RsaPublicKeyComponents<Box<[u8]>>),
    /// Parsed for ECDSA with the curve's hash and signatures of fixed width, or for Ed25519.
    Parsed(&'m ParsedPublicKey),
}

/// The public members of a key, big-endian and as long as RFC 7518 section 6 and RFC 8037 section 2 want them.
pub(super) enum Public<'m> {
    Rsa { n: &'m [u8], e: &'m [u8] },
    Ec { curve: Curve, x: &'m [u8], y: &'m [u8] },
    Ed { x: &'m [u8] },
}

impl Material {
    /// A shared secret of at least 32 bytes, the least any HMAC algorithm here may have.
    pub(super) fn secret(bytes: &[u8]) -> Result<Self, BadKey> {
        refuse_short_secret(bytes.len(), Algorithm::Hs256)?;
        Ok(Self(Parts::Secret(Secret::new(bytes))))
    }

    /// An RSA public key from big-endian modulus and exponent.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, BadKey> {
        let (n, e) = (without_leading_zeros(modulus), without_leading_zeros(exponent));
        let bits = bit_length(n);
        if bits < MIN_RSA_BITS {
            return Err(BadKey::new(
                format!("the RSA key has {bits} bits; at least {MIN_RSA_BITS} are needed"),
                "have the issuer sign with a new key: `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072`",
            ));
        }
        if bits > MAX_RSA_BITS {
            return Err(BadKey::new(
                format!("the RSA key has {bits} bits; at most {MAX_RSA_BITS} are supported"),
                "use a key of 2048 to 4096 bits, or an EC key",
            ));
        }
        let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
        if !odd(n) || !odd(e) || e == [1] {
            return Err(BadKey::new(
                "the RSA key has an impossible modulus or exponent",
                "the exponent must be odd and greater than 1, usually 65537; export the public key again",
            ));
        }
        RsaPublicKeyComponents { n, e }.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256).map_err(|_| {
            BadKey::new("the numbers of the RSA key do not make a public key", "export the public key again")
        })?;
        Ok(Self(Parts::Rsa(RsaPublicKeyComponents { n: n.into(), e: e.into() })))
    }

    /// An EC public key from its uncompressed point (`04 || x || y`).
    pub(super) fn ec(curve: Curve, point: &[u8]) -> Result<Self, BadKey> {
        if point.first() != Some(&4) {
            return Err(BadKey::new(
                "the EC key's point is not in uncompressed form",
                "write it so: `openssl ec -pubin -in key.pem -conv_form uncompressed -out key.pem`",
            ));
        }
        let (length, parsed) = match curve {
            Curve::P256 => (65, ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)),
            Curve::P384 => (97, ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)),
        };
        match parsed {
            Ok(parsed) if point.len() == length => Ok(Self(Parts::Ec(curve, parsed))),
            _ => Err(BadKey::new(
                "the EC key's point does not lie on its curve",
                "the key is damaged or forged; take it again from the issuer",
            )),
        }
    }

    /// An Ed25519 public key.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, BadKey> {
        let hint = "take the key again from the issuer";
        if bytes.len() != 32 {
            let message = format!("an Ed25519 public key has 32 bytes, this one {}", bytes.len());
            return Err(BadKey::new(message, hint));
        }
        let parsed = ParsedPublicKey::new(&ED25519, bytes);
        parsed.map(|parsed| Self(Parts::Ed(parsed))).map_err(|_| BadKey::new("it is no Ed25519 public key", hint))
    }

    pub(super) fn family(&self) -> Family {
        match self.0 {
            Parts::Secret(_) => Family::Hmac,
            Parts::Rsa(_) => Family::Rsa,
            Parts::Ec(..) => Family::Ec,
            Parts::Ed(_) => Family::Ed,
        }
    }

    /// What a key of this kind is called in messages.
    pub(super) fn noun(&self) -> &'static str {
        match self.0 {
            Parts::Secret(_) => "secret",
            Parts::Rsa(_) => "RSA key",
            Parts::Ec(Curve::P256, _) => "EC key on P-256",
            Parts::Ec(Curve::P384, _) => "EC key on P-384",
            Parts::Ed(_) => "Ed25519 key",
        }
    }

    /// The algorithm assumed where the configuration and the key name none.
    pub(super) fn usual_algorithm(&self) -> Algorithm {
        match self.0 {
            Parts::Secret(_) => Algorithm::Hs256,
            Parts::Rsa(_) => Algorithm::Rs256,
            Parts::Ec(Curve::P256, _) => Algorithm::Es256,
            Parts::Ec(Curve::P384, _) => Algorithm::Es384,
            Parts::Ed(_) => Algorithm::EdDsa,
        }
    }

    /// Whether this key can verify `algorithm` at all: family and curve must be the algorithm's.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        match self.0 {
            Parts::Ec(Curve::P256, _) => algorithm == Algorithm::Es256,
            Parts::Ec(Curve::P384, _) => algorithm == Algorithm::Es384,
            Parts::Secret(_) | Parts::Rsa(_) | Parts::Ed(_) => algorithm.family() == self.family(),
        }
    }

    /// A secret shorter than the algorithm's hash is refused; other keys have no such bound.
    pub(super) fn long_enough_for(&self, algorithm: Algorithm) -> Result<(), BadKey> {
        match &self.0 {
            Parts::Secret(secret) => refuse_short_secret(secret.expose().len(), algorithm),
            Parts::Rsa(_) | Parts::Ec(..) | Parts::Ed(_) => Ok(()),
        }
    }

    pub(super) fn raw(&self) -> Raw<'_> {
        match &self.0 {
            Parts::Secret(secret) => Raw::Secret(secret.expose()),
            Parts::Rsa(numbers) => Raw::Rsa(numbers),
            Parts::Ec(_, parsed) | Parts::Ed(parsed) => Raw::Parsed(parsed),
        }
    }

    /// `None` for a secret, which has nothing public.
    pub(super) fn public(&self) -> Option<Public<'_>> {
        match &self.0 {
            Parts::Secret(_) => None,
            Parts::Rsa(RsaPublicKeyComponents { n, e }) => Some(Public::Rsa { n, e }),
            Parts::Ec(curve, parsed) => {
                let coordinates = &parsed.as_ref()[1..];
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                Some(Public::Ec { curve: *curve, x, y })
            }
            Parts::Ed(parsed) => Some(Public::Ed { x: parsed.as_ref() }),
        }
    }
}

/// The least secret of each HMAC algorithm, in bytes (RFC 7518 section 3.2); 0 for the rest.
pub(super) fn least_secret_bytes(algorithm: Algorithm) -> usize {
    match algorithm {
        Algorithm::Hs256 => 32,
        Algorithm::Hs384 => 48,
        Algorithm::Hs512 => 64,
        _ => 0,
    }
}

fn refuse_short_secret(bytes: usize, algorithm: Algorithm) -> Result<(), BadKey> {
    let least = least_secret_bytes(algorithm);
    if bytes >= least {
        return Ok(());
    }
    Err(BadKey::new(
        format!("the secret has {bytes} bytes; {algorithm} needs at least {least}"),
        format!("make a new one for issuer and gateway: `openssl rand -base64 {least}`"),
    ))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - usize::try_from(first.leading_zeros()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixtures;
    use super::*;

    fn refused<T>(result: Result<T, BadKey>) -> String {
        result.err().unwrap().message
    }

    #[test]
    fn a_secret_is_at_least_its_hash() {
        assert!(refused(Material::secret(&[])).contains("0 bytes; HS256 needs at least 32"));
        assert!(refused(Material::secret(&[1; 31])).contains("31 bytes"));
        let fifty = Material::secret(&[1; 50]).unwrap();
        fifty.long_enough_for(Algorithm::Hs384).unwrap();
        assert!(refused(fifty.long_enough_for(Algorithm::Hs512)).contains("HS512 needs at least 64"));
    }

    #[test]
    fn an_rsa_key_has_2048_bits_and_an_odd_exponent_above_one() {
        let (n, e) = fixtures::rsa().public_numbers();
        Material::rsa(&n, &e).unwrap();
        let padded: Vec<u8> = [0, 0].into_iter().chain(n.iter().copied()).collect();
        Material::rsa(&padded, &e).unwrap();
        assert!(refused(Material::rsa(&n[128..], &e)).contains("at least 2048"));
        for exponent in [&[][..], &[0], &[1], &[0, 1], &[2], &[1, 0, 0]] {
            assert!(refused(Material::rsa(&n, exponent)).contains("exponent"), "{exponent:?}");
        }
        let mut even = n.clone();
        *even.last_mut().unwrap() &= 0xfe;
        assert!(refused(Material::rsa(&even, &e)).contains("modulus"));
        assert!(refused(Material::rsa(&[255; 1025], &e)).contains("at most 8192"));
    }

    #[test]
    fn an_ec_point_lies_on_the_curve_it_names() {
        let point = fixtures::ec256().public_point();
        let key = Material::ec(Curve::P256, &point).unwrap();
        assert!(key.fits(Algorithm::Es256) && !key.fits(Algorithm::Es384) && !key.fits(Algorithm::Rs256));
        let mut off = point.clone();
        off[64] ^= 1;
        for (curve, point) in [(Curve::P256, &off), (Curve::P384, &point)] {
            assert!(refused(Material::ec(curve, point)).contains("does not lie on its curve"));
        }
        assert!(refused(Material::ec(Curve::P256, &[4; 65])).contains("curve"));
        assert!(refused(Material::ec(Curve::P256, &[])).contains("uncompressed"));
    }

    #[test]
    fn an_ed25519_key_has_32_bytes() {
        assert!(refused(Material::ed25519(&[1; 31])).contains("32 bytes"));
    }
}
