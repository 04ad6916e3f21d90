//! `[listen.NAME]` and `[admin]`.

use std::net::SocketAddr;
use std::time::Duration;

use super::super::entry::{Entry, Name, Named};
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::spans::{CertificateSpans, ListenerSpans};
use super::super::values::{Http3, HttpsPort, Listener};
use super::context::Context;
use super::hsts;
use super::issuer::REMEDY;
use super::network;
use crate::listen::{ListenSettings, Relays};
use crate::tls::{CertificateSource, ClientAuthorities, ClientCertificates, MinVersion, TlsSettings, UnknownName};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const BACKLOG: u32 = 4096;

pub(super) fn admin(context: &mut Context<'_>, entry: &Entry<raw::Admin>) -> Option<(SocketAddr, Span)> {
    let (table, span) = context.take(entry)?;
    let missing = "[admin] has no `address`";
    let (text, span) = context.demand(&table.address, span, missing, "add `address = \"127.0.0.1:9180\"`")?;
    Some((address(context, text, span)?, span))
}

/// All listeners, each checked by itself and against the others.
pub(super) fn listeners(
    context: &mut Context<'_>,
    entry: &Entry<Named<raw::Listen>>,
    admin: Option<(SocketAddr, Span)>,
    development: bool,
) -> (Vec<Listener>, Vec<ListenerSpans>) {
    let (mut listeners, spans): (Vec<Candidate>, Vec<_>) = super::named(context, entry, listener);
    if entry.is_absent() || matches!(entry, Entry::Given(_, tables) if tables.0.is_empty()) {
        let hint = "add a table [listen.NAME] with `address = \"0.0.0.0:8443\"` and `certificates`";
        context.report(Problem::error(None, "there is no listener").hint(hint));
    }
    redirects(context, &mut listeners);
    let addresses: Vec<_> = listeners
        .iter()
        .zip(&spans)
        .map(|(one, spans)| (one.listener.listen.address, spans.address))
        .chain(admin)
        .collect();
    clashes(context, &addresses);
    if development {
        loopback_only(context, &addresses);
    }
    (listeners.into_iter().map(|one| one.listener).collect(), spans)
}

struct Candidate {
    listener: Listener,
    /// Where `redirect_to_https = true` stands.
    redirect: Option<Span>,
}

fn listener(context: &mut Context<'_>, name: &Name, raw: &raw::Listen) -> Option<(Candidate, ListenerSpans)> {
    let backlog = context.number(&raw.backlog, "backlog", " connections", 1..=65_535, BACKLOG);
    let redirect = context.take(&raw.redirect_to_https).filter(|(wanted, _)| **wanted).map(|(_, span)| span);
    let hsts = hsts::hsts(context, &raw.hsts);
    let (tls, spans) = tls(context, name, raw, redirect).unzip();
    let http3_port = http3_port(context, raw);
    let relays = relays(context, raw, tls.as_ref().is_some_and(|tls| tls.http3));
    let missing = format!("the listener `{}` has no `address`", name.text);
    let (text, span) = context.demand(&raw.address, name.span, &missing, "add `address = \"0.0.0.0:8443\"`")?;
    let address = address(context, text, span)?;
    let listen = ListenSettings { name: name.text.as_str().into(), address, backlog };
    let spans = ListenerSpans { name: name.span, address: span, ..spans.unwrap_or_default() };
    let http3 = tls.as_ref().filter(|tls| tls.http3).map(|_| Http3 { port: http3_port });
    let listener = Listener { listen, tls, redirect_to_https: None, hsts, relays, http3 };
    Some((Candidate { listener, redirect }, spans))
}

