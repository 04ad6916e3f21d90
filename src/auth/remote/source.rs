//! One fetch from beginning to end: metadata if need be, then the set.

use std::time::Duration;

use super::metadata::{self, MetadataError};
use super::published::KeySet;
use super::settings::RemoteSource;
use crate::fetch::{FetchError, FetchSettings, Fetched, Fetcher, Location, LocationError};

/// Why a fetch brought no set.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error("{url}")]
    Fetch {
        url: Location,
        #[source]
        error: FetchError,
    },
    #[error("{url}")]
    Metadata {
        url: Location,
        #[source]
        error: MetadataError,
    },
    #[error("the issuer's identifier has no metadata URL")]
    Identifier(#[source] LocationError),
    #[error("{url}: {problem}")]
    KeySet { url: Location, problem: String },
    #[error("no set within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

/// A set, and how long its server says it is good for.
pub(super) struct Brought {
    pub(super) set: KeySet,
    pub(super) max_age: Option<Duration>,
}

/// Fetches the set; all its exchanges together have the time of one.
pub(super) async fn fetch(
    fetcher: &Fetcher,
    source: &RemoteSource,
    settings: &FetchSettings,
) -> Result<Brought, SourceError> {
    let whole = async {
        match source {
            RemoteSource::KeySet(location) => key_set(fetcher, location).await,
            RemoteSource::Discovery(issuer) => {
                key_set(fetcher, &discover(fetcher, issuer, settings.plain_http).await?).await
            }
        }
    };
    let timeout = settings.timeout;
    tokio::time::timeout(timeout, whole).await.map_err(|_| SourceError::Timeout(timeout))?
}

async fn key_set(fetcher: &Fetcher, url: &Location) -> Result<Brought, SourceError> {
    let answer = get(fetcher, url).await?;
    let set =
        KeySet::read(&answer.body).map_err(|bad| SourceError::KeySet { url: url.clone(), problem: bad.message })?;
    Ok(Brought { set, max_age: answer.max_age })
}

/// Where the key set stands. Metadata that is elsewhere is looked for there; metadata that is wrong ends the search.
async fn discover(fetcher: &Fetcher, issuer: &Location, plain_http: bool) -> Result<Location, SourceError> {
    let [first, second] = metadata::locations(issuer).map_err(SourceError::Identifier)?;
    match at(fetcher, &first, issuer, plain_http).await {
        Err(error) if is_elsewhere(&error) => match at(fetcher, &second, issuer, plain_http).await {
            // Most issuers have the first: what was wrong there says more.
            Err(other) if is_elsewhere(&other) => Err(error),
            found => found,
        },
        found => found,
    }
}

async fn at(fetcher: &Fetcher, url: &Location, issuer: &Location, plain_http: bool) -> Result<Location, SourceError> {
    let body = get(fetcher, url).await?.body;
    metadata::key_set(&body, issuer, plain_http).map_err(|error| SourceError::Metadata { url: url.clone(), error })
}

/// A server answers a path it does not know with an error, with a redirect to a login, or with its front page.
fn is_elsewhere(error: &SourceError) -> bool {
    matches!(
        error,
        SourceError::Fetch { error: FetchError::Status { .. } | FetchError::Redirect { .. }, .. }
            | SourceError::Metadata { error: MetadataError::NotJson, .. }
    )
}

async fn get(fetcher: &Fetcher, url: &Location) -> Result<Fetched, SourceError> {
    fetcher.get(url).await.map_err(|error| SourceError::Fetch { url: url.clone(), error })
}
