//! `tls` of `[upstream.NAME]`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use super::issuer::REMEDY;
use crate::upstream::{Address, ClientIdentity, UpstreamTls};

pub(super) fn upstream_tls(
    context: &mut Context<'_>,
    entry: &Entry<raw::UpstreamTls>,
    endpoints: &[Address],
) -> UpstreamTls {
    let Some((raw, span)) = context.take(entry) else { return UpstreamTls::default() };
    // Who describes TLS means it: endpoints that are dialled in the clear all the same are a mistake.
    if endpoints.iter().any(|address| !address.is_builtin()) && !endpoints.iter().any(|address| address.tls) {
        let problem = Problem::error(span, "`tls` means nothing here: no endpoint speaks TLS");
        context.report(problem.hint("write the endpoints as \"https://HOST:PORT\" or \"h2://HOST:PORT\""));
    }
    let ca_pem = context.take(&raw.ca_file).and_then(|(path, span)| context.read(path, span, REMEDY));
    let server_name = context.text(&raw.server_name, "server_name").map(|(name, _)| name.into());
    let client = client(context, raw);
    let pins = pins(context, &raw.pins);
    let verify = context.flag(&raw.verify, true);
    if let Some((false, span)) = context.take(&raw.verify).map(|(verify, span)| (*verify, span))
        && pins.is_empty()
    {
        let problem =
            Problem::warning(span, "nobody checks who the endpoints are: whoever is on the way can read and forge");
        context.report(problem.hint("name their authority as `ca_file`, or their keys as `pins`"));
    }
    UpstreamTls { ca_pem, server_name, client, pins, verify }
}

/// Both or neither.
fn client(context: &mut Context<'_>, raw: &raw::UpstreamTls) -> Option<ClientIdentity> {
    let cert = context.take(&raw.cert);
    let key = context.take(&raw.key);
    let ((cert, cert_span), (key, key_span)) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return None,
        (Some((_, span)), None) => return half(context, span, "cert", "key"),
        (None, Some((_, span))) => return half(context, span, "key", "cert"),
    };
    let chain_pem = context.read(cert, cert_span, REMEDY);
    let key_pem = context.read(key, key_span, REMEDY);
    Some(ClientIdentity { chain_pem: chain_pem?, key_pem: key_pem? })
}

fn half(context: &mut Context<'_>, span: Span, there: &str, missing: &str) -> Option<ClientIdentity> {
    let problem = Problem::error(span, format!("`{there}` without `{missing}`"));
    context.report(problem.hint("a certificate is shown together with a proof that its key is ours"));
    None
}

fn pins(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>) -> Vec<[u8; 32]> {
    let mut pins = Vec::new();
    for (text, span) in context.texts(entry, "pins", "leave the key out to pin no key") {
        let digest = text.strip_prefix("sha256/").and_then(|digest| STANDARD.decode(digest).ok());
        if let Some(digest) = digest.and_then(|digest| digest.try_into().ok()) {
            pins.push(digest);
            continue;
        }
        let problem = Problem::error(span, format!("`{text}` is no pin"));
        context.report(problem.hint(
            "write \"sha256/\" and the base64 of a SHA-256: openssl x509 -pubkey -noout -in CERT | openssl pkey -pubin -outform \
             der | openssl dgst -sha256 -binary | base64",
        ));
    }
    pins
}
