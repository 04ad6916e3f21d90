//! The driver of probes: asks one endpoint again and again, once for the whole process.

use std::sync::Arc;

use tokio::time::{sleep, timeout};

use super::Ward;
use super::question::{self, Probed};
use super::standing::random;
use super::streak::Streak;
use crate::proxy_protocol;
use crate::shutdown::Tasks;
use crate::upstream::{Address, TlsClient};

/// Probes come up to so much earlier or later than their interval, so that many gateways do not come at once.
const JITTER: f64 = 0.1;

/// Probes the endpoint at this place, until it is dropped.
pub(in crate::upstream) async fn keep_probing(
    ward: Arc<Ward>,
    at: usize,
    address: Address,
    tls: Option<TlsClient>,
    announce: Option<proxy_protocol::Version>,
    tasks: Tasks,
) {
    let Some(settings) = ward.probing().cloned() else { return };
    let announcement = announce.map_or_else(Vec::new, proxy_protocol::write_own);
    let standing = ward.standing(at);
    let mut streak = Streak::new(!standing.is_down(), !standing.is_unproven());
    loop {
        let asking = question::ask(&settings.question, &address, tls.as_ref(), &announcement, &tasks);
        let probed = timeout(settings.timeout, asking).await.unwrap_or(Probed::Timeout);
        ward.probed(at, probed, &mut streak, &settings);
        sleep(settings.interval.mul_f64(1.0 + JITTER * (2.0 * random() - 1.0))).await;
    }
}
