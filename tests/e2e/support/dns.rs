//! A server of names that says what it is told to say, over UDP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// One record, without its name.
#[derive(Debug, Clone)]
pub struct Record {
    ttl: u32,
    kind: u16,
    data: Vec<u8>,
}

impl Record {
    pub fn address(ip: IpAddr, ttl: u32) -> Self {
        match ip {
            IpAddr::V4(ip) => Self { ttl, kind: 1, data: ip.octets().to_vec() },
            IpAddr::V6(ip) => Self { ttl, kind: 28, data: ip.octets().to_vec() },
        }
    }

    pub fn service(priority: u16, weight: u16, port: u16, host: &str) -> Self {
        let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
        Self { ttl: 0, kind: 33, data: [numbers, labels(host)].concat() }
    }
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Answering,
    /// It says that it can't say.
    Failing,
    /// It says nothing.
    Silent,
}

/// The server; it ends with the test.
pub struct Dns {
    pub address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    answering: JoinHandle<()>,
}

struct Zone {
    records: HashMap<String, Vec<Record>>,
    mood: Mood,
}

impl Dns {
    pub async fn start(mood: Mood) -> Self {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::new(Mutex::new(Zone { records: HashMap::new(), mood }));
        let known = Arc::clone(&zone);
        let answering = tokio::spawn(async move {
            let mut query = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut query).await {
                let answer = known.lock().unwrap().answer(&query[..length]);
                if let Some(answer) = answer {
                    socket.send_to(&answer, peer).await.ok();
                }
            }
        });
        Self { address, zone, answering }
    }

    /// Keys of `[dns]` that ask this server, often.
    pub fn table(&self) -> String {
        format!("[dns]\nservers = [\"{}\"]\ntimeout_secs = 1\nmin_ttl_secs = 0.1\n", self.address)
    }

    /// From now on the name has these records and no others.
    pub fn say(&self, name: &str, records: impl IntoIterator<Item = Record>) {
        self.zone.lock().unwrap().records.insert(name.to_owned(), records.into_iter().collect());
    }

    /// From now on the name has addresses 127.0.0.N for these N, which may be remembered for no time.
    pub fn say_local(&self, name: &str, last: &[u8]) {
        let address = |last: &u8| Record::address(Ipv4Addr::new(127, 0, 0, *last).into(), 0);
        self.say(name, last.iter().map(address));
    }

    pub fn be(&self, mood: Mood) {
        self.zone.lock().unwrap().mood = mood;
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

impl Zone {
    /// The answer to a question with one name, as RFC 1035 section 4 has it.
    fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        let (mut name, mut at) = (Vec::new(), 12);
        while query[at] > 0 {
            let end = at + 1 + usize::from(query[at]);
            name.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
            at = end;
        }
        let (name, kind) = (name.join("."), u16::from_be_bytes([query[at + 1], query[at + 2]]));
        let found = self.records.get(&name);
        let (code, records) = match (self.mood, found) {
            (Mood::Silent, _) => return None,
            (Mood::Failing, _) => (2, Vec::new()),
            (Mood::Answering, None) => (3, Vec::new()),
            (Mood::Answering, Some(all)) => (0, all.iter().filter(|record| record.kind == kind).collect()),
        };
        let count = u16::try_from(records.len()).unwrap().to_be_bytes();
        let mut answer = [&query[..2], &[0x81, 0x80 | code, 0, 1], &count, &[0; 4], &query[12..at + 5]].concat();
        for record in records {
            answer.extend([0xc0, 12]);
            answer.extend(record.kind.to_be_bytes());
            answer.extend([0, 1]);
            answer.extend(record.ttl.to_be_bytes());
            answer.extend(u16::try_from(record.data.len()).unwrap().to_be_bytes());
            answer.extend(&record.data);
        }
        Some(answer)
    }
}

fn labels(name: &str) -> Vec<u8> {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    let mut labels = name.split('.').map(label).collect::<Vec<_>>().concat();
    labels.push(0);
    labels
}
