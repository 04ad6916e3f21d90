//! One JSON object kept as it was written: text, and where each top-level member stands in it.
//!
//! Owns the strictness that keeps two parsers from reading two things: duplicate member names are refused at every level, depth
//! and size are bounded, numbers keep every digit because they are never converted. Knows nothing of JWT.
//! RFC 8259 section 4, RFC 7519 section 4, RFC 8725 section 2.4.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Bytes of JSON accepted for one object; a token is at most as long.
pub(super) const MAX_BYTES: usize = 16 * 1024;
/// Nesting accepted, the object itself included.
const MAX_DEPTH: usize = 16;
/// Top-level members accepted.
const MAX_MEMBERS: usize = 256;

/// Why a text is no object this gateway will read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// Larger than a token may be.
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not UTF-8, not JSON, or not an object.
    #[error("it is not a JSON object in UTF-8")]
    Syntax,
    /// One name twice in one object, after unescaping.
    #[error("a member name occurs twice in one object")]
    Duplicate,
    /// Nested beyond the bound.
    #[error("it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More top-level members than the bound.
    #[error("it has more than {MAX_MEMBERS} members")]
    TooMany,
}

/// A parsed object: its own text plus 8 bytes a member.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// The object's text, followed by the unescaped form of every name that was written with escapes.
    text: Box<str>,
    members: Box<[Member]>,
    json_len: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Member {
    name: Span,
    value: Span,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u16,
    len: u16,
}

impl Object {
    /// Reads one object and nothing else.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self, JsonFault> {
        if bytes.len() > MAX_BYTES {
            return Err(JsonFault::TooLarge);
        }
        let json = String::from_utf8(bytes).map_err(|_| JsonFault::Syntax)?;
        let fault = Cell::new(JsonFault::Syntax);
        let found = read_members(&json, &fault).map_err(|_| fault.get())?;
        Ok(Self::index(&json, &found))
    }

    fn index(json: &str, found: &[(Cow<'_, str>, &str)]) -> Self {
        let mut text = json.to_owned();
        let mut members = Vec::with_capacity(found.len());
        for (name, value) in found {
            let name = match name {
                Cow::Borrowed(name) => Span::within(json, name),
                Cow::Owned(name) => {
                    text.push_str(name);
                    Span::new(text.len() - name.len(), name.len())
                }
            };
            members.push(Member { name, value: Span::within(json, value) });
        }
        let json_len = Span::new(json.len(), 0).start;
        Self { text: text.into_boxed_str(), members: members.into_boxed_slice(), json_len }
    }

    /// The value of a top-level member.
    pub(super) fn find(&self, name: &str) -> Option<Value<'_>> {
        self.members.iter().find(|member| self.slice(member.name) == name).map(|member| Value(self.slice(member.value)))
    }

    /// The object as it was written.
    pub(super) fn as_json(&self) -> &str {
        &self.text[..usize::from(self.json_len)]
    }

    /// Bytes this object holds on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.text.len() + size_of_val(&*self.members)
    }

    fn slice(&self, span: Span) -> &str {
        let start = usize::from(span.start);
        &self.text[start..start + usize::from(span.len)]
    }
}

impl fmt::Debug for Object {
    /// Claims are personal data: only their number shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Object({} members)", self.members.len())
    }
}

impl Span {
    fn new(start: usize, len: usize) -> Self {
        let narrow = |n: usize| u16::try_from(n).expect("names and text together are at most twice MAX_BYTES");
        Self { start: narrow(start), len: narrow(len) }
    }

    /// The place of `part`, which was borrowed from `whole`.
    fn within(whole: &str, part: &str) -> Self {
        Self::new(part.as_ptr().addr() - whole.as_ptr().addr(), part.len())
    }
}

/// One JSON value in its own spelling.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Value<'a>(&'a str);

