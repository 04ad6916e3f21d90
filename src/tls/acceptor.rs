//! The handshake: one compiled configuration a listener, one deadline a connection.
//!
//! Owns what is compiled and kept over a reload, and what is reported of a finished handshake. Refuses to know what is spoken
//! afterwards.
//!
//! # Where the memory of an idle connection sits
//! About 8 KiB, measured with rustls 0.23.46: 4 KiB of read buffer, which rustls shrinks back to but never gives up;
//! 1.7 KiB of cipher contexts; 1.2 KiB of stream; 640 bytes of handshake reassembly; the rest is small. No option of
//! rustls lowers any of it: outgoing records and handshake messages are freed as they are done with, `max_fragment_size`
//! and `set_buffer_limit` bound only what is on its way out. What can be spared is the handshake's own state in the
//! caller's task: it runs in a box that is gone when `accept` returns.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::ServerConnection;
use rustls::{HandshakeKind, ProtocolVersion};
use rustls_pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::certificate::{CertInfo, Certificate};
use super::clients::{self, Clients};
use super::kit::{H2, Kit, Wire};
use super::quic::Quic;
use super::resolver::{Coverage, Names};
use super::{ClientAuthorities, TlsSettings};

/// Shakes hands for one listener. Clones are cheap and share their ticket keys: compile once and give each worker a
/// clone, or a client that comes back to another worker starts from nothing.
#[derive(Clone)]
pub struct Acceptor {
    tls: TlsAcceptor,
    pub(super) quic: Option<Quic>,
    names: Arc<Names>,
    pub(super) clients: Option<Clients>,
    timeout: Duration,
}

impl Acceptor {
    /// Reads every certificate, checks it against its key and the clock, and makes fresh ticket keys.
    ///
    /// Development certificates pass; `CertInfo::development` lets the caller refuse them.
    pub fn compile(settings: &TlsSettings) -> Result<(Self, Vec<CertInfo>), TlsProblem> {
        Self::compile_after(None, settings)
    }

    /// As `compile`, with this acceptor's ticket keys, so that a reload doesn't cost every client a full handshake.
    ///
    /// Of names a ticket says nothing that counts: they are resolved, and refused, before a session is resumed, and a
    /// session is resumed only for the name it was made for. But it brings the client's certificate, or that there was
    /// none, and TLS asks no more: where other certificates are asked for than before, the keys are fresh.
    pub fn recompile(&self, settings: &TlsSettings) -> Result<(Self, Vec<CertInfo>), TlsProblem> {
        Self::compile_after(Some(self), settings)
    }

    fn compile_after(before: Option<&Self>, settings: &TlsSettings) -> Result<(Self, Vec<CertInfo>), TlsProblem> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let certificates = load(settings, &provider)?;
        let names = Arc::new(Names::new(&certificates, settings.unknown_name));
        let clients = settings.client_ca.as_ref().map(|client_ca| load_clients(client_ca, &provider)).transpose()?;
        let before = before.filter(|before| Clients::alike(before.clients.as_ref(), clients.as_ref()));
        let kit = Kit { settings, provider, names: Arc::clone(&names), clients: clients.as_ref() };
        let config = kit.configure(Wire::Tcp, before.map(|before| Arc::clone(&before.tls.config().ticketer)))?;
        let tls = TlsAcceptor::from(Arc::new(config));
        let quic = settings.http3.then(|| Quic::configure(&kit, before.and_then(|before| before.quic.as_ref())));
        let acceptor = Self { tls, quic: quic.transpose()?, names, clients, timeout: settings.handshake_timeout };
        Ok((acceptor, certificates.into_iter().map(|certificate| certificate.info).collect()))
    }

    /// How long a handshake may take, from the settings.
    pub fn handshake_timeout(&self) -> Duration {
        self.timeout
    }

    /// Shakes hands over `io`, which is dropped (and so closed) when that fails or isn't done by `deadline`.
    ///
    /// Not cancel-safe in the sense that a dropped future drops the connection with it.
    pub async fn accept<IO>(&self, io: IO, deadline: Instant) -> Result<(TlsStream<IO>, Handshake), HandshakeError>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let handshake = Box::pin(self.tls.accept(io));
        let stream = tokio::time::timeout_at(deadline, handshake)
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(HandshakeError::Failed)?;
        let connection = stream.get_ref().1;
        let handshake = Handshake::of(connection);
        if let Some(clients) = self.clients.as_ref().filter(|_| handshake.resumed) {
            clients
                .judge_again(connection.peer_certificates(), UnixTime::now())
                .map_err(|error| HandshakeError::Failed(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        }
        Ok((stream, handshake))
    }

    /// Which hosts may be asked for over a connection whose client sent `server_name`; `None` if all of them may.
    pub fn coverage(&self, server_name: Option<&str>) -> Option<Coverage> {
        Coverage::of(&self.names, server_name)
    }
}

