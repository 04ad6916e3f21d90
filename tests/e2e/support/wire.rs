//! One HTTP/1.1 connection read by the letter, from either end: a second opinion on framing, shared by clients and origins.

use std::io;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A byte stream of any kind.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A request or a response.
#[derive(Debug, Clone, Default)]
pub struct Message {
    /// The request line or the status line.
    pub start: String,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Trailer lines, as they came.
    pub trailers: String,
}

impl Message {
    /// The one value of a field; absent and repeated fields are told apart.
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} came {} times: {self:?}", all.len());
        all.first().copied()
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("{self:?}"))
    }

    /// The request target.
    pub fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Whether the sender will close after this message.
    pub fn closes(&self) -> bool {
        self.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// A buffered connection.
pub struct Wire {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    /// Where every byte that is read is written down.
    tap: Option<Arc<Mutex<Vec<u8>>>>,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    Close,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn cut() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the message broke off")
}

impl Wire {
    pub fn new(stream: impl Stream + 'static, tap: Option<Arc<Mutex<Vec<u8>>>>) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new(), tap }
    }

    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads once; 0 at the end.
    pub async fn fill(&mut self) -> io::Result<usize> {
        let from = self.buffer.len();
        self.buffer.reserve(16 * 1024);
        let read = self.stream.read_buf(&mut self.buffer).await?;
        if let Some(tap) = &self.tap {
            tap.lock().unwrap().extend_from_slice(&self.buffer[from..]);
        }
        Ok(read)
    }

    /// What has been read and not been used.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// A head; `None` if the connection ended before its first byte.
    pub async fn head(&mut self) -> io::Result<Option<Message>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return parse(&head[..end]).map(Some);
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(cut()) };
            }
        }
    }

    /// A request with its body.
    pub async fn request(&mut self) -> io::Result<Option<Message>> {
        let Some(mut message) = self.head().await? else { return Ok(None) };
        self.request_body(&mut message).await?;
        Ok(Some(message))
    }

    /// The body of the request whose head was read.
    pub async fn request_body(&mut self, message: &mut Message) -> io::Result<()> {
        let framing = declared(message)?.unwrap_or(Framing::Length(0));
        self.body(message, framing).await
    }

    /// A final response; interim ones are passed over.
    pub async fn response(&mut self, to_head: bool) -> io::Result<Message> {
        loop {
            let mut message = self.head().await?.ok_or_else(cut)?;
            match message.status() {
                101 | 204 | 304 => return Ok(message),
                100..200 => continue,
                _ if to_head => return Ok(message),
                _ => {}
            }
            let framing = declared(&message)?.unwrap_or(Framing::Close);
            self.body(&mut message, framing).await?;
            return Ok(message);
        }
    }

    async fn body(&mut self, message: &mut Message, framing: Framing) -> io::Result<()> {
        match framing {
            Framing::Length(length) => message.body = self.exactly(length).await?,
            Framing::Chunked => self.chunks(message).await?,
            Framing::Close => {
                while self.fill().await? > 0 {}
                message.body = self.rest();
            }
        }
        Ok(())
    }

    async fn chunks(&mut self, message: &mut Message) -> io::Result<()> {
        loop {
            let line = self.line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| malformed("chunk size"))?;
            if size == 0 {
                break;
            }
            let data = self.exactly(size + 2).await?;
            if !data.ends_with(b"\r\n") {
                return Err(malformed("chunk end"));
            }
            message.body.extend_from_slice(&data[..size]);
        }
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(());
            }
            message.trailers.push_str(&line);
            message.trailers.push('\n');
        }
    }

    /// The line in front of the first message by which a relay says whose the connection is; `None` if the connection ends before.
    pub async fn announcement(&mut self) -> Option<String> {
        self.line().await.ok()
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            if self.fill().await? == 0 {
                return Err(cut());
            }
        }
    }

    /// The next bytes.
    pub async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < length {
            if self.fill().await? == 0 {
                return Err(cut());
            }
        }
        Ok(self.buffer.drain(..length).collect())
    }
}

fn parse(head: &[u8]) -> io::Result<Message> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let start = lines.next().unwrap_or_default().to_owned();
    if text.replace("\r\n", "").contains(['\r', '\n', '\0']) {
        return Err(malformed("a control character in a head"));
    }
    let field = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(|| malformed("a line without colon"))?;
        if name.is_empty() || name.contains([' ', '\t']) {
            return Err(malformed("white space in a field name"));
        }
        Ok((name.to_owned(), value.trim().to_owned()))
    };
    let fields = lines.map(field).collect::<io::Result<_>>()?;
    Ok(Message { start, fields, ..Message::default() })
}

/// What the head says of the body; two statements are none.
fn declared(message: &Message) -> io::Result<Option<Framing>> {
    match (&message.all("content-length")[..], &message.all("transfer-encoding")[..]) {
        ([], []) => Ok(None),
        ([length], []) => length.parse().map(Framing::Length).map(Some).map_err(|_| malformed("content-length")),
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Some(Framing::Chunked)),
        _ => Err(malformed("framing that can be read two ways")),
    }
}
