//! Handshakes with clients that have a certificate, that have none, and that come back.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, SupportedProtocolVersion};
use rustls_pki_types::{PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::super::testing::{self, DAY};
use super::super::{Acceptor, Handshake, HandshakeError, MinVersion, Part, TlsSettings, UnknownName};
use super::*;

/// An authority for clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate of such an authority with its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn trusted(&self, certificates: ClientCertificates) -> ClientAuthorities {
        let pem = self.0.as_ref().pem().into_bytes();
        ClientAuthorities { pem, label: "ca.pem".to_owned(), certificates }
    }

    fn identity(&self, purpose: ExtendedKeyUsagePurpose, until: SystemTime) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        params.not_before = (until - 10 * DAY).into();
        params.not_after = until.into();
        let leaf = params.signed_by(&key, &self.0).unwrap();
        Identity { chain: vec![leaf.der().clone()], key: PrivateKeyDer::try_from(key.serialize_der()).unwrap() }
    }

    fn client(&self) -> Identity {
        self.identity(ExtendedKeyUsagePurpose::ClientAuth, SystemTime::now() + DAY)
    }
}

fn settings(client_ca: Option<ClientAuthorities>) -> TlsSettings {
    TlsSettings {
        certificates: vec![testing::source("a", &["a.test"])],
        unknown_name: UnknownName::Default,
        min_version: MinVersion::Tls12,
        http2: true,
        http3: false,
        handshake_timeout: Duration::from_secs(10),
        client_ca,
    }
}

fn compile(settings: &TlsSettings) -> Acceptor {
    Acceptor::compile(settings).unwrap().0
}

/// A client that believes the server of `settings`, shows `identity` and keeps its sessions.
fn client(
    settings: &TlsSettings,
    identity: Option<&Identity>,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&settings.certificates[0].chain_pem).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

