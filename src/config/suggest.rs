//! "Did you mean": the known word nearest to a mistyped one.

/// Longer words are no typing errors; the bound keeps the comparison cheap.
const LONGEST: usize = 64;

/// The known word a mistyped one most likely stands for, or none if nothing is near.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.len() > LONGEST {
        return None;
    }
    let known: Vec<_> = known.into_iter().collect();
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).max(1);
    let mistyped = known
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    let longer_or_shorter = |known: &&str| known.starts_with(&word) || (word.starts_with(known) && known.len() > 3);
    mistyped.or_else(|| known.into_iter().find(longer_or_shorter).filter(|_| word.len() > 3))
}

/// The help line for a word that should have been one of `known`.
pub(super) fn hint<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = nearest(word, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let words: Vec<_> = known.into_iter().map(|word| format!("`{word}`")).collect();
    match words.as_slice() {
        [] => None,
        [only] => Some(format!("the only one known is {only}")),
        [first @ .., last] => Some(format!("known: {} and {last}", first.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_wins_whatever_its_case() {
        assert_eq!(nearest("hs256", ["RS256", "HS256"]), Some("HS256"));
        assert_eq!(nearest("drain_sec", ["drain_secs", "workers"]), Some("drain_secs"));
        assert_eq!(nearest("wrokers", ["drain_secs", "workers"]), Some("workers"));
    }

    #[test]
    fn a_word_that_was_cut_short_or_drawn_out_is_near() {
        assert_eq!(nearest("drain", ["workers", "drain_secs"]), Some("drain_secs"));
        assert_eq!(nearest("warning", ["error", "warn"]), Some("warn"));
        assert_eq!(nearest("is_read_only", ["is", "is-read-only"]), Some("is-read-only"), "the whole word is nearer");
    }

    #[test]
    fn nothing_near_suggests_nothing() {
        assert_eq!(nearest("banana", ["drain_secs", "workers"]), None);
        assert_eq!(nearest(&"a".repeat(100_000), ["a"]), None);
    }
}
