//! What one client may take of what all share: connections, and the work of handshakes.
//!
//! Owns the count of each client's connections, the rates of handshakes, and how many are under way. A client is an IPv4 address, or an IPv6
//! network of 64 bits, which is what one line gets; behind one that is a trusted proxy there are many, so those have no bounds of their own.
//! Refuses to know what becomes of whoever is refused.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::client::ClientAddr;
use super::rate::{Rate, Rates};
use super::settings::GuardSettings;

/// Locks that counts are spread over, so that workers seldom meet.
const SHARDS: usize = 64;
/// Handshakes that may be under way at least, however few connections there may be.
const LEAST_SHAKING: usize = 64;

/// Judges who may come in. Clones share what they count, across workers and listeners.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Watch>);

#[derive(Debug)]
struct Watch {
    settings: ArcSwap<GuardSettings>,
    /// Open connections; a client that has none has no entry, so the limit on all connections bounds this too.
    seats: [Mutex<HashMap<Block, u32>>; SHARDS],
    spread: RandomState,
    shaking: AtomicUsize,
    most_shaking: usize,
    all: Rate,
    /// Made when the first bound is set.
    each: OnceLock<Rates>,
    begun: Instant,
}

/// Why a client may not come in now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It has as many connections open as it may.
    Connections,
    /// It has shaken hands as often of late as it may.
    Handshakes,
    /// So have all clients together.
    AllHandshakes,
    /// As many handshakes are under way as may be.
    HandshakesUnderWay,
}

/// Who counts as one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Block {
    V4(u32),
    V6(u64),
}

impl Block {
    fn of(client: ClientAddr) -> Self {
        match client.ip() {
            IpAddr::V4(ip) => Self::V4(ip.to_bits()),
            IpAddr::V6(ip) => Self::V6(u64::try_from(ip.to_bits() >> 64).unwrap_or_default()),
        }
    }
}

impl Guard {
    /// Bounds clients as `settings` say, of a process that holds `connections`: half of those may be in the middle of a handshake.
    pub fn new(settings: GuardSettings, connections: usize) -> Self {
        Self(Arc::new(Watch {
            settings: ArcSwap::from_pointee(settings),
            seats: std::array::from_fn(|_| Mutex::default()),
            spread: RandomState::new(),
            shaking: AtomicUsize::new(0),
            most_shaking: (connections / 2).max(LEAST_SHAKING),
            all: Rate::default(),
            each: OnceLock::new(),
            begun: Instant::now(),
        }))
    }

    /// From now on `settings` hold, for whoever comes next.
    pub fn change(&self, settings: GuardSettings) {
        self.0.settings.store(Arc::new(settings));
    }

    /// A seat for one connection of `client`.
    pub fn enter(&self, client: ClientAddr) -> Result<Seat, Refusal> {
        let settings = self.0.settings.load();
        if settings.is_exempt(client) {
            return Ok(Seat(None));
        }
        let block = Block::of(client);
        let most = settings.connections.checked_sub(1); // 0 is no bound
        let mut seats = self.0.seats_of(block);
        let taken = seats.entry(block).or_insert(0);
        if most.is_some_and(|most| *taken > most) {
            return Err(Refusal::Connections); // it has an entry already: no bound is below 1
        }
        *taken += 1;
        drop(seats);
        Ok(Seat(Some((block, Arc::clone(&self.0)))))
    }

    /// Lets `client` begin a handshake, which counts as under way until what is returned is dropped.
    pub fn shake(&self, client: ClientAddr) -> Result<Shaking, Refusal> {
        let watch = &self.0;
        let shaking = Shaking::begin(watch).ok_or(Refusal::HandshakesUnderWay)?;
        let settings = watch.settings.load();
        let now = watch.begun.elapsed();
        // Each before all: who is over its own bound takes nothing from the others.
        if settings.handshakes_each != 0 && !settings.is_exempt(client) {
            let rates = watch.each.get_or_init(Rates::default);
            if !rates.admits(&Block::of(client), settings.handshakes_each, now) {
                return Err(Refusal::Handshakes);
            }
        }
        if settings.handshakes_all != 0 && !watch.all.admits(settings.handshakes_all, now) {
            return Err(Refusal::AllHandshakes);
        }
        Ok(shaking)
    }

    /// Whether it matters if `client` really has its address: so many handshakes were begun in its name that they may be another's.
    pub(super) fn doubts(&self, client: ClientAddr) -> bool {
        let watch = &self.0;
        watch.settings.load().handshakes_each != 0
            && watch.each.get().is_some_and(|rates| rates.is_half_spent(&Block::of(client), watch.begun.elapsed()))
    }

    /// Clients that have connections open, trusted proxies not counted.
    pub fn clients(&self) -> usize {
        self.0.seats.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Handshakes under way.
    pub fn handshakes(&self) -> usize {
        self.0.shaking.load(Ordering::Relaxed)
    }
}

impl Watch {
    fn seats_of(&self, block: Block) -> MutexGuard<'_, HashMap<Block, u32>> {
        let shard = self.spread.hash_one(block) % SHARDS as u64;
        let shard = &self.seats[usize::try_from(shard).unwrap_or_default()];
        shard.lock().unwrap_or_else(PoisonError::into_inner) // a count is whole between any two steps
    }
}

/// One connection's place among its client's, free again when dropped. Keep it for as long as the connection.
#[derive(Debug)]
pub struct Seat(Option<(Block, Arc<Watch>)>);