/// A listener speaks TLS exactly if it has certificates; keys that only TLS gives a meaning are refused without.
fn tls(
    context: &mut Context<'_>,
    name: &Name,
    raw: &raw::Listen,
    redirect: Option<Span>,
) -> Option<(TlsSettings, ListenerSpans)> {
    let unknown_name = [("default", UnknownName::Default), ("refuse", UnknownName::Refuse)];
    let unknown_name = context.choice(&raw.unknown_name, "unknown_name", &unknown_name, UnknownName::Default);
    let min_version = [("1.2", MinVersion::Tls12), ("1.3", MinVersion::Tls13)];
    let min_version = context.choice(&raw.min_tls, "min_tls", &min_version, MinVersion::Tls12);
    let http2 = context.flag(&raw.http2, true);
    let http3 = context.flag(&raw.http3, false);
    let timeout = &raw.handshake_timeout_secs;
    let handshake_timeout = context.seconds(timeout, "handshake_timeout_secs", 0.1..=300.0, HANDSHAKE_TIMEOUT);
    if raw.certificates.is_absent() {
        without_certificates(context, name, raw, redirect.is_some());
        return None;
    }
    if let Some(span) = redirect {
        let problem = Problem::error(span, format!("the listener `{}` already speaks https", name.text));
        context.report(problem.hint("`redirect_to_https` belongs to the listener without certificates"));
    }
    let without = "leave the key out for a plain HTTP listener";
    let (certificates, certificate_spans) = context
        .list(&raw.certificates, "certificates", without)
        .into_iter()
        .filter_map(|(certificate, span)| one_certificate(context, certificate, span))
        .unzip();
    let (client_ca, client_ca_span) = client_ca(context, raw).unzip();
    let settings = TlsSettings { certificates, unknown_name, min_version, http2, http3, handshake_timeout, client_ca };
    Some((
        settings,
        ListenerSpans { certificates: certificate_spans, client_ca: client_ca_span, ..ListenerSpans::default() },
    ))
}

/// Whose connections begin with a PROXY header. Those over QUIC have no place for one.
fn relays(context: &mut Context<'_>, raw: &raw::Listen, http3: bool) -> Relays {
    let networks = network::list(context, &raw.proxy_protocol, &network::RELAYS);
    if let Some(span) = raw.proxy_protocol.span().filter(|_| http3 && !networks.is_empty()) {
        let problem = Problem::warning(
            span,
            "a PROXY header is for TCP: behind these relays all clients of HTTP/3 are the relay",
        );
        context.report(problem.hint("leave `http3` out unless clients reach this address over UDP by themselves"));
    }
    Relays::new(networks)
}

/// Another port than the bound one, where something between the clients and the gateway changes it.
fn http3_port(context: &mut Context<'_>, raw: &raw::Listen) -> Option<u16> {
    let span = raw.http3_port.span()?;
    let port = context.number(&raw.http3_port, "http3_port", "", 1..=65_535, 0);
    let is_off = matches!(raw.http3, Entry::Absent | Entry::Given(_, false));
    if is_off && !raw.certificates.is_absent() {
        let problem = Problem::error(span, "`http3_port` means nothing without `http3`");
        context.report(problem.hint("add `http3 = true`, or take the port out"));
    }
    Some(port)
}

fn client_ca(context: &mut Context<'_>, raw: &raw::Listen) -> Option<(ClientAuthorities, Span)> {
    let words = [("required", ClientCertificates::Required), ("optional", ClientCertificates::Optional)];
    let certificates =
        context.choice(&raw.client_certificates, "client_certificates", &words, ClientCertificates::default());
    if let Some(span) = raw.client_certificates.span().filter(|_| raw.client_ca.is_absent()) {
        let problem = Problem::error(span, "`client_certificates` means nothing without `client_ca`");
        context.report(problem.hint("add `client_ca = \"PATH\"`, the authorities whose certificates are accepted"));
    }
    let (path, span) = context.take(&raw.client_ca)?;
    let pem = context.read(path, span, REMEDY)?;
    Some((ClientAuthorities { pem, label: path.clone(), certificates }, span))
}

fn without_certificates(context: &mut Context<'_>, name: &Name, raw: &raw::Listen, redirects: bool) {
    let only_tls = [
        ("unknown_name", raw.unknown_name.span()),
        ("min_tls", raw.min_tls.span()),
        ("http2", raw.http2.span()),
        ("http3", raw.http3.span()),
        ("http3_port", raw.http3_port.span()),
        ("handshake_timeout_secs", raw.handshake_timeout_secs.span()),
        ("client_ca", raw.client_ca.span()),
        ("client_certificates", raw.client_certificates.span()),
        ("hsts", raw.hsts.span()),
    ];
    let mut useless = only_tls.into_iter().filter_map(|(key, span)| Some((key, span?))).peekable();
    let hint = "add `certificates = [{ cert = \"PATH\", key = \"PATH\" }]`";
    if useless.peek().is_none() && !redirects && name.text.eq_ignore_ascii_case("https") {
        context.report(Problem::error(name.span, "the listener `https` has no certificates").hint(hint));
    }
    for (key, span) in useless {
        let message = format!("`{key}` means nothing without certificates, and `{}` has none", name.text);
        context.report(Problem::error(span, message).hint(hint));
    }
}

