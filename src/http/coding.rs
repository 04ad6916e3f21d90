//! Which content coding a client takes: `Accept-Encoding` (RFC 9110 section 12.5.3). Pure.
//!
//! Owns the names of the codings this gateway makes and serves, and the choice among those there are. Refuses to know how a
//! coding is made, and what deserves one.

use http::header::{self, HeaderMap, HeaderValue};

/// A content coding other than the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 8878.
    Zstd,
    /// RFC 7932.
    Brotli,
    /// RFC 1952.
    Gzip,
}

impl Coding {
    /// All of them, the one that is worth most at equal weights first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Brotli, Self::Gzip];

    /// Its name in `Content-Encoding` and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Brotli => "br",
            Self::Gzip => "gzip",
        }
    }

    /// The name as a field's value.
    pub const fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// What is appended to a file's name for the same file in this coding, its dot included.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Zstd => ".zst",
            Self::Brotli => ".br",
            Self::Gzip => ".gz",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }

    /// RFC 9110 section 8.4.1: names are case-insensitive, and `x-gzip` is an old one for gzip.
    fn named(name: &str) -> Option<Self> {
        if name.eq_ignore_ascii_case("x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name()))
    }
}

/// What a client takes, as thousandths: 0 is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    weights: [u16; Coding::ALL.len()],
    identity: u16,
}

impl Accepted {
    /// Reads the field. Without it a client would take anything, but those that say nothing are the simple ones, so they get what is
    /// stored. What can't be read in it counts for nothing.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut weights = [None; Coding::ALL.len()];
        let (mut identity, mut others) = (None, None);
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
        for item in lines.flat_map(|line| line.split(',')) {
            let mut parts = item.split(';').map(|part| part.trim_matches([' ', '\t']));
            let name = parts.next().unwrap_or_default();
            let Some(weight) = parts.next().map_or(Some(1000), weight) else { continue };
            if let Some(coding) = Coding::named(name) {
                weights[coding.index()] = Some(weight);
            } else if name.eq_ignore_ascii_case("identity") {
                identity = Some(weight);
            } else if name == "*" {
                others = Some(weight);
            }
        }
        // The identity is acceptable unless it is ruled out, and least wanted unless it is named.
        let identity = identity.unwrap_or_else(|| u16::from(others != Some(0)));
        Self { weights: weights.map(|weight| weight.or(others).unwrap_or(0)), identity }
    }

    /// The best of what is `offered`, the first at equal weights; `None` is the identity, which is also what a client gets that rules
    /// out everything there is: an answer it can't read is worth no less than a refusal.
    pub fn best(&self, offered: impl IntoIterator<Item = Coding>) -> Option<Coding> {
        let mut best: Option<Coding> = None;
        let mut most = 0;
        for coding in offered {
            let weight = self.weights[coding.index()];
            if weight > most {
                (best, most) = (Some(coding), weight);
            }
        }
        best.filter(|_| most >= self.identity)
    }
}

/// `weight = OWS ";" OWS "q=" qvalue` (section 12.4.2), without its semicolon, in thousandths.
pub(super) fn weight(text: &str) -> Option<u16> {
    let value = text.strip_prefix("q=").or_else(|| text.strip_prefix("Q="))?;
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = fraction.bytes().zip([100, 10, 1]).map(|(digit, place)| u16::from(digit - b'0') * place);
    match whole {
        "0" if digits => Some(thousandths.sum()),
        "1" if digits && fraction.bytes().all(|digit| digit == b'0') => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(field: Option<&'static str>, offered: &[Coding]) -> Option<Coding> {
        let mut headers = HeaderMap::new();
        if let Some(field) = field {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(field));
        }
        Accepted::read(&headers).best(offered.iter().copied())
    }

    #[test]
    fn rfc9110_12_5_3_the_heaviest_of_what_there_is_is_chosen() {
        use Coding::{Brotli, Gzip, Zstd};
        for (field, expected) in [
            (None, None),
            (Some(""), None),
            (Some("gzip, deflate, br, zstd"), Some(Zstd)),
            (Some("gzip;q=0.9, br;q=0.8"), Some(Gzip)),
            (Some("gzip;q=0.8, br;q=0.8"), Some(Brotli)),
            (Some("GZip"), Some(Gzip)),
            (Some("x-gzip"), Some(Gzip)),
            (Some("*"), Some(Zstd)),
            (Some("*, zstd;q=0"), Some(Brotli)),
            (Some("*;q=0"), None),
            (Some("gzip;q=0"), None),
            (Some("gzip;q=0.001"), Some(Gzip)),
            (Some("gzip;q=0.5, identity;q=0.6"), None),
            (Some("gzip;q=0.5, identity;q=0.5"), Some(Gzip)),
            (Some("identity;q=0, gzip;q=0.1"), Some(Gzip)),
            (Some("identity;q=0"), None),
            (Some("deflate"), None),
            (Some(" br ;\tq=1.000 ,, gzip"), Some(Brotli)),
            (Some("br;q=1.001, gzip"), Some(Gzip)),
            (Some("br;q=, gzip;level=9"), None),
            (Some("br;q=0.1234"), None),
        ] {
            assert_eq!(best(field, &[Zstd, Brotli, Gzip]), expected, "{field:?}");
        }
        assert_eq!(best(Some("zstd, gzip;q=0.5"), &[Gzip]), Some(Gzip));
        assert_eq!(best(Some("zstd"), &[]), None);
    }

    #[test]
    fn lines_of_the_field_are_one_list() {
        let mut headers = HeaderMap::new();
        for line in ["gzip;q=0.5", "br"] {
            headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(line));
        }
        assert_eq!(Accepted::read(&headers).best([Coding::Gzip, Coding::Brotli]), Some(Coding::Brotli));
    }
}
