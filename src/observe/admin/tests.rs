//! The admin listener as its clients see it.

use std::net::SocketAddr;

use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::observe::{BreakerStatus, EndpointHealth, Vocabulary};

fn status() -> Status {
    Status {
        version: "1.2.3",
        uptime: Duration::from_secs(3700),
        ready: true,
        generation: 7,
        listeners: vec![ListenerStatus {
            name: "https".into(),
            address: ([0, 0, 0, 0], 8443).into(),
            tls: true,
            http3: true,
        }],
        certificates: vec![CertificateStatus {
            label: "dev.crt".into(),
            names: vec!["api.example.com".into()],
            expires: SystemTime::now() + Duration::from_hours(30 * 24 + 1),
        }],
        routes: vec![RouteStatus {
            name: "api".into(),
            matches: "api.example.com/api/".into(),
            policy: "issuer django".into(),
            action: "upstream web".into(),
        }],
        endpoints: vec![EndpointStatus {
            upstream: "web".into(),
            endpoint: "127.0.0.1:8000".into(),
            label: "127.0.0.1:8000".into(),
            slots: 32,
            drained: false,
        }],
        upstreams: vec![UpstreamStatus {
            upstream: "web".into(),
            endpoints: vec![EndpointHealth {
                endpoint: "127.0.0.1:8000".into(),
                label: "127.0.0.1:8000".into(),
                standing: "ejected",
                eligible: false,
                ejections: vec![("consecutive", 1)],
                limit: Some(12),
                probes: None,
            }],
            breaker: Some(BreakerStatus { state: "open", opened: 1, rejected: 5 }),
            gone: Vec::new(),
            retries: vec![("connect", 2)],
            retries_refused: 0,
        }],
        ..Status::default()
    }
}

fn admin(status: Status) -> Arc<Admin> {
    let metrics = Metrics::new(Vocabulary { auth_reasons: &[], malformed_reasons: &[] });
    metrics.route(0, "api").finish(&Method::GET, 500, Duration::from_millis(2), 0, 0);
    Arc::new(Admin::new(metrics, Arc::new(move || status.clone())))
}

struct Running {
    address: SocketAddr,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

async fn running(admin: Arc<Admin>) -> Running {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tasks, shutdown) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(admin.serve(listener, tasks.clone(), shutdown.clone()));
    Running { address, tasks, shutdown }
}

impl Running {
    /// What one connection gets for these bytes, head and body, until it is closed.
    async fn send(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    async fn request(&self, method: &str, path: &str) -> (String, String) {
        let answer = self.send(&format!("{method} {path} HTTP/1.1\r\nHost: admin\r\n\r\n")).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_ascii_lowercase(), body.to_string())
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[tokio::test]
async fn each_path_answers_over_a_socket() {
    let running = running(admin(status())).await;
    let (head, body) = running.request("GET", "/metrics").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/plain; version=0.0.4"), "{head}");
    assert!(body.contains("portcullis_requests_total{") && body.contains("process_open_fds "), "{body}");
    let (head, body) = running.request("GET", "/healthz").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, "ok\n");
    let (head, body) = running.request("GET", "/").await;
    assert!(head.contains("text/html") && head.contains("content-security-policy: default-src 'none'"), "{head}");
    for shown in ["1.2.3", "1 h 1 min", "ready", "api.example.com/api/", "100.00 %", "127.0.0.1:8000", ">30<"] {
        assert!(body.contains(shown), "{shown} is not in\n{body}");
    }
    running.stop().await;
}

#[tokio::test]
async fn head_answers_without_a_body() {
    let running = running(admin(status())).await;
    let (head, body) = running.request("HEAD", "/healthz").await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 3"), "{head}");
    assert_eq!(body, "");
    running.stop().await;
}

#[tokio::test]
async fn other_methods_are_405_and_other_paths_404() {
    let running = running(admin(status())).await;
    let (head, _) = running.request("POST", "/metrics").await;
    assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{head}");
    for path in ["/metrics/", "/../etc/passwd", "/reload"] {
        let (head, _) = running.request("GET", path).await;
        assert!(head.starts_with("http/1.1 404"), "{head}");
    }
    running.stop().await;
}

async fn readyz(status: Status) -> (StatusCode, serde_json::Value) {
    let answer = admin(status).answer(&Method::GET, "/readyz");
    let code = answer.status();
    let body = http_body_util::Limited::new(answer.into_body(), 4096);
    #[allow(clippy::disallowed_methods)] // bounded by the line above
    let body = body.collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn readiness_follows_start_drain_and_reload() {
    let (code, body) = readyz(status()).await;
    assert_eq!(code, StatusCode::OK);
    let ready = serde_json::json!({
        "ready": true, "draining": false, "generation": 7, "last_reload_error": null,
        "upstreams": { "web": { "127.0.0.1:8000": "ejected" } },
    });
    assert_eq!(body, ready);

    let (code, body) = readyz(Status { draining: true, ..status() }).await;
    assert_eq!((code, &body["ready"]), (StatusCode::SERVICE_UNAVAILABLE, &false.into()));

    let (code, _) = readyz(Status { ready: false, ..status() }).await;
    assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);

    let refused = ReloadStatus { at: SystemTime::now(), error: Some("unknown key `rout`".into()) };
    let (code, body) = readyz(Status { last_reload: Some(refused), ..status() }).await;
    assert_eq!(code, StatusCode::OK, "the last good generation still serves");
    assert_eq!(body["last_reload_error"], "unknown key `rout`");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_cut_at_the_deadline() {
    let running = running(admin(status())).await;
    let begun = tokio::time::Instant::now();
    let answer = running.send("").await;
    assert_eq!(answer, "");
    assert!(begun.elapsed() >= CONNECTION_DEADLINE);
    running.stop().await;
}

#[tokio::test]
async fn at_most_64_connections_are_served_at_once() {
    let running = running(admin(status())).await;
    let mut silent = Vec::new();
    for _ in 0..MOST_CONNECTIONS {
        silent.push(TcpStream::connect(running.address).await.unwrap());
    }
    let mut late = TcpStream::connect(running.address).await.unwrap();
    late.write_all(b"GET /healthz HTTP/1.1\r\nHost: admin\r\n\r\n").await.unwrap();
    while running.tasks.len() <= MOST_CONNECTIONS {
        tokio::task::yield_now().await;
    }
    assert_eq!(running.tasks.len(), MOST_CONNECTIONS + 1, "the accept loop and 64 connections");
    let mut byte = [0];
    assert!(late.try_read(&mut byte).is_err(), "the 65th waits");
    drop(silent.pop());
    assert_eq!(late.read(&mut byte).await.unwrap(), 1, "and is served when one leaves");
    drop((silent, late));
    running.stop().await;
}
