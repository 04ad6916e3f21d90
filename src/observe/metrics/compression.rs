//! What is counted of answers that are compressed on their way, and of those that found no room.

use std::sync::Arc;

use super::cells::{Count, RouteCells};
use super::family::Family;
use super::sheet::Sheet;

/// The coding labels, as `Content-Encoding` has them; any other counts as `other`.
pub const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];

const OTHER: &str = "other";

pub(super) const COMPRESS_RESPONSES: Family = Family::counter(
    "portcullis_compress_responses_total",
    "Responses that the gateway has begun to compress, by coding.",
    &["route", "coding"],
);
pub(super) const COMPRESS_INPUT_BYTES: Family = Family::counter(
    "portcullis_compress_input_bytes_total",
    "Body bytes that went into an encoder, by coding.",
    &["route", "coding"],
);
pub(super) const COMPRESS_OUTPUT_BYTES: Family = Family::counter(
    "portcullis_compress_output_bytes_total",
    "Body bytes that came out of an encoder, by coding.",
    &["route", "coding"],
);
pub(super) const COMPRESS_SKIPPED: Family = Family::counter(
    "portcullis_compress_skipped_total",
    "Responses sent as they were because too many were being compressed.",
    &["route"],
);

/// One worker's counts of the compressed answers of one route.
#[derive(Debug, Default)]
pub(super) struct CompressionCells {
    codings: [CodingCells; CODINGS.len() + 1],
    skipped: Count,
}

#[derive(Debug, Default)]
struct CodingCells {
    responses: Count,
    bytes_in: Count,
    bytes_out: Count,
}

/// Counts what goes through the encoder of one answer.
#[derive(Debug)]
pub struct CompressionMeter {
    cells: Arc<RouteCells>,
    slot: usize,
}

impl CompressionMeter {
    /// An answer is being compressed.
    pub(super) fn begin(cells: &Arc<RouteCells>, coding: &str) -> Self {
        let slot = CODINGS.iter().position(|known| *known == coding).unwrap_or(CODINGS.len());
        let meter = Self { cells: Arc::clone(cells), slot };
        meter.coding().responses.add(1);
        meter
    }

    /// So many bytes more went in and came out.
    pub fn moved(&self, bytes_in: u64, bytes_out: u64) {
        self.coding().bytes_in.add(bytes_in);
        self.coding().bytes_out.add(bytes_out);
    }

    fn coding(&self) -> &CodingCells {
        &self.cells.compression.get_or_init(Box::default).codings[self.slot]
    }
}

/// An answer found no room.
pub(super) fn skipped(cells: &RouteCells) {
    cells.compression.get_or_init(Box::default).skipped.add(1);
}

/// The families of one route; a route that compresses nothing has none of them.
pub(super) fn read(sheet: &mut Sheet, route: &str, shards: &[&RouteCells]) {
    let cells: Vec<&CompressionCells> =
        shards.iter().filter_map(|shard| shard.compression.get()).map(AsRef::as_ref).collect();
    if cells.is_empty() {
        return;
    }
    for (slot, coding) in CODINGS.into_iter().chain([OTHER]).enumerate() {
        let sum = |pick: fn(&CodingCells) -> &Count| {
            cells.iter().map(|cells| pick(&cells.codings[slot]).value()).sum::<u64>()
        };
        let responses = sum(|coding| &coding.responses);
        if responses > 0 {
            sheet.put(&COMPRESS_RESPONSES, &[route, coding], responses);
            sheet.put(&COMPRESS_INPUT_BYTES, &[route, coding], sum(|coding| &coding.bytes_in));
            sheet.put(&COMPRESS_OUTPUT_BYTES, &[route, coding], sum(|coding| &coding.bytes_out));
        }
    }
    sheet.put(&COMPRESS_SKIPPED, &[route], cells.iter().map(|cells| cells.skipped.value()).sum::<u64>());
}
