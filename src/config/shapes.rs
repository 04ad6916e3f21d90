//! The values of `raw` that have more than one form: a word or a number, a word or a table.
//!
//! Written by hand because serde's `untagged` answers "data did not match any variant" and loses every position.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::json;

use super::entry::{Entry, Named};
use super::raw::{
    self, BalanceTable, CompressTable, ConcurrencyTable, EndpointTable, PublishTable, SecretTable, TokenAuth,
};

/// `workers`: a number or a word.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub(super) enum Workers {
    Count(i64),
    Word(String),
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Workers;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"auto\" or a whole number")
            }

            fn visit_i64<E: Error>(self, count: i64) -> Result<Workers, E> {
                Ok(Workers::Count(count))
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Workers, E> {
                Ok(Workers::Word(word.to_owned()))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Workers {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Workers".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] })
    }
}

/// A length of time in seconds, whole or with a fraction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) f64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Seconds;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            // Above 2^53 the conversion rounds; every key's range ends long before.
            #[allow(clippy::cast_precision_loss)]
            fn visit_i64<E: Error>(self, seconds: i64) -> Result<Seconds, E> {
                Ok(Seconds(seconds as f64))
            }

            fn visit_f64<E: Error>(self, seconds: f64) -> Result<Seconds, E> {
                Ok(Seconds(seconds))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "number", "minimum": 0 })
    }
}

/// `auth`: a word ("public" or "internal") or a table.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub(super) enum Auth {
    Word(String),
    Token(Box<TokenAuth>),
}

