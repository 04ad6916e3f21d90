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
    pub fn sum(&self, family: &str, labels: &[&str]) -> f64 {
        let belongs = |series: &str| {
            let (name, rest) = series.split_once('{').unwrap_or((series, ""));
            name == family && labels.iter().all(|label| rest.contains(label))
        };
        // Negative zero is what no addends sum up to.
        self.series.iter().filter(|(series, _)| belongs(series)).map(|(_, value)| value).sum::<f64>() + 0.0
    }

    /// The names of all series.
    pub fn names(&self) -> Vec<&str> {
        self.series.keys().map(String::as_str).collect()
    }
}
