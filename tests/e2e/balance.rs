//! Which endpoint a request goes to: by load, by turn, by a key, by a cookie; and endpoints that come and go.

use std::collections::BTreeSet;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::token::{self, bearer};
use crate::support::wire::Message;
use crate::support::{eventually, scrape};

/// Origins that all answer.
async fn origins(count: usize) -> Vec<Origin> {
    let mut origins = Vec::new();
    for _ in 0..count {
        origins.push(Origin::hello().await);
    }
    origins
}

fn before(origins: &[Origin]) -> Setup {
    Setup::endpoints(origins.iter().map(Origin::endpoint))
}

/// The same with tables in the place of addresses.
fn with_tables(origins: &[Origin], keys: &[&str], text: String) -> String {
    origins.iter().zip(keys).fold(text, |text, (origin, keys)| {
        let url = origin.endpoint();
        text.replace(&format!("\"{url}\""), &format!("{{ url = \"{url}\", {keys} }}"))
    })
}

/// The gateway before origins whose tables hold these keys.
async fn with_keys(origins: &[Origin], keys: &[&str], upstream: &str) -> Gateway {
    let gateway = before(origins).upstream(upstream).start().await;
    gateway.edit(|text| with_tables(origins, keys, text));
    gateway.until_generation(2).await;
    gateway
}

fn counts(origins: &[Origin]) -> Vec<usize> {
    origins.iter().map(|origin| origin.requests().len()).collect()
}

async fn ask(gateway: &Gateway, requests: usize, fields: &str) {
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..requests {
        assert_eq!(client.get_with("/", fields).await.status(), 200);
    }
}

/// The origin that answers a request with these fields.
async fn served(client: &mut Client, origins: &[Origin], fields: &str) -> usize {
    let before = counts(origins);
    assert_eq!(client.get_with("/private/", fields).await.status(), 200);
    let after = counts(origins);
    let grown: Vec<usize> = (0..origins.len()).filter(|at| after[*at] > before[*at]).collect();
    assert_eq!(grown.len(), 1, "{before:?} {after:?}");
    grown[0]
}

/// `Set-Cookie` of an answer: the pair alone, if there is one.
fn bound(answer: &Message) -> Option<String> {
    answer.field("set-cookie").map(|field| field.split(';').next().unwrap().to_owned())
}

#[tokio::test]
async fn idle_endpoints_share_the_requests() {
    let origins = origins(3).await;
    let gateway = before(&origins).start().await;
    ask(&gateway, 600, "").await;
    for count in counts(&origins) {
        assert!((120..=280).contains(&count), "{:?}", counts(&origins));
    }
}

#[tokio::test]
async fn an_endpoint_that_is_busy_is_spared() {
    let (busy, gate) = Origin::gated().await;
    let quick = Origin::hello().await;
    let gateway = Setup::endpoints([busy.endpoint(), quick.endpoint()]).start().await;
    // Until one waits at the first, requests may go to either.
    let mut clients = Vec::new();
    while busy.requests().is_empty() {
        let mut client = Client::plain(gateway.http).await;
        client.send(get("/")).await;
        clients.push(client);
        let arrived = || async { (busy.requests().len() + quick.requests().len() == clients.len()).then_some(()) };
        eventually("a request somewhere", arrived).await;
    }
    let before = quick.requests().len();
    ask(&gateway, 40, "").await;
    assert_eq!((busy.requests().len(), quick.requests().len() - before), (1, 40));
    gate.add_permits(1);
    assert_eq!(clients.pop().unwrap().answer().await.status(), 200);
}

#[tokio::test]
async fn in_turn_each_gets_as_many_as_it_weighs() {
    let origins = origins(3).await;
    let gateway = with_keys(&origins, &["weight = 3", "weight = 1", "weight = 2"], "balance = \"round-robin\"").await;
    ask(&gateway, 60, "").await;
    assert_eq!(counts(&origins), [30, 10, 20]);
}

