//! The command line: arguments in, exit codes out, no logic. One file a subcommand.

pub mod check;
pub mod schema;
