//! Portcullis: the front door of a web application. One binary that terminates TLS, serves static files, verifies JWTs and
//! forwards only authorised requests.
//!
//! The data path is one sentence: `listen -> tls -> serve(stack -> dispatch: route -> authorize -> act -> respond)`.
//! ARCHITECTURE.md tells the life of a request and who may import whom.

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod deadline;
pub mod fetch;
pub mod files;
pub mod http;
pub mod limit;
pub mod listen;
pub mod observe;
pub mod proxy_protocol;
pub mod redis;
pub mod route;
pub mod serve;
pub mod shutdown;
pub mod snapshot;
pub mod tls;
pub mod upstream;
