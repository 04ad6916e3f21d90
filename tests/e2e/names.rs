//! Endpoints that are found by a name, and that come and go with its records.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::client::{Client, get};
use crate::support::dns::{Dns, Mood, Record};
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_origin::{H2Origin, Manners, server_tls};
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::{eventually, scrape, tls};

const NAME: &str = "app.test";

/// A gateway whose endpoints are the addresses of [`NAME`], at the origins' port.
fn before(dns: &Dns, origins: &[Origin]) -> Setup {
    let port = origins[0].address.port();
    let table = format!("{{ url = \"http://{NAME}:{port}\", resolve = \"addresses\" }}");
    Setup::endpoints([table]).tables(&dns.table())
}

/// The name has the addresses of these origins.
fn name(dns: &Dns, origins: &[&Origin]) {
    let last = |origin: &&Origin| match origin.address {
        std::net::SocketAddr::V4(address) => address.ip().octets()[3],
        std::net::SocketAddr::V6(_) => unreachable!("origins are on IPv4"),
    };
    dns.say_local(NAME, &origins.iter().map(last).collect::<Vec<_>>());
}

/// Asks until an origin has got a request.
async fn until_asked(gateway: &Gateway, origin: &Origin) {
    let before = origin.requests().len();
    let mut client = Client::plain(gateway.http).await;
    while origin.requests().len() == before {
        assert_eq!(client.get("/").await.status(), 200);
    }
}

/// How each endpoint of the upstream is, in words.
async fn standings(gateway: &Gateway) -> serde_json::Map<String, serde_json::Value> {
    gateway.readiness().await.json()["upstreams"]["app"].as_object().unwrap().clone()
}

async fn until_endpoints(gateway: &Gateway, count: usize) {
    eventually("so many endpoints", || async { (standings(gateway).await.len() == count).then_some(()) }).await;
}

#[tokio::test]
async fn an_address_that_is_new_gets_requests_and_the_old_ones_keep_their_connections() {
    let (dns, origins) = (Dns::start(Mood::Answering).await, Origin::on_one_port(2).await);
    name(&dns, &[&origins[0]]);
    let gateway = before(&dns, &origins).start().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get("/").await.status(), 200);
    name(&dns, &[&origins[1], &origins[0]]);
    until_asked(&gateway, &origins[1]).await;
    until_asked(&gateway, &origins[0]).await;
    assert_eq!(origins[0].accepted(), 1, "its connection is the one there was");
    assert_eq!(gateway.generation().await, 1, "the configuration is the one there was");
    let host = origins[0].last().field("host").map(str::to_owned);
    assert_eq!(host, origins[1].last().field("host").map(str::to_owned));
}

