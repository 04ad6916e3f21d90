//! Demonstrating Proof of Possession: that who brings a token also holds the key it was issued to (RFC 9449).
//!
//! Owns the reading of a proof against one request, the memory of proofs seen, and the nonces a server hands out. All of it is pure:
//! the time and the request are arguments, the key is the proof's own. Whether a token asks for this key (`cnf.jkt`), and what a
//! refusal looks like, is for whoever calls.

mod address;
mod fault;
mod nonce;
mod proof;
mod replay;
#[cfg(test)]
mod tests;

pub use fault::ProofFault;
pub use nonce::{NoRandomness, Nonces};
pub use proof::{Expectation, Proof, check_proof, the_proof};
pub use replay::{Replay, ReplayWindow};
