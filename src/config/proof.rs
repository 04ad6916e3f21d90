//! Asks the stages about what only they can judge: keys, certificates, authorities, roots. Their answers become problems at the right place.

use crate::auth::{IdentityKey, Issuer, KeySource, LinkSettings, Secret};
use crate::fetch::Fetcher;
use crate::files::SiteSettings;
use crate::observe::Chain;
use crate::tls::{Acceptor, Part, development};
use crate::upstream::TlsClient;

use super::problem::{Problem, Span};
use super::sources::Sources;
use super::spans::{RouteSpans, Spans};
use super::values::{Action, Config};

/// Everything the stages find wrong with a configuration that reads well.
pub(super) fn prove(config: &Config, spans: &Spans, sources: &dyn Sources) -> Vec<Problem> {
    let mut problems = keys(config, spans);
    problems.extend(identity(config, spans));
    problems.extend(links(config, spans));
    problems.extend(certificates(config, spans));
    problems.extend(upstreams(config, spans));
    problems.extend(spools(config, spans, sources));
    problems.extend(roots(config, spans, sources));
    problems
}

fn keys(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (issuer, at) in config.issuers.iter().zip(&spans.issuers) {
        let span_of = |index: usize| at.keys.get(index).copied().unwrap_or(at.name);
        let found = match Issuer::compile(issuer.clone()) {
            Ok((_, warnings)) => warnings,
            Err(errors) => errors,
        };
        problems.extend(found.into_iter().map(|problem| {
            let span = span_of(problem.source_index);
            let made = if problem.fatal {
                Problem::error(span, problem.message)
            } else {
                Problem::warning(span, problem.message)
            };
            made.hint(problem.hint)
        }));
        if let Some(remote) = &issuer.remote
            && let Err(error) = Fetcher::new(&remote.fetch)
        {
            let problem = Problem::error(span_of(0), format!("nothing can be fetched from there: {}", Chain(&error)));
            problems.push(problem.hint("check `ca_file`: it must hold the PEM certificates of the authorities"));
        }
        if config.server.development {
            continue;
        }
        for (index, key) in issuer.keys.iter().enumerate() {
            if matches!(&key.source, KeySource::Secret(secret) if development::is_development_secret(secret.expose())) {
                problems.push(in_earnest(span_of(index), "secret"));
            }
        }
    }
    problems
}

fn identity(config: &Config, spans: &Spans) -> Option<Problem> {
    let (settings, at) = config.identity.as_ref().zip(spans.identity)?;
    if let Err(problem) = IdentityKey::compile(settings) {
        return Some(Problem::error(at.key, problem.message).hint(problem.hint));
    }
    let marked = development::is_development_key(settings.key.expose()) && !config.server.development;
    marked.then(|| in_earnest(at.key, "key"))
}

fn links(config: &Config, spans: &Spans) -> Vec<Problem> {
    let marked = |secret: &Secret| development::is_development_secret(secret.expose());
    let routes = config.routes.iter().zip(&spans.routes).filter(|_| !config.server.development);
    let unsafe_ones = routes.filter(|(route, _)| {
        let secrets = |links: &LinkSettings| links.secrets.iter().any(marked);
        route.auth.all_links().any(secrets)
    });
    unsafe_ones.map(|(_, at)| in_earnest(at.name, "secret")).collect()
}

fn certificates(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (listener, at) in config.listeners.iter().zip(&spans.listeners) {
        let Some(settings) = &listener.tls else { continue };
        let span_of = |part: Option<Part>| match part {
            Some(Part::Certificate(index)) => at.certificates.get(index).map(|certificate| certificate.cert),
            Some(Part::ClientCa) => at.client_ca,
            None => None,
        };
        let span_of = |part| span_of(part).unwrap_or(at.name);
        match Acceptor::compile(settings) {
            Err(problem) => {
                problems.push(Problem::error(span_of(problem.part), problem.message).hint(problem.hint));
            }
            Ok((_, infos)) if !config.server.development => {
                let marked = infos.iter().enumerate().filter(|(_, info)| info.development);
                problems.extend(
                    marked.map(|(index, _)| in_earnest(span_of(Some(Part::Certificate(index))), "certificate")),
                );
            }
            Ok(_) => {}
        }
    }
    problems
}

fn upstreams(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (upstream, at) in config.upstreams.iter().zip(&spans.upstreams) {
        if !upstream.endpoints.iter().any(|address| address.tls) {
            continue;
        }
        if let Err(problem) = TlsClient::compile(&upstream.tls) {
            problems.push(Problem::error(at.tls.unwrap_or(at.name), Chain(&problem).to_string()));
        }
    }
    problems
}

fn spools(config: &Config, spans: &Spans, sources: &dyn Sources) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (upstream, at) in config.upstreams.iter().zip(&spans.upstreams) {
        let responses = upstream.buffer_responses.as_ref().filter(|responses| responses.disk_bytes > 0);
        if !upstream.spools() && responses.is_none() {
            continue;
        }
        let directory = &upstream.spool.directory;
        let Err(error) = sources.takes_files(directory) else { continue };
        let message = format!("no file can be made in {}: {error}", directory.display());
        let hint = "request bodies, and responses to slow clients, are kept there: name a directory of the gateway's own as `spool_dir`";
        problems.push(Problem::error(at.spool_dir.unwrap_or(at.name), message).hint(hint));
    }
    problems
}

fn in_earnest(span: Span, what: &str) -> Problem {
    Problem::error(span, format!("this {what} is development material: anybody could have it")).hint(format!(
        "use a {what} of your own, or say `development = true` under [server], which allows loopback addresses only"
    ))
}

fn roots(config: &Config, spans: &Spans, sources: &dyn Sources) -> Vec<Problem> {
    let mut problems = Vec::new();
    let served = config.routes.iter().zip(&spans.routes).filter_map(|(route, at)| match &route.action {
        Action::Files(site) => Some((site, at)),
        _ => None,
    });
    let internal = config.internal.iter().map(|internal| &internal.site).zip(&spans.internal);
    for (site, at) in served.chain(internal) {
        let fault = match sources.is_directory(&site.root) {
            Ok(true) => {
                problems.extend(manifest(site, at, sources));
                continue;
            }
            Ok(false) => "is not a directory".to_owned(),
            Err(error) => format!("cannot be opened: {error}"),
        };
        let message = format!("the root `{}` {fault}", site.root.display());
        let hint =
            "create it (for Django: `manage.py collectstatic`) or check the path, which is relative to this file";
        problems.push(Problem::error(at.files_root.unwrap_or(at.name), message).hint(hint));
    }
    problems
}

fn manifest(site: &SiteSettings, at: &RouteSpans, sources: &dyn Sources) -> Option<Problem> {
    let manifest = site.manifest.as_ref()?;
    let error = sources.manifest(&site.root, &manifest.name).err()?;
    let message = format!("the manifest `{}` can't be used: {error}", site.root.join(&*manifest.name).display());
    let hint = "run `manage.py collectstatic`, with `ManifestStaticFilesStorage` or a storage made from it for \"staticfiles\" in `STORAGES`; \
                or remove `manifest`";
    Some(Problem::error(at.files_manifest.unwrap_or(at.name), message).hint(hint))
}
