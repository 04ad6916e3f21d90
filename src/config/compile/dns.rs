//! `[dns]`, and `resolve` of an endpoint.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use crate::upstream::{Address, NameSettings};

const PORT: u16 = 53;

pub(super) fn dns(context: &mut Context<'_>, raw: &super::super::entry::Entry<raw::Dns>) -> NameSettings {
    let usual = NameSettings::default();
    let Some((table, _)) = context.take(raw) else { return usual };
    let hint = "leave `servers` out to ask those of /etc/resolv.conf";
    let mut servers = Vec::new();
    for (text, span) in context.texts(&table.servers, "servers", hint) {
        let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT)).or_else(|_| text.parse());
        let Ok(server) = address else {
            let problem = Problem::error(span, format!("`{text}` is no address of a server"));
            context.report(problem.hint("write an address with or without a port, as in \"10.0.0.2:53\""));
            continue;
        };
        servers.push(server);
    }
    let timeout = context.seconds(&table.timeout_secs, "timeout_secs", 0.1..=60.0, usual.timeout);
    let least = context.seconds(&table.min_ttl_secs, "min_ttl_secs", 0.1..=3600.0, usual.ttl.0);
    let most = context.seconds(&table.max_ttl_secs, "max_ttl_secs", 0.1..=86400.0, usual.ttl.1.max(least));
    if most < least
        && let Some(span) = table.max_ttl_secs.span()
    {
        context.report(Problem::error(span, format!("`max_ttl_secs` is less than `min_ttl_secs`, {} s", secs(least))));
    }
    NameSettings { servers, timeout, ttl: (least, most.max(least)) }
}

fn secs(length: Duration) -> f64 {
    length.as_secs_f64()
}

/// What `resolve` makes of an endpoint's address; `None` if something is wrong with it, which was said.
pub(super) fn resolved(
    context: &mut Context<'_>,
    table: &raw::EndpointTable,
    (text, span): (&str, Span),
) -> Option<Address> {
    let services = context.choice(&table.resolve, "resolve", &[("addresses", false), ("srv", true)], false);
    let host = text.split_once("://").map_or("", |(_, rest)| rest.trim_end_matches('/'));
    if services && host.contains(':') {
        let problem = Problem::error(span, "the url of a service has no port: its records say it");
        context.report(problem.hint("write as in \"http://_http._tcp.app.internal\""));
        return None;
    }
    if services && let (Some(weight), true) = (table.weight.span(), table.resolve.span().is_some()) {
        let problem = Problem::error(weight, "`weight` beside `resolve = \"srv\"`: the records say it");
        context.report(problem.hint("remove it"));
    }
    // A service has no port, and a scheme without a usual one wants to hear of one.
    let whole = if services { format!("{}:0", text.trim_end_matches('/')) } else { text.to_owned() };
    let address = match whole.parse::<Address>() {
        Ok(address) => address,
        Err(error) => {
            context.report(Problem::error(span, format!("`{text}` is no endpoint")).hint(error.to_string()));
            return None;
        }
    };
    let name = address.as_name(services);
    if name.is_none() {
        let problem = Problem::error(span, format!("`{text}` has no name that `resolve` could look up"));
        context.report(problem.hint("remove `resolve`, or write a host name"));
    }
    name
}