impl<'a> Value<'a> {
    /// The JSON text, digits and escapes untouched.
    pub(super) fn as_json(self) -> &'a str {
        self.0
    }

    pub(super) fn is_null(self) -> bool {
        self.0 == "null"
    }

    /// The text of a string, unescaped; `None` for any other type.
    pub(super) fn as_str(self) -> Option<Cow<'a, str>> {
        let inner = self.0.strip_prefix('"')?.strip_suffix('"')?;
        if inner.contains('\\') {
            return serde_json::from_str(self.0).ok().map(Cow::Owned);
        }
        Some(Cow::Borrowed(inner))
    }

    /// The elements of an array; `None` for any other type.
    pub(super) fn as_array(self) -> Option<Vec<Value<'a>>> {
        if !self.0.starts_with('[') {
            return None;
        }
        let elements: Vec<&'a RawValue> = serde_json::from_str(self.0).ok()?;
        Some(elements.into_iter().map(|element| Value(element.get())).collect())
    }

    /// The value of an object's member, by its unescaped name; `None` for any other type.
    pub(super) fn member(self, name: &str) -> Option<Value<'a>> {
        let mut reader = serde_json::Deserializer::from_str(self.0);
        reader.deserialize_map(Sought { name }).ok().flatten().map(Value)
    }

    /// The element of an array; `None` for any other type.
    pub(super) fn element(self, index: usize) -> Option<Value<'a>> {
        self.as_array()?.into_iter().nth(index)
    }

    /// Whether this is a number, `true` or `false`: what can stand in a header as it is written.
    pub(super) fn is_plain(self) -> bool {
        matches!(self.0, "true" | "false") || self.0.starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }

    /// Equality with a configured value: same type, same content. An integer too long for 64 bits equals nothing, because
    /// reading it would round it.
    pub(super) fn equals(self, expected: &serde_json::Value) -> bool {
        use serde_json::Value as Expected;
        match expected {
            Expected::Null => self.is_null(),
            Expected::Bool(expected) => self.0 == if *expected { "true" } else { "false" },
            Expected::String(expected) => self.as_str().is_some_and(|text| text == expected.as_str()),
            Expected::Number(expected) => self.parsed().is_some_and(|found| found.as_number() == Some(expected)),
            Expected::Array(expected) => self.as_array().is_some_and(|found| {
                found.len() == expected.len()
                    && found.iter().zip(expected).all(|(found, expected)| found.equals(expected))
            }),
            Expected::Object(_) => self.parsed().as_ref() == Some(expected),
        }
    }

    fn parsed(self) -> Option<serde_json::Value> {
        let digits_only = self.0.strip_prefix('-').unwrap_or(self.0).bytes().all(|byte| byte.is_ascii_digit());
        let value: serde_json::Value = serde_json::from_str(self.0).ok()?;
        (!(digits_only && value.is_f64())).then_some(value)
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

fn read_members<'de>(json: &'de str, fault: &Cell<JsonFault>) -> serde_json::Result<Vec<(Cow<'de, str>, &'de str)>> {
    let mut reader = serde_json::Deserializer::from_str(json);
    let found = reader.deserialize_map(Members { fault })?;
    reader.end()?;
    for (_, value) in &found {
        let mut reader = serde_json::Deserializer::from_str(value);
        Strict { depth: MAX_DEPTH - 1, fault }.deserialize(&mut reader)?;
    }
    Ok(found)
}

/// Collects the top-level members, values unread.
struct Members<'f> {
    fault: &'f Cell<JsonFault>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<(Cow<'de, str>, &'de str)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            if found.len() == MAX_MEMBERS {
                return Err(refuse(self.fault, JsonFault::TooMany));
            }
            found.push((name, map.next_value::<&'de RawValue>()?.get()));
        }
        refuse_duplicates(found.iter().map(|(name, _)| &**name).collect(), self.fault)?;
        Ok(found)
    }
}

/// Finds one member of an object that is known to hold no name twice.
struct Sought<'n> {
    name: &'n str,
}

impl<'de> Visitor<'de> for Sought<'_> {
    type Value = Option<&'de str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(name) = map.next_key_seed(Name)? {
            if name == self.name {
                found = Some(map.next_value::<&'de RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Walks a value to its leaves, keeping nothing.
#[derive(Clone, Copy)]
struct Strict<'f> {
    depth: usize,
    fault: &'f Cell<JsonFault>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| refuse(self.fault, JsonFault::TooDeep))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while seq.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut names = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            names.push(name);
            map.next_value_seed(inner)?;
        }
        refuse_duplicates(names.iter().map(|name| &**name).collect(), self.fault)
    }
}

/// A member name, borrowed unless it was written with escapes.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Cow<'de, str>, D::Error> {
        reader.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Sorts first, so that a hostile object of thousands of names costs no square.
fn refuse_duplicates<E: serde::de::Error>(mut names: Vec<&str>, fault: &Cell<JsonFault>) -> Result<(), E> {
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(refuse(fault, JsonFault::Duplicate));
    }
    Ok(())
}

