//! The admin listener as a scraper sees it.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::client::Client;
use super::wire::Message;

/// One page of /metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape {
    /// Series, by name with labels as they are written.
    series: BTreeMap<String, f64>,
}

/// One path of the admin listener.
pub async fn ask(admin: SocketAddr, path: &str) -> Message {
    Client::plain(admin).await.get(path).await
}

impl Scrape {
    pub async fn of(admin: SocketAddr) -> Self {
        let page = ask(admin, "/metrics").await;
        assert_eq!(page.status(), 200);
        let line = |line: &str| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        };
        Self { series: page.text().lines().filter(|text| !text.starts_with('#')).map(line).collect() }
    }

    /// The sum of a family's series whose labels include all of `labels`, each as `name="value"`.
    pub fn count(&self, family: &str, labels: &[&str]) -> u64 {
        let belongs = |series: &str| {
            let (name, rest) = series.split_once('{').unwrap_or((series, ""));
            name == family && labels.iter().all(|label| rest.contains(label))
        };
        self.series.iter().filter(|(series, _)| belongs(series)).map(|(series, value)| whole(series, *value)).sum()
    }

    /// The names of all series.
    pub fn names(&self) -> Vec<&str> {
        self.series.keys().map(String::as_str).collect()
    }
}

/// A value of something that is counted one by one.
fn whole(series: &str, value: f64) -> u64 {
    format!("{value}").parse().unwrap_or_else(|_| panic!("{series} is {value}"))
}
