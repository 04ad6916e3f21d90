//! Handshakes over QUIC between two endpoints on loopback.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint, EndpointConfig, ServerConfig, TokioRuntime};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls_pki_types::pem::PemObject;

use super::super::testing;
use super::super::{CertificateSource, MinVersion, TlsSettings, UnknownName};
use super::*;

fn settings(certificate: CertificateSource) -> TlsSettings {
    TlsSettings {
        certificates: vec![certificate],
        unknown_name: UnknownName::Default,
        min_version: MinVersion::Tls12,
        http2: true,
        http3: true,
        handshake_timeout: Duration::from_secs(10),
        client_ca: None,
    }
}

fn socket() -> UdpSocket {
    UdpSocket::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap()
}

/// A server that has no settings of its own: each attempt is accepted with an acceptor's.
fn server(acceptor: &Acceptor) -> Endpoint {
    let config = ServerConfig::with_crypto(acceptor.quic().expect("HTTP/3 is on"));
    Endpoint::new(EndpointConfig::default(), Some(config), socket(), Arc::new(TokioRuntime)).unwrap()
}

/// A client that trusts `certificate` and offers `protocols`.
struct Client {
    endpoint: Endpoint,
    config: rustls::ClientConfig,
}

impl Client {
    fn trusting(certificate: &CertificateSource, protocols: &[&[u8]]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&certificate.chain_pem).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let versions =
            rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
        let mut config = versions.unwrap().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket(), Arc::new(TokioRuntime)).unwrap();
        Self { endpoint, config }
    }

    async fn call(&self, server: &Endpoint, name: &str) -> Result<quinn::Connection, ConnectionError> {
        let crypto = QuicClientConfig::try_from(self.config.clone()).unwrap();
        let config = ClientConfig::new(Arc::new(crypto));
        self.endpoint.connect_with(config, server.local_addr().unwrap(), name).unwrap().await
    }
}

async fn take(server: &Endpoint, acceptor: &Acceptor) -> Result<(quinn::Connection, Handshake), HandshakeError> {
    let incoming = server.accept().await.expect("an attempt");
    let connecting = incoming.accept().map_err(|error| HandshakeError::Failed(error.into()))?;
    acceptor.accept_quic(connecting, Instant::now() + acceptor.handshake_timeout()).await
}

#[tokio::test]
async fn a_client_that_speaks_h3_is_told_apart_from_one_that_does_not() {
    let certificate = testing::source("site", &["site.test"]);
    let (acceptor, _) = Acceptor::compile(&settings(certificate.clone())).unwrap();
    let server = server(&acceptor);
    let client = Client::trusting(&certificate, &[b"h3"]);
    let (called, taken) = tokio::join!(client.call(&server, "site.test"), take(&server, &acceptor));
    let (_connection, shaken) = taken.unwrap();
    assert_eq!((shaken.server_name.as_deref(), shaken.version), (Some("site.test"), "TLSv1.3"));
    assert_eq!((shaken.client_certificate, shaken.alpn_h2), (None, false));
    called.unwrap();

    for protocols in [&[&b"h2"[..]][..], &[]] {
        let client = Client::trusting(&certificate, protocols);
        let (called, taken) = tokio::join!(client.call(&server, "site.test"), take(&server, &acceptor));
        assert!(called.is_err() && taken.is_err(), "{protocols:?}");
    }
}

#[tokio::test]
async fn an_unknown_name_is_refused_where_names_are() {
    let certificate = testing::source("site", &["site.test", "other.test"]);
    let refusing = TlsSettings { unknown_name: UnknownName::Refuse, ..settings(testing::source("x", &["else.test"])) };
    let (acceptor, _) = Acceptor::compile(&refusing).unwrap();
    let server = server(&acceptor);
    let client = Client::trusting(&certificate, &[b"h3"]);
    let (called, taken) = tokio::join!(client.call(&server, "site.test"), take(&server, &acceptor));
    assert!(called.is_err() && taken.is_err());
}

#[tokio::test]
async fn a_silent_client_is_given_up_at_the_deadline() {
    let certificate = testing::source("site", &["site.test"]);
    let (acceptor, _) = Acceptor::compile(&settings(certificate.clone())).unwrap();
    let server = server(&acceptor);
    let client = Client::trusting(&certificate, &[b"h3"]);
    let crypto = QuicClientConfig::try_from(client.config.clone()).unwrap();
    let config = ClientConfig::new(Arc::new(crypto));
    let called = client.endpoint.connect_with(config, server.local_addr().unwrap(), "site.test").unwrap();
    let incoming = server.accept().await.expect("an attempt");
    client.endpoint.rebind(socket()).unwrap(); // whatever is answered goes to nobody
    let taken = acceptor.accept_quic(incoming.accept().unwrap(), Instant::now()).await;
    assert!(matches!(taken, Err(HandshakeError::Timeout)));
    drop(called);
}

#[test]
fn a_reload_keeps_the_keys_of_tickets() {
    let certificate = testing::source("site", &["site.test"]);
    let (first, _) = Acceptor::compile(&settings(certificate.clone())).unwrap();
    let (second, _) = first.recompile(&settings(certificate)).unwrap();
    let keys = |acceptor: &Acceptor| Arc::clone(&acceptor.quic.as_ref().expect("HTTP/3 is on").tickets);
    assert!(Arc::ptr_eq(&keys(&first), &keys(&second)));
    let sealed = keys(&first).encrypt(b"a session").expect("a ticket");
    assert_eq!(keys(&second).decrypt(&sealed).as_deref(), Some(&b"a session"[..]));
}

#[test]
fn without_http3_nothing_is_answered_over_quic() {
    let plain = TlsSettings { http3: false, ..settings(testing::source("site", &["site.test"])) };
    assert!(Acceptor::compile(&plain).unwrap().0.quic().is_none());
}
