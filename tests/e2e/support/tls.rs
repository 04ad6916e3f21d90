//! Certificates made on the spot, and TLS clients that trust them.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::wire::Stream;
use super::within;

/// A self-signed certificate for `site.test`, written as `NAME.crt` and `NAME.key`.
pub fn certificate(home: &Path, name: &str) -> CertificateDer<'static> {
    certificate_for(home, name, &["site.test"])
}

/// The same for any hosts.
pub fn certificate_for(home: &Path, name: &str, hosts: &[&str]) -> CertificateDer<'static> {
    let hosts: Vec<_> = hosts.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(hosts).unwrap();
    // The key first: a gateway that looks in between sees a pair that does not match, and keeps the old one.
    std::fs::write(home.join(format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(home.join(format!("{name}.crt")), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

/// The certificate at `path`.
pub fn read(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

/// A connection to `site.test` at `address` by a client that trusts `roots` and offers `alpn`.
pub async fn connect(
    address: SocketAddr,
    roots: &[CertificateDer<'static>],
    alpn: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    connect_to("site.test", address, roots, alpn).await
}

/// The same to a server of any name.
pub async fn connect_to(
    name: &'static str,
    address: SocketAddr,
    roots: &[CertificateDer<'static>],
    alpn: &[&[u8]],
) -> io::Result<TlsStream<TcpStream>> {
    let stream = within("connecting", TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    over(stream, name, roots, alpn).await
}

/// The same over a stream that is there.
pub async fn over<S: Stream>(
    stream: S,
    name: &'static str,
    roots: &[CertificateDer<'static>],
    alpn: &[&[u8]],
) -> io::Result<TlsStream<S>> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = versions.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(name).unwrap();
    within("a handshake", TlsConnector::from(Arc::new(config)).connect(name, stream)).await
}
