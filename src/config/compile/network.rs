//! Lists of networks, and a warning where one is everybody.

use std::net::IpAddr;

use ipnet::IpNet;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::context::Context;

/// What is wrong with a list that names everybody.
pub(super) struct Everybody {
    message: &'static str,
    hint: &'static str,
}

/// `trusted_proxies`.
pub(super) const PROXIES: Everybody = Everybody {
    message: "everybody is a trusted proxy: any client can claim any address",
    hint: "name only the networks of the proxies in front",
};
/// `proxy_protocol`.
pub(super) const RELAYS: Everybody = Everybody {
    message: "everybody may send a PROXY header: any client can claim any address",
    hint: "name only the networks of the load balancers in front",
};

/// The networks of a list; a single address is a network of one. An empty list is nobody, as no list is.
pub(super) fn list(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>, everybody: &Everybody) -> Vec<IpNet> {
    let Some((items, _)) = context.take(entry) else { return Vec::new() };
    let mut networks = Vec::new();
    for item in items {
        let Some((text, span)) = context.take(item) else { continue };
        let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
        match network {
            Ok(network) => networks.push(checked(context, network, span, everybody)),
            Err(_) => context.report(
                Problem::error(span, format!("`{text}` is no network"))
                    .hint("write an address with its prefix length, as in \"10.0.0.0/8\" or \"fd00::/8\""),
            ),
        }
    }
    networks
}

fn checked(context: &mut Context<'_>, network: IpNet, span: Span, everybody: &Everybody) -> IpNet {
    if network.prefix_len() == 0 {
        context.report(Problem::warning(span, everybody.message).hint(everybody.hint));
    }
    network.trunc()
}
