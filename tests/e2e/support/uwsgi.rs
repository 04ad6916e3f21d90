//! Origins that speak uwsgi by the letter: a second opinion on the packet.

use std::sync::{Arc, Mutex};

use super::gateway::Setup;
use super::origin::{Conn, Origin};

/// One request as it was told.
#[derive(Debug, Clone, Default)]
pub struct Call {
    pub variables: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Call {
    /// The next packet on a connection, without the body.
    pub async fn read(conn: &mut Conn) -> Option<Self> {
        let head = conn.wire.exactly(4).await.ok()?;
        assert_eq!((head[0], head[3]), (0, 0), "modifiers of a request for an application");
        let packet = conn.wire.exactly(usize::from(u16::from_le_bytes([head[1], head[2]]))).await.ok()?;
        let (mut rest, mut call) = (&packet[..], Self::default());
        while !rest.is_empty() {
            let (name, value);
            (name, rest) = text(rest);
            (value, rest) = text(rest);
            call.variables.push((String::from_utf8(name.to_vec()).unwrap(), value.to_vec()));
        }
        Some(call)
    }

    /// The body, as long as the packet says.
    pub async fn read_body(&mut self, conn: &mut Conn) -> Option<()> {
        self.body = conn.wire.exactly(self.length()).await.ok()?;
        Some(())
    }

    /// The one value of a variable.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name).map(|value| std::str::from_utf8(value).unwrap())
    }

    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let same: Vec<_> = self.variables.iter().filter(|(known, _)| known == name).collect();
        assert!(same.len() <= 1, "{name} is there more than once: {self:?}");
        same.first().map(|(_, value)| value.as_slice())
    }

    pub fn length(&self) -> usize {
        match self.text("CONTENT_LENGTH").expect("a length is always told") {
            "" => 0,
            length => length.parse().unwrap(),
        }
    }
}

fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let length = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    bytes[2..].split_at(length)
}

/// An origin that writes down what it is told.
pub struct UwsgiOrigin {
    pub origin: Origin,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl UwsgiOrigin {
    /// Reads each request whole, answers it and closes.
    pub async fn answering(answer: impl Fn(&Call) -> String + Send + Sync + 'static) -> Self {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let (log, answer) = (Arc::clone(&calls), Arc::new(answer));
        let origin = Origin::start(move |mut conn| {
            let (log, answer) = (Arc::clone(&log), Arc::clone(&answer));
            async move {
                let Some(mut call) = Call::read(&mut conn).await else { return };
                if call.read_body(&mut conn).await.is_some() {
                    let text = answer(&call);
                    log.lock().unwrap().push(call);
                    conn.send(text).await;
                }
            }
        })
        .await;
        Self { origin, calls }
    }

    /// Answers as most applications do, with the length of the body that came, and closes.
    pub async fn start() -> Self {
        let answer = |call: &Call| {
            let text = format!("{} bytes", call.body.len());
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
        };
        Self::answering(answer).await
    }

    /// A gateway before it.
    pub fn setup(&self) -> Setup {
        before(&self.origin)
    }

    /// Every request that came whole.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The last of them.
    pub fn last(&self) -> Call {
        self.calls().pop().expect("a request")
    }
}

/// A gateway before an origin whose script speaks uwsgi.
pub fn before(origin: &Origin) -> Setup {
    Setup::endpoints([format!("uwsgi://{}", origin.address)]).upstream("kind = \"uwsgi\"")
}