#[tokio::test]
async fn a_key_stays_where_it_is_when_another_endpoint_leaves() {
    let origins = origins(4).await;
    let gateway = before(&origins).upstream("balance = { hash = \"header:X-Tenant\" }").start().await;
    let mut client = Client::plain(gateway.http).await;
    let token = bearer(&token::good());
    let fields = |tenant: usize| format!("{token}X-Tenant: tenant-{tenant}\r\n");
    let mut homes = Vec::new();
    for tenant in 0..40 {
        let home = served(&mut client, &origins, &fields(tenant)).await;
        assert_eq!(served(&mut client, &origins, &fields(tenant)).await, home);
        homes.push(home);
    }
    assert_eq!(BTreeSet::from_iter(&homes).len(), 4, "every endpoint has keys: {homes:?}");

    let gone = origins[3].endpoint();
    gateway.edit(|text| text.replace(&format!(", \"{gone}\""), ""));
    gateway.until_generation(2).await;
    for (tenant, home) in homes.iter().enumerate() {
        let now = served(&mut client, &origins, &fields(tenant)).await;
        assert!(now != 3 && (*home == 3 || now == *home), "tenant {tenant} moved from {home} to {now}");
    }
}

#[tokio::test]
async fn a_claim_chooses_the_endpoint_and_without_a_token_any_does() {
    let origins = origins(3).await;
    let gateway = before(&origins).upstream("balance = { hash = \"claim:sub\" }").start().await;
    let token = bearer(&token::good());
    let mut client = Client::plain(gateway.http).await;
    let home = served(&mut client, &origins, &token).await;
    for _ in 0..20 {
        assert_eq!(served(&mut client, &origins, &token).await, home);
    }
    let before = counts(&origins);
    ask(&gateway, 200, "").await;
    for (before, after) in before.iter().zip(counts(&origins)) {
        assert!(after - before > 20, "requests to a public route are spread: {:?}", counts(&origins));
    }
}

const STICKY: &str = "balance = { sticky = { cookie = \"srv\", secret = { file = \"issuer.secret\" } } }";

#[tokio::test]
async fn a_client_with_the_cookie_comes_back_to_its_endpoint_which_does_not_see_it() {
    let origins = origins(4).await;
    let gateway = before(&origins).upstream(STICKY).start().await;
    let mut client = Client::plain(gateway.http).await;
    let answer = client.get("/").await;
    let cookie = bound(&answer).expect("a cookie for who comes first");
    let field = answer.field("set-cookie").unwrap();
    assert!(field.ends_with("; Path=/; HttpOnly; SameSite=Lax") && !field.contains("127.0.0.1"), "{field}");
    assert_eq!(answer.field("cache-control"), Some("private"));
    let home = counts(&origins).iter().position(|count| *count == 1).unwrap();
    for number in 0..30 {
        let answer = client.get_with("/", &format!("Cookie: a={number}; {cookie}; b=2\r\n")).await;
        assert_eq!((answer.status(), bound(&answer)), (200, None));
        assert_eq!(origins[home].last().field("cookie"), Some(&*format!("a={number}; b=2")));
    }
    assert_eq!(counts(&origins)[home], 31);
    let answer = client.get_with("/", &format!("Cookie: {cookie}\r\n")).await;
    assert_eq!((answer.status(), origins[home].last().field("cookie")), (200, None));

    let secure = Client::tls(&gateway).await.get("/").await;
    assert!(secure.field("set-cookie").unwrap().ends_with("; SameSite=Lax; Secure"));
}

#[tokio::test]
async fn a_cookie_that_was_tampered_with_or_names_nobody_any_more_is_made_anew() {
    let origins = origins(2).await;
    let gateway = before(&origins).upstream(STICKY).start().await;
    let mut client = Client::plain(gateway.http).await;
    let cookie = bound(&client.get("/").await).unwrap();
    for forged in [format!("{cookie}A"), cookie[..cookie.len() - 1].to_owned(), "srv=".to_owned(), "srv=1".to_owned()] {
        let answer = client.get_with("/", &format!("Cookie: {forged}\r\n")).await;
        assert!(bound(&answer).is_some_and(|given| given.starts_with("srv=") && given != forged), "{forged}");
        let last = origins.iter().flat_map(Origin::requests).filter(|request| request.field("cookie").is_some());
        assert_eq!(last.count(), 0, "no upstream sees it");
    }
    let home = counts(&origins);
    client.get_with("/", &format!("Cookie: {cookie}\r\n")).await;
    let home = (0..2).find(|at| counts(&origins)[*at] > home[*at]).unwrap();
    let (stays, leaves) = (origins[1 - home].endpoint(), origins[home].endpoint());
    gateway.edit(|text| text.replace(&format!("\"{leaves}\""), "").replace(", ]", "]").replace("[, ", "["));
    gateway.until_generation(2).await;
    let answer = client.get_with("/", &format!("Cookie: {cookie}\r\n")).await;
    assert!(bound(&answer).is_some_and(|given| given != cookie), "{stays} gives its own");
}

