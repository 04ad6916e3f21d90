//! What gateways tell each other of revocations: taking in what another has revoked, and giving out what this one knows.
//!
//! What was taken in is kept as what was revoked here is: in force until it expires, in the journal if there is one. Who it came from, and whether
//! that can be asked again, makes no difference.

use super::journal::{Change, Journal};
use super::{Added, DenyList, Desk, Entry, Index, UnixSeconds, lock};

/// What became of what another gateway said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Learned {
    /// Entries that deny more than was denied before.
    pub news: usize,
    /// Entries for which there was no room.
    pub refused: usize,
}

impl DenyList {
    /// Takes in what other gateways have revoked. It is in force when this returns, whatever becomes of the disk. Without `shared` nothing is
    /// taken.
    pub fn learn(&self, entries: Vec<Entry>, now: UnixSeconds) -> Learned {
        let mut desk = lock(&self.desk);
        if !desk.shared {
            return Learned::default();
        }
        if self.len() + entries.len() > desk.bound {
            self.sweep(&mut desk, now);
        }
        let before = self.from_journal.load_full();
        let (mut after, mut news, mut refused) = (Index::clone(&before), Vec::new(), 0);
        let room = desk.bound.saturating_sub(self.from_file.load().len());
        for entry in entries.into_iter().filter(|entry| entry.holds_at(now)) {
            match after.joined(entry) {
                (_, Added::Known) => {}
                (_, Added::New) if after.len() >= room => refused += 1,
                (joined, _) => {
                    after.put(joined.clone());
                    news.push(joined);
                }
            }
        }
        if !news.is_empty() {
            desk.keep(&news, &before, &after);
            self.publish(&self.from_journal, after);
        }
        Learned { news: news.len(), refused }
    }

    /// What this gateway has revoked or taken in, and still denies. What stands in the watched file is its writer's to share.
    pub fn known(&self, now: UnixSeconds) -> Vec<Entry> {
        self.from_journal.load().oldest_first().filter(|entry| entry.holds_at(now)).cloned().collect()
    }

    /// Keeps what is known over a change of the journal, as long as it is shared.
    pub(super) fn carried(&self, journal: Option<&mut Journal>, index: &Index) -> Index {
        let mut after = index.clone();
        let known = self.from_journal.load_full();
        let carried: Vec<_> =
            known.oldest_first().filter(|entry| after.put((*entry).clone()) != Added::Known).collect();
        if let Some(journal) = journal
            && let Err(error) = journal.append_all(carried.into_iter().map(Change::Add), index)
        {
            tracing::error!(%error, "cannot keep in the new journal what was revoked: it is in force until a restart");
        }
        after
    }
}

impl Desk {
    fn keep(&mut self, news: &[Entry], before: &Index, after: &Index) {
        let Some(journal) = &mut self.journal else { return };
        let kept = journal.append_all(news.iter().map(Change::Add), before);
        let kept = kept.and_then(|()| if journal.has_doubled() { journal.compact_or_say(after) } else { Ok(()) });
        if let Err(error) = kept {
            tracing::error!(%error, "cannot keep in the journal what was revoked elsewhere: it is in force all the same");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::super::{RevocationSettings, RevokeError, Revoked};
    use super::*;

    fn now() -> UnixSeconds {
        UnixSeconds::from_secs(1_000_000)
    }

    fn settings(home: &Path, journal: Option<&str>) -> RevocationSettings {
        let journal = journal.map(|name| home.join(name));
        RevocationSettings { file: None, journal, shared: true, entries: 5, issuers: vec!["a".into()] }
    }

    fn jti(jti: &str, until: Option<u64>) -> Entry {
        Entry { revoked: Revoked::Jti { jti: jti.into(), issuer: None }, until }
    }

    fn change(list: &DenyList, settings: &RevocationSettings) {
        list.apply(list.prepare(Some(settings), now()).unwrap());
    }

    #[test]
    fn what_was_learned_is_kept_with_or_without_a_journal_and_over_a_change_of_it() {
        let home = tempfile::tempdir().unwrap();
        let list = DenyList::open(&settings(home.path(), None), now()).unwrap();
        list.add(jti("own", None), now()).unwrap();
        let learned = list.learn(vec![jti("a", None), jti("b", Some(2_000_000)), jti("old", Some(5))], now());
        assert_eq!(learned, Learned { news: 2, refused: 0 });
        assert_eq!(list.learn(vec![jti("a", None), jti("b", Some(1_500_000))], now()), Learned::default());
        assert_eq!(list.known(now()).len(), 3);
        for journal in [Some("one"), Some("two"), None, Some("one")] {
            change(&list, &settings(home.path(), journal));
            assert_eq!(list.known(now()).len(), 3, "{journal:?}");
        }
        assert_eq!(list.learn(vec![jti("c", None)], now()).news, 1);
        drop(list);
        let again = DenyList::open(&settings(home.path(), Some("one")), now()).unwrap();
        assert_eq!(again.known(now()).len(), 4);
        change(&again, &RevocationSettings { shared: false, ..settings(home.path(), Some("one")) });
        assert_eq!(again.learn(vec![jti("d", None)], now()), Learned::default());
        assert_eq!(again.len(), 4);
    }

    #[test]
    fn there_is_room_for_so_many_and_what_has_expired_makes_room() {
        let home = tempfile::tempdir().unwrap();
        let list = DenyList::open(&settings(home.path(), None), now()).unwrap();
        let names = ["a", "b", "c", "d", "e", "f", "g"];
        let of = |until| names.iter().map(|name| jti(name, Some(until))).collect::<Vec<_>>();
        assert_eq!(list.learn(of(1_000_100), now()), Learned { news: 5, refused: 2 });
        assert!(matches!(list.add(jti("own", None), now()), Err(RevokeError::Full(5))));
        let later = UnixSeconds::from_secs(1_001_000);
        assert_eq!(list.learn(vec![jti("new", None)], later), Learned { news: 1, refused: 0 });
        assert_eq!(list.len(), 1);
    }
}
