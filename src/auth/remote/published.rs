//! A key set as it was fetched or found on disk, with its age.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::Value;
use tokio::time::Instant;

use super::super::jwks::{self, Member, Origin};
use super::super::material::BadKey;

/// What one body says: its usable keys, and complaints about others.
pub(super) struct KeySet {
    /// The members as they were published, for the copy on disk.
    pub(super) entries: Value,
    pub(super) version: u64,
    pub(super) members: Vec<Member>,
    pub(super) complaints: Vec<BadKey>,
}

impl KeySet {
    /// Reads a body. A set in which nothing can be used is refused: it must not replace one in which something can.
    pub(super) fn read(body: &[u8]) -> Result<Self, BadKey> {
        let entries = jwks::entries(body)?;
        let (members, complaints) = jwks::sort(&entries, Origin::Url);
        if members.is_empty() {
            let first = entries.first().and_then(|entry| jwks::judge(entry, Origin::Url).err());
            let why = first.map(|unused| format!("; of the first, {}", unused.reason())).unwrap_or_default();
            return Err(BadKey::new(
                format!("none of its {} keys can be used here{why}", entries.len()),
                "have the issuer publish its signing keys",
            ));
        }
        let entries = Value::Array(entries);
        Ok(Self { version: version(&entries), entries, members, complaints })
    }
}

/// The members in their order, without regard to white space. A hash and not a count: the same keys have the same version in
/// the next process, and in a set that a reload made anew, so that nothing judged with other keys passes for judged with these.
fn version(entries: &Value) -> u64 {
    let hash = digest::digest(&digest::SHA256, entries.to_string().as_bytes());
    hash.as_ref().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The usable keys of an issuer, at one moment.
pub struct Published {
    /// Changes whenever the published members change, and never otherwise: equal versions mean equal keys.
    pub version: u64,
    pub(in crate::auth) members: Arc<[Member]>,
    taken_at: Instant,
    age_then: Duration,
    lifetime: Duration,
}

impl Published {
    /// A set that was `age` old at `now` and is fresh for `lifetime` in all.
    pub(super) fn new(version: u64, members: Arc<[Member]>, now: Instant, age: Duration, lifetime: Duration) -> Self {
        Self { version, members, taken_at: now, age_then: age, lifetime }
    }

    /// How long ago the issuer said so.
    pub fn age(&self) -> Duration {
        self.age_then.saturating_add(self.taken_at.elapsed())
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.members.len()
    }

    /// Whether it should have been fetched again by now.
    pub(super) fn is_stale(&self) -> bool {
        self.age() > self.lifetime
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Published")
            .field("version", &self.version)
            .field("keys", &self.members.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::super::fixtures;
    use super::*;

    fn version_of(body: &str) -> u64 {
        KeySet::read(body.as_bytes()).unwrap().version
    }

    #[test]
    fn a_version_changes_with_the_members_and_with_nothing_else() {
        let (a, b) = (fixtures::ec256().jwk("a"), fixtures::ed().jwk("b"));
        let set = json!({"keys": [a, b]});
        let version = version_of(&set.to_string());
        assert_eq!(version, version_of(&format!("{set:#}")));
        assert_eq!(version, version_of(&json!({"keys": [a, b], "more": 1}).to_string()));
        for other in [json!({"keys": [a]}), json!({"keys": [b, a]}), json!({"keys": [fixtures::ec256().jwk("c"), b]})] {
            assert_ne!(version, version_of(&other.to_string()));
        }
    }

    #[test]
    fn a_set_without_a_usable_member_is_refused() {
        for body in [
            "",
            "<html>",
            "{}",
            r#"{"keys":[]}"#,
            r#"{"keys":[{"kty":"AKP"}]}"#,
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
        ] {
            assert!(KeySet::read(body.as_bytes()).is_err(), "{body}");
        }
    }
}
