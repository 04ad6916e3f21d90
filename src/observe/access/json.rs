//! An access-log line as one JSON object (RFC 8259). What does not apply to a request is left out of its line.

use std::io::Write as _;

use super::escape::{push_escaped, push_millis, push_number, push_quoted};
use super::record::Record;

pub(super) fn line(out: &mut Vec<u8>, time: &[u8], record: &Record<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(time);
    out.push(b'"');
    string(out, "request_id", record.request_id.as_bytes());
    write!(out, ",\"client\":\"{}\"", record.client).expect("a Vec takes every write");
    string(out, "method", record.logged_method());
    string(out, "host", record.logged_host());
    string(out, "path", &record.logged_path());
    string(out, "protocol", record.logged_protocol().as_bytes());
    number(out, "status", record.status.into());
    known(out, "grpc", record.grpc.map(str::as_bytes));
    string(out, "route", record.route.as_bytes());
    string(out, "outcome", record.outcome.as_bytes());
    known(out, "limit", record.limit.map(str::as_bytes));
    known(out, "issuer", record.issuer.map(str::as_bytes));
    known(out, "subject", record.logged_subject());
    known(out, "upstream", record.upstream.map(str::as_bytes));
    known(out, "endpoint", record.endpoint.map(str::as_bytes));
    number(out, "bytes_in", record.bytes_in);
    number(out, "bytes_out", record.bytes_out);
    for (key, duration) in [
        ("duration_ms", Some(record.duration)),
        ("auth_ms", record.auth),
        ("queue_ms", record.queue),
        ("connect_ms", record.connect),
        ("first_byte_ms", record.first_byte),
    ] {
        if let Some(duration) = duration {
            name(out, key);
            push_millis(out, duration);
        }
    }
    known(out, "user_agent", record.logged_agent());
    out.extend_from_slice(b"}\n");
}

fn known(out: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        string(out, key, value);
    }
}

fn string(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    name(out, key);
    push_quoted(out, value);
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    name(out, key);
    push_number(out, value);
}

fn name(out: &mut Vec<u8>, key: &str) {
    out.extend_from_slice(b",\"");
    push_escaped(out, key.as_bytes());
    out.extend_from_slice(b"\":");
}