#[tokio::test]
async fn the_second_priority_serves_while_the_first_can_not_be_reached() {
    let (first, second) = (Port::reserve(), Origin::hello().await);
    let urls = [format!("http://{}", first.address), second.endpoint()];
    let gateway = Setup::endpoints(urls.clone()).start().await;
    let spare = format!("{{ url = \"{}\", priority = 1 }}", urls[1]);
    gateway.edit(|text| text.replace(&format!("\"{}\"", urls[1]), &spare));
    gateway.until_generation(2).await;
    ask(&gateway, 10, "").await;
    assert_eq!(second.requests().len(), 10);
}

#[tokio::test]
async fn while_the_first_priority_can_be_reached_the_second_gets_nothing() {
    let origins = origins(3).await;
    let gateway = with_keys(&origins, &["priority = 3", "priority = 1", "priority = 1"], "").await;
    ask(&gateway, 60, "").await;
    let counts = counts(&origins);
    assert!(counts[0] == 0 && counts[1] > 10 && counts[2] > 10, "{counts:?}");
}

#[tokio::test]
async fn endpoints_come_and_go_by_reload_under_load_and_no_request_fails() {
    let origins = origins(3).await;
    let [one, two, three] = [&origins[0], &origins[1], &origins[2]].map(Origin::endpoint);
    let gateway = Setup::endpoints([one.clone(), two.clone()]).start().await;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (mut client, stop) = (Client::plain(gateway.http).await, std::sync::Arc::clone(&stop));
        load.spawn(async move {
            while !stop.load(std::sync::atomic::Ordering::SeqCst) {
                assert_eq!(client.get("/").await.status(), 200);
                assert_eq!(client.post("/", "body").await.status(), 200);
            }
        });
    }
    let lists = [vec![&one, &two, &three], vec![&one, &three], vec![&one], vec![&one, &two]];
    for (number, list) in lists.iter().cycle().take(12).enumerate() {
        let list = format!("endpoints = {list:?}");
        gateway.edit(|text| {
            let lines = text.lines().map(|line| if line.starts_with("endpoints = ") { &*list } else { line });
            lines.collect::<Vec<_>>().join("\n")
        });
        gateway.until_generation(u64::try_from(number).unwrap() + 2).await;
    }
    // The last list has no third endpoint: what it had is closed, and nothing new comes.
    eventually("no connection to an endpoint that is gone", || async { (origins[2].open() == 0).then_some(()) }).await;
    let gone = origins[2].requests().len();
    assert!(gone > 0, "it was used");
    let seen = origins[1].requests().len();
    eventually("requests to one that is back", || async { (origins[1].requests().len() > seen + 20).then_some(()) })
        .await;
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    load.join_all().await;
    assert_eq!(origins[2].requests().len(), gone);
    // The one that stayed all the time kept its connections: four clients need no more than four, and a few for a moment.
    assert!(origins[0].accepted() <= 8, "{}", origins[0].accepted());
}

