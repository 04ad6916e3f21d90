//! The gateway from outside: the real binary between clients and origins of our own, every rule a test named after it.
//!
//! A test is a story: start an origin, start the gateway before it, act, assert. Origins and clients are raw sockets where
//! bytes matter; `support` has them. Nothing sleeps to wait for the gateway: what is waited for is asked for, with a deadline.
#![allow(clippy::unwrap_used)] // a test that can't go on fails
#![allow(clippy::disallowed_methods)] // tasks and bodies here end with their test, nothing is drained
#![allow(unreachable_pub)] // nothing of a test crate is public

mod support;

mod answers;
mod auth;
mod balance;
mod bodies;
mod boundary;
mod breaker;
mod buffer;
mod chaos;
mod cli;
mod compress;
mod conditional_matrix;
mod cors;
mod error_pages;
mod escape;
mod flood;
mod framing;
mod grpc;
mod guard;
mod h2_abuse;
mod h2_conformance;
mod health;
mod hedging;
mod hosts;
mod hsts;
mod http2;
mod http3;
mod http3_wire;
mod identity;
mod idle;
mod interim;
mod introspection;
mod lifecycle;
mod limits;
mod links;
mod listing;
mod many_files;
mod media;
mod metrics;
mod mid_transfer;
mod names;
mod odd_files;
mod places;
mod policies;
mod pool;
mod possession;
mod proxy_protocol;
mod queue;
mod rate_limits;
mod redis;
mod redis_revocation;
mod reload;
mod reloads;
mod remote;
mod replays;
mod retries;
mod retry_table;
mod revocation;
mod revoked;
mod semantics;
mod slow_read;
mod slowhttptest;
mod smuggling;
#[path = "static.rs"]
mod static_files;
mod static_variants;
mod streams;
mod swaps;
mod tls_abuse;
mod tunnel;
mod tunnel_end;
mod upgrade;
mod upstream;
mod uwsgi;
mod wires;
