//! The file of revocations: one a line, as operators and applications write it.
//!
//! Owns the grammar and the line numbers of what breaks it. One malformed line refuses the whole file: a revocation that is silently
//! skipped is a token that passes.

use super::entry::{Draft, Entry, EntryFault, read_digest, read_moment};

/// A line that is no revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct LineFault {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: EntryFault,
}

/// The entries of a file with their line numbers, in its order.
pub(super) fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<(usize, Entry), LineFault>> {
    let lines = bytes.split(|byte| *byte == b'\n').enumerate();
    lines.filter_map(|(index, bytes)| {
        let line = index + 1;
        let text = std::str::from_utf8(bytes).map_err(|_| EntryFault::Utf8);
        let entry = text.and_then(entry).map_err(|fault| LineFault { line, fault });
        entry.map(|entry| entry.map(|entry| (line, entry))).transpose()
    })
}

/// One line; empty lines and comments are none.
fn entry(line: &str) -> Result<Option<Entry>, EntryFault> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (word, rest) = line.split_once([' ', '\t']).ok_or(match line {
        "jti" | "sub" | "token" => EntryFault::NotOne,
        _ => EntryFault::UnknownWord,
    })?;
    let (value, mut rest) = value(rest.trim_start())?;
    let mut draft = Draft::default();
    match word {
        "jti" => draft.jti = Some(value),
        "sub" => draft.sub = Some(value),
        "token" => draft.digest = Some(read_digest(&value)?),
        _ => return Err(EntryFault::UnknownWord),
    }
    while !rest.is_empty() && !rest.starts_with('#') {
        let (name, after) = rest.split_once('=').ok_or(EntryFault::UnknownOption)?;
        let (value, after) = self::value(after)?;
        match name {
            "issuer" if draft.issuer.is_none() => draft.issuer = Some(value),
            "before" if draft.before.is_none() => draft.before = Some(read_moment("before", &value)?),
            "until" if draft.until.is_none() => draft.until = Some(read_moment("until", &value)?),
            _ => return Err(EntryFault::UnknownOption),
        }
        rest = after;
    }
    draft.finish(None).map(Some)
}

/// The value a text begins with, bare or as a JSON string, and what comes after it.
fn value(text: &str) -> Result<(Box<str>, &str), EntryFault> {
    if !text.starts_with('"') {
        let end = text.find([' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return if value.contains('"') { Err(EntryFault::Quote) } else { Ok((value.into(), rest.trim_start())) };
    }
    let mut strings = serde_json::Deserializer::from_str(text).into_iter::<String>();
    let value = strings.next().and_then(Result::ok).ok_or(EntryFault::Quote)?;
    let rest = &text[strings.byte_offset()..];
    let ended = rest.is_empty() || rest.starts_with([' ', '\t']);
    if ended { Ok((value.into(), rest.trim_start())) } else { Err(EntryFault::Quote) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::entry::Revoked;
    use super::*;

    fn one(line: &str) -> Result<Entry, EntryFault> {
        let mut entries = entries(line.as_bytes());
        let found = entries.next().unwrap().map(|(_, entry)| entry).map_err(|fault| fault.fault);
        assert!(entries.next().is_none());
        found
    }

    #[test]
    fn every_documented_form_is_read() {
        let text = "# logged out\r\n\n  jti abc\r\njti \"a b#\\\"\" issuer=corp until=1900000000 # stolen\n\
                    sub alice before=2026-11-05T10:00:00Z\nsub #7 before=5 issuer=a until=6\n\
                    token 0000000000000000000000000000000000000000000000000000000000000000\n";
        let found = entries(text.as_bytes()).collect::<Result<Vec<_>, _>>().unwrap();
        assert_eq!(found.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);
        let jti = Revoked::Jti { jti: "a b#\"".into(), issuer: Some("corp".into()) };
        assert_eq!(found[1].1, Entry { revoked: jti, until: Some(1_900_000_000) });
        assert!(matches!(&found[2].1.revoked, Revoked::Sub { before: 1_793_872_800, .. }), "{:?}", found[2]);
        assert!(matches!(&found[3].1.revoked, Revoked::Sub { sub, before: 5, .. } if **sub == *"#7"));
        assert!(matches!(&found[4].1.revoked, Revoked::Token { digest } if *digest == [0; 32]));
    }

    #[test]
    fn a_malformed_line_is_named() {
        for (line, fault) in [
            ("abc", EntryFault::UnknownWord),
            ("user alice before=5", EntryFault::UnknownWord),
            ("jti", EntryFault::NotOne),
            ("jti \"\"", EntryFault::Length("jti")),
            ("jti a b", EntryFault::UnknownOption),
            ("jti a until=5 until=6", EntryFault::UnknownOption),
            ("jti a until=", EntryFault::Time("until")),
            ("jti a until=soon", EntryFault::Time("until")),
            ("jti a before=5", EntryFault::Meaningless("before")),
            ("jti \"a", EntryFault::Quote),
            ("jti \"a\"b", EntryFault::Quote),
            ("jti a\"b", EntryFault::Quote),
            ("sub alice", EntryFault::NoBefore),
            ("token abc", EntryFault::Digest),
        ] {
            assert_eq!(one(line), Err(fault), "{line}");
        }
        let fault = entries(b"jti a\n\nnonsense\n").find_map(Result::err).unwrap();
        assert_eq!(fault.line, 3);
        assert!(fault.to_string().starts_with("line 3: a line begins with"), "{fault}");
        assert_eq!(entries(b"jti \xff").find_map(Result::err).unwrap().fault, EntryFault::Utf8);
    }

    proptest! {
        #[test]
        fn any_value_can_be_written_in_quotes(value in "\\PC{1,40}|[ -~\\t\\n]{1,40}") {
            let line = format!("jti {} until=7", serde_json::Value::from(value.as_str()));
            let found = one(&line).unwrap();
            prop_assert_eq!(found.revoked, Revoked::Jti { jti: value.into(), issuer: None });
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            entries(&bytes).for_each(drop);
        }
    }
}