fn one_certificate(
    context: &mut Context<'_>,
    raw: &raw::Certificate,
    span: Span,
) -> Option<(CertificateSource, CertificateSpans)> {
    let hint = "write `{ cert = \"PATH\", key = \"PATH\" }`";
    let cert = context.demand(&raw.cert, span, "a certificate without `cert`", hint);
    let key = context.demand(&raw.key, span, "a certificate without `key`", hint);
    let chain_pem = cert.and_then(|(path, span)| context.read(path, span, REMEDY));
    let key_pem = key.and_then(|(path, span)| context.read(path, span, REMEDY));
    let ((label, cert), (_, key)) = (cert?, key?);
    let source = CertificateSource { chain_pem: chain_pem?, key_pem: key_pem?, label: label.clone() };
    Some((source, CertificateSpans { cert, key }))
}

fn address(context: &mut Context<'_>, text: &str, span: Span) -> Option<SocketAddr> {
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let hint = match text.rsplit_once(':') {
        Some((host, port)) if port.parse::<u16>().is_ok() => match host {
            "" | "*" => format!("for every address write \"0.0.0.0:{port}\", or \"[::]:{port}\" for IPv6 too"),
            "localhost" => format!("names are not looked up: write \"127.0.0.1:{port}\""),
            host if host.contains(':') => format!("an IPv6 address stands in brackets: \"[{host}]:{port}\""),
            _ => "names are not looked up: write the IP address and the port, as in \"0.0.0.0:8443\"".to_owned(),
        },
        _ => "write the IP address and the port, as in \"0.0.0.0:8443\"".to_owned(),
    };
    context.report(Problem::error(span, format!("`{text}` is no address with a port")).hint(hint));
    None
}

/// Port 443 is where a client expects https; without it, the first listener of the file.
fn redirects(context: &mut Context<'_>, listeners: &mut [Candidate]) {
    let ports: Vec<u16> = listeners
        .iter()
        .filter(|one| one.listener.tls.is_some())
        .map(|one| one.listener.listen.address.port())
        .collect();
    let port = match ports.first() {
        _ if ports.contains(&443) => Some(HttpsPort::Standard),
        Some(first) => Some(HttpsPort::Other(*first)),
        None => None,
    };
    for one in listeners {
        let Some(span) = one.redirect else { continue };
        one.listener.redirect_to_https = port;
        if port.is_none() {
            let problem = Problem::error(span, "there is no https listener to redirect to");
            context.report(problem.hint("add a table [listen.https] with `address` and `certificates`"));
        }
    }
}

/// SO_REUSEPORT would let both bind, and the kernel would pick one of the two at random. Port 0 is a fresh port each time.
fn clashes(context: &mut Context<'_>, addresses: &[(SocketAddr, Span)]) {
    for (index, (address, span)) in addresses.iter().enumerate() {
        let earlier = addresses[..index].iter().find(|(other, _)| other == address && address.port() != 0);
        if let Some((_, first)) = earlier {
            let problem = Problem::error(*span, format!("{address} is taken by another listener"));
            context.report(problem.note(*first, "the other one is here").hint("give each listener its own port"));
        }
    }
}

fn loopback_only(context: &mut Context<'_>, addresses: &[(SocketAddr, Span)]) {
    for (address, span) in addresses {
        if !address.ip().is_loopback() {
            let message = format!(
                "`development = true` trusts keys that anybody can make, and {address} is reachable from outside"
            );
            let hint = format!(
                "write \"127.0.0.1:{}\", or `development = false` with real certificates and secrets",
                address.port()
            );
            context.report(Problem::error(*span, message).hint(hint));
        }
    }
}