#[tokio::test]
async fn an_endpoint_that_is_removed_finishes_what_it_has() {
    let (leaving, gate) = Origin::gated().await;
    let staying = Origin::hello().await;
    let gateway = Setup::endpoints([leaving.endpoint()]).start().await;
    let mut waiting = Client::plain(gateway.http).await;
    waiting.send(get("/long")).await;
    eventually("a request at the endpoint", || async { (leaving.requests().len() == 1).then_some(()) }).await;
    gateway.edit(|text| text.replace(&leaving.endpoint(), &staying.endpoint()));
    gateway.until_generation(2).await;
    ask(&gateway, 5, "").await;
    assert_eq!((leaving.requests().len(), staying.requests().len()), (1, 5));
    gate.add_permits(1);
    let answer = waiting.answer().await;
    assert_eq!((answer.status(), &*answer.text()), (200, "hello"));
    eventually("its last connection closed", || async { (leaving.open() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn a_new_endpoint_begins_with_little_where_it_is_to_start_slowly() {
    let origins = origins(2).await;
    let keys = "balance = \"round-robin\"\nslow_start_secs = 3600";
    let gateway = Setup::endpoints([origins[0].endpoint()]).upstream(keys).start().await;
    let both = format!("endpoints = [\"{}\", \"{}\"]", origins[0].endpoint(), origins[1].endpoint());
    gateway.edit(|text| text.replace(&format!("endpoints = [\"{}\"]", origins[0].endpoint()), &both));
    gateway.until_generation(2).await;
    ask(&gateway, 110, "").await;
    assert_eq!(counts(&origins), [100, 10], "a tenth of its weight");
}

/// What the admin listener answers to an order about an endpoint.
async fn order(gateway: &Gateway, origin: &Origin, order: &str) -> Message {
    let path = format!("/upstreams/app/endpoints/{}/{order}", origin.endpoint());
    let request = format!("POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n", gateway.admin);
    Client::plain(gateway.admin).await.ask(request).await
}

#[tokio::test]
async fn a_drained_endpoint_finishes_what_it_has_and_gets_nothing_until_it_is_put_back() {
    let (leaving, gate) = Origin::gated().await;
    let staying = Origin::hello().await;
    let keys = "balance = \"round-robin\"";
    let gateway = Setup::endpoints([leaving.endpoint(), staying.endpoint()]).upstream(keys).start().await;
    let mut waiting = Client::plain(gateway.http).await;
    waiting.send(get("/")).await;
    eventually("a request at the endpoint", || async { (leaving.requests().len() == 1).then_some(()) }).await;

    let answer = order(&gateway, &leaving, "drain").await;
    assert_eq!((answer.status(), answer.json()["drained"].as_bool()), (200, Some(true)));
    ask(&gateway, 20, "").await;
    assert_eq!((leaving.requests().len(), staying.requests().len()), (1, 20));
    gateway.edit(|text| text.replace(keys, &format!("{keys}\nread_timeout_secs = 59\nmax_connections = 9")));
    gateway.until_generation(2).await;
    ask(&gateway, 20, "").await;
    assert_eq!((leaving.requests().len(), staying.requests().len()), (1, 40), "a reload forgets nothing");
    let page = scrape::ask(gateway.admin, "/").await.text();
    assert!(page.contains("drained") && page.contains("eligible"), "{page}");

    gate.add_permits(100);
    assert_eq!(waiting.answer().await.status(), 200, "what it had is finished");
    assert_eq!(order(&gateway, &leaving, "undrain").await.status(), 200);
    ask(&gateway, 20, "").await;
    assert_eq!((leaving.requests().len(), staying.requests().len()), (11, 50));
}

#[tokio::test]
async fn the_last_endpoint_can_not_be_drained_nor_one_that_is_not_there() {
    let origins = origins(2).await;
    let gateway = before(&origins).start().await;
    assert_eq!(order(&gateway, &origins[0], "drain").await.status(), 200);
    let refused = order(&gateway, &origins[1], "drain").await;
    assert_eq!(refused.status(), 409);
    assert!(refused.text().contains("the last endpoint of `app` in use"), "{}", refused.text());
    assert_eq!(order(&gateway, &Origin::hello().await, "drain").await.status(), 404);
    ask(&gateway, 10, "").await;
    assert_eq!(counts(&origins), [0, 10]);
    let listing = format!("GET /upstreams HTTP/1.1\r\nHost: {}\r\n\r\n", gateway.admin);
    let list = Client::plain(gateway.admin).await.ask(listing).await.json();
    let drained = |at: usize| list["endpoints"][at]["drained"].as_bool();
    assert_eq!((drained(0), drained(1)), (Some(true), Some(false)));
}

#[tokio::test]
async fn a_client_bound_to_an_endpoint_that_is_drained_is_bound_to_another() {
    let origins = origins(2).await;
    let gateway = before(&origins).upstream(STICKY).start().await;
    let mut client = Client::plain(gateway.http).await;
    let cookie = bound(&client.get("/").await).unwrap();
    let home = counts(&origins).iter().position(|count| *count == 1).unwrap();
    assert_eq!(order(&gateway, &origins[home], "drain").await.status(), 200);
    let answer = client.get_with("/", &format!("Cookie: {cookie}\r\n")).await;
    assert!(bound(&answer).is_some_and(|given| given != cookie));
    assert_eq!(counts(&origins)[1 - home], 1);
}
