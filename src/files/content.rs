//! Where the bytes of an answer are: in memory, or in an open file.
//!
//! Owns: making a body of one span of them, and of several (`multipart`). Refuses to know: headers, what the spans are for.

use bytes::Bytes;

use super::multipart::Multipart;
use super::open::Opened;
use super::range::Span;
use super::stream::{FileStream, TransferError};
use crate::http::{Body, BodyError};

/// The bytes of one representation.
#[derive(Debug)]
pub(super) enum Content<'e> {
    Memory(&'e Bytes),
    File(Opened),
}

/// The same for a body that takes several spans.
#[derive(Debug)]
pub(super) enum Source {
    Memory(Bytes),
    File(Opened),
}

impl Content<'_> {
    /// The bytes of one span. It must lie within them.
    pub(super) fn span(self, span: Span) -> Body {
        match self {
            Self::Memory(bytes) => Body::full(bytes.slice(within(span))),
            Self::File(opened) => Body::stream(FileStream::new(opened, span)),
        }
    }

    /// What `multipart` makes of them.
    pub(super) fn parts(self, multipart: Multipart) -> Body {
        Body::stream(multipart.over(match self {
            Self::Memory(bytes) => Source::Memory(bytes.clone()),
            Self::File(opened) => Source::File(opened),
        }))
    }
}

impl Source {
    /// The bytes of one span. A file is shared: each stream has a descriptor of its own for as long as it lasts.
    pub(super) fn span(&self, span: Span) -> Result<Body, BodyError> {
        match self {
            Self::Memory(bytes) => Ok(Body::full(bytes.slice(within(span)))),
            Self::File(Opened { file, identity, .. }) => {
                let file = file.try_clone().map_err(TransferError::Read)?;
                let opened = Opened { file, identity: *identity, path: String::new() };
                Ok(Body::stream(FileStream::new(opened, span)))
            }
        }
    }
}

fn within(span: Span) -> std::ops::Range<usize> {
    let index = |offset| usize::try_from(offset).expect("contents in memory are indexed by usize");
    index(span.start)..index(span.start + span.len)
}
