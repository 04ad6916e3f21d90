//! Virtual hosts: several sites behind one listener, each with its certificate and its routes.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2;
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::tls;
use crate::support::wire::Message;

/// Three kinds of hosts beside the routes that serve any host; each answer says which route it is of.
const ROUTES: &str = "
    [[route]]
    name = \"shop\"
    hosts = [\"shop.test\"]
    path = \"/\"
    auth = \"public\"
    upstream = \"app\"
    response_headers = { \"X-Route\" = \"shop\" }
    [[route]]
    name = \"tenant\"
    hosts = [\"*.shop.test\"]
    path = \"/\"
    auth = \"public\"
    upstream = \"app\"
    response_headers = { \"X-Route\" = \"tenant\" }
    [[route]]
    name = \"blog\"
    hosts = [\"blog.test\"]
    path = \"/\"
    auth = \"public\"
    upstream = \"app\"
    response_headers = { \"X-Route\" = \"blog\" }
";

/// A gateway with one more listener, for two certificates.
struct Sites {
    gateway: Gateway,
    port: Port,
    roots: [rustls::pki_types::CertificateDer<'static>; 2],
}

impl Sites {
    async fn start(setup: Setup) -> Self {
        let home = tempfile::tempdir().unwrap();
        let shop = tls::certificate_for(home.path(), "shop", &["shop.test", "*.shop.test", "127.0.0.1"]);
        let blog = tls::certificate_for(home.path(), "blog", &["blog.test"]);
        let port = Port::reserve();
        let listener = format!(
            "[listen.sites]\naddress = \"{}\"\ncertificates = [{{ cert = \"shop.crt\", key = \"shop.key\" }}, \
             {{ cert = \"blog.crt\", key = \"blog.key\" }}]\n",
            port.address
        );
        let gateway = setup.tables(ROUTES).tables(&listener).start_in(home).await;
        Self { gateway, port, roots: [shop, blog] }
    }

    /// A connection whose client knows the server by this name.
    async fn connect(&self, name: &'static str, alpn: &[u8]) -> TlsStream<TcpStream> {
        tls::connect_to(name, self.port.address, &self.roots, &[alpn]).await.expect("a handshake")
    }

    async fn h1(&self, name: &'static str) -> Client {
        Client::over(self.connect(name, b"http/1.1").await)
    }

    /// What is answered over one HTTP/1.1 and one HTTP/2 connection to `name`, asked for each of `hosts`.
    async fn ask(&self, name: &'static str, hosts: &[&str]) -> Vec<[Message; 2]> {
        let mut client = self.h1(name).await;
        let mut sender = h2::over(self.connect(name, b"h2").await).await;
        let mut answers = Vec::new();
        for host in hosts {
            let one = client.ask(get(host, "/")).await;
            answers.push([one, h2::message(&mut sender, h2::request_to(host, "GET", "/", &[])).await]);
        }
        answers
    }
}

fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// The route an answer is of, or its status.
fn of(answer: &Message) -> String {
    match answer.status() {
        200 => answer.field("x-route").unwrap_or("any").to_owned(),
        status => status.to_string(),
    }
}

fn both(answers: &[[Message; 2]]) -> Vec<String> {
    for [one, two] in answers {
        assert_eq!(of(one), of(two), "HTTP/1.1 and HTTP/2 differ: {one:?} {two:?}");
    }
    answers.iter().map(|[one, _]| of(one)).collect()
}

#[tokio::test]
async fn a_host_is_found_by_its_name_then_by_its_wildcard_then_by_none() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(ROUTES).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (host, route) in [
        ("shop.test", "shop"),
        ("SHOP.test:8080", "shop"),
        ("a.shop.test", "tenant"),
        ("A-1.Shop.TEST.", "tenant"),
        ("b.a.shop.test", "any"),
        ("ashop.test", "any"),
        ("blog.test", "blog"),
        ("www.blog.test", "any"),
        ("127.0.0.1", "any"),
    ] {
        assert_eq!(of(&client.ask(get(host, "/")).await), route, "{host}");
        assert_eq!(origin.last().field("host"), Some(host.to_lowercase().as_str()), "the application sees the name");
    }
    assert_eq!(client.ask(get(".shop.test", "/")).await.field("x-route"), None, "no label is no name");
}

#[tokio::test]
async fn every_server_name_gets_its_certificate_and_its_routes() {
    let origin = Origin::hello().await;
    let sites = Sites::start(Setup::before(&origin)).await;
    for (name, root, route) in [("shop.test", 0, "shop"), ("a.shop.test", 0, "tenant"), ("blog.test", 1, "blog")] {
        let own = &sites.roots[root..=root];
        let stream = tls::connect_to(name, sites.port.address, own, &[b"http/1.1"]).await.expect("its own certificate");
        assert_eq!(of(&Client::over(stream).ask(get(name, "/")).await), route);
        assert_eq!(both(&sites.ask(name, &[name]).await), [route]);
    }
}

#[tokio::test]
async fn a_host_of_another_certificate_is_answered_421_and_asked_of_nobody() {
    let origin = Origin::hello().await;
    let sites = Sites::start(Setup::before(&origin)).await;
    let answers =
        sites.ask("shop.test", &["shop.test", "blog.test", "a.shop.test", "Blog.test:443", "else.test"]).await;
    assert_eq!(both(&answers), ["shop", "421", "tenant", "421", "any"], "and the connection goes on");
    assert_eq!(both(&sites.ask("blog.test", &["shop.test", "a.shop.test", "blog.test"]).await), ["421", "421", "blog"]);
    let hosts: Vec<_> = origin.requests().iter().map(|request| request.field("host").unwrap().to_owned()).collect();
    assert_eq!(hosts.iter().filter(|host| *host == "blog.test").count(), 2, "only those that were not misdirected");

    let refused = &answers[1][0];
    assert_eq!(refused.json()["detail"], "the certificate of this connection is for other hosts");
    let line = sites.gateway.access_line("421 GET blog.test").await;
    assert!(line.contains("outcome=misdirected") && line.contains("route=none"), "{line}");
}

#[tokio::test]
async fn a_misdirected_request_is_refused_before_its_token_is_looked_at() {
    let origin = Origin::hello().await;
    let sites = Sites::start(Setup::before(&origin)).await;
    let mut client = sites.h1("shop.test").await;
    assert_eq!(client.ask(get("shop.test", "/private/x")).await.status(), 200, "the host's own route is public");
    assert_eq!(client.ask(get("else.test", "/private/x")).await.status(), 401);
    assert_eq!(client.ask(get("blog.test", "/private/x")).await.status(), 421);
}

#[tokio::test]
async fn a_client_that_dials_an_address_has_the_default_certificate_and_its_hosts() {
    let origin = Origin::hello().await;
    let sites = Sites::start(Setup::before(&origin)).await;
    let answers = sites.ask("127.0.0.1", &["127.0.0.1", "shop.test", "blog.test"]).await;
    assert_eq!(both(&answers), ["any", "shop", "421"]);
}

#[tokio::test]
async fn with_one_certificate_no_request_is_misdirected() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(ROUTES).start().await;
    let mut client = Client::tls(&gateway).await;
    for (host, route) in [("site.test", "any"), ("shop.test", "shop"), ("blog.test", "blog")] {
        assert_eq!(of(&client.ask(get(host, "/")).await), route);
    }
}

#[tokio::test]
async fn a_trusted_proxy_may_ask_for_every_host_over_one_connection() {
    let origin = Origin::hello().await;
    let trusting = Setup::before(&origin).server("workers = 1\ntrusted_proxies = [\"127.0.0.1/32\"]");
    let sites = Sites::start(trusting).await;
    assert_eq!(both(&sites.ask("shop.test", &["shop.test", "blog.test"]).await), ["shop", "blog"]);
}

#[tokio::test]
async fn a_host_that_no_route_names_is_refused_where_that_is_said() {
    let origin = Origin::hello().await;
    let sites = Sites::start(Setup::before(&origin).server("workers = 1\nunknown_host = \"refuse\"")).await;
    let mut plain = Client::plain(sites.gateway.http).await;
    for (host, status) in [("shop.test", 200), ("a.shop.test", 200), ("else.test", 421), ("127.0.0.1", 421)] {
        assert_eq!(plain.ask(get(host, "/")).await.status(), status, "{host}");
    }
    assert_eq!(
        both(&sites.ask("shop.test", &["a.shop.test", "else.test", "b.a.shop.test"]).await),
        ["tenant", "421", "421"]
    );
    let refused = plain.ask(get("else.test", "/private/x")).await;
    assert_eq!((refused.status(), refused.json()["detail"].as_str()), (421, Some("this host is not served here")));
    let line = sites.gateway.access_line("421 GET else.test/private/x").await;
    assert!(line.contains("outcome=unknown_host"), "{line}");
    assert!(origin.requests().iter().all(|request| request.field("host").unwrap().ends_with("shop.test")));

    sites.gateway.edit(|text| text.replace("unknown_host = \"refuse\"", "unknown_host = \"route\""));
    sites.gateway.until_generation(2).await;
    assert_eq!(plain.ask(get("else.test", "/")).await.status(), 200, "a reload is enough");
}

#[tokio::test]
async fn routes_for_any_host_serve_every_named_host_where_others_are_refused() {
    let origin = Origin::hello().await;
    let setup = Setup::before(&origin).server("workers = 1\nunknown_host = \"refuse\"");
    let named = "[[route]]\nname = \"named\"\nhosts = [\"shop.test\"]\npath = \"/named/\"\nauth = \"public\"\nupstream = \"app\"\n";
    let gateway = setup.tables(named).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (host, path, status) in [
        ("shop.test", "/named/x", 200),
        ("shop.test", "/elsewhere", 200),
        ("shop.test", "/private/x", 401),
        ("site.test", "/elsewhere", 421),
        ("site.test", "/private/x", 421),
    ] {
        assert_eq!(client.ask(get(host, path)).await.status(), status, "{host}{path}");
    }
}

#[tokio::test]
async fn one_name_is_the_canonical_one_and_others_lead_to_it() {
    let origin = Origin::hello().await;
    let canonical = "[[route]]\nname = \"bare\"\nhosts = [\"site.test\", \"*.old.test\"]\npath = \"/\"\nauth = \"public\"\n\
                     redirect = { to = \"https://www.site.test{path}{query}\" }\n";
    let gateway = Setup::before(&origin).tables(canonical).start().await;
    let mut client = Client::tls(&gateway).await;
    let mut sender = h2::connect(&gateway).await;
    for target in ["/", "/a%20b/?x=1&y=%2F", "/?"] {
        let location = format!("https://www.site.test{target}");
        for host in ["site.test", "Site.test:8443", "a.old.test"] {
            let answer = client.ask(get(host, target)).await;
            assert_eq!((answer.status(), answer.field("location")), (308, Some(location.as_str())), "{host}{target}");
        }
        for method in ["GET", "HEAD", "POST", "DELETE"] {
            let answer = h2::message(&mut sender, h2::request(method, target, &[])).await;
            assert_eq!(
                (answer.status(), answer.field("location")),
                (308, Some(location.as_str())),
                "{method} {target}"
            );
        }
    }
    let body = "x=1";
    let post = format!("POST /form HTTP/1.1\r\nHost: site.test\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = client.ask(post).await;
    assert_eq!((answer.status(), answer.field("location")), (308, Some("https://www.site.test/form")));
    assert!(origin.requests().is_empty());
    assert_eq!(Client::tls(&gateway).await.ask(get("www.site.test", "/")).await.status(), 200);
}
