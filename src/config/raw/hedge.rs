//! The table of an upstream that says when a request is sent twice at once.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Entry;

/// When a GET, HEAD or OPTIONS without a body is sent to a second endpoint because the first has not answered. The answer that begins first
/// is the client's. It takes a part of the budget of `retry`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["after_ms"]))]
pub(in crate::config) struct Hedge {
    /// Milliseconds without the head of an answer, 1 to 60000. Required. Little more than what nearly all answers take: then few requests are
    /// sent twice, and those are the ones that are stuck.
    pub(in crate::config) after_ms: Entry<i64>,
}
