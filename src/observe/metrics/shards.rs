//! What is read of the shards at a scrape: each worker's cells become one sum.

use super::cells::{
    AuthCells, Count, EndpointCells, IntrospectionCells, ListenerCells, RouteCells, Tally, WorkerCells,
};
use super::sheet::Sheet;
use super::{
    ACCEPT_ERRORS, AUTH_DECISIONS, CONNECTIONS_ACCEPTED, CONNECTIONS_OPEN, GRPC_CALLS, INTROSPECTION_DURATION,
    INTROSPECTIONS, MALFORMED_REQUESTS, PANICS, PROXY_HEADERS, QUIC_ATTEMPTS, REQUEST_BODY_BYTES, REQUEST_DURATION,
    REQUESTS, REQUESTS_IN_FLIGHT, RESPONSE_BODY_BYTES, TLS_HANDSHAKES, TOKEN_CACHE_LOOKUPS, UPSTREAM_CONNECTION_REUSES,
    UPSTREAM_CONNECTIONS_OPEN, UPSTREAM_CONNECTIONS_OPENED, UPSTREAM_ERRORS, UPSTREAM_LEASES, UPSTREAM_WAITING,
};
use super::{Announcement, Handshake, Introspected, QuicAttempt, UpstreamFailure, compression, crowd, tunnels};

pub(super) fn route(sheet: &mut Sheet, route: &str, shards: &[&RouteCells]) {
    for (method, status, requests) in RouteCells::requests(shards) {
        sheet.put(&REQUESTS, &[route, method, &status], requests);
    }
    for (code, calls) in RouteCells::calls(shards) {
        sheet.put(&GRPC_CALLS, &[route, code], calls);
    }
    sheet.put_latency(&REQUEST_DURATION, &[route], shards.iter().map(|shard| &shard.latency));
    sheet.put(&REQUESTS_IN_FLIGHT, &[route], shards.iter().map(|shard| shard.in_flight.value()).sum::<i64>());
    sheet.put(&REQUEST_BODY_BYTES, &[route], shards.iter().map(|shard| shard.bytes_in.value()).sum::<u64>());
    sheet.put(&RESPONSE_BODY_BYTES, &[route], shards.iter().map(|shard| shard.bytes_out.value()).sum::<u64>());
    tunnels::read(sheet, route, shards);
    compression::read(sheet, route, shards);
}

pub(super) fn auth(sheet: &mut Sheet, route: &str, shards: &[&AuthCells]) {
    let permitted = shards.iter().map(|shard| shard.permitted.value()).sum::<u64>();
    sheet.put(&AUTH_DECISIONS, &[route, "permitted"], permitted);
    for (reason, count) in Tally::sums(shards.iter().map(|shard| &shard.denied)) {
        // Routes times reasons would be mostly zeros: a reason shows once it has happened.
        if count > 0 {
            sheet.put(&AUTH_DECISIONS, &[route, reason], count);
        }
    }
}

pub(super) fn endpoint(sheet: &mut Sheet, upstream: &str, endpoint: &str, shards: &[&EndpointCells]) {
    let labels = [upstream, endpoint];
    let count = |pick: fn(&EndpointCells) -> &Count| shards.iter().map(|shard| pick(shard).value()).sum::<u64>();
    sheet.put(&UPSTREAM_CONNECTIONS_OPENED, &labels, count(|shard| &shard.opened));
    sheet.put(&UPSTREAM_CONNECTION_REUSES, &labels, count(|shard| &shard.reused));
    for failure in UpstreamFailure::ALL {
        let failed = shards.iter().map(|shard| shard.failures[failure as usize].value()).sum::<u64>();
        sheet.put(&UPSTREAM_ERRORS, &[upstream, endpoint, failure.label()], failed);
    }
    sheet.put(&UPSTREAM_CONNECTIONS_OPEN, &labels, shards.iter().map(|shard| shard.open.value()).sum::<i64>());
    sheet.put(&UPSTREAM_LEASES, &labels, shards.iter().map(|shard| shard.leased.value()).sum::<i64>());
    sheet.put(&UPSTREAM_WAITING, &labels, shards.iter().map(|shard| shard.waiting.value()).sum::<i64>());
}

pub(super) fn listener(sheet: &mut Sheet, listener: &str, shards: &[&ListenerCells]) {
    sheet.put(&CONNECTIONS_ACCEPTED, &[listener], shards.iter().map(|shard| shard.accepted.value()).sum::<u64>());
    sheet.put(&CONNECTIONS_OPEN, &[listener], shards.iter().map(|shard| shard.open.value()).sum::<i64>());
    sheet.put(&ACCEPT_ERRORS, &[listener], shards.iter().map(|shard| shard.errors.value()).sum::<u64>());
    crowd::read(sheet, listener, shards);
    for handshake in Handshake::ALL {
        let count = shards.iter().map(|shard| shard.handshakes[handshake.index()].value()).sum::<u64>();
        let (version, result) = handshake.labels();
        sheet.put(&TLS_HANDSHAKES, &[listener, version, result], count);
    }
    for announcement in Announcement::ALL {
        let count = shards.iter().map(|shard| shard.announcements[announcement as usize].value()).sum::<u64>();
        sheet.put(&PROXY_HEADERS, &[listener, announcement.label()], count);
    }
    for outcome in QuicAttempt::ALL {
        let count = shards.iter().map(|shard| shard.quic[outcome as usize].value()).sum::<u64>();
        sheet.put(&QUIC_ATTEMPTS, &[listener, outcome.label()], count);
    }
}

pub(super) fn introspections(sheet: &mut Sheet, issuer: &str, shards: &[&IntrospectionCells]) {
    for outcome in Introspected::ALL {
        let count = shards.iter().map(|shard| shard.outcomes[outcome as usize].value()).sum::<u64>();
        sheet.put(&INTROSPECTIONS, &[issuer, outcome.label()], count);
    }
    sheet.put_latency(&INTROSPECTION_DURATION, &[issuer], shards.iter().map(|shard| &shard.latency));
}

pub(super) fn workers(sheet: &mut Sheet, shards: &[&WorkerCells]) {
    let count = |pick: fn(&WorkerCells) -> &Count| shards.iter().map(|shard| pick(shard).value()).sum::<u64>();
    sheet.put(&TOKEN_CACHE_LOOKUPS, &["hit"], count(|shard| &shard.cache_hits));
    sheet.put(&TOKEN_CACHE_LOOKUPS, &["miss"], count(|shard| &shard.cache_misses));
    sheet.put(&PANICS, &[], count(|shard| &shard.panics));
    for (reason, count) in Tally::sums(shards.iter().map(|shard| &shard.malformed)) {
        sheet.put(&MALFORMED_REQUESTS, &[reason], count);
    }
}
