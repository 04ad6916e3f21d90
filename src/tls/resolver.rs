//! Which certificate a client gets: by the server name it sends, then by the signatures it can check.
//!
//! Owns the lookup (RFC 6066 section 3, RFC 6125 section 6.4.3: a wildcard stands for one label), and which hosts may be asked for
//! over a connection (RFC 9110 section 7.4). Refuses to know whether a certificate is valid; `certificate` has seen to that.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

use super::UnknownName;
use super::certificate::Certificate;

/// The certificates of one listener by name. Immutable: a reload makes another.
#[derive(Debug)]
pub(super) struct Names {
    exact: HashMap<Box<str>, Candidates>,
    /// Keyed by what follows `*.`.
    wildcard: HashMap<Box<str>, Candidates>,
    unknown: Candidates,
    nameless: Candidates,
    /// Whether the certificates are for different names; else no connection can be the wrong one.
    divided: bool,
}

/// Which hosts may be asked for over one connection: those of the certificate its client was shown, and those of none.
#[derive(Debug, Clone)]
pub struct Coverage {
    names: Arc<Names>,
    server_name: Option<Box<str>>,
}

impl Coverage {
    /// `None` where every connection will do, so that nothing is looked up for its requests.
    pub(super) fn of(names: &Arc<Names>, server_name: Option<&str>) -> Option<Self> {
        names.divided.then(|| Self { names: Arc::clone(names), server_name: server_name.map(Into::into) })
    }

    /// Whether a request for `host` came over the wrong connection: its certificate doesn't cover the host though another one of
    /// this listener does. To be answered 421 (RFC 9110 section 15.5.20, RFC 9113 section 9.1.2).
    ///
    /// Of client certificates no more is asked: a listener demands the same of them under all its names.
    pub fn misdirects(&self, host: &str) -> bool {
        let server_name = self.server_name.as_deref();
        server_name != Some(host) && self.names.misdirected(server_name, host)
    }
}

impl Names {
    /// Indexes certificates in the order given; the first is the default one.
    pub(super) fn new(certificates: &[Certificate], unknown_name: UnknownName) -> Self {
        let mut names = Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            unknown: Candidates::default(),
            nameless: Candidates::default(),
            divided: certificates.windows(2).any(|pair| pair[0].info.names != pair[1].info.names),
        };
        for certificate in certificates {
            for name in &certificate.info.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut names.wildcard, rest),
                    None => (&mut names.exact, name.as_ref()),
                };
                map.entry(name.into()).or_default().add(&certificate.key);
            }
        }
        match unknown_name {
            UnknownName::Default => {
                names.unknown = default_candidates(certificates);
                names.nameless = names.unknown.clone();
            }
            UnknownName::Refuse => names.nameless = addressed_by_ip(certificates),
        }
        names
    }

    /// Whether other certificates cover `host` and the one that `server_name` was answered with doesn't. A host that no certificate
    /// covers is the default's to answer, and who dials an address can't ask for another certificate than the one it got.
    fn misdirected(&self, server_name: Option<&str>, host: &str) -> bool {
        let covering = self.covering(host);
        let own = self.find(server_name);
        let covers = |candidates: &&Candidates| own.0.iter().any(|key| candidates.has(key));
        covering.iter().flatten().next().is_some()
            && !covering.iter().flatten().any(covers)
            && host.parse::<IpAddr>().is_err()
    }

    fn find(&self, server_name: Option<&str>) -> &Candidates {
        match server_name {
            Some(name) => self.named(name).unwrap_or(&self.unknown),
            None => &self.nameless,
        }
    }

    fn named(&self, name: &str) -> Option<&Candidates> {
        let [exact, wildcard] = self.covering(name);
        exact.or(wildcard)
    }

    /// The certificates that name it, and those with a wildcard for it.
    fn covering(&self, name: &str) -> [Option<&Candidates>; 2] {
        let name = canonical(name);
        let wildcard = match name.split_once('.') {
            Some((label, rest)) if !label.is_empty() => self.wildcard.get(rest),
            _ => None,
        };
        [self.exact.get(name.as_ref()), wildcard]
    }
}

impl ResolvesServerCert for Names {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name()).choose(hello.signature_schemes())
    }
}

/// Certificates for one name, elliptic curves before RSA: an ECDSA signature costs a small part of an RSA one.
#[derive(Debug, Clone, Default)]
struct Candidates(Vec<Arc<CertifiedKey>>);

impl Candidates {
    fn add(&mut self, key: &Arc<CertifiedKey>) {
        if !self.has(key) {
            self.0.push(Arc::clone(key));
            self.0.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
        }
    }

    fn has(&self, key: &Arc<CertifiedKey>) -> bool {
        self.0.iter().any(|known| Arc::ptr_eq(known, key))
    }

    /// The first that the client can check. If none is, the first, so that the handshake fails with the right alert.
    /// rustls has taken out of `schemes` what the client's TLS 1.2 cipher suites can't carry.
    fn choose(&self, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let first = self.0.first()?;
        if self.0.len() == 1 {
            return Some(Arc::clone(first));
        }
        let checkable = self.0.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        Some(Arc::clone(checkable.unwrap_or(first)))
    }
}

/// The first certificate and its twins: the same names with a key of another kind.
fn default_candidates(certificates: &[Certificate]) -> Candidates {
    let mut candidates = Candidates::default();
    let default_names = certificates.first().map(|first| &first.info.names);
    for twin in certificates.iter().filter(|certificate| Some(&certificate.info.names) == default_names) {
        candidates.add(&twin.key);
    }
    // Certificates without any name are no twins of each other.
    if default_names.is_some_and(Vec::is_empty) {
        candidates.0.truncate(1);
    }
    candidates
}

