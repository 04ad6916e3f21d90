//! `require = { claim = ... }`: from TOML values to demands on claims.

use serde_json::Value;

use super::super::entry::{Entry, Name, Named};
use super::super::problem::{Problem, Span};
use super::super::shapes::ClaimValue;
use super::super::suggest;
use super::context::Context;
use crate::auth::{ClaimPath, Demand, Number, PathProblem, Test};

const FORMS: &str = "write `claim = \"value\"`, `claim = [\"one\", \"of\"]` or `claim = { present = true }`";
const ITEMS: &str = "a list holds one item at least, each a text, a number, `true` or `false`";
/// The tests a table may hold, in the order the documentation lists them.
const TESTS: [&str; 9] =
    ["present", "equals", "one_of", "contains", "contains_any", "contains_all", "prefix", "min", "max"];

pub(super) fn demands(context: &mut Context<'_>, entry: &Entry<Named<ClaimValue>>) -> Vec<Demand> {
    let Some((claims, span)) = context.take(entry) else { return Vec::new() };
    if claims.0.is_empty() {
        context.report(Problem::error(span, "`require` demands nothing").hint("leave the key out, or name a claim"));
    }
    let mut demands = Vec::new();
    for (name, value) in &claims.0 {
        let claim = claim_path(context, &name.text, name.span, FORMS);
        let Some((value, span)) = context.take(value) else { continue };
        let test = Claim { context, name: &name.text }.test(value, span);
        demands.extend(claim.zip(test).map(|(claim, test)| Demand { claim, test }));
    }
    demands
}

/// A claim's place as the file writes it; `forms` says what to write where nothing was.
pub(super) fn claim_path(context: &mut Context<'_>, text: &str, span: Span, forms: &str) -> Option<ClaimPath> {
    let problem = match ClaimPath::parse(text) {
        Ok(path) => return Some(path),
        Err(problem) => problem,
    };
    let hint = match problem {
        PathProblem::Empty => forms,
        PathProblem::EmptyStep if text.starts_with('/') => {
            "write a name after every `/`, as in \"/realm_access/roles\""
        }
        PathProblem::EmptyStep => "dots separate the names of nested claims, as in \"realm_access.roles\"",
        PathProblem::Escape => "`~0` stands for `~` and `~1` for `/` in a name of a JSON Pointer",
        PathProblem::TooDeep => {
            "a claim whose own name has dots is written as a JSON Pointer, as in \"/kubernetes.io\""
        }
        PathProblem::TooLong => "name the claim, not its value",
    };
    let message = match problem {
        PathProblem::Empty => "a claim has no name".to_owned(),
        PathProblem::TooLong => format!("this claim's name {problem}"),
        _ => format!("the claim `{text}` {problem}"),
    };
    context.report(Problem::error(span, message).hint(hint));
    None
}

/// One claim while what is asked of it is read.
struct Claim<'c, 'w, 'n> {
    context: &'c mut Context<'w>,
    name: &'n str,
}