impl std::fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Acceptor").field("names", &self.names).finish_non_exhaustive()
    }
}

/// What was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Whether ALPN chose `h2`; everything else is HTTP/1.1.
    pub alpn_h2: bool,
    /// The name the client asked for, lower case.
    pub server_name: Option<Box<str>>,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// Whether a session was resumed, without a certificate sent or signed for.
    pub resumed: bool,
    /// SHA-256 of the client's own certificate in DER, verified; in a resumed session, of the one it began with.
    pub client_certificate: Option<[u8; 32]>,
}

impl Handshake {
    fn of(connection: &ServerConnection) -> Self {
        Self {
            alpn_h2: connection.alpn_protocol() == Some(H2),
            server_name: connection.server_name().map(Into::into),
            version: match connection.protocol_version() {
                Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
                _ => "TLSv1.3",
            },
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            client_certificate: connection.peer_certificates().and_then(|chain| chain.first()).map(clients::thumbprint),
        }
    }
}

/// Why there is no stream.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client didn't finish in time.
    #[error("tls handshake not finished in time")]
    Timeout,
    /// The client left, or the two sides couldn't agree; a `rustls::Error` is within where TLS itself failed.
    #[error("tls handshake failed")]
    Failed(#[source] io::Error),
}

impl HandshakeError {
    /// A label from a closed list, for metrics and logs: `timeout`, `closed` (the client left) or `failed`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Failed(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => "closed",
                _ => "failed",
            },
        }
    }
}

/// Why a listener's TLS settings can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TlsProblem {
    /// What is at fault; `None` if it is the listener as a whole.
    pub part: Option<Part>,
    /// What is wrong, with the file's label.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// A part of [`TlsSettings`] that can be at fault by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One of the certificates, counted from 0.
    Certificate(usize),
    /// The authorities of client certificates.
    ClientCa,
}

impl TlsProblem {
    fn of(part: Part, label: &str, problem: &dyn Error, hint: &str) -> Self {
        let mut message = format!("{label}: {problem}");
        let mut source = problem.source();
        while let Some(cause) = source {
            message = format!("{message}: {cause}");
            source = cause.source();
        }
        Self { part: Some(part), message, hint: hint.to_owned() }
    }

    pub(super) fn general(error: &dyn Error) -> Self {
        Self { part: None, message: format!("tls can't be set up: {error}"), hint: String::new() }
    }
}

fn load(settings: &TlsSettings, provider: &CryptoProvider) -> Result<Vec<Certificate>, TlsProblem> {
    if settings.certificates.is_empty() {
        return Err(TlsProblem {
            part: None,
            message: "no certificate to serve".to_owned(),
            hint: "name at least one: certificates = [{ cert = \"site.crt\", key = \"site.key\" }]".to_owned(),
        });
    }
    let now = SystemTime::now();
    let sources = settings.certificates.iter().enumerate();
    sources
        .map(|(index, source)| {
            Certificate::load(source, provider, now)
                .map_err(|problem| TlsProblem::of(Part::Certificate(index), &source.label, &problem, problem.hint()))
        })
        .collect()
}

