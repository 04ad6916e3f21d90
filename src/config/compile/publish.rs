//! `publish` of a route: which document of the gateway's own it answers with.

use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes::Publish;
use super::super::spans::Spans;
use super::super::values::{Action, Config, Publication};
use super::context::Context;
use super::route::{Known, reference};
use super::{link, rule};
use crate::auth::IssuerSettings;

/// Where OpenID providers have their keys by custom; no specification fixes it.
const KEY_SET_PATH: &str = "/.well-known/jwks.json";
/// RFC 9728 section 3.
const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";
const BY_URL: &str = "name issuers here whose `issuer` is their URL, as they write it in `iss`";
const FORMS: &str =
    "write \"jwks\", \"identity\" or `{ resource_metadata = { resource = \"https://..\", issuers = [\"NAME\"] } }`";

pub(super) fn publication(
    context: &mut Context<'_>,
    publish: &Publish,
    label: &str,
    span: Span,
    known: &Known<'_>,
) -> Option<Publication> {
    match publish {
        Publish::Word(word) if word == "jwks" => Some(Publication::KeySet),
        Publish::Word(word) if word == "identity" => Some(Publication::IdentityKey),
        Publish::Word(word) => {
            context.report(Problem::error(span, format!("`{word}` is nothing to publish")).hint(FORMS));
            None
        }
        Publish::Table(table) => {
            let missing = format!("`publish` of {label} says nothing");
            let (metadata, span) = context.demand(&table.resource_metadata, span, &missing, FORMS)?;
            resource_metadata(context, metadata, span, known)
        }
    }
}

fn resource_metadata(
    context: &mut Context<'_>,
    raw: &raw::ResourceMetadata,
    span: Span,
    known: &Known<'_>,
) -> Option<Publication> {
    let hint = "add `resource = \"https://api.example.com/\"`, the URL that clients know the resource by";
    let resource = context.demand(&raw.resource, span, "`resource_metadata` has no `resource`", hint);
    if let Some((url, span)) = resource
        && (!link::is_https(url) || url.contains('#'))
    {
        let problem = Problem::error(span, format!("`{url}` is no https URL of a resource"));
        context.report(problem.hint("as in \"https://api.example.com/\", without a fragment"));
    }
    if raw.issuers.is_absent() {
        let problem = Problem::error(span, "`resource_metadata` names no issuers");
        context.report(problem.hint("add `issuers = [\"NAME\"]`: clients ask there for tokens"));
    }
    let named = context.texts(&raw.issuers, "issuers", "name the issuers whose tokens are taken");
    let issuers =
        named.iter().filter_map(|(name, span)| reference(context, name, *span, "issuer", &known.issuers)).collect();
    let scopes = rule::scopes(context, &raw.scopes_supported, "scopes_supported");
    Some(Publication::ResourceMetadata { resource: resource?.0.as_str().into(), issuers, scopes })
}

/// Documents that would say nothing.
pub(super) fn empty(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (route, at) in config.routes.iter().zip(&spans.routes) {
        let Action::Publish(publication) = &route.action else { continue };
        let span = at.publish.unwrap_or(at.name);
        let nothing = match publication {
            Publication::KeySet => {
                config.identity.is_none() && !config.issuers.iter().any(IssuerSettings::has_public_keys)
            }
            Publication::IdentityKey => config.identity.is_none(),
            Publication::ResourceMetadata { issuers, .. } => {
                problems.extend(issuers.iter().filter_map(|index| unnamed(config.issuers.get(*index)?, span)));
                false
            }
        };
        if nothing {
            let message = format!("the route `{}` has no key to publish", route.name);
            let hint = "add [identity]; of issuers, those with `public_keys` or `jwks_file` are published";
            problems.push(Problem::error(span, message).hint(hint));
        }
    }
    problems
}

/// RFC 9728 section 2: an authorization server is named by its issuer identifier.
fn unnamed(issuer: &IssuerSettings, span: Span) -> Option<Problem> {
    let message = format!("the issuer `{}` has no `issuer`, so clients cannot be told where it is", issuer.name);
    issuer.issuer.is_none().then(|| Problem::error(span, message).hint(BY_URL))
}

/// RFC 8414 section 2: the identifier is an https URL.
fn unasked(issuer: &IssuerSettings, span: Span) -> Option<Problem> {
    let message = format!("the `issuer` of `{}` is no https URL that clients could ask", issuer.name);
    let other = issuer.issuer.as_deref().is_some_and(|url| !link::is_https(url));
    other.then(|| Problem::warning(span, message).hint(BY_URL))
}

/// What verifiers and clients would not find, or could not read.
pub(super) fn doubts(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut doubts = Vec::new();
    for (route, at) in config.routes.iter().zip(&spans.routes) {
        let Action::Publish(publication) = &route.action else { continue };
        if !route.auth.is_public() {
            let message = format!("what the route `{}` publishes is for who has no token yet", route.name);
            doubts.push(Problem::warning(at.name, message).hint("say `auth = \"public\"`"));
        }
        if let Publication::ResourceMetadata { issuers, .. } = publication {
            let span = at.publish.unwrap_or(at.name);
            doubts.extend(issuers.iter().filter_map(|index| unasked(config.issuers.get(*index)?, span)));
        }
        let expected = match publication {
            Publication::KeySet | Publication::IdentityKey if route.path.starts_with("/.well-known/") => continue,
            Publication::KeySet | Publication::IdentityKey => KEY_SET_PATH.to_owned(),
            Publication::ResourceMetadata { resource, .. } => metadata_path(resource),
        };
        if route.path.trim_end_matches('/') != expected {
            let message = format!("nobody looks for this document at `{}`", route.path);
            doubts.push(Problem::warning(at.path, message).hint(format!("its usual place is \"{expected}\"")));
        }
    }
    doubts
}

/// RFC 9728 section 3.1: the well-known name goes between the resource's host and its path.
fn metadata_path(resource: &str) -> String {
    let rest = resource.strip_prefix("https://").unwrap_or(resource);
    let path = rest.find('/').map_or("", |slash| &rest[slash..]);
    let path = path.split('?').next().unwrap_or_default();
    format!("{METADATA_PATH}{}", path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9728_3_1_the_well_known_name_goes_before_the_path() {
        for (resource, path) in [
            ("https://api.example.com", ""),
            ("https://api.example.com/", ""),
            ("https://api.example.com/orders/", "/orders"),
            ("https://api.example.com/a/b?c=d", "/a/b"),
        ] {
            assert_eq!(metadata_path(resource), format!("{METADATA_PATH}{path}"), "{resource}");
        }
    }
}
