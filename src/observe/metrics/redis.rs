//! What is read of the link to Redis, where there is one.

use super::super::redis::Sharing;
use super::family::Family;
use super::sheet::Sheet;

pub(super) const REDIS_UP: Family = Family::gauge(
    "portcullis_redis_up",
    "Whether Redis answers, so that what is to be shared is shared: 1 or 0. Absent without [redis].",
    &[],
);
pub(super) const REDIS_FALLBACKS: Family = Family::counter(
    "portcullis_redis_fallbacks_total",
    "Requests whose shared rate limits this gateway decided alone, because Redis did not answer in time.",
    &[],
);

pub(super) fn read(sheet: &mut Sheet, sharing: &Sharing) {
    if let Some(status) = sharing.status() {
        sheet.put(&REDIS_UP, &[], i32::from(status.up));
        sheet.put(&REDIS_FALLBACKS, &[], status.fallbacks);
    }
}