fn load_clients(settings: &ClientAuthorities, provider: &Arc<CryptoProvider>) -> Result<Clients, TlsProblem> {
    Clients::load(settings, provider)
        .map_err(|problem| TlsProblem::of(Part::ClientCa, &settings.label, &problem, problem.hint()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rustls::client::Resumption;
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme, SupportedProtocolVersion};
    use rustls_pki_types::{CertificateDer, ServerName};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio_rustls::TlsConnector;

    use super::super::kit::HTTP11;
    use super::super::testing::{self, DAY};
    use super::super::{CertificateSource, MinVersion, UnknownName};
    use super::*;

    fn settings(certificates: Vec<CertificateSource>) -> TlsSettings {
        TlsSettings {
            certificates,
            unknown_name: UnknownName::Default,
            min_version: MinVersion::Tls12,
            http2: true,
            http3: false,
            handshake_timeout: Duration::from_secs(10),
            client_ca: None,
        }
    }

    fn compile(settings: &TlsSettings) -> Acceptor {
        Acceptor::compile(settings).unwrap().0
    }

    /// A client that notes the certificate it is shown and believes it.
    #[derive(Clone)]
    struct Client {
        config: ClientConfig,
        shown: Arc<Shown>,
    }

    impl Client {
        fn new() -> Self {
            Self::speaking(rustls::ALL_VERSIONS)
        }

        fn speaking(versions: &[&'static SupportedProtocolVersion]) -> Self {
            Self::checking(versions, aws_lc_rs::default_provider())
        }

        fn checking(versions: &[&'static SupportedProtocolVersion], provider: CryptoProvider) -> Self {
            let schemes = provider.signature_verification_algorithms.supported_schemes();
            let shown = Arc::new(Shown { schemes, leaf: Mutex::default() });
            let config = ClientConfig::builder_with_provider(Arc::new(provider))
                .with_protocol_versions(versions)
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(shown.clone())
                .with_no_client_auth();
            Self { config, shown }
        }

        fn offering(mut self, protocols: &[&[u8]]) -> Self {
            self.config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
            self
        }

        /// Both ends of a handshake, the server's judged by `acceptor`.
        async fn call(
            &self,
            acceptor: &Acceptor,
            name: &'static str,
        ) -> Result<(TlsStream<DuplexStream>, Handshake), HandshakeError> {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let connector = TlsConnector::from(Arc::new(self.config.clone()));
            let client = async {
                if let Ok(mut stream) = connector.connect(ServerName::try_from(name).unwrap(), near).await {
                    // Tickets arrive after the handshake and are read with the first bytes.
                    let mut greeting = [0; 2];
                    stream.read_exact(&mut greeting).await.unwrap();
                }
            };
            let server = async {
                let (mut stream, handshake) =
                    acceptor.accept(far, Instant::now() + acceptor.handshake_timeout()).await?;
                stream.write_all(b"hi").await.unwrap();
                Ok((stream, handshake))
            };
            tokio::join!(client, server).1
        }

        fn leaf(&self) -> Vec<u8> {
            self.shown.leaf.lock().unwrap().clone()
        }
    }

    #[derive(Debug)]
    struct Shown {
        schemes: Vec<SignatureScheme>,
        leaf: Mutex<Vec<u8>>,
    }

    impl ServerCertVerifier for Shown {
        fn verify_server_cert(
            &self,
            leaf: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            *self.leaf.lock().unwrap() = leaf.to_vec();
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.schemes.clone()
        }
    }

    fn leaf_of(source: &CertificateSource) -> Vec<u8> {
        use rustls_pki_types::pem::PemObject;
        CertificateDer::from_pem_slice(&source.chain_pem).unwrap().to_vec()
    }

    #[tokio::test]
    async fn the_server_name_picks_the_certificate() {
        let sources = vec![
            testing::source("default", &["a.test"]),
            testing::source("wild", &["*.b.test"]),
            testing::source("exact", &["www.b.test"]),
        ];
        let acceptor = compile(&settings(sources.clone()));
        for (name, expected) in [
            ("a.test", 0),
            ("WWW.b.test", 2),
            ("api.b.test", 1),
            ("deep.api.b.test", 0),
            ("unknown.test", 0),
            ("127.0.0.1", 0),
        ] {
            let client = Client::new();
            client.call(&acceptor, name).await.unwrap();
            assert_eq!(client.leaf(), leaf_of(&sources[expected]), "{name}");
        }
    }

    #[tokio::test]
    async fn an_unknown_name_is_refused_when_so_configured() {
        let mut settings = settings(vec![testing::source("a", &["a.test"])]);
        settings.unknown_name = UnknownName::Refuse;
        let acceptor = compile(&settings);
        for name in ["b.test", "127.0.0.1"] {
            let error = Client::new().call(&acceptor, name).await.unwrap_err();
            assert!(matches!(error, HandshakeError::Failed(_)), "{name}");
            assert_eq!(error.reason(), "failed");
        }
        let (_, handshake) = Client::new().call(&acceptor, "A.test").await.unwrap();
        assert_eq!(handshake.server_name.as_deref(), Some("a.test"));
    }

    #[tokio::test]
    async fn rsa_serves_only_the_clients_that_cannot_check_ecdsa() {
        let sources = vec![testing::source_rsa("rsa", &["a.test"]), testing::source("ecdsa", &["a.test"])];
        let acceptor = compile(&settings(sources.clone()));
        let modern = Client::new();
        modern.call(&acceptor, "a.test").await.unwrap();
        assert_eq!(modern.leaf(), leaf_of(&sources[1]));

        // This one would take ECDSA signatures, but offers no TLS 1.2 cipher suite that carries them.
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites = vec![aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
        let old = Client::checking(&[&rustls::version::TLS12], provider);
        let (_, handshake) = old.call(&acceptor, "a.test").await.unwrap();
        assert_eq!(old.leaf(), leaf_of(&sources[0]));
        assert_eq!(handshake.version, "TLSv1.2");
    }

    #[tokio::test]
    async fn alpn_prefers_h2_where_it_is_offered() {
        let mut settings = settings(vec![testing::source("a", &["a.test"])]);
        let both = Client::new().offering(&[HTTP11, H2]);
        assert!(both.call(&compile(&settings), "a.test").await.unwrap().1.alpn_h2);
        let old = Client::new().offering(&[HTTP11]);
        assert!(!old.call(&compile(&settings), "a.test").await.unwrap().1.alpn_h2);
        assert!(!Client::new().call(&compile(&settings), "a.test").await.unwrap().1.alpn_h2);

        settings.http2 = false;
        assert!(!both.call(&compile(&settings), "a.test").await.unwrap().1.alpn_h2);
        // RFC 7301 section 3.2: nothing in common ends the handshake.
        assert!(Client::new().offering(&[H2]).call(&compile(&settings), "a.test").await.is_err());
    }

    #[tokio::test]
    async fn the_oldest_version_accepted_is_the_one_configured() {
        let mut settings = settings(vec![testing::source("a", &["a.test"])]);
        let old = Client::speaking(&[&rustls::version::TLS12]);
        assert_eq!(old.call(&compile(&settings), "a.test").await.unwrap().1.version, "TLSv1.2");
        settings.min_version = MinVersion::Tls13;
        assert!(old.call(&compile(&settings), "a.test").await.is_err());
        assert_eq!(Client::new().call(&compile(&settings), "a.test").await.unwrap().1.version, "TLSv1.3");
    }

    #[tokio::test]
    async fn sessions_resume_across_clones_and_reloads_but_not_across_names() {
        let settings = settings(vec![testing::source("a", &["a.test", "b.test"])]);
        let first = compile(&settings);
        let (reloaded, _) = first.recompile(&settings).unwrap();
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut client = Client::speaking(&[version]);
            client.config.resumption = Resumption::in_memory_sessions(8);
            assert!(!client.call(&first, "a.test").await.unwrap().1.resumed);
            assert!(client.call(&first.clone(), "a.test").await.unwrap().1.resumed);
            assert!(client.call(&reloaded, "a.test").await.unwrap().1.resumed);
            assert!(!client.call(&reloaded, "b.test").await.unwrap().1.resumed);
            assert!(!client.call(&compile(&settings), "a.test").await.unwrap().1.resumed);
        }
    }

    #[tokio::test]
    async fn one_ticket_is_sent_and_no_early_data_allowed() {
        let acceptor = compile(&settings(vec![testing::source("a", &["a.test"])]));
        let mut client = Client::speaking(&[&rustls::version::TLS13]);
        client.config.enable_early_data = true;
        client.config.resumption = Resumption::in_memory_sessions(8);
        let (near, far) = tokio::io::duplex(64 * 1024);
        let connector = TlsConnector::from(Arc::new(client.config));
        let (mut near, far) = tokio::join!(
            async { connector.connect(ServerName::try_from("a.test").unwrap(), near).await.unwrap() },
            async { acceptor.accept(far, Instant::now() + DAY).await.unwrap() },
        );
        drop(far);
        assert_eq!(near.read(&mut [0; 1]).await.map_err(|error| error.kind()), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(near.get_ref().1.tls13_tickets_received(), 1);
        assert_eq!(acceptor.tls.config().max_early_data_size, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_client_is_dropped_at_the_deadline() {
        let acceptor = compile(&settings(vec![testing::source("a", &["a.test"])]));
        let (mut near, far) = tokio::io::duplex(1024);
        let begun = Instant::now();
        let error = acceptor.accept(far, begun + Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.reason(), "timeout");
        assert_eq!(begun.elapsed().as_secs(), 10);
        assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0, "the connection is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_trickles_has_no_more_time_than_a_silent_one() {
        let acceptor = compile(&settings(vec![testing::source("a", &["a.test"])]));
        let (mut near, far) = tokio::io::duplex(1024);
        let trickle = async {
            // The start of a handshake record of 512 bytes that never ends.
            for byte in [22, 3, 1, 2, 0, 1].into_iter().chain(std::iter::repeat(0)) {
                if near.write_all(&[byte]).await.is_err() {
                    break;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        let (error, ()) = tokio::join!(acceptor.accept(far, deadline), trickle);
        assert_eq!(error.unwrap_err().reason(), "timeout");
    }

    #[tokio::test]
    async fn failures_say_who_ended_it() {
        let acceptor = compile(&settings(vec![testing::source("a", &["a.test"])]));
        let (mut near, far) = tokio::io::duplex(1024);
        near.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await.unwrap();
        assert_eq!(acceptor.accept(far, Instant::now() + DAY).await.unwrap_err().reason(), "failed");
        let (near, far) = tokio::io::duplex(1024);
        drop(near);
        assert_eq!(acceptor.accept(far, Instant::now() + DAY).await.unwrap_err().reason(), "closed");
    }

    #[test]
    fn a_bad_certificate_is_named_by_index_label_and_date() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let old = testing::source_valid("old.crt", &["b.test"], then - DAY, then);
        let problem = Acceptor::compile(&settings(vec![testing::source("a", &["a.test"]), old])).unwrap_err();
        assert_eq!(problem.part, Some(Part::Certificate(1)));
        assert_eq!(problem.message, "old.crt: the certificate expired on 2023-11-14T22:13:20Z");
        assert!(problem.hint.starts_with("renew it"));
    }

    #[test]
    fn a_mismatching_key_and_an_empty_list_are_refused() {
        let mut mixed = testing::source("a.crt", &["a.test"]);
        mixed.key_pem = testing::source("b", &["b.test"]).key_pem;
        let problem = Acceptor::compile(&settings(vec![mixed])).unwrap_err();
        assert_eq!(problem.message, "a.crt: the private key belongs to another certificate");
        assert_eq!(Acceptor::compile(&settings(vec![])).unwrap_err().part, None);
    }

    #[test]
    fn compiling_tells_what_is_served() {
        let (_, infos) = Acceptor::compile(&settings(vec![testing::source("a", &["a.test"])])).unwrap();
        assert_eq!(infos.len(), 1);
        assert_eq!(infos[0].label, "a");
        assert!(infos[0].not_after > SystemTime::now() + 29 * DAY);
    }
}
