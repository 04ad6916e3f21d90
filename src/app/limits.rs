//! Rate limits as the workers use them: one count for the process, which goes on over a reload, and a meter for each worker.

use std::sync::Arc;

use crate::auth::{ClaimPath, RouteAuth, Style};
use crate::config::{Config, Route};
use crate::limit::{CountedBy, Fleet, LimitSettings, Limiter};
use crate::observe::LimitMeter;
use crate::redis::Redis;
use crate::serve::{RouteLimit, RouteLimits};

/// The limits of `config`; one that counts what it counted `before` goes on with its counts.
pub(super) fn limiters(config: &Config, before: Option<&[Arc<Limiter>]>) -> Vec<Arc<Limiter>> {
    let limiter = |settings: &LimitSettings| {
        let known = before.and_then(|before| before.iter().find(|known| known.settings().name == settings.name));
        match known {
            Some(same) if same.settings() == settings => Arc::clone(same),
            Some(known) => Arc::new(Limiter::continuing(settings.clone(), known)),
            None => Arc::new(Limiter::new(settings.clone())),
        }
    };
    config.rate_limits.iter().map(limiter).collect()
}

/// What one route uses of them on one worker.
pub(super) fn of_route(
    config: &Config,
    route: &Route,
    limiters: &[Arc<Limiter>],
    redis: Option<&Arc<Redis>>,
    meter: impl Fn(&str) -> LimitMeter,
) -> Option<RouteLimits> {
    let limit = |index: &usize| {
        let limiter = &limiters[*index];
        let claim = match &limiter.settings().by {
            CountedBy::Claim { path, .. } => {
                Some(ClaimPath::parse(path).expect("`config` has read it, and kept what could be read"))
            }
            CountedBy::Client { .. } | CountedBy::Header { .. } | CountedBy::Route => None,
        };
        RouteLimit::new(Arc::clone(limiter), claim, meter(&limiter.settings().name))
    };
    let fleet = redis.map(|redis| Fleet::new(Arc::clone(redis)));
    RouteLimits::new(route.rate_limits.iter().map(limit), fleet, style(config, &route.auth))
}

/// Refusals are worded as those of the route's issuers. Where no token is asked for, on the way to a login say, it is for the application that all of them
/// are about, if they agree.
fn style(config: &Config, auth: &RouteAuth) -> Style {
    let own: Vec<_> = auth.issuers().filter_map(|index| config.issuers.get(index)).collect();
    let issuers = if own.is_empty() { config.issuers.iter().collect() } else { own };
    let drf = !issuers.is_empty() && issuers.iter().all(|issuer| issuer.style == Style::Drf);
    if drf { Style::Drf } else { Style::Problem }
}
