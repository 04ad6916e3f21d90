//! The gateway: the real binary in a process of its own, with a configuration of its own.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::origin::Origin;
use super::port::Port;
use super::scrape::{self, Scrape};
use super::wire::{Message, Wire};
use super::{eventually, tls, token};

/// The program under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// A configuration, part by part. `listen.http` is plain, `listen.https` has a certificate for `site.test`.
#[derive(Debug, Clone)]
pub struct Setup {
    server: String,
    limits: String,
    log: String,
    http: String,
    https: String,
    issuer: String,
    upstream: String,
    endpoints: Vec<String>,
    routes: String,
    own_program: bool,
    environment: Vec<(&'static str, String)>,
}

impl Setup {
    /// Everything goes to `origin`: `/` for anybody, `/private/` for tokens of the issuer.
    pub fn before(origin: &Origin) -> Self {
        Self::endpoints([origin.endpoint()])
    }

    /// Each an address, or a table.
    pub fn endpoints(endpoints: impl IntoIterator<Item = String>) -> Self {
        Self {
            server: "workers = 1\n".to_owned(),
            limits: String::new(),
            log: String::new(),
            http: String::new(),
            https: String::new(),
            issuer: format!(
                "secret = {{ file = \"issuer.secret\" }}\naudiences = [\"{}\"]\nleeway_secs = 0\n",
                token::AUDIENCE
            ),
            upstream: String::new(),
            endpoints: endpoints.into_iter().collect(),
            routes: "[[route]]\nname = \"public\"\npath = \"/\"\nauth = \"public\"\nupstream = \"app\"\n\
                 [[route]]\nname = \"private\"\npath = \"/private/\"\nauth = { issuer = \"site\" }\n\
                 forward_claims = { \"X-User-Id\" = \"sub\" }\nupstream = \"app\"\n"
                .to_owned(),
            own_program: false,
            environment: Vec::new(),
        }
    }

    /// Runs a program of its own, which can be replaced.
    pub fn own_program(mut self) -> Self {
        self.own_program = true;
        self
    }

    /// An environment variable of the process.
    pub fn environment(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Replaces the keys of `[server]`.
    pub fn server(mut self, keys: &str) -> Self {
        self.server = format!("{keys}\n");
        self
    }

    /// Keys of `[limits]`.
    pub fn limits(mut self, keys: &str) -> Self {
        self.limits = format!("{keys}\n");
        self
    }

    /// More keys of `[log]`.
    pub fn log(mut self, keys: &str) -> Self {
        self.log = format!("{keys}\n");
        self
    }

    /// More keys of `[listen.http]`.
    pub fn http(mut self, keys: &str) -> Self {
        self.http = format!("{keys}\n");
        self
    }

    /// More keys of `[listen.https]`.
    pub fn https(mut self, keys: &str) -> Self {
        self.https = format!("{keys}\n");
        self
    }

    /// Replaces the keys of `[issuer.site]`.
    pub fn issuer(mut self, keys: &str) -> Self {
        self.issuer = format!("{keys}\n");
        self
    }

    /// More keys of `[upstream.app]`.
    pub fn upstream(mut self, keys: &str) -> Self {
        self.upstream.push_str(keys);
        self.upstream.push('\n');
        self
    }

    /// More `[[route]]` tables, or any others.
    pub fn tables(mut self, tables: &str) -> Self {
        self.routes.push_str(tables);
        self.routes.push('\n');
        self
    }

    /// Replaces the routes.
    pub fn only(mut self, tables: &str) -> Self {
        self.routes = format!("{tables}\n");
        self
    }

    fn text(&self, http: SocketAddr, https: SocketAddr, admin: SocketAddr) -> String {
        let Self { server, limits, log, http: plain, https: more, issuer, upstream, endpoints, routes, .. } = self;
        let item =
            |endpoint: &String| if endpoint.starts_with('{') { endpoint.clone() } else { format!("{endpoint:?}") };
        let endpoints = endpoints.iter().map(item).collect::<Vec<_>>().join(", ");
        format!(
            "[server]\n{server}\n[limits]\n{limits}\n[log]\nformat = \"text\"\n{log}\n\
             [listen.http]\naddress = \"{http}\"\n{plain}\n\
             [listen.https]\naddress = \"{https}\"\ncertificates = [{{ cert = \"site.crt\", key = \"site.key\" }}]\n{more}\n\
             [admin]\naddress = \"{admin}\"\n\n\
             [issuer.site]\n{issuer}\n[upstream.app]\nendpoints = [{endpoints}]\n{upstream}\n{routes}"
        )
    }

    /// Starts a gateway and waits until it is ready.
    pub async fn start(self) -> Gateway {
        let home = tempfile::tempdir().unwrap();
        self.start_in(home).await
    }

    /// The same in a directory that is there already.
    pub async fn start_in(self, home: TempDir) -> Gateway {
        let ports = [(); 3].map(|()| Port::reserve());
        let [http, https, admin] = [&ports[0], &ports[1], &ports[2]].map(|port| port.address);
        let certificate = tls::certificate(home.path(), "site");
        std::fs::write(home.path().join("issuer.secret"), token::SECRET).unwrap();
        std::fs::write(home.path().join("gateway.toml"), self.text(http, https, admin)).unwrap();
        let child = spawn(home.path(), self.own_program, self.environment);
        let mut gateway = Gateway { http, https, admin, home, child, successor: None, certificate, _ports: ports };
        gateway.until_ready().await;
        gateway
    }
}

/// A route `/NAME/` to the origin, with its `auth` and more keys.
pub fn route(name: &str, auth: &str, keys: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\npath = \"/{name}/\"\nauth = {auth}\nupstream = \"app\"\n{keys}\n")
}

/// The program under test at another path, as a file of its own: it may be on another file system.
pub fn install(path: &Path) {
    std::fs::remove_file(path).ok();
    std::fs::hard_link(BINARY, path).or_else(|_| std::fs::copy(BINARY, path).map(drop)).unwrap();
}

fn spawn(home: &Path, own_program: bool, environment: Vec<(&'static str, String)>) -> Child {
    let log = File::create(home.join("log")).unwrap();
    let program = if own_program { home.join("portcullis") } else { BINARY.into() };
    if own_program {
        install(&program);
    }
    let mut command = Command::new(program);
    command.envs(environment);
    command.args(["run", "--config"]).arg(home.join("gateway.toml"));
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().expect("the binary runs")
}

fn kill(signal: &str, pid: u32) -> bool {
    Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status().unwrap().success()
}

/// Whether a process has ended, whoever waits for it.
pub fn has_ended(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}

/// A running gateway; killed at the end of the test, and its log is shown if the test failed.
pub struct Gateway {
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub admin: SocketAddr,
    home: TempDir,
    child: Child,
    /// The process that took its place.
    successor: Option<u32>,
    certificate: CertificateDer<'static>,
    _ports: [Port; 3],
}

impl Gateway {
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    pub fn config(&self) -> PathBuf {
        self.home().join("gateway.toml")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home().join("log")).unwrap_or_default()
    }

    /// The access line of the request with `marker` in its target, once it is written.
    pub async fn access_line(&self, marker: &str) -> String {
        let line = || async { self.log().lines().find(|line| line.contains(marker)).map(str::to_owned) };
        eventually("an access line", line).await
    }

    /// The certificates a client of this gateway trusts.
    pub fn roots(&self) -> [CertificateDer<'static>; 1] {
        [self.certificate.clone()]
    }

    /// Changes the configuration file: written beside it and renamed over it, as careful editors do.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.config()).unwrap();
        let draft = self.home().join(".gateway.toml.draft");
        std::fs::write(&draft, change(text)).unwrap();
        std::fs::rename(&draft, self.config()).unwrap();
    }