impl Drop for Seat {
    fn drop(&mut self) {
        let Some((block, watch)) = &self.0 else { return };
        let mut seats = watch.seats_of(*block);
        if let Entry::Occupied(mut taken) = seats.entry(*block) {
            *taken.get_mut() -= 1;
            if *taken.get() == 0 {
                taken.remove();
            }
        }
    }
}

/// One handshake under way, until it is dropped.
#[derive(Debug)]
pub struct Shaking(Arc<Watch>);

impl Shaking {
    fn begin(watch: &Arc<Watch>) -> Option<Self> {
        // Counted before it is judged, so that nobody slips in between; what is over is given back at once.
        let shaking = Self(Arc::clone(watch));
        (watch.shaking.fetch_add(1, Ordering::Relaxed) < watch.most_shaking).then_some(shaking)
    }
}

impl Drop for Shaking {
    fn drop(&mut self) {
        self.0.shaking.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn client(address: &str) -> ClientAddr {
        ClientAddr::of_peer(format!("{address}:1").parse().unwrap())
    }

    fn settings(connections: u32) -> GuardSettings {
        GuardSettings { connections, ..GuardSettings::default() }
    }

    #[test]
    fn one_address_over_its_bound_is_refused_and_others_are_not() {
        let guard = Guard::new(settings(2), 100);
        let (one, other) = (client("192.0.2.1"), client("192.0.2.2"));
        let seats = [guard.enter(one).unwrap(), guard.enter(one).unwrap()];
        assert_eq!(guard.enter(one).unwrap_err(), Refusal::Connections);
        let others = guard.enter(other).unwrap();
        assert_eq!(guard.clients(), 2);
        drop(seats);
        assert!(guard.enter(one).is_ok(), "there is room again");
        drop(others);
        assert_eq!(guard.clients(), 0, "nothing is remembered of who has left");
    }

    #[test]
    fn a_network_of_64_bits_is_one_client_and_a_mapped_address_is_an_ipv4_client() {
        let guard = Guard::new(settings(1), 100);
        let _seats = [guard.enter(client("[2001:db8:0:1::1]")).unwrap(), guard.enter(client("192.0.2.1")).unwrap()];
        assert!(guard.enter(client("[2001:db8:0:1:ffff::2]")).is_err());
        assert!(guard.enter(client("[::ffff:192.0.2.1]")).is_err());
        assert!(guard.enter(client("[2001:db8:0:2::1]")).is_ok());
    }

    #[test]
    fn trusted_proxies_have_no_bounds_of_their_own_but_count_among_all() {
        let exempt = vec!["10.0.0.0/8".parse().unwrap()];
        let settings = GuardSettings { connections: 1, handshakes_each: 1, handshakes_all: 5, exempt };
        let guard = Guard::new(settings, 100);
        let proxy = client("10.1.2.3");
        let _seats: Vec<_> = (0..10).map(|_| guard.enter(proxy).unwrap()).collect();
        assert_eq!((0..10).take_while(|_| guard.shake(proxy).is_ok()).count(), 5);
        assert_eq!(guard.shake(proxy).unwrap_err(), Refusal::AllHandshakes);
        assert_eq!(guard.clients(), 0);
    }

    #[test]
    fn a_changed_bound_counts_those_who_came_before_it() {
        let guard = Guard::new(settings(0), 100);
        let one = client("192.0.2.1");
        let mut seats: Vec<_> = (0..10).map(|_| guard.enter(one).unwrap()).collect();
        guard.change(settings(9));
        assert!(guard.enter(one).is_err());
        seats.truncate(8);
        let _ninth = guard.enter(one).unwrap();
        assert!(guard.enter(one).is_err());
        guard.change(settings(0));
        assert!(guard.enter(one).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn handshakes_have_a_rate_for_each_client_and_one_for_all() {
        let guard = Guard::new(GuardSettings { handshakes_each: 3, handshakes_all: 5, ..settings(0) }, 100);
        let (one, other) = (client("192.0.2.1"), client("192.0.2.2"));
        let begun = |client| (0..10).flat_map(|_| guard.shake(client)).count();
        assert!(!guard.doubts(one));
        assert_eq!((begun(one), begun(other)), (3, 2));
        assert!(guard.doubts(one));
        assert_eq!(guard.shake(one).unwrap_err(), Refusal::Handshakes);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!guard.doubts(one));
        assert_eq!((begun(other), begun(one)), (3, 2));
        assert_eq!(guard.handshakes(), 0);
    }

    #[test]
    fn half_of_the_connections_may_be_in_the_middle_of_a_handshake() {
        let guard = Guard::new(settings(0), 200);
        let one = client("192.0.2.1");
        let mut under_way: Vec<_> = (0..100).map(|_| guard.shake(one).unwrap()).collect();
        assert_eq!(guard.shake(one).unwrap_err(), Refusal::HandshakesUnderWay);
        under_way.pop();
        assert!(guard.shake(one).is_ok());
        drop(under_way);
        assert_eq!(guard.handshakes(), 0);
    }

    #[test]
    fn counts_are_exact_however_many_threads_come_and_go() {
        let guard = Guard::new(settings(10), 1000);
        std::thread::scope(|scope| {
            for number in 0..4 {
                let guard = guard.clone();
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let seat = guard.enter(client(&format!("192.0.2.{}", (number + round) % 3)));
                        drop((seat, guard.shake(client("192.0.2.9"))));
                    }
                });
            }
        });
        assert_eq!((guard.clients(), guard.handshakes()), (0, 0));
    }
}
