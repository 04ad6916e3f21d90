//! What is read of bodies that are kept for one upstream.

use super::super::spools::SpoolStatus;
use super::sheet::Sheet;
use super::{BUFFERED_BYTES, BUFFERED_RESPONSES, BUFFERED_WRITTEN, SPOOL_BYTES, SPOOLED_REQUESTS};

pub(super) fn read(sheet: &mut Sheet, SpoolStatus { upstream, requests, responses }: &SpoolStatus) {
    if let Some(kept) = requests {
        sheet.put(&SPOOL_BYTES, &[upstream], kept.disk_bytes);
        sheet.put(&SPOOLED_REQUESTS, &[upstream], kept.bodies);
    }
    if let Some(kept) = responses {
        sheet.put(&BUFFERED_BYTES, &[upstream], kept.disk_bytes);
        sheet.put(&BUFFERED_RESPONSES, &[upstream], kept.bodies);
        sheet.put(&BUFFERED_WRITTEN, &[upstream], kept.written_bytes);
    }
}
