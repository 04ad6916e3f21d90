//! UDP sockets: one for each worker on one address (`SO_REUSEPORT`), and the hand-over between them.
//!
//! The kernel deals datagrams to the sockets by the addresses in them. So those of a client that has changed its address reach a worker
//! that does not know its connection; it hands them to the one that does ([`mark`](super::mark)), through a bounded box. What does not
//! fit is lost, as datagrams are. Refuses to know what is in them besides the connection ID.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use quinn::udp::{EcnCodepoint, RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime, UdpPoller};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep};

use super::bind::BindError;
use super::mark::{Generator, Marks};
use super::settings::ListenSettings;

/// Bytes the kernel may hold for one socket each way; it grants what `net.core.rmem_max` and `wmem_max` allow.
const KERNEL_BUFFER: usize = 2 * 1024 * 1024;
/// Datagrams that may wait for a worker in the hands of the others.
const HANDED_OVER: usize = 256;
/// How long nothing is read after the kernel could not hand over a datagram.
const REST: Duration = Duration::from_millis(100);

/// One worker's socket on an address that all of them have.
#[derive(Debug)]
pub struct QuicSocket {
    socket: UdpSocket,
    worker: u16,
    marks: Marks,
    inbox: mpsc::Receiver<Datagram>,
    boxes: Arc<[mpsc::Sender<Datagram>]>,
}

/// A datagram on its way from one worker to another.
#[derive(Debug)]
struct Datagram {
    from: SocketAddr,
    to: Option<IpAddr>,
    ecn: Option<EcnCodepoint>,
    bytes: Box<[u8]>,
}

/// Binds one socket for each of `workers` to `address`, which is where the listener's TCP sockets are bound. Port 0 is chosen by the
/// first and shared by all.
pub fn bind_quic(settings: &ListenSettings, address: SocketAddr, workers: usize) -> Result<Vec<QuicSocket>, BindError> {
    let failed = |source| BindError::new(&ListenSettings { address, ..settings.clone() }, source);
    let (boxes, inboxes): (Vec<_>, Vec<_>) = (0..workers).map(|_| mpsc::channel(HANDED_OVER)).unzip();
    let (boxes, marks): (Arc<[_]>, _) = (boxes.into(), Marks::default());
    let mut bound = address;
    let bind_one = |(worker, inbox)| {
        let socket = bind(bound).map_err(failed)?;
        bound = socket.local_addr().map_err(failed)?;
        Ok(QuicSocket { socket, worker, marks: marks.clone(), inbox, boxes: Arc::clone(&boxes) })
    };
    (0..u16::MAX).zip(inboxes).map(bind_one).collect()
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // A burst that does not fit is lost and sent again; the kernel grants what it is allowed to.
    socket.set_recv_buffer_size(KERNEL_BUFFER)?;
    socket.set_send_buffer_size(KERNEL_BUFFER)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

impl QuicSocket {
    /// Makes the connection IDs that lead back to this socket.
    pub(super) fn ids(&self) -> impl Fn() -> Box<dyn quinn::ConnectionIdGenerator> + Send + Sync + 'static {
        let (marks, worker) = (self.marks.clone(), self.worker);
        move || Box::new(Generator { marks: marks.clone(), worker })
    }

    /// The socket on the current runtime. `on_failure` is called when the kernel can't hand over a datagram.
    pub(super) fn on_runtime(
        self,
        on_failure: impl Fn(&io::Error) + Send + Sync + 'static,
    ) -> io::Result<Arc<Crossing>> {
        Ok(Arc::new(Crossing {
            socket: TokioRuntime.wrap_udp_socket(self.socket)?,
            worker: usize::from(self.worker),
            marks: self.marks,
            inbox: Mutex::new(self.inbox),
            boxes: self.boxes,
            rest: Mutex::new(None),
            on_failure: Box::new(on_failure),
        }))
    }
}

/// A socket that keeps what is its worker's, and hands over what is not.
pub(super) struct Crossing {
    socket: Arc<dyn AsyncUdpSocket>,
    worker: usize,
    marks: Marks,
    inbox: Mutex<mpsc::Receiver<Datagram>>,
    boxes: Arc<[mpsc::Sender<Datagram>]>,
    /// Until when nothing is read.
    rest: Mutex<Option<Pin<Box<Sleep>>>>,
    on_failure: Box<dyn Fn(&io::Error) + Send + Sync>,
}

impl Crossing {
    /// A datagram that another worker received.
    fn poll_inbox(&self, cx: &mut Context<'_>, bytes: &mut [u8], meta: &mut RecvMeta) -> Poll<()> {
        let mut inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(datagram) = ready!(inbox.poll_recv(cx)) else { return Poll::Pending };
        let length = datagram.bytes.len().min(bytes.len());
        bytes[..length].copy_from_slice(&datagram.bytes[..length]);
        *meta = RecvMeta { addr: datagram.from, len: length, stride: length, ecn: datagram.ecn, dst_ip: datagram.to };
        Poll::Ready(())
    }

    /// Takes what is another worker's out of what was received at once from one address.
    fn hand_over(&self, bytes: &mut [u8], meta: &mut RecvMeta) {
        let (length, stride) = (meta.len, meta.stride.max(1));
        let is_foreign = |datagram: &[u8]| {
            let worker = self.marks.worker_of_datagram(datagram)?;
            (worker != self.worker && worker < self.boxes.len()).then_some(worker)
        };
        let mut kept = 0;
        for at in (0..length).step_by(stride) {
            let end = (at + stride).min(length);
            if let Some(worker) = is_foreign(&bytes[at..end]) {
                let (from, to, ecn) = (meta.addr, meta.dst_ip, meta.ecn);
                // Lost if the box is full: the client sends it again.
                self.boxes[worker].try_send(Datagram { from, to, ecn, bytes: bytes[at..end].into() }).ok();
            } else {
                if kept != at {
                    bytes.copy_within(at..end, kept);
                }
                kept += end - at;
            }
        }
        meta.len = kept;
    }

