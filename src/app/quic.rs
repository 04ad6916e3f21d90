//! Which listeners are answered over QUIC, and where: what a reload opens and closes of UDP.
//!
//! A UDP socket is told apart from its listener's TCP sockets: it stays for as long as the listener keeps its name and its address,
//! whatever else changes, because established connections live on it.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};

use crate::config::Listener;
use crate::listen::{BindError, QuicSocket, bind_quic};

/// Where listeners are bound over TCP and, those that want it, over UDP.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    tcp: HashMap<Box<str>, SocketAddr>,
    udp: HashMap<Box<str>, SocketAddr>,
    /// Nothing is bound over UDP.
    held: bool,
}

/// What a new configuration changes, bound and not yet in use.
pub(super) struct Change {
    next: Addresses,
    /// A listener's name and its sockets, one for each worker.
    pub(super) opened: Vec<(Box<str>, Vec<QuicSocket>)>,
    /// Names of listeners.
    pub(super) closed: Vec<Box<str>>,
}

impl Addresses {
    /// Binds nothing over UDP until it is released: another process answers there, and two that share an address get each other's
    /// datagrams.
    pub(super) fn held(held: bool) -> Self {
        Self { held, ..Self::default() }
    }

    /// The next change may bind over UDP.
    pub(super) fn release(&mut self) {
        self.held = false;
    }

    /// Binds what `listeners` want in addition. `bound` are the TCP sockets that are new with them.
    pub(super) fn change(
        &self,
        listeners: &[Listener],
        bound: &[(Box<str>, Vec<TcpListener>)],
        workers: usize,
    ) -> Result<Change, BindError> {
        let mut next = Self::held(self.held);
        let mut opened = Vec::new();
        for listener in listeners {
            let name = &listener.listen.name;
            let fresh = bound.iter().find(|(new, _)| new == name);
            let fresh = fresh.and_then(|(_, sockets)| sockets.first()?.local_addr().ok());
            let address = fresh.or(self.tcp.get(name).copied()).unwrap_or(listener.listen.address);
            next.tcp.insert(name.clone(), address);
            if self.held || listener.http3.is_none() {
                continue;
            }
            next.udp.insert(name.clone(), address);
            if self.udp.get(name) != Some(&address) {
                opened.push((name.clone(), bind_quic(&listener.listen, address, workers)?));
            }
        }
        let gone = self.udp.iter().filter(|(name, address)| next.udp.get(*name) != Some(address));
        let closed = gone.map(|(name, _)| name.clone()).collect();
        Ok(Change { next, opened, closed })
    }

    /// The change has been made.
    pub(super) fn changed(&mut self, change: &mut Change) {
        *self = std::mem::take(&mut change.next);
    }

    /// The port at which clients of `listener` find HTTP/3, if they do.
    pub(super) fn http3_port(&self, listener: &Listener) -> Option<u16> {
        let bound = self.udp.get(&listener.listen.name)?;
        Some(listener.http3?.port.unwrap_or(bound.port()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Http3;
    use crate::listen::{ListenSettings, Relays, bind_all};

    fn listener(name: &str, http3: Option<Http3>) -> Listener {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listen = ListenSettings { name: name.into(), address, backlog: 16 };
        Listener { listen, tls: None, redirect_to_https: None, hsts: None, relays: Relays::default(), http3 }
    }

    const ON: Option<Http3> = Some(Http3 { port: None });

    fn names<T>(changed: &[(Box<str>, T)]) -> Vec<&str> {
        changed.iter().map(|(name, _)| &**name).collect()
    }

    #[test]
    fn a_reload_opens_and_closes_what_changed_and_nothing_else() {
        let mut addresses = Addresses::default();
        let first = [listener("a", ON), listener("b", None)];
        let bound: Vec<_> =
            first.iter().map(|one| (one.listen.name.clone(), bind_all(&one.listen, 2).unwrap())).collect();
        let port = |name: usize| bound[name].1[0].local_addr().unwrap().port();
        let mut change = addresses.change(&first, &bound, 2).unwrap();
        assert_eq!((names(&change.opened), change.closed.len()), (vec!["a"], 0));
        assert_eq!(change.opened[0].1.len(), 2);
        addresses.changed(&mut change);
        assert_eq!(addresses.http3_port(&first[0]), Some(port(0)), "the port that TCP was given");
        assert_eq!(addresses.http3_port(&first[1]), None);

        let mut same = addresses.change(&first, &[], 2).unwrap();
        assert!(same.opened.is_empty() && same.closed.is_empty());
        addresses.changed(&mut same);

        let second = [listener("a", None), listener("b", Some(Http3 { port: Some(443) }))];
        let mut change = addresses.change(&second, &[], 2).unwrap();
        assert_eq!((names(&change.opened), &*change.closed), (vec!["b"], &["a".into()][..]));
        addresses.changed(&mut change);
        assert_eq!((addresses.http3_port(&second[0]), addresses.http3_port(&second[1])), (None, Some(443)));

        let moved = [(Box::from("b"), bind_all(&second[1].listen, 1).unwrap())];
        let change = addresses.change(&second, &moved, 2).unwrap();
        assert_eq!((names(&change.opened), &*change.closed), (vec!["b"], &["b".into()][..]));
    }

    #[test]
    fn while_another_process_answers_nothing_is_bound_or_told_of() {
        let mut addresses = Addresses::held(true);
        let listeners = [listener("a", ON)];
        let bound = vec![(Box::from("a"), bind_all(&listeners[0].listen, 1).unwrap())];
        let mut change = addresses.change(&listeners, &bound, 1).unwrap();
        assert!(change.opened.is_empty());
        addresses.changed(&mut change);
        let mut reload = addresses.change(&listeners, &[], 1).unwrap();
        assert!(reload.opened.is_empty());
        addresses.changed(&mut reload);
        assert_eq!(addresses.http3_port(&listeners[0]), None);

        addresses.release();
        let mut change = addresses.change(&listeners, &[], 1).unwrap();
        assert_eq!(names(&change.opened), ["a"]);
        addresses.changed(&mut change);
        assert_eq!(addresses.http3_port(&listeners[0]), Some(bound[0].1[0].local_addr().unwrap().port()));
    }
}
