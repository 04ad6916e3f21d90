//! Static files: nothing outside the root, ever.
//!
//! Owns: which file a path names, how it is opened beneath the root, which of 200, 206, 301 and 304 answers a GET or
//! HEAD, the small files kept in memory, the stream of the large ones and the listing of directories (RFC 9110 sections 8.8, 13, 14 and 15.3 to
//! 15.5). Refuses to know: routes and prefixes, status codes of failures, who is asking.
//!
//! Deciding is separate from answering: `resolve` and `range` are pure (as is `http::conditional`), `open` and `load` touch the file
//! system, `answer` makes the response, and `site` tells the story.

mod answer;
mod buffers;
mod cache;
mod content;
mod directory;
mod error;
mod internal;
mod listing;
mod lists;
mod load;
mod made;
mod manifest;
mod media_type;
mod multipart;
mod open;
pub mod precompress;
mod range;
mod resolve;
mod settings;
mod site;
mod stream;
mod variants;

pub use error::FilesError;
pub use internal::{InternalRoot, InternalRoots, NoRoot, absolute};
pub use lists::DirectoryRequest;
pub use manifest::{Manifest, check_manifest};
pub use resolve::is_file_path;
pub use settings::*;
pub use site::Site;
pub use stream::TransferError;
