//! Small files in the codings that nobody made beforehand: encoded once, when they are read, and kept with them.
//!
//! Owns which files get them. Runs on a blocking thread. Refuses to know how bytes are encoded; `http::compress` does.

use bytes::Bytes;

use super::load::Small;
use super::media_type;
use super::variants::Variants;
use crate::http::coding::Coding;
use crate::http::compress::{CompressSettings, Effort, whole};

/// What is made of a small file, in the order of preference. A file that has siblings has what its author wants sent, and better
/// compressed than there is time for here.
pub(super) fn made(files: &Variants<Small>, path: &str, settings: &CompressSettings) -> Vec<(Coding, Bytes)> {
    let content = &files.plain().content;
    let worth = content.len() as u64 >= settings.min_bytes && settings.types.hold(media_type::of(path).as_bytes());
    if files.vary() || !worth {
        return Vec::new();
    }
    let shorter = |coding| {
        let coded = whole(coding, Effort::Stream, content).ok()?;
        (coded.len() < content.len()).then(|| (coding, Bytes::from(coded)))
    };
    settings.codings.iter().filter_map(|coding| shorter(*coding)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::open::Identity;
    use super::*;

    fn small(content: &[u8]) -> Small {
        let identity = Identity { device: 1, inode: 1, size: content.len() as u64, modified: (1, 0), changed: (1, 0) };
        Small { identity, content: Bytes::copy_from_slice(content) }
    }

    fn codings(content: &[u8], siblings: &[Coding], path: &str, settings: &CompressSettings) -> Vec<Coding> {
        let siblings = siblings.iter().map(|coding| (*coding, small(b"sibling"))).collect();
        made(&Variants::new(small(content), siblings), path, settings).into_iter().map(|(coding, _)| coding).collect()
    }

    #[test]
    fn what_is_text_long_and_alone_is_made_in_every_coding() {
        let settings = CompressSettings { codings: vec![Coding::Gzip, Coding::Zstd], ..CompressSettings::default() };
        let text = "so it goes on and on ".repeat(100);
        assert_eq!(codings(text.as_bytes(), &[], "a.css", &settings), settings.codings);
        assert_eq!(codings(text.as_bytes(), &[Coding::Brotli], "a.css", &settings), []);
        assert_eq!(codings(text.as_bytes(), &[], "a.png", &settings), []);
        assert_eq!(codings(&text.as_bytes()[..1023], &[], "a.css", &settings), []);
    }

    #[test]
    fn what_grows_is_left_as_it_is() {
        let settings = CompressSettings { min_bytes: 1, ..CompressSettings::default() };
        assert_eq!(codings(b"x", &[], "a.css", &settings), []);
    }
}
