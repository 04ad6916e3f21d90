//! The containers of `raw`: a key's value with its position, or the reason why it is not of its type.
//!
//! Serde stops at the first value of a wrong type. An [`Entry`] keeps that failure as a value, so that one pass over a file
//! finds every wrong type in it, and `compile` can tell "absent" from "given, but wrong". Refuses to know any key.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use toml::Spanned;

use super::problem::Span;

/// The value of one key.
#[derive(Debug, Clone, Default)]
pub(super) enum Entry<T> {
    /// The key is not in the file.
    #[default]
    Absent,
    /// The key is in the file, its value is not of the key's type; the text says so.
    Wrong(Span, String),
    /// The key's value and where it stands.
    Given(Span, T),
}

impl<T> Entry<T> {
    /// Whether the key is not in the file at all.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Where the value stands, right or wrong.
    pub(super) fn span(&self) -> Option<Span> {
        match self {
            Self::Absent => None,
            Self::Wrong(span, _) | Self::Given(span, _) => Some(*span),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entry<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Attempt<T>>::deserialize(deserializer)?;
        let span = spanned.span().into();
        Ok(match spanned.into_inner().0 {
            Ok(value) => Self::Given(span, value),
            Err(message) => Self::Wrong(span, message),
        })
    }
}

/// In the schema an entry is its value: positions and failures are ours alone.
impl<T: JsonSchema> JsonSchema for Entry<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A deserialisation that never fails: the failure is the value.
struct Attempt<T>(Result<T, String>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Attempt<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(T::deserialize(deserializer).map_err(|error| reword(&error.to_string()))))
    }
}

/// A table whose keys are chosen by the operator (`[issuer.NAME]`), in the order of the file.
#[derive(Debug, Clone)]
pub(super) struct Named<T>(pub(super) Vec<(Name, Entry<T>)>);

/// A key chosen by the operator.
#[derive(Debug, Clone)]
pub(super) struct Name {
    /// The key itself.
    pub(super) text: String,
    /// Where it stands.
    pub(super) span: Span,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(NamedVisitor(PhantomData))
    }
}

struct NamedVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for NamedVisitor<T> {
    type Value = Named<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut entries = Vec::new();
        while let Some((name, entry)) = map.next_entry::<Spanned<String>, Entry<T>>()? {
            entries.push((Name { span: name.span().into(), text: name.into_inner() }, entry));
        }
        entries.sort_by_key(|(name, _)| name.span);
        Ok(Named(entries))
    }
}

impl<T: JsonSchema> JsonSchema for Named<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

/// Serde's words in an operator's: `invalid type: string "x", expected i64` becomes `expected a whole number, found the
/// string "x"`. Anything else is already ours.
fn reword(message: &str) -> String {
    let first = message.lines().next().unwrap_or_default();
    if first == "integer number overflowed" {
        return "this number is out of every range".to_owned();
    }
    let Some((found, expected)) = first
        .strip_prefix("invalid type: ")
        .or_else(|| first.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return first.to_owned();
    };
    if expected == "i64"
        && (first.starts_with("invalid value") || found.ends_with(" as i128") || found.ends_with(" as u128"))
    {
        return "this number is out of every range".to_owned();
    }
    format!("expected {}, found {}", expected_word(expected), found_word(found))
}

fn expected_word(expected: &str) -> &str {
    match expected {
        "i64" => "a whole number",
        "a boolean" => "`true` or `false`",
        "a sequence" => "an array",
        other if other.starts_with("struct ") => "a table",
        other => other,
    }
}

fn found_word(found: &str) -> String {
    match found {
        "map" => "a table".to_owned(),
        "sequence" => "an array".to_owned(),
        other => other
            .replacen("floating point", "the number", 1)
            .replacen("integer", "the number", 1)
            .replacen("string", "the string", 1)
            .replacen("boolean ", "", 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wrong_type_of_a_table_is_kept() {
        let table: Named<i64> = toml::from_str("a = \"x\"\nb = 5\nc = {}").unwrap();
        let [(_, Entry::Wrong(span, text)), (name, Entry::Given(_, 5)), (_, Entry::Wrong(_, other))] = &table.0[..]
        else {
            panic!("a and c are no numbers, b is one: {table:?}");
        };
        assert_eq!(*span, Span { start: 4, end: 7 });
        assert_eq!(text, "expected a whole number, found the string \"x\"");
        assert_eq!((name.text.as_str(), name.span), ("b", Span { start: 8, end: 9 }));
        assert_eq!(other, "expected a whole number, found a table");
    }

    #[test]
    fn every_wrong_item_of_an_array_is_kept() {
        let table: Named<Vec<Entry<String>>> = toml::from_str("b = [\"y\", 5, []]").unwrap();
        let (_, Entry::Given(_, items)) = &table.0[0] else { panic!("b is an array") };
        assert!(matches!(&items[0], Entry::Given(_, text) if text == "y"));
        assert!(matches!(&items[1], Entry::Wrong(_, text) if text == "expected a string, found the number `5`"));
        assert!(matches!(&items[2], Entry::Wrong(_, text) if text == "expected a string, found an array"));
    }
}
