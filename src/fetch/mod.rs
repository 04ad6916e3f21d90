//! One bounded exchange over https, for the control plane: key sets, metadata, introspection.
//!
//! Owns what is asked of a server that this process itself talks to: TLS with an explicit provider and roots, one deadline over
//! the whole exchange, a bound on the answer, no redirects (RFC 9110 section 15.4), and what the answer says of its freshness
//! (RFC 9111 sections 4.2 and 5.2.2). Refuses to know what the answer means, who asked, and when to ask again.

mod error;
mod exchange;
mod freshness;
mod location;
mod settings;
mod trust;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use error::FetchError;
pub use exchange::{Fetched, Fetcher};
pub use location::{Location, LocationError};
pub use settings::FetchSettings;
pub use trust::authorities;
