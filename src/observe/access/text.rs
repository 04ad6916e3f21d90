//! An access-log line for people: what happened first, then `key=value` for what applies.

use std::io::Write as _;

use super::escape::{push_millis, push_number, push_word};
use super::record::Record;

pub(super) fn line(out: &mut Vec<u8>, time: &[u8], record: &Record<'_>, colour: bool) {
    let paint = Paint { colour };
    paint.wrap(out, DIM, |out| out.extend_from_slice(time));
    out.push(b' ');
    paint.wrap(out, status_colour(record.status), |out| push_number(out, record.status.into()));
    out.push(b' ');
    push_word(out, record.logged_method());
    out.push(b' ');
    push_word(out, &[record.logged_host(), &record.logged_path()].concat());
    out.push(b' ');
    push_millis(out, record.duration);
    out.extend_from_slice(b"ms");
    known(out, "grpc", record.grpc.map(str::as_bytes));
    pair(out, "route", record.route.as_bytes());
    if record.outcome != "ok" {
        paint.wrap(out, status_colour(record.status), |out| pair(out, "outcome", record.outcome.as_bytes()));
    }
    known(out, "limit", record.limit.map(str::as_bytes));
    write!(out, " client={}", record.client).expect("a Vec takes every write");
    known(out, "issuer", record.issuer.map(str::as_bytes));
    known(out, "subject", record.logged_subject());
    known(out, "upstream", record.upstream.map(str::as_bytes));
    known(out, "endpoint", record.endpoint.map(str::as_bytes));
    for (key, bytes) in [("in", record.bytes_in), ("out", record.bytes_out)] {
        name(out, key);
        push_number(out, bytes);
    }
    for (key, duration) in
        [("auth", record.auth), ("queue", record.queue), ("connect", record.connect), ("first_byte", record.first_byte)]
    {
        if let Some(duration) = duration {
            name(out, key);
            push_millis(out, duration);
            out.extend_from_slice(b"ms");
        }
    }
    pair(out, "protocol", record.logged_protocol().as_bytes());
    pair(out, "id", record.request_id.as_bytes());
    known(out, "agent", record.logged_agent());
    out.push(b'\n');
}

const DIM: &str = "2";
const GREEN: &str = "32";
const CYAN: &str = "36";
const YELLOW: &str = "33";
const RED: &str = "31";

fn status_colour(status: u16) -> &'static str {
    match status {
        0..=299 => GREEN,
        300..=399 => CYAN,
        400..=499 => YELLOW,
        _ => RED,
    }
}

struct Paint {
    colour: bool,
}

impl Paint {
    fn wrap(&self, out: &mut Vec<u8>, code: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.colour {
            return write(out);
        }
        out.extend_from_slice(b"\x1b[");
        out.extend_from_slice(code.as_bytes());
        out.push(b'm');
        write(out);
        out.extend_from_slice(b"\x1b[0m");
    }
}

fn known(out: &mut Vec<u8>, key: &str, value: Option<&[u8]>) {
    if let Some(value) = value {
        pair(out, key, value);
    }
}

fn pair(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    name(out, key);
    push_word(out, value);
}

fn name(out: &mut Vec<u8>, key: &str) {
    out.push(b' ');
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
}