/// serde's errors carry text only; the typed fault travels beside them.
fn refuse<E: serde::de::Error>(cell: &Cell<JsonFault>, fault: JsonFault) -> E {
    cell.set(fault);
    E::custom(fault)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(text: &str) -> Result<Object, JsonFault> {
        Object::parse(text.as_bytes().to_vec())
    }

    #[test]
    fn a_duplicate_name_is_refused_at_every_level_and_in_every_spelling() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"{"x":[{"y":{"a":1,"b":2,"a":3}}]}"#,
        ] {
            assert_eq!(parse(text).unwrap_err(), JsonFault::Duplicate, "{text}");
        }
        parse(r#"{"a":{"a":{"a":1}}}"#).unwrap();
    }

    #[test]
    fn only_one_object_in_utf8_is_read() {
        for text in
            ["", "[]", "1", "{} {}", "{}x", "{\"a\":NaN}", "{\"a\":01}", "{\"a\":1e999}", "{'a':1}", "{\"a\":1,}"]
        {
            assert_eq!(parse(text).unwrap_err(), JsonFault::Syntax, "{text}");
        }
        assert_eq!(parse(r#"{"a":"\ud800"}"#).unwrap_err(), JsonFault::Syntax, "lone surrogate");
        assert_eq!(Object::parse(b"{\"a\":\"\xff\"}".to_vec()).unwrap_err(), JsonFault::Syntax);
        assert_eq!(Object::parse(b"\xef\xbb\xbf{}".to_vec()).unwrap_err(), JsonFault::Syntax, "byte order mark");
    }

    #[test]
    fn depth_size_and_count_are_bounded() {
        let nest = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        parse(&nest(MAX_DEPTH - 1)).unwrap();
        assert_eq!(parse(&nest(MAX_DEPTH)).unwrap_err(), JsonFault::TooDeep);
        assert_ne!(parse(&nest(4000)).map(|_| ()), Ok(()));
        assert_eq!(parse(&format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BYTES))).unwrap_err(), JsonFault::TooLarge);
        let many: Vec<String> = (0..=MAX_MEMBERS).map(|n| format!("\"m{n}\":0")).collect();
        assert_eq!(parse(&format!("{{{}}}", many.join(","))).unwrap_err(), JsonFault::TooMany);
    }

    #[test]
    fn a_member_is_found_by_its_unescaped_name_and_keeps_its_spelling() {
        let object = parse("{ \"s\\u0075b\" : \"a\\nb\" , \"id\": 9007199254740993123456789 , \"n\":null}").unwrap();
        assert_eq!(object.find("sub").unwrap().as_str().unwrap(), "a\nb");
        assert_eq!(object.find("id").unwrap().as_json(), "9007199254740993123456789");
        assert!(object.find("n").unwrap().is_null());
        assert_eq!(object.find("s\\u0075b"), None);
    }

    #[test]
    fn a_nested_value_is_found_by_unescaped_name_or_index_and_keeps_its_spelling() {
        let object = parse(r#"{"o":{ "s\u0075b" : 1.50 , "l":[ 1 , {"a":2} ]},"s":"{\"a\":1}"}"#).unwrap();
        let o = object.find("o").unwrap();
        assert_eq!(o.member("sub").unwrap().as_json(), "1.50");
        assert_eq!(o.member("l").unwrap().element(1).unwrap().member("a").unwrap().as_json(), "2");
        assert_eq!(o.member("l").unwrap().element(2), None);
        assert_eq!((o.member("s\\u0075b"), o.member("x"), o.element(0)), (None, None, None));
        let s = object.find("s").unwrap();
        assert_eq!((s.member("a"), s.element(0)), (None, None), "a string is no object, whatever it says");
    }

    #[test]
    fn equality_asks_for_type_and_every_digit() {
        let object = parse(r#"{"s":"1","n":9007199254740993,"f":1.0,"big":18446744073709551616,"l":["a",2]}"#).unwrap();
        let equals = |name, expected| object.find(name).unwrap().equals(&expected);
        assert!(equals("s", json!("1")) && !equals("s", json!(1)));
        assert!(equals("n", json!(9_007_199_254_740_993_u64)) && !equals("n", json!(9_007_199_254_740_992_u64)));
        assert!(equals("f", json!(1.0)) && !equals("f", json!(1)));
        assert!(!equals("big", json!(18_446_744_073_709_551_616.0)));
        assert!(equals("l", json!(["a", 2])) && !equals("l", json!(["a"])) && !equals("l", json!([2, "a"])));
        assert!(!equals("s", json!(true)) && !equals("s", json!(null)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(object) = Object::parse(bytes.clone()) {
                prop_assert_eq!(object.as_json().as_bytes(), bytes);
            }
        }

        #[test]
        fn no_json_like_text_panics(text in r#"\{("[a\\u01]{0,4}":[\[\]{}"a0-9eE.,:-]{0,12},?){0,6}\}"#) {
            if let Ok(object) = parse(&text) {
                prop_assert_eq!(object.as_json(), text);
            }
        }
    }
}
