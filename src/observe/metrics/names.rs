//! What is read of names that are looked up: by the name that is configured, never by an address.

use super::super::names::NameStatus;
use super::family::Family;
use super::sheet::Sheet;

pub(super) const LOOKUPS: Family = Family::counter(
    "portcullis_dns_lookups_total",
    "Questions about a name that stands for endpoints, by what came of them.",
    &["name", "result"],
);
pub(super) const ADDRESSES: Family = Family::gauge(
    "portcullis_dns_addresses",
    "Addresses of a name that are in use; those that the last answer lacked are not.",
    &["name"],
);
pub(super) const FAILING: Family = Family::gauge(
    "portcullis_dns_failing",
    "1 if a name did not resolve when it was last asked for, so that its last known addresses are used.",
    &["name"],
);
pub(super) const AGE: Family = Family::gauge(
    "portcullis_dns_answer_age_seconds",
    "Since a name last resolved; absent if it never did.",
    &["name"],
);

pub(super) fn read(sheet: &mut Sheet, names: &[NameStatus]) {
    for (at, status) in names.iter().enumerate() {
        // One host may be asked for its addresses and for its services, and has one label.
        if at > 0 && names[at - 1].name == status.name {
            continue;
        }
        let same = || names.iter().filter(|other| other.name == status.name);
        let name = &*status.name;
        for (at, (result, _)) in status.lookups.iter().enumerate() {
            let count = same().filter_map(|status| status.lookups.get(at)).map(|(_, count)| count).sum::<u64>();
            sheet.put(&LOOKUPS, &[name, result], count);
        }
        let addresses: usize = same().map(|status| status.addresses).sum();
        sheet.put(&ADDRESSES, &[name], u64::try_from(addresses).unwrap_or(u64::MAX));
        sheet.put(&FAILING, &[name], i32::from(same().any(|status| status.failing)));
        if let Some(age) = same().filter_map(|status| status.age).max() {
            sheet.put(&AGE, &[name], age.as_secs());
        }
    }
}
