//! What tunnels and streams through a route may do.

use std::time::Duration;

use super::super::problem::Problem;
use super::super::raw;
use super::super::values::Tunnels;
use super::context::Context;

const MOST_TUNNELS: usize = 10_000;
const IDLE: Duration = Duration::from_mins(5);

pub(super) fn tunnels(context: &mut Context<'_>, raw: &raw::Route) -> Tunnels {
    let keys = [
        ("max_tunnels", raw.max_tunnels.span()),
        ("tunnel_idle_secs", raw.tunnel_idle_secs.span()),
        ("end_with_token", raw.end_with_token.span()),
    ];
    for (key, span) in keys {
        let Some(span) = span.filter(|_| raw.upstream.is_absent()) else { continue };
        let problem = Problem::error(span, format!("`{key}` on a route that forwards nothing"));
        context.report(problem.hint("tunnels and streams of events come from an `upstream`"));
    }
    Tunnels {
        most: context.number(&raw.max_tunnels, "max_tunnels", " tunnels", 0..=1_000_000, MOST_TUNNELS),
        idle: context.seconds(&raw.tunnel_idle_secs, "tunnel_idle_secs", 1.0..=86400.0, IDLE),
        end_with_token: context.flag(&raw.end_with_token, true),
    }
}
