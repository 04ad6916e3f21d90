//! A Redis of a test's own: the real server, on a port that it keeps over a restart.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use redis::aio::MultiplexedConnection;
use redis::{Client, FromRedisValue};
use tempfile::TempDir;

use super::eventually;
use super::port::Port;

/// A server that keeps nothing on the disk; it ends with the test.
pub struct Redis {
    pub address: SocketAddr,
    home: TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
    _port: Port,
}

impl Redis {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With more arguments; `HOME` in them is its directory.
    pub async fn with(arguments: &[&str]) -> Self {
        let (port, home) = (Port::reserve(), tempfile::tempdir().unwrap());
        let place = home.path().to_str().unwrap().to_owned();
        let arguments = arguments.iter().map(|argument| argument.replace("HOME", &place)).collect();
        let mut redis = Self { address: port.address, home, arguments, child: None, _port: port };
        redis.again().await;
        redis
    }

    /// Starts it, or starts it again, with nothing in it.
    pub async fn again(&mut self) {
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.address.port().to_string(), "--save", "", "--dir"]);
        command.arg(self.home.path()).args(["--appendonly", "no"]).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("redis-server is here: tests/run installs it"));
        eventually("a Redis that listens", || async { tokio::net::TcpStream::connect(self.address).await.ok() }).await;
    }

    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Ends it at once, as a machine that fails.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops it in the middle of what it does: it keeps its connections and says nothing.
    pub fn stall(&self) {
        self.signal("STOP");
    }

    pub fn go_on(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let command = format!("kill -{name} {}", self.child.as_ref().expect("it runs").id());
        assert!(Command::new("sh").args(["-c", &command]).status().unwrap().success());
    }

    pub async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let client = Client::open(self.url()).unwrap();
        let mut connection: MultiplexedConnection = client.get_multiplexed_async_connection().await.unwrap();
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await.unwrap()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok(); // it may have ended by itself
            child.wait().ok();
        }
    }
}