impl Claim<'_, '_, '_> {
    fn test(&mut self, value: &ClaimValue, span: Span) -> Option<Test> {
        match value {
            ClaimValue::List(items) => self.scalars(items, span).map(Test::OneOf),
            ClaimValue::Table(table) => self.tests(table, span),
            other => self.scalar(other, span, FORMS).map(Test::Equals),
        }
    }

    /// Every test of a table; several must all be met.
    fn tests(&mut self, table: &Named<ClaimValue>, span: Span) -> Option<Test> {
        if table.0.is_empty() {
            let message = format!("nothing is asked of the claim `{}`", self.name);
            return self.refuse(span, message, format!("the tests are `{}`", TESTS.join("`, `")));
        }
        let (mut tests, mut min, mut max, mut whole) = (Vec::new(), None, None, true);
        for (key, value) in &table.0 {
            let read = match key.text.as_str() {
                "min" => self.bound(key, value).map(|bound| min = Some(bound)),
                "max" => self.bound(key, value).map(|bound| max = Some(bound)),
                _ => self.named(key, value).map(|test| tests.push(test)),
            };
            whole &= read.is_some();
        }
        if min.is_some() || max.is_some() {
            tests.push(self.between(min, max)?);
        }
        match (whole, tests.len()) {
            (false, _) => None,
            (true, 1) => tests.pop(),
            (true, _) => Some(Test::All(tests)),
        }
    }

    fn named(&mut self, key: &Name, entry: &Entry<ClaimValue>) -> Option<Test> {
        let word = key.text.as_str();
        if !TESTS.contains(&word) {
            return self.unknown(key, entry);
        }
        let (value, span) = self.context.take(entry)?;
        match (word, value) {
            ("present", ClaimValue::Flag(true)) => Some(Test::Present),
            ("present", _) => {
                let hint = "write `present = true`; a claim that may be missing is left out of `require`";
                self.refuse(span, "`present` has no value but `true`", hint)
            }
            ("prefix", ClaimValue::Text(text)) if !text.is_empty() => Some(Test::Prefix(text.as_str().into())),
            ("prefix", ClaimValue::Text(_)) => {
                self.refuse(span, "every text begins with an empty one", "write `present = true` if any value will do")
            }
            ("prefix", _) => {
                self.refuse(span, "`prefix` is a text", "it is for claims that are texts: write it in quotes")
            }
            ("equals", value) => {
                self.scalar(value, span, "`equals` is one value; for several write `one_of = [..]`").map(Test::Equals)
            }
            ("contains", value) => {
                let hint = "`contains` is one value; for several write `contains_any = [..]` or `contains_all = [..]`";
                self.scalar(value, span, hint).map(Test::Contains)
            }
            (_, ClaimValue::List(items)) => {
                let values = self.scalars(items, span)?;
                Some(match word {
                    "one_of" => Test::OneOf(values),
                    "contains_any" => Test::ContainsAny(values),
                    _ => Test::ContainsAll(values),
                })
            }
            _ => self.refuse(span, format!("`{word}` is an array"), "write it in brackets"),
        }
    }

    /// A key that is no test is a typing error, or a claim's name that was written without quotes.
    fn unknown(&mut self, key: &Name, entry: &Entry<ClaimValue>) -> Option<Test> {
        let message = format!("unknown test `{}` of the claim `{}`", key.text, self.name);
        let known = format!("the tests are `{}`", TESTS.join("`, `"));
        let hint = match (suggest::nearest(&key.text, TESTS), self.quoted(key, entry)) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some(path)) => format!("write a nested claim in quotes, `\"{path}\" = ..`; {known}"),
            (None, None) => known,
        };
        self.refuse(key.span, message, hint)
    }

    /// The path that was meant if the dots of a key were.
    fn quoted(&self, key: &Name, mut entry: &Entry<ClaimValue>) -> Option<ClaimPath> {
        let mut path = ClaimPath::parse(self.name).ok()?.below(&key.text).ok()?;
        while let Entry::Given(_, ClaimValue::Table(table)) = entry
            && let [(key, inner)] = table.0.as_slice()
            && !TESTS.contains(&key.text.as_str())
        {
            path = path.below(&key.text).ok()?;
            entry = inner;
        }
        Some(path)
    }

    /// A number and where it stands.
    fn bound(&mut self, key: &Name, entry: &Entry<ClaimValue>) -> Option<(Number, Span)> {
        let (value, span) = self.context.take(entry)?;
        let number = match value {
            ClaimValue::Integer(number) => Number::parse(&number.to_string()),
            ClaimValue::Float(number) => Number::parse(&number.to_string()),
            _ => None,
        };
        if number.is_none() {
            let hint = match value {
                ClaimValue::Text(text) if Number::parse(text).is_some() => "write it without quotes",
                ClaimValue::Float(_) => "JSON has neither `nan` nor `inf`",
                _ => "it is for claims that are numbers",
            };
            return self.refuse(span, format!("`{}` is a number", key.text), hint);
        }
        number.map(|number| (number, span))
    }

    fn between(&mut self, min: Option<(Number, Span)>, max: Option<(Number, Span)>) -> Option<Test> {
        if let (Some((min, at)), Some((max, span))) = (&min, &max)
            && min > max
        {
            let problem = Problem::error(*span, format!("no number of `{}` is between {min} and {max}", self.name));
            self.context.report(problem.note(*at, "`min` is here").hint("`min` is at most `max`; both are included"));
            return None;
        }
        let (min, max) = (min.map(|(number, _)| number), max.map(|(number, _)| number));
        Some(Test::Between { min, max })
    }

    fn scalars(&mut self, items: &[Entry<ClaimValue>], span: Span) -> Option<Vec<Value>> {
        if items.is_empty() {
            return self.refuse(span, format!("no value of `{}` can meet an empty list", self.name), ITEMS);
        }
        let mut values = Vec::with_capacity(items.len());
        for item in items {
            let value = match self.context.take(item) {
                Some((ClaimValue::List(_), at)) => {
                    self.refuse(at, format!("`{}` cannot be compared with a list in a list", self.name), ITEMS)
                }
                Some((value, at)) => self.scalar(value, at, ITEMS),
                None => None,
            };
            values.extend(value);
        }
        (values.len() == items.len()).then_some(values)
    }

    fn scalar(&mut self, value: &ClaimValue, span: Span, hint: &str) -> Option<Value> {
        let unfit = match value {
            ClaimValue::Text(text) => return Some(text.as_str().into()),
            ClaimValue::Flag(flag) => return Some((*flag).into()),
            ClaimValue::Float(number) if number.is_finite() => return Some((*number).into()),
            ClaimValue::Integer(number) => {
                let signed = i64::try_from(*number).map(Value::from);
                let value = signed.or_else(|_| u64::try_from(*number).map(Value::from)).ok();
                if value.is_none() {
                    let message = format!("`{}` cannot be compared with a number of more than 64 bits", self.name);
                    return self.refuse(span, message, "write it as `min` and as `max`, which compare every digit");
                }
                return value;
            }
            ClaimValue::Float(_) => "this number: JSON cannot write it",
            ClaimValue::Date => "a date: claims are JSON, which has none",
            ClaimValue::List(_) => "a list",
            ClaimValue::Table(_) => "a table",
        };
        self.refuse(span, format!("`{}` cannot be compared with {unfit}", self.name), hint)
    }

    fn refuse<T>(&mut self, span: Span, message: impl Into<String>, hint: impl Into<String>) -> Option<T> {
        self.context.report(Problem::error(span, message).hint(hint));
        None
    }
}
