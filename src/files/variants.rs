//! A file and its precompressed siblings: `a.css`, and `a.css.zst`, `a.css.br` and `a.css.gz` beside it.
//!
//! Owns: which sibling counts, and which of them a request gets (RFC 9110 section 12.1). Refuses to know: what is made of them,
//! and how a sibling came to be: whoever builds the site compresses better than a gateway has time for.

use http::HeaderMap;

use super::open::Identity;
use crate::http::coding::{Accepted, Coding};

/// One thing for the file as it is, and one for each coding it lies there in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Variants<T> {
    plain: T,
    /// Siblings in the order of [`Coding::ALL`], or what was made here in the order of the settings.
    coded: Vec<(Coding, T)>,
}

impl<T> Variants<T> {
    /// A file with the siblings that were found, in the order of [`Coding::ALL`].
    pub(super) fn new(plain: T, coded: Vec<(Coding, T)>) -> Self {
        Self { plain, coded }
    }

    /// Adds a coding behind the others.
    pub(super) fn add(&mut self, coding: Coding, one: T) {
        self.coded.push((coding, one));
    }

    /// The file as it is.
    pub(super) fn plain(&self) -> &T {
        &self.plain
    }

    /// Whether an answer depends on `Accept-Encoding`.
    pub(super) fn vary(&self) -> bool {
        !self.coded.is_empty()
    }

    /// The variant for a request. A file without siblings is had without a look at the headers.
    pub(super) fn choose(&self, headers: &HeaderMap) -> &T {
        self.best(headers).map_or(&self.plain, |at| &self.coded[at].1)
    }

    /// The same, for keeps; the others are dropped.
    pub(super) fn into_chosen(mut self, headers: &HeaderMap) -> (Option<Coding>, T) {
        match self.best(headers) {
            Some(at) => {
                let (coding, chosen) = self.coded.swap_remove(at);
                (Some(coding), chosen)
            }
            None => (None, self.plain),
        }
    }

    fn best(&self, headers: &HeaderMap) -> Option<usize> {
        if self.coded.is_empty() {
            return None;
        }
        let best = Accepted::read(headers).best(self.coded.iter().map(|(coding, _)| *coding))?;
        self.coded.iter().position(|(coding, _)| *coding == best)
    }

    pub(super) fn map<U>(self, mut make: impl FnMut(Option<Coding>, T) -> U) -> Variants<U> {
        let plain = make(None, self.plain);
        let coded = self.coded.into_iter().map(|(coding, one)| (coding, make(Some(coding), one))).collect();
        Variants { plain, coded }
    }

    pub(super) fn as_ref(&self) -> Variants<&T> {
        Variants { plain: &self.plain, coded: self.coded.iter().map(|(coding, one)| (*coding, one)).collect() }
    }

    /// All of them, the file as it is first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::once(&self.plain).chain(self.coded.iter().map(|(_, one)| one))
    }
}

/// Whether a sibling holds what the original does, as far as can be told without unpacking it: it was made afterwards, and is not
/// the rest of a compressor that failed.
pub(super) fn counts(sibling: &Identity, original: &Identity) -> bool {
    let kept_up = sibling.modified >= original.modified || is_cut_from(sibling.modified, original.modified);
    kept_up && (sibling.size > 0 || original.size == 0)
}

/// Compressors give what they make the time of the original, and some of them, like some archives, know whole seconds only, or
/// microseconds.
fn is_cut_from((secs, nanos): (i64, i64), original: (i64, i64)) -> bool {
    secs == original.0 && [1_000_000_000, 1_000].iter().any(|unit| nanos == original.1 - original.1 % unit)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};

    use super::*;

    fn identity(size: u64, modified: (i64, i64)) -> Identity {
        Identity { device: 1, inode: 1, size, modified, changed: modified }
    }

    fn accepting(field: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(field))])
    }

    #[test]
    fn a_sibling_counts_if_it_is_not_older_and_not_empty() {
        let original = identity(10, (100, 123_456_789));
        for (size, modified, expected) in [
            (5, (100, 123_456_789), true),
            (5, (101, 0), true),
            (50, (100, 123_456_790), true),
            (5, (100, 0), true),
            (5, (100, 123_456_000), true),
            (5, (100, 123_000_000), false),
            (5, (100, 123_456_788), false),
            (5, (99, 0), false),
            (5, (99, 999_999_999), false),
            (0, (101, 0), false),
        ] {
            assert_eq!(counts(&identity(size, modified), &original), expected, "{size} {modified:?}");
        }
        assert!(counts(&identity(0, (1, 0)), &identity(0, (1, 0))));
    }

    #[test]
    fn rfc9110_12_5_3_a_request_gets_the_variant_it_weighs_most() {
        let variants = Variants::new("plain", vec![(Coding::Brotli, "br"), (Coding::Gzip, "gz")]);
        for (field, expected) in [
            ("gzip, br, zstd", "br"),
            ("gzip", "gz"),
            ("gzip;q=0.9, br;q=0.5", "gz"),
            ("zstd", "plain"),
            ("identity", "plain"),
            ("br;q=0, gzip;q=0", "plain"),
        ] {
            assert_eq!(*variants.choose(&accepting(field)), expected, "{field}");
            assert_eq!(variants.clone().into_chosen(&accepting(field)).1, expected, "{field}");
        }
        assert_eq!(*variants.choose(&HeaderMap::new()), "plain");
        let alone = Variants::new("plain", Vec::new());
        assert_eq!(*alone.choose(&accepting("br")), "plain");
        assert_eq!((alone.vary(), variants.vary()), (false, true));
    }
}