    /// Sends a signal by its name, to this process and no other.
    pub fn signal(&self, name: &str) {
        assert!(kill(name, self.pid()));
    }

    /// The process that serves.
    pub fn pid(&self) -> u32 {
        self.successor.unwrap_or(self.child.id())
    }

    /// The processes that were started to take the place of another, in order.
    pub fn successors(&self) -> Vec<u32> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains("upgrade: a new process was started"));
        lines
            .filter_map(|line| line.split_once("pid=")?.1.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
            .collect()
    }

    /// Has another process take the place of this one, and waits until it has and the old one has ended.
    pub async fn upgrade(&mut self) {
        let (old, before) = (self.pid(), self.successors().len());
        self.signal("USR2");
        let new = eventually("a successor", || async { self.successors().get(before).copied() }).await;
        eventually("the end of the old process", || async { has_ended(old).then_some(()) }).await;
        self.successor = Some(new);
        assert!(!has_ended(new), "the new process serves");
    }

    /// Bytes of memory the process holds.
    pub fn resident_bytes(&self) -> u64 {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        let pages: u64 = pages.split(' ').nth(1).unwrap().parse().unwrap();
        pages * 4096
    }

    /// File descriptors the process has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Waits until the process has ended.
    pub async fn exit(&mut self) -> ExitStatus {
        let child = std::cell::RefCell::new(&mut self.child);
        eventually("the end of the process", || async { child.borrow_mut().try_wait().unwrap() }).await
    }

    pub async fn scrape(&self) -> Scrape {
        Scrape::of(self.admin).await
    }

    pub async fn readiness(&self) -> Message {
        scrape::ask(self.admin, "/readyz").await
    }

    pub async fn generation(&self) -> u64 {
        self.readiness().await.json()["generation"].as_u64().unwrap()
    }

    /// Waits until a generation of at least this number is live.
    pub async fn until_generation(&self, number: u64) {
        eventually("a new generation", || async { (self.generation().await >= number).then_some(()) }).await;
    }

    /// Waits until a metric has the value it has when nothing goes on.
    pub async fn until_metric(&self, family: &str, labels: &[&str], value: u64) {
        let what = format!("{family} {labels:?} = {value}");
        let is = || async { (self.scrape().await.count(family, labels) == value).then_some(()) };
        eventually(&what, is).await;
    }

    async fn until_ready(&mut self) {
        let (child, admin) = (std::cell::RefCell::new(&mut self.child), self.admin);
        let ready = || async {
            let ended = child.borrow_mut().try_wait().unwrap();
            assert!(ended.is_none(), "the gateway ended before it was ready: {ended:?}");
            let stream = TcpStream::connect(admin).await.ok()?;
            let mut wire = Wire::new(stream, None);
            wire.send(b"GET /readyz HTTP/1.1\r\nHost: admin\r\n\r\n").await.ok()?;
            let answer = tokio::time::timeout(Duration::from_secs(1), wire.response(false)).await.ok()?.ok()?;
            (answer.status() == 200).then_some(())
        };
        eventually("a ready gateway", ready).await;
    }
}

impl Drop for Gateway {
    #[allow(clippy::print_stderr)] // the only place to say it: the harness shows it with the failed test
    fn drop(&mut self) {
        self.child.kill().ok(); // it may have ended by itself
        self.child.wait().ok();
        for pid in self.successors() {
            // The number may be another's by now.
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            if command.contains(&*self.config().to_string_lossy()) {
                kill("KILL", pid);
            }
        }
        if std::thread::panicking() {
            let text = std::fs::read_to_string(self.config()).unwrap_or_default();
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
            eprintln!("--- gateway.toml\n{text}\n--- the gateway's log, at most 60 lines of it\n{tail}\n---");
        }
    }
}