impl<'de> Deserialize<'de> for Auth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Auth;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"public\", \"internal\" or a table with `issuer`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Auth, E> {
                Ok(Auth::Word(word.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Auth, M::Error> {
                TokenAuth::deserialize(MapAccessDeserializer::new(map)).map(|table| Auth::Token(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Auth {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Auth".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "enum": ["public", "internal"] }, generator.subschema_for::<TokenAuth>()] })
    }
}

/// `publish`: a word or a table.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub(super) enum Publish {
    Word(String),
    Table(Box<PublishTable>),
}

impl<'de> Deserialize<'de> for Publish {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Publish;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"jwks\", \"identity\" or a table with `resource_metadata`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Publish, E> {
                Ok(Publish::Word(word.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Publish, M::Error> {
                PublishTable::deserialize(MapAccessDeserializer::new(map)).map(|table| Publish::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Publish {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Publish".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "enum": ["jwks", "identity"] }, generator.subschema_for::<PublishTable>()] })
    }
}

/// `compress`: a flag or a table.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub(super) enum Compress {
    Flag(bool),
    Table(Box<CompressTable>),
}

impl<'de> Deserialize<'de> for Compress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Compress;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or a table")
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Compress, E> {
                Ok(Compress::Flag(flag))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Compress, M::Error> {
                CompressTable::deserialize(MapAccessDeserializer::new(map))
                    .map(|table| Compress::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Compress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Compress".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, generator.subschema_for::<CompressTable>()] })
    }
}

/// `eject`: a flag or a table.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub(super) enum Eject {
    Flag(bool),
    Table(Box<raw::Eject>),
}

impl<'de> Deserialize<'de> for Eject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Eject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`true`, `false` or a table")
            }

            fn visit_bool<E: Error>(self, flag: bool) -> Result<Eject, E> {
                Ok(Eject::Flag(flag))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Eject, M::Error> {
                raw::Eject::deserialize(MapAccessDeserializer::new(map)).map(|table| Eject::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Eject {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Eject".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "boolean" }, generator.subschema_for::<raw::Eject>()] })
    }
}

/// An item of `endpoints`: an address or a table.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub(super) enum Endpoint {
    Url(String),
    Table(Box<EndpointTable>),
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Endpoint;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address or a table with `url`")
            }

            fn visit_str<E: Error>(self, url: &str) -> Result<Endpoint, E> {
                Ok(Endpoint::Url(url.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Endpoint, M::Error> {
                EndpointTable::deserialize(MapAccessDeserializer::new(map))
                    .map(|table| Endpoint::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Endpoint {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Endpoint".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "string" }, generator.subschema_for::<EndpointTable>()] })
    }
}

/// `balance`: a word or a table.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub(super) enum Balance {
    Word(String),
    Table(Box<BalanceTable>),
}

impl<'de> Deserialize<'de> for Balance {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Balance;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"least-requests\", \"round-robin\", \"random\" or a table with `hash` or `sticky`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Balance, E> {
                Ok(Balance::Word(word.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Balance, M::Error> {
                BalanceTable::deserialize(MapAccessDeserializer::new(map)).map(|table| Balance::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Balance {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Balance".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let words = json!({ "enum": ["least-requests", "round-robin", "random"] });
        json_schema!({ "anyOf": [words, generator.subschema_for::<BalanceTable>()] })
    }
}

/// `concurrency`: a word or a table.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub(super) enum Concurrency {
    Word(String),
    Table(Box<ConcurrencyTable>),
}

impl<'de> Deserialize<'de> for Concurrency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Concurrency;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"adaptive\" or a table with `min` and `max`")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<Concurrency, E> {
                Ok(Concurrency::Word(word.to_owned()))
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<Concurrency, M::Error> {
                ConcurrencyTable::deserialize(MapAccessDeserializer::new(map))
                    .map(|table| Concurrency::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for Concurrency {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Concurrency".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let word = json!({ "enum": ["adaptive"] });
        json_schema!({ "anyOf": [word, generator.subschema_for::<ConcurrencyTable>()] })
    }
}

/// `secret`: the table that says where the secret is.
#[derive(Debug, Clone)]
pub(super) struct SecretSource(pub(super) SecretTable);

impl<'de> Deserialize<'de> for SecretSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = SecretSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table with `env` or `file`")
            }

            fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<SecretSource, M::Error> {
                SecretTable::deserialize(MapAccessDeserializer::new(map)).map(SecretSource)
            }
        }
        deserializer.deserialize_any(Form)
    }
}

impl JsonSchema for SecretSource {
    fn inline_schema() -> bool {
        SecretTable::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        SecretTable::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        SecretTable::json_schema(generator)
    }
}

/// What is asked of a claim, as typed: a value, an array or a table of tests. Items and tests keep their places.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub(super) enum ClaimValue {
    Text(String),
    Flag(bool),
    Integer(i128),
    Float(f64),
    /// JSON has no dates, so no claim is one.
    Date,
    List(Vec<Entry<ClaimValue>>),
    Table(Named<ClaimValue>),
}

impl<'de> Deserialize<'de> for ClaimValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ClaimForm)
    }
}

struct ClaimForm;

impl<'de> Visitor<'de> for ClaimForm {
    type Value = ClaimValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, an array or a table")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Text(text.to_owned()))
    }

    fn visit_bool<E: Error>(self, flag: bool) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Flag(flag))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<ClaimValue, E> {
        self.visit_i128(number.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<ClaimValue, E> {
        self.visit_i128(number.into())
    }

    fn visit_i128<E: Error>(self, number: i128) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Integer(number))
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<ClaimValue, E> {
        Err(E::custom("this number is out of every range"))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<ClaimValue, E> {
        Ok(ClaimValue::Float(number))
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<ClaimValue, S::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(ClaimValue::List(items))
    }

    /// The one map whose keys stand nowhere is how `toml` hands over a date; a table never fails, because its values are entries.
    fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<ClaimValue, M::Error> {
        let table = Named::deserialize(MapAccessDeserializer::new(map));
        Ok(table.map_or(ClaimValue::Date, ClaimValue::Table))
    }
}

impl JsonSchema for ClaimValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ClaimValue".into()
    }

    /// `oneOf`, which `unknown` does not look into: a wrong key may be a claim's name without its quotes, and only `compile` can
    /// tell.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let value = json!({ "type": ["string", "number", "boolean"] });
        let values = json!({ "type": "array", "items": value, "minItems": 1 });
        json_schema!({ "oneOf": [value, values, {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": false,
            "properties": {
                "present": { "const": true },
                "equals": value,
                "one_of": values,
                "contains": value,
                "contains_any": values,
                "contains_all": values,
                "prefix": { "type": "string", "minLength": 1 },
                "min": { "type": "number" },
                "max": { "type": "number" },
            },
        }] })
    }
}