#[tokio::test]
async fn when_an_address_goes_under_load_no_request_fails_and_its_connections_are_closed() {
    let (dns, origins) = (Dns::start(Mood::Answering).await, Origin::on_one_port(3).await);
    name(&dns, &[&origins[0], &origins[1], &origins[2]]);
    let gateway = before(&dns, &origins).start().await;
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = (0..4).map(|_| {
        let (over, asked, address) = (Arc::clone(&over), Arc::clone(&asked), gateway.http);
        tokio::spawn(async move {
            let mut client = Client::plain(address).await;
            while !over.load(Ordering::Relaxed) {
                assert_eq!(client.get("/").await.status(), 200);
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let load: Vec<_> = load.collect();
    eventually("requests everywhere", || async { origins.iter().all(|one| one.open() > 0).then_some(()) }).await;
    name(&dns, &[&origins[0], &origins[1]]);
    until_endpoints(&gateway, 2).await;
    eventually("no connection to what is gone", || async { (origins[2].open() == 0).then_some(()) }).await;
    let (then, gone) = (asked.load(Ordering::Relaxed), origins[2].requests().len());
    eventually("more requests", || async { (asked.load(Ordering::Relaxed) > then + 100).then_some(()) }).await;
    over.store(true, Ordering::Relaxed);
    for client in load {
        client.await.unwrap();
    }
    assert_eq!(origins[2].requests().len(), gone, "what is gone gets no request");
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_upstream_errors_total", &[]), 0);
}

#[tokio::test]
async fn an_address_that_one_answer_lacks_rests_and_returns_with_its_connection() {
    let (dns, origins) = (Dns::start(Mood::Answering).await, Origin::on_one_port(2).await);
    let port = origins[0].address.port();
    name(&dns, &[&origins[0], &origins[1]]);
    let slow = before(&dns, &origins).start().await;
    until_asked(&slow, &origins[1]).await;
    // It is good for so long that the answer after it comes after the test has looked.
    let address = |origin: &Origin| Record::address(origin.address.ip(), 6);
    dns.say(NAME, [address(&origins[0])]);
    let word = || async { standings(&slow).await.get(&format!("http://127.0.0.3:{port}")).cloned() };
    eventually("it rests", || async { (word().await? == "resting").then_some(()) }).await;
    let before = origins[1].requests().len();
    let mut client = Client::plain(slow.http).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    assert_eq!((origins[1].requests().len(), origins[1].open()), (before, 1));
    dns.say(NAME, [address(&origins[0]), address(&origins[1])]);
    eventually("it is back", || async { (word().await? == "eligible").then_some(()) }).await;
    until_asked(&slow, &origins[1]).await;
    assert_eq!(origins[1].accepted(), 1);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_any_more_keeps_its_addresses_and_says_so() {
    let (dns, origins) = (Dns::start(Mood::Answering).await, Origin::on_one_port(1).await);
    name(&dns, &[&origins[0]]);
    let gateway = before(&dns, &origins).start().await;
    let mut client = Client::plain(gateway.http).await;
    let labels = [format!("name=\"{NAME}\"")];
    for (mood, records, result) in
        [(Mood::Failing, true, "failed"), (Mood::Silent, true, "timeout"), (Mood::Answering, false, "empty")]
    {
        if !records {
            dns.say(NAME, []);
        }
        dns.be(mood);
        let result = format!("result=\"{result}\"");
        let counted = || async {
            let count = gateway.scrape().await.count("portcullis_dns_lookups_total", &[&labels[0], &result]);
            (count >= 2).then_some(())
        };
        eventually("a question that failed", counted).await;
        assert_eq!(client.get("/").await.status(), 200);
        gateway.until_metric("portcullis_dns_failing", &[&labels[0]], 1).await;
        name(&dns, &[&origins[0]]);
        dns.be(Mood::Answering);
        gateway.until_metric("portcullis_dns_failing", &[&labels[0]], 0).await;
        assert_eq!(client.get("/").await.status(), 200);
    }
    let said = gateway.log().matches("the last known addresses stay").count();
    assert_eq!(said, 3, "once each time: {}", gateway.log());
    assert_eq!(origins[0].accepted(), 1);
}

#[tokio::test]
async fn a_gateway_whose_name_does_not_resolve_starts_and_serves_when_it_does() {
    let (dns, origins) = (Dns::start(Mood::Silent).await, Origin::on_one_port(1).await);
    let gateway = before(&dns, &origins).start().await;
    let mut client = Client::plain(gateway.http).await;
    let refused = client.get("/early").await;
    assert_eq!(refused.status(), 503);
    assert!(refused.field("retry-after").is_some() && refused.text().contains("has not been found yet"), "{refused:?}");
    assert!(gateway.log().contains("name does not resolve: its endpoints are not known"), "{}", gateway.log());
    assert!(gateway.access_line("/early").await.contains("upstream_unresolved"));
    assert_eq!(standings(&gateway).await.values().collect::<Vec<_>>(), ["not resolved"]);
    dns.be(Mood::Answering);
    name(&dns, &[&origins[0]]);
    let answered = || async { (Client::plain(gateway.http).await.get("/").await.status() == 200).then_some(()) };
    eventually("an answer", answered).await;
}

#[tokio::test]
async fn the_records_of_a_service_say_where_how_much_and_in_which_order() {
    let dns = Dns::start(Mood::Answering).await;
    let mut origins = Vec::new();
    for _ in 0..3 {
        origins.push(Origin::hello().await);
    }
    dns.say_local("a.test", &[1]);
    let service = |priority, weight, at: usize| Record::service(priority, weight, origins[at].address.port(), "a.test");
    let records = [service(10, 30, 0), service(10, 10, 1), service(20, 1, 2)];
    dns.say("_http._tcp.app.test", records.clone());
    let table = "{ url = \"http://_http._tcp.app.test\", resolve = \"srv\" }".to_owned();
    let gateway = Setup::endpoints([table]).upstream("balance = \"round-robin\"").tables(&dns.table()).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..40 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    let counts: Vec<usize> = origins.iter().map(|origin| origin.requests().len()).collect();
    assert_eq!(counts, [30, 10, 0]);
    // Of a service that says otherwise, another is used.
    dns.say("_http._tcp.app.test", [records[0].clone(), service(5, 1, 2)]);
    until_asked(&gateway, &origins[2]).await;
    let asked: Vec<usize> = origins[..2].iter().map(|origin| origin.requests().len()).collect();
    until_asked(&gateway, &origins[2]).await;
    assert_eq!(asked, origins[..2].iter().map(|origin| origin.requests().len()).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reload_that_brings_a_name_waits_until_it_has_been_looked_up() {
    let (dns, origins) = (Dns::start(Mood::Answering).await, Origin::on_one_port(1).await);
    name(&dns, &[&origins[0]]);
    let gateway = Setup::endpoints([origins[0].endpoint()]).tables(&dns.table()).start().await;
    let (mut client, endpoint) = (Client::plain(gateway.http).await, origins[0].endpoint());
    let table = format!("{{ url = \"http://{NAME}:{}\", resolve = \"addresses\" }}", origins[0].address.port());
    gateway.edit(|text| text.replace(&format!("\"{endpoint}\""), &table));
    while gateway.generation().await == 1 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    assert_eq!(client.get("/").await.status(), 200);
    assert_eq!(standings(&gateway).await.len(), 1);
}

#[tokio::test]
async fn who_asks_for_a_reload_that_brings_a_name_hears_when_it_is_live() {
    let (dns, origins) = (Dns::start(Mood::Silent).await, Origin::on_one_port(1).await);
    let gateway = Setup::endpoints([origins[0].endpoint()]).tables(&dns.table()).start().await;
    let table = format!("{{ url = \"http://{NAME}:{}\", resolve = \"addresses\" }}", origins[0].address.port());
    gateway.edit(|text| text.replace(&format!("\"{}\"", origins[0].endpoint()), &table));
    let ask =
        "POST /reload HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    let answer = Client::plain(gateway.admin).await.ask(ask).await;
    assert_eq!((answer.status(), gateway.generation().await), (200, 2), "{answer:?}");
    // No answer about the name is one: the reload does not wait for ever.
    assert_eq!(standings(&gateway).await.values().collect::<Vec<_>>(), ["not resolved"]);
}

#[tokio::test]
async fn metrics_have_the_configured_name_and_operators_see_and_drain_addresses() {
    let (dns, origins) = (Dns::start(Mood::Answering).await, Origin::on_one_port(2).await);
    let port = origins[0].address.port();
    name(&dns, &[&origins[0], &origins[1]]);
    let gateway = before(&dns, &origins).start().await;
    until_asked(&gateway, &origins[0]).await;
    until_asked(&gateway, &origins[1]).await;
    let label = format!("endpoint=\"http://{NAME}:{port}\"");
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_upstream_connections_open", &[&label]), 2);
    assert_eq!(scrape.count("portcullis_endpoint_eligible", &[&label]), 2);
    assert_eq!(scrape.count("portcullis_dns_addresses", &[&format!("name=\"{NAME}\"")]), 2);
    let text = scrape::ask(gateway.admin, "/metrics").await.text();
    assert!(!text.contains("127.0.0.2") && !text.contains("127.0.0.3"), "an address is no label");
    let page = scrape::ask(gateway.admin, "/").await.text();
    assert!(page.contains(&format!("http://127.0.0.3:{port} of http://{NAME}:{port}")), "{page}");

    let drain = format!(
        "POST /upstreams/app/endpoints/http://127.0.0.3:{port}/drain HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
        gateway.admin
    );
    assert_eq!(Client::plain(gateway.admin).await.ask(drain).await.status(), 200);
    let before = origins[1].requests().len();
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    // Another address changes nothing about what an operator said.
    dns.say_local(NAME, &[2, 3, 4]);
    until_endpoints(&gateway, 3).await;
    assert_eq!(origins[1].requests().len(), before);
    let list = format!("GET /upstreams HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.admin);
    let list = Client::plain(gateway.admin).await.ask(list).await.text();
    assert!(list.contains("\"drained\":true"), "{list}");
}

#[tokio::test]
async fn an_address_that_is_new_has_to_be_well_before_it_is_used() {
    let (dns, origins) = (Dns::start(Mood::Answering).await, Origin::on_one_port(2).await);
    name(&dns, &[&origins[0]]);
    let probe = "probe = { path = \"/well\", interval_secs = 0.1, timeout_secs = 1 }";
    let gateway = before(&dns, &origins).upstream(probe).start().await;
    let label = format!("endpoint=\"http://{NAME}:{}\"", origins[0].address.port());
    gateway.until_metric("portcullis_endpoint_eligible", &[&label], 1).await;
    // 127.0.0.9 does not answer; 127.0.0.3 does.
    dns.say_local(NAME, &[2, 3, 9]);
    gateway.until_metric("portcullis_endpoint_eligible", &[&label], 2).await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..50 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    let failed = gateway.scrape().await.count("portcullis_upstream_errors_total", &[&label]);
    assert_eq!(failed, 0, "no request went where no probe was answered");
    let first = origins[1].requests().into_iter().next().unwrap();
    assert_eq!(first.target(), "/well");
    assert_eq!(first.field("host"), Some(&*format!("{NAME}:{}", origins[0].address.port())));
}

#[tokio::test]
async fn tls_believes_the_configured_name_whatever_the_records_say() {
    let (dns, home) = (Dns::start(Mood::Answering).await, tempfile::tempdir().unwrap());
    tls::certificate_for(home.path(), "app", &["app.test"]);
    let manners = || Manners {
        http2: false,
        tls: Some(server_tls(home.path(), "app", &[b"http/1.1"], None)),
        ..Manners::http2()
    };
    let origin = H2Origin::start(manners()).await;
    let port = origin.address.port();
    for name in [NAME, "other.test"] {
        dns.say_local(name, &[1]);
        dns.say(&format!("_https._tcp.{name}"), [Record::service(0, 1, port, "app.test")]);
    }
    for (url, resolve, status) in [
        (format!("https://{NAME}:{port}"), "addresses", 200),
        (format!("https://other.test:{port}"), "addresses", 502),
        (format!("https://_https._tcp.{NAME}"), "srv", 200),
        ("https://_https._tcp.other.test".to_owned(), "srv", 502),
    ] {
        let own = tempfile::tempdir().unwrap();
        std::fs::copy(home.path().join("app.crt"), own.path().join("app.crt")).unwrap();
        let table = format!("{{ url = \"{url}\", resolve = \"{resolve}\" }}");
        let setup = Setup::endpoints([table]).upstream("tls = { ca_file = \"app.crt\" }").tables(&dns.table());
        let gateway = setup.start_in(own).await;
        assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), status, "{url}");
    }
}

#[tokio::test]
async fn a_port_at_which_nobody_serves_names_keeps_nobody_from_starting() {
    let (nobody, origin) = (Port::reserve(), Origin::hello().await);
    let dns = format!("[dns]\nservers = [\"{}\"]\ntimeout_secs = 1\n", nobody.address);
    let table = format!("{{ url = \"http://{NAME}:80\", resolve = \"addresses\" }}");
    // Of a name that nothing is known of, nothing is used beside others.
    let gateway = Setup::endpoints([table, origin.endpoint()]).tables(&dns).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..20 {
        assert_eq!(client.ask(get("/")).await.status(), 200);
    }
    let local = format!("{{ url = \"http://localhost:{}\", resolve = \"addresses\" }}", origin.address.port());
    let gateway = Setup::endpoints([local]).tables(&dns).start().await;
    let reached = || async { (Client::plain(gateway.http).await.get("/").await.status() == 200).then_some(()) };
    eventually("an endpoint of /etc/hosts", reached).await;
}