async fn call(config: &Arc<ClientConfig>, acceptor: &Acceptor) -> Result<Handshake, HandshakeError> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connector = TlsConnector::from(Arc::clone(config));
    let client = async {
        if let Ok(mut stream) = connector.connect(ServerName::try_from("a.test").unwrap(), near).await {
            // Tickets arrive after the handshake and are read with the first bytes; a refused client gets none.
            let mut greeting = [0; 2];
            drop(stream.read_exact(&mut greeting).await);
        }
    };
    let server = async {
        let (mut stream, handshake) = acceptor.accept(far, Instant::now() + DAY).await?;
        stream.write_all(b"hi").await.unwrap();
        Ok(handshake)
    };
    tokio::join!(client, server).1
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[tokio::test]
async fn a_clients_certificate_is_told_by_its_hash_also_when_the_session_is_resumed() {
    let authority = Authority::new("clients");
    for mode in [ClientCertificates::Required, ClientCertificates::Optional] {
        let settings = settings(Some(authority.trusted(mode)));
        let acceptor = compile(&settings);
        let (reloaded, _) = acceptor.recompile(&settings).unwrap();
        for version in VERSIONS {
            let identity = authority.client();
            let hash = Some(thumbprint(&identity.chain[0]));
            let config = client(&settings, Some(&identity), version);
            for (acceptor, resumed) in [(&acceptor, false), (&acceptor.clone(), true), (&reloaded, true)] {
                let handshake = call(&config, acceptor).await.unwrap();
                assert_eq!((handshake.client_certificate, handshake.resumed), (hash, resumed), "{version:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_passes_only_where_none_is_required() {
    let authority = Authority::new("clients");
    for version in VERSIONS {
        let required = settings(Some(authority.trusted(ClientCertificates::Required)));
        let refused = call(&client(&required, None, version), &compile(&required)).await.unwrap_err();
        assert_eq!(refused.reason(), "failed", "{version:?}");
        let optional = settings(Some(authority.trusted(ClientCertificates::Optional)));
        let passed = call(&client(&optional, None, version), &compile(&optional)).await.unwrap();
        assert_eq!(passed.client_certificate, None);
    }
}

#[tokio::test]
async fn a_certificate_that_does_not_verify_is_refused_also_where_none_is_required() {
    let (authority, other) = (Authority::new("clients"), Authority::new("clients"));
    let wrong = [
        other.client(),
        authority.identity(ExtendedKeyUsagePurpose::ServerAuth, SystemTime::now() + DAY),
        authority.identity(ExtendedKeyUsagePurpose::ClientAuth, SystemTime::now() - DAY),
    ];
    for mode in [ClientCertificates::Required, ClientCertificates::Optional] {
        let settings = settings(Some(authority.trusted(mode)));
        for (identity, version) in wrong.iter().zip(VERSIONS.into_iter().cycle()) {
            assert!(call(&client(&settings, Some(identity), version), &compile(&settings)).await.is_err());
        }
    }
}

#[tokio::test]
async fn a_listener_that_asks_for_none_is_shown_none() {
    let settings = settings(None);
    let config = client(&settings, Some(&Authority::new("clients").client()), VERSIONS[1]);
    assert_eq!(call(&config, &compile(&settings)).await.unwrap().client_certificate, None);
}

#[tokio::test]
async fn a_session_does_not_outlive_what_was_asked_of_it() {
    let authority = Authority::new("clients");
    let open = settings(None);
    let optional = TlsSettings { client_ca: Some(authority.trusted(ClientCertificates::Optional)), ..open.clone() };
    let required = TlsSettings { client_ca: Some(authority.trusted(ClientCertificates::Required)), ..open.clone() };
    let renewed = Authority::new("clients").trusted(ClientCertificates::Required);
    let renewed = TlsSettings { client_ca: Some(renewed), ..open.clone() };
    for version in VERSIONS {
        for (before, after) in [(&open, &required), (&optional, &required)] {
            let acceptor = compile(before);
            let nobody = client(before, None, version);
            call(&nobody, &acceptor).await.unwrap();
            assert!(call(&nobody, &acceptor).await.unwrap().resumed);
            assert!(call(&nobody, &acceptor.recompile(after).unwrap().0).await.is_err(), "{version:?}");
        }
        let acceptor = compile(&required);
        let known = client(&required, Some(&authority.client()), version);
        call(&known, &acceptor).await.unwrap();
        assert!(call(&known, &acceptor.recompile(&renewed).unwrap().0).await.is_err(), "another authority");
    }
}

#[test]
fn the_chain_of_a_resumed_session_is_judged_as_of_now() {
    let authority = Authority::new("clients");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let load = |mode| Clients::load(&authority.trusted(mode), &provider).unwrap();
    let (required, optional) = (load(ClientCertificates::Required), load(ClientCertificates::Optional));
    let chain = authority.client().chain;
    let soon = SystemTime::now() + 2 * DAY;
    let at = |time: SystemTime| UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap());
    for clients in [&required, &optional] {
        assert!(clients.judge_again(Some(&chain), at(SystemTime::now())).is_ok());
        assert!(clients.judge_again(Some(&chain), at(soon)).is_err(), "it has expired");
    }
    for none in [None, Some(&[][..])] {
        assert!(required.judge_again(none, at(soon)).is_err());
        assert!(optional.judge_again(none, at(soon)).is_ok());
    }
}

#[test]
fn authorities_that_cannot_be_used_are_a_problem_of_their_own() {
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let mixed = [Authority::new("clients").trusted(ClientCertificates::Required).pem, broken.into()].concat();
    for (pem, message) in [
        (Vec::new(), "ca.pem: it holds no certificate"),
        (b"-----BEGIN CERTIFICATE-----\n".to_vec(), "ca.pem: it is not valid PEM"),
        (mixed, "ca.pem: certificate 2 can't be used"),
    ] {
        let certificates = ClientCertificates::Required;
        let client_ca = ClientAuthorities { pem, label: "ca.pem".to_owned(), certificates };
        let problem = Acceptor::compile(&settings(Some(client_ca))).unwrap_err();
        assert_eq!(problem.part, Some(Part::ClientCa));
        assert!(problem.message.starts_with(message), "{problem}");
        assert!(problem.hint.len() > 10);
    }
}
