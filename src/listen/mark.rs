//! Connection IDs that say which worker a connection lives on, to this process and nobody else.
//!
//! A client that changes its address (RFC 9000 section 9) is dealt to any of the workers by the kernel, which hashes addresses. So each
//! connection ID carries its worker's number, masked with a keyed hash of its random part: an observer can't tell two IDs of one
//! connection from those of two (RFC 9000 section 5.1), nor one worker's from another's.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use quinn::{ConnectionId, ConnectionIdGenerator};

/// Bytes by which two IDs differ, and bytes that are checked.
const RANDOM: usize = 8;
const CHECKED: usize = 4;
const LENGTH: usize = RANDOM + CHECKED;

/// Writes and reads the IDs of all workers on one address.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks(Arc<RandomState>);

impl Marks {
    /// The mask of a number, and in its upper half a check that the ID is ours.
    fn mask(&self, random: [u8; RANDOM]) -> u32 {
        let [.., a, b, c, d] = self.0.hash_one(random).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    fn id(&self, random: [u8; RANDOM], worker: u16) -> [u8; LENGTH] {
        let mut id = [0; LENGTH];
        id[..RANDOM].copy_from_slice(&random);
        id[RANDOM..].copy_from_slice(&(self.mask(random) ^ u32::from(worker)).to_be_bytes());
        id
    }

    /// Which worker made the ID, if one of this process did. One in 65,536 made-up IDs is taken for one.
    pub(super) fn worker(&self, id: &[u8]) -> Option<usize> {
        let (random, rest) = id.split_first_chunk::<RANDOM>()?;
        let number = self.mask(*random) ^ u32::from_be_bytes(rest.try_into().ok()?);
        u16::try_from(number).ok().map(usize::from)
    }

    /// Which worker a datagram is for: only those of established connections are told apart (RFC 9000 section 17.3.1), because no
    /// client changes its address before.
    pub(super) fn worker_of_datagram(&self, datagram: &[u8]) -> Option<usize> {
        match datagram.split_first()? {
            (first, rest) if first & 0x80 == 0 => self.worker(rest.get(..LENGTH)?),
            _ => None,
        }
    }
}

/// Makes the IDs of one worker.
#[derive(Debug)]
pub(super) struct Generator {
    pub(super) marks: Marks,
    pub(super) worker: u16,
}

impl ConnectionIdGenerator for Generator {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut random = [0; RANDOM];
        rand::fill(&mut random).expect("the system has random numbers, or TLS would not work either");
        ConnectionId::new(&self.marks.id(random, self.worker))
    }

    fn cid_len(&self) -> usize {
        LENGTH
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_whose_it_is_to_who_has_the_key() {
        let marks = Marks::default();
        for worker in [0, 1, 7, 1023, u16::MAX] {
            let mut generator = Generator { marks: marks.clone(), worker };
            let (one, other) = (generator.generate_cid(), generator.generate_cid());
            assert_ne!(one, other);
            for id in [one, other] {
                assert_eq!(marks.worker(&id), Some(usize::from(worker)));
            }
        }
    }

    #[test]
    fn ids_of_others_are_nobodys() {
        let (ours, theirs) = (Marks::default(), Marks::default());
        let strangers = (0..1000u64).map(|number| theirs.id(number.to_be_bytes(), 3));
        // One in 65,536 passes: that of a thousand three do, is one in a million million.
        assert!(strangers.filter(|id| ours.worker(id).is_some()).count() < 3);
        assert_eq!(ours.worker(&[0; 11]), None);
        assert_eq!(ours.worker(&[0; 13]), None);
    }

    #[test]
    fn only_datagrams_of_established_connections_are_told_apart() {
        let marks = Marks::default();
        let id = marks.id([7; 8], 5);
        let datagram = |first: u8, id: &[u8]| [&[first], id, b"protected"].concat();
        assert_eq!(marks.worker_of_datagram(&datagram(0x40, &id)), Some(5));
        assert_eq!(marks.worker_of_datagram(&datagram(0xc0, &id)), None, "a handshake");
        assert_eq!(marks.worker_of_datagram(&datagram(0x40, &id[..3])), None);
        assert_eq!(marks.worker_of_datagram(&[]), None);
    }
}
