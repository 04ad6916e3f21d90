//! `queue_order` and `concurrency` of `[upstream.NAME]`.

use super::super::problem::Problem;
use super::super::raw;
use super::super::shapes::Concurrency;
use super::context::Context;
use crate::upstream::{ConcurrencyBounds, QueueOrder};

const ORDERS: [(&str, QueueOrder); 2] = [("fifo", QueueOrder::Fifo), ("adaptive", QueueOrder::Adaptive)];
const FORMS: &str = "write \"adaptive\" or `{ min = 4, max = 64 }`; a fixed number is `max_connections`";

pub(super) fn order(context: &mut Context<'_>, raw: &raw::Upstream) -> QueueOrder {
    context.choice(&raw.queue_order, "queue_order", &ORDERS, QueueOrder::default())
}

/// `carried` is how many requests the connections to one endpoint can carry.
pub(super) fn concurrency(context: &mut Context<'_>, raw: &raw::Upstream, carried: usize) -> Option<ConcurrencyBounds> {
    let (shape, span) = context.take(&raw.concurrency)?;
    let usual = raw::ConcurrencyTable::default();
    let table = match shape {
        Concurrency::Table(table) => table,
        Concurrency::Word(word) => {
            if word != "adaptive" {
                let problem = Problem::error(span, format!("`{word}` is no value of `concurrency`"));
                context.report(problem.hint(FORMS));
            }
            &usual
        }
    };
    let min = context.number(&table.min, "min", " requests", 1..=65_536, 1).min(carried);
    let most = i64::try_from(carried).unwrap_or(i64::MAX);
    let max = context.number(&table.max, "max", " requests", 1..=most, carried);
    if let Some(span) = table.max.span().or(table.min.span()).filter(|_| max < min) {
        context.report(Problem::error(span, "`max` is less than `min`"));
    }
    Some(ConcurrencyBounds { min: min.min(max), max })
}
