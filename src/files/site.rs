//! One directory served: from memory if we can, from the file system if we must.
//!
//! Owns: the order of looking, opening and answering, and how many visits to the file system go on at once. Refuses to
//! know: every detail; each is a neighbour's.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::{HeaderMap, HeaderValue};
use http::{Method, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;

use super::answer::{Representation, redirect_to_slash};
use super::cache::{Entry, Held, Lookup, Memory};
use super::content::Content;
use super::error::FilesError;
use super::lists::{DirectoryRequest, Lists};
use super::load::{Loaded, State, Terms, load};
use super::manifest::Manifest;
use super::open::{Identity, Opened, Root};
use super::resolve::{admits, may_be_a_page, resolve};
use super::settings::SiteSettings;
use super::variants::Variants;
use crate::http::coding::Coding;
use crate::http::compress::CompressSettings;
use crate::http::{Body, own_value};

/// A directory that answers GET and HEAD.
///
/// Each worker opens its own: entries in memory are shared by the requests of one worker and cross no core.
#[derive(Debug)]
pub struct Site {
    root: Arc<Root>,
    index: Arc<[Box<str>]>,
    cache_control: Option<HeaderValue>,
    hashed: Option<Hashed>,
    fallback: Option<Box<str>>,
    precompressed: bool,
    compress: Option<Arc<CompressSettings>>,
    small_bytes: u64,
    memory: Memory,
    lists: Option<Lists>,
    visits: Arc<Semaphore>,
}

/// How the files that a manifest lists are answered.
#[derive(Debug)]
struct Hashed {
    manifest: Arc<Manifest>,
    cache_control: HeaderValue,
}

/// How many blocking threads one site of one worker may hold for opening files. A file system that hangs stops this
/// site, not the worker.
const VISITS_AT_ONCE: usize = 16;

impl Site {
    /// Opens the root. It must be a directory now; when it is replaced later, that is seen within a second.
    ///
    /// `manifest` is the one that the settings name, if they name one.
    ///
    /// # Errors
    ///
    /// What the file system says of the root, or `InvalidInput` for an index name that is no plain file name.
    pub fn open(settings: SiteSettings, manifest: Option<Arc<Manifest>>) -> io::Result<Self> {
        if let Some(name) = settings.index.iter().find(|name| !admits(name, false)) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("`{name}` is no plain file name")));
        }
        let now = Instant::now();
        Ok(Self {
            root: Arc::new(Root::open(settings.root, now)?),
            index: settings.index.into(),
            // Answers count references to these, and the settings are every worker's.
            cache_control: settings.cache_control.as_ref().map(own_value),
            hashed: manifest
                .zip(settings.manifest.as_ref())
                .map(|(manifest, settings)| Hashed { manifest, cache_control: own_value(&settings.cache_control) }),
            fallback: settings.fallback,
            precompressed: settings.precompressed,
            compress: settings.compress.map(Arc::new),
            small_bytes: settings.cache_file_bytes,
            memory: Memory::new(settings.cache_total_bytes, now),
            lists: settings.listing.then(Lists::new),
            visits: Arc::new(Semaphore::new(VISITS_AT_ONCE)),
        })
    }

    /// Answers with 200, 206, 301 or 304. `path` is what remains of the canonical path below the route's prefix:
    /// percent-decoded, without a leading slash; the empty path is the root with its slash. `now` is when the request came.
    ///
    /// A file in memory is answered before the first await point, without a system call, a lock that is held by anyone
    /// else, or an allocation but for the headers; only a miss makes a future on the heap. So there is no second,
    /// synchronous entrance.
    ///
    /// Cancel-safe: a visit to the file system that nobody waits for any more ends by itself, and counts until then.
    ///
    /// # Errors
    ///
    /// See [`FilesError`]; a body that breaks off later carries a [`TransferError`](super::TransferError).
    pub async fn answer(
        &self,
        now: Instant,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Body>, FilesError> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(FilesError::MethodNotAllowed);
        }
        let asked = Asked { now, method, path, headers };
        let answered = self.find(asked).await;
        match &self.fallback {
            // Nothing is remembered of the path itself: a file that appears there is served at once.
            Some(fallback) if matches!(answered, Err(FilesError::NotFound)) && may_be_a_page(path) => {
                self.find(Asked { path: fallback, ..asked }).await
            }
            _ => answered,
        }
    }

    /// Whether a path that [`Self::answer`] found nothing for may be a directory to be listed.
    pub fn lists(&self, path: &str) -> bool {
        self.lists.is_some() && (path.is_empty() || path.ends_with('/'))
    }

    /// Answers a GET or HEAD for a directory without an index file with its listing: 200, 301 or 304.
    ///
    /// Cancel-safe, as [`Self::answer`] is.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such directory, or it is not to be listed; `PreconditionFailed`, `Io`.
    pub async fn list(&self, asked: DirectoryRequest<'_>) -> Result<Response<Body>, FilesError> {
        let lists = self.lists.as_ref().ok_or(FilesError::NotFound)?;
        lists.answer(&self.root, &self.visits, asked).await
    }

    async fn find(&self, asked: Asked<'_>) -> Result<Response<Body>, FilesError> {
        match self.memory.look_up(asked.path, asked.now) {
            Lookup::Fresh(entry) => asked.remembered(&entry),
            Lookup::Stale(entry) => Box::pin(self.visit(asked, Some(entry))).await,
            Lookup::Absent => Box::pin(self.visit(asked, None)).await,
        }
    }

    /// Goes to the file system.
    async fn visit(&self, asked: Asked<'_>, held: Option<Arc<Entry>>) -> Result<Response<Body>, FilesError> {
        if resolve(asked.path).is_none() {
            return Err(FilesError::NotFound);
        }
        let turn = if let Ok(turn) = Arc::clone(&self.visits).try_acquire_owned() {
            turn
        } else {
            let turn = self.wait_for_turn().await?;
            // Those ahead may have fetched what this request came for.
            if let Lookup::Fresh(entry) = self.memory.look_up(asked.path, asked.now) {
                return asked.remembered(&entry);
            }
            turn
        };
        let known = held.as_ref().and_then(|entry| entry.known().cloned());
        let Self { small_bytes, precompressed, .. } = *self;
        let compress = self.compress.clone();
        let terms = Terms { small_bytes, names: None, precompressed, compress, known, now: asked.now };
        // Taken before the file is looked at: a change after this moment must not count as settled.
        let wall = SystemTime::now();
        let loaded = self.load(turn, asked.path, terms).await?;
        self.remember(asked, wall, held, loaded)
    }

    /// Answers with what the visit brought, and sees to it that memory says the same from now on.
    fn remember(
        &self,
        asked: Asked<'_>,
        wall: SystemTime,
        held: Option<Arc<Entry>>,
        loaded: Loaded,
    ) -> Result<Response<Body>, FilesError> {
        match (loaded, held) {
            (Loaded::Unchanged, Some(entry)) => {
                self.memory.confirm(&entry, asked.now);
                asked.remembered(&entry)
            }
            (Loaded::Small { files, made, path, hashed }, _) => {
                let state = State { files: files.as_ref().map(|_, file| file.identity), hashed };
                let (identity, varies) = (files.plain().identity, files.vary() || !made.is_empty());
                let held = |coding, identity: &Identity, content| {
                    let manner = Manner { coding, varies, hashed };
                    Held { representation: self.represent(identity, &path, manner, wall), content }
                };
                let mut variants = files.map(|coding, file| held(coding, &file.identity, file.content));
                for (coding, content) in made {
                    let identity = Identity { size: content.len() as u64, ..identity };
                    variants.add(coding, held(Some(coding), &identity, content));
                }
                let settled = state.settled(wall);
                asked.remembered(&self.memory.keep(asked.path, asked.now, variants, state, settled))
            }
            (Loaded::Large { files, hashed }, _) => {
                self.memory.forget(asked.path);
                self.stream(asked, files, hashed, wall)
            }
            (Loaded::Directory, _) => {
                self.memory.forget(asked.path);
                Ok(redirect_to_slash(asked.path, self.cache_control.as_ref()))
            }
            (Loaded::Missing | Loaded::Unchanged, _) => {
                self.memory.forget(asked.path);
                Err(FilesError::NotFound)
            }
        }
    }

    fn stream(
        &self,
        asked: Asked<'_>,
        files: Variants<Opened>,
        hashed: bool,
        wall: SystemTime,
    ) -> Result<Response<Body>, FilesError> {
        let varies = files.vary();
        let (coding, opened) = files.into_chosen(asked.headers);
        let manner = Manner { coding, varies, hashed };
        asked.streamed(&self.represent(&opened.identity, &opened.path, manner, wall), opened)
    }

    fn represent(&self, identity: &Identity, path: &str, manner: Manner, wall: SystemTime) -> Representation {
        let Manner { coding, varies, hashed } = manner;
        let hashed = self.hashed.as_ref().filter(|_| hashed).map(|hashed| &hashed.cache_control);
        let plain = Representation::new(identity, path, hashed.or(self.cache_control.as_ref()), wall);
        let representation = match coding {
            Some(coding) => plain.coded(coding),
            None => plain,
        };
        if varies { representation.varying() } else { representation }
    }

    async fn wait_for_turn(&self) -> Result<OwnedSemaphorePermit, FilesError> {
        let turn = Arc::clone(&self.visits).acquire_owned().await;
        turn.map_err(|closed| FilesError::Io(io::Error::other(closed)))
    }

    /// The turn goes with the visit, not with the request: a client that leaves frees no thread.
    async fn load(&self, turn: OwnedSemaphorePermit, path: &str, terms: Terms) -> Result<Loaded, FilesError> {
        let root = Arc::clone(&self.root);
        let index = Arc::clone(&self.index);
        let manifest = self.hashed.as_ref().map(|hashed| Arc::clone(&hashed.manifest));
        let path = path.to_owned();
        let visit = spawn_blocking(move || {
            let _turn = turn;
            let terms = Terms { names: manifest.map(|manifest| manifest.names(terms.now)), ..terms };
            // `Wanted` borrows, so the thread makes its own from the path it owns.
            resolve(&path).map_or(Ok(Loaded::Missing), |wanted| load(&root, wanted, &index, &terms))
        });
        visit.await.map_err(io::Error::other).flatten().map_err(FilesError::Io)
    }
}

/// What a file is besides its contents.
#[derive(Debug, Clone, Copy)]
struct Manner {
    coding: Option<Coding>,
    /// Whether there are other codings of it.
    varies: bool,
    /// Whether its name says which contents it has.
    hashed: bool,
}

/// One request, as far as a site sees it.
#[derive(Clone, Copy)]
struct Asked<'r> {
    now: Instant,
    method: &'r Method,
    path: &'r str,
    headers: &'r HeaderMap,
}

impl Asked<'_> {
    fn remembered(self, entry: &Entry) -> Result<Response<Body>, FilesError> {
        let Held { representation, content } = entry.variants.choose(self.headers);
        let plan = representation.plan(self.method, self.headers)?;
        Ok(representation.answer(self.method, plan, Content::Memory(content)))
    }

    fn streamed(self, representation: &Representation, opened: Opened) -> Result<Response<Body>, FilesError> {
        let plan = representation.plan(self.method, self.headers)?;
        Ok(representation.answer(self.method, plan, Content::File(opened)))
    }
}

#[cfg(test)]
mod tests;
