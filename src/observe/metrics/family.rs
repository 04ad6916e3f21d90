//! What a metric family is: a name, a help text, a kind and its label names.

/// One metric family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// The name a query uses; a histogram's series add `_bucket`, `_sum` and `_count`.
    pub name: &'static str,
    /// One sentence, shown in the scrape.
    pub help: &'static str,
    /// How its values move.
    pub kind: Kind,
    /// Label names, in the order of their values.
    pub labels: &'static [&'static str],
}

/// How the values of a family move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only up, until the process restarts.
    Counter,
    /// Up and down.
    Gauge,
    /// Observations counted in buckets.
    Histogram,
}

impl Family {
    pub(super) const fn counter(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, kind: Kind::Counter, labels }
    }

    pub(super) const fn gauge(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, kind: Kind::Gauge, labels }
    }

    pub(super) const fn histogram(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Self {
        Self { name, help, kind: Kind::Histogram, labels }
    }
}