/// A client that dials an address can't send a name (RFC 6066 section 3): only certificates for addresses are its.
fn addressed_by_ip(certificates: &[Certificate]) -> Candidates {
    let mut candidates = Candidates::default();
    for certificate in certificates {
        if certificate.info.names.iter().any(|name| name.parse::<IpAddr>().is_ok()) {
            candidates.add(&certificate.key);
        }
    }
    candidates
}

/// Lower case, without the root's dot; borrowed when it is so already, which is nearly always.
fn canonical(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn certificates(names: &[&[&str]]) -> Vec<Certificate> {
        names.iter().enumerate().map(|(index, names)| testing::loaded(&index.to_string(), names)).collect()
    }

    /// The position of the certificate a name gets.
    fn answer(certificates: &[Certificate], unknown: UnknownName, name: Option<&str>) -> Option<usize> {
        let names = Names::new(certificates, unknown);
        let key = names.find(name).choose(&[SignatureScheme::ECDSA_NISTP256_SHA256])?;
        certificates.iter().position(|certificate| Arc::ptr_eq(&certificate.key, &key))
    }

    #[test]
    fn an_exact_name_wins_over_a_wildcard_and_a_wildcard_over_the_default() {
        let all = certificates(&[&["other.test"], &["*.shop.test"], &["www.shop.test"]]);
        let answer = |name| answer(&all, UnknownName::Default, Some(name));
        assert_eq!(answer("www.shop.test"), Some(2));
        assert_eq!(answer("api.shop.test"), Some(1));
        assert_eq!(answer("elsewhere.test"), Some(0));
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let all = certificates(&[&["*.shop.test"]]);
        let answer = |name| answer(&all, UnknownName::Refuse, Some(name));
        assert_eq!(answer("a.shop.test"), Some(0));
        assert_eq!(answer("a.b.shop.test"), None);
        assert_eq!(answer("shop.test"), None);
        assert_eq!(answer(".shop.test"), None);
    }

    #[test]
    fn names_compare_without_case_and_root_dot() {
        let all = certificates(&[&["x.test"], &["WWW.Shop.test", "*.Shop.Test"]]);
        let answer = |name| answer(&all, UnknownName::Default, Some(name));
        assert_eq!(answer("www.SHOP.test"), Some(1));
        assert_eq!(answer("Api.Shop.test."), Some(1));
    }

    #[test]
    fn a_client_without_a_name_gets_the_default_or_else_a_certificate_for_addresses() {
        let all = certificates(&[&["a.test"], &["b.test", "10.0.0.7"]]);
        assert_eq!(answer(&all, UnknownName::Default, None), Some(0));
        assert_eq!(answer(&all, UnknownName::Refuse, None), Some(1));
        assert_eq!(answer(&all[..1], UnknownName::Refuse, None), None);
    }

    #[test]
    fn ecdsa_comes_before_rsa_when_the_client_can_check_both() {
        let rsa = testing::loaded_rsa("rsa", &["a.test"]);
        let ecdsa = testing::loaded("ecdsa", &["a.test"]);
        let all = [rsa, ecdsa];
        let names = Names::new(&all, UnknownName::Default);
        let both = [SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
        for name in [Some("a.test"), Some("unknown.test"), None] {
            let chosen = |schemes| names.find(name).choose(schemes).unwrap();
            assert!(Arc::ptr_eq(&chosen(&both), &all[1].key));
            assert!(Arc::ptr_eq(&chosen(&both[..1]), &all[0].key));
        }
    }

    fn coverage(certificates: &[Certificate], server_name: Option<&str>) -> Option<Coverage> {
        Coverage::of(&Arc::new(Names::new(certificates, UnknownName::Default)), server_name)
    }

    fn misdirects(certificates: &[Certificate], server_name: Option<&str>, host: &str) -> bool {
        coverage(certificates, server_name).is_some_and(|coverage| coverage.misdirects(host))
    }

    #[test]
    fn a_host_of_another_certificate_is_misdirected_and_an_unknown_host_is_not() {
        let all = certificates(&[&["a.test"], &["b.test", "*.b.test", "10.0.0.7"]]);
        let misdirects = |name, host| misdirects(&all, name, host);
        assert!(!misdirects(Some("a.test"), "a.test"));
        assert!(!misdirects(Some("b.test"), "x.b.test"));
        assert!(misdirects(Some("a.test"), "b.test"));
        assert!(misdirects(None, "x.b.test"));
        assert!(misdirects(Some("elsewhere.test"), "b.test"));
        assert!(!misdirects(Some("b.test"), "elsewhere.test"));
        assert!(!misdirects(None, "10.0.0.7"), "a client that dials an address can't choose");
    }

    #[test]
    fn a_wildcard_covers_a_host_that_has_a_certificate_of_its_own() {
        let all = certificates(&[&["*.shop.test"], &["www.shop.test"]]);
        assert!(!misdirects(&all, Some("api.shop.test"), "www.shop.test"));
        assert!(misdirects(&all, Some("www.shop.test"), "api.shop.test"));
    }

    #[test]
    fn where_all_certificates_have_the_same_names_nothing_is_looked_up() {
        let twins = [testing::loaded("ecdsa", &["a.test"]), testing::loaded_rsa("rsa", &["a.test"])];
        assert!(coverage(&twins, Some("a.test")).is_none());
        assert!(coverage(&twins[..1], None).is_none());
        assert!(coverage(&certificates(&[&["a.test"], &["b.test"]]), Some("a.test")).is_some());
    }
}