    fn poll_rested(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut rest = self.rest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sleep) = rest.as_mut() {
            ready!(sleep.as_mut().poll(cx));
            *rest = None;
        }
        Poll::Ready(())
    }
}

impl AsyncUdpSocket for Crossing {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    /// Never fails: an error would end all connections of the endpoint.
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        if let (Some(bytes), Some(meta)) = (bufs.first_mut(), meta.first_mut())
            && self.poll_inbox(cx, bytes, meta).is_ready()
        {
            return Poll::Ready(Ok(1));
        }
        loop {
            ready!(self.poll_rested(cx));
            match ready!(self.socket.poll_recv(cx, bufs, meta)) {
                Ok(count) => {
                    for (bytes, meta) in bufs.iter_mut().zip(meta).take(count) {
                        self.hand_over(bytes, meta);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) => {
                    (self.on_failure)(&error);
                    *self.rest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::pin(sleep(REST)));
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl fmt::Debug for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crossing").field("socket", &self.socket).field("worker", &self.worker).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn sockets(workers: usize) -> Vec<QuicSocket> {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let settings = ListenSettings { name: "https".into(), address, backlog: 16 };
        bind_quic(&settings, address, workers).unwrap()
    }

    /// What the next look at a socket brings: the datagrams, one by one.
    async fn received(socket: &Crossing) -> Vec<Vec<u8>> {
        let mut bytes = vec![0; 65_536];
        let mut meta = [RecvMeta::default()];
        let count = poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut bytes)], &mut meta)).await.unwrap();
        assert_eq!(count, 1);
        bytes[..meta[0].len].chunks(meta[0].stride.max(1)).map(<[u8]>::to_vec).collect()
    }

    fn datagram(socket: &QuicSocket, text: &[u8]) -> Vec<u8> {
        [&[0x40], &*socket.ids()().generate_cid(), text].concat()
    }

    #[test]
    fn all_workers_have_one_address_and_no_socket_blocks() {
        let sockets = sockets(3);
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.socket.local_addr().unwrap()).collect();
        assert!(addresses.iter().all(|address| *address == addresses[0]));
        assert_eq!(sockets[2].socket.recv(&mut [0; 10]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[tokio::test]
    async fn a_datagram_reaches_the_worker_whose_connection_it_is_of() {
        let sockets = sockets(2);
        let address = sockets[0].socket.local_addr().unwrap();
        let [for_first, for_second] = [&sockets[0], &sockets[1]].map(|socket| datagram(socket, b"protected"));
        let crossings: Vec<_> = sockets.into_iter().map(|socket| socket.on_runtime(|_| ()).unwrap()).collect();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        // Both are dealt to the same worker, because they come from one address; one of the two is handed over.
        for datagram in [&for_first, &for_second] {
            client.send_to(datagram, address).unwrap();
        }
        let mut arrived = [false; 2];
        let both = async {
            while arrived != [true; 2] {
                // Each goes on looking, for itself and for the other.
                tokio::select! {
                    at_first = received(&crossings[0]) => arrived[0] |= at_first.contains(&for_first),
                    at_second = received(&crossings[1]) => arrived[1] |= at_second.contains(&for_second),
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), both).await.expect("both arrive");
    }

    #[tokio::test]
    async fn of_datagrams_received_at_once_only_the_foreign_ones_are_taken_out() {
        let mut sockets = sockets(2);
        let (own, foreign) = (datagram(&sockets[0], b"own"), datagram(&sockets[1], b"not"));
        let mut other = sockets.remove(1);
        let crossing = sockets.remove(0).on_runtime(|_| ()).unwrap();
        let last = &own[..own.len() - 1]; // the last of a batch may be shorter
        for (batch, kept, handed) in [
            (vec![&own[..], &foreign, &own, last], vec![&own[..], &own, last], 1),
            (vec![&foreign[..], &foreign], vec![], 2),
            (vec![&own[..], last], vec![&own[..], last], 0),
        ] {
            let mut bytes = batch.concat();
            let mut meta = RecvMeta { len: bytes.len(), stride: own.len(), ..RecvMeta::default() };
            crossing.hand_over(&mut bytes, &mut meta);
            assert_eq!(bytes[..meta.len], kept.concat());
            for _ in 0..handed {
                assert_eq!(*other.inbox.try_recv().unwrap().bytes, *foreign);
            }
            assert!(other.inbox.try_recv().is_err());
        }
    }

    #[tokio::test]
    async fn a_full_box_loses_datagrams_and_holds_nobody_up() {
        let mut sockets = sockets(2);
        let foreign = datagram(&sockets[1], b"not");
        let other = sockets.remove(1);
        let crossing = sockets.remove(0).on_runtime(|_| ()).unwrap();
        for _ in 0..2 * HANDED_OVER {
            let mut bytes = foreign.clone();
            let mut meta = RecvMeta { len: bytes.len(), stride: bytes.len(), ..RecvMeta::default() };
            crossing.hand_over(&mut bytes, &mut meta);
            assert_eq!(meta.len, 0);
        }
        assert_eq!(other.inbox.len(), HANDED_OVER);
    }
}
