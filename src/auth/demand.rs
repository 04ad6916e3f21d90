//! What a configuration may demand of one claim.
//!
//! Owns the tests, their verdicts and their words. A claim that is missing, or of another type than a test is about, never passes.
//! Knows neither who demands nor what a refusal leads to.

use serde_json::{Value as Json, json};

use super::claims::Claims;
use super::json::Value;
use super::number::{Decimal, Number};
use super::path::ClaimPath;

/// What one claim must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// Where the claim stands.
    pub claim: ClaimPath,
    /// What is asked of it; a missing claim always fails.
    pub test: Test,
}

/// The question a [`Demand`] asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// The claim equals this JSON value (an array equals an array, element for element).
    Equals(Json),
    /// The claim equals one of these.
    OneOf(Vec<Json>),
    /// The claim is there and is not `null`.
    Present,
    /// The claim is an array that holds this value.
    Contains(Json),
    /// The claim is an array that holds one of these at least.
    ContainsAny(Vec<Json>),
    /// The claim is an array that holds every one of these; an empty list is never met.
    ContainsAll(Vec<Json>),
    /// The claim is a string that begins with this one, compared byte for byte after unescaping.
    Prefix(Box<str>),
    /// The claim is a number between these, both included, compared digit by digit. A string of digits is no number.
    #[allow(missing_docs)]
    Between { min: Option<Number>, max: Option<Number> },
    /// The claim passes every one of these; an empty list is never met.
    All(Vec<Test>),
}

impl Demand {
    /// That the top-level claim `name` equals `value`.
    pub fn equals(name: &str, value: impl Into<Json>) -> Self {
        Self { claim: ClaimPath::top(name), test: Test::Equals(value.into()) }
    }

    /// That the top-level claim `name` is there and is not `null`.
    pub fn present(name: &str) -> Self {
        Self { claim: ClaimPath::top(name), test: Test::Present }
    }

    /// A text that no other demand has: what a content hash takes in. Two spellings of one path are one demand.
    pub(super) fn canonical(&self) -> String {
        let (first, rest) = self.claim.steps();
        let rest = rest.iter().map(|step| json!([step.name, step.index])).collect::<Vec<_>>();
        json!([first, rest, self.test.canonical()]).to_string()
    }
}

impl Test {
    fn canonical(&self) -> Json {
        match self {
            Self::Equals(value) => json!({ "equals": value }),
            Self::OneOf(values) => json!({ "one_of": values }),
            Self::Present => json!("present"),
            Self::Contains(value) => json!({ "contains": value }),
            Self::ContainsAny(values) => json!({ "contains_any": values }),
            Self::ContainsAll(values) => json!({ "contains_all": values }),
            Self::Prefix(text) => json!({ "prefix": text }),
            Self::Between { min, max } => {
                let written = |bound: &Option<Number>| bound.as_ref().map(ToString::to_string);
                json!({ "min": written(min), "max": written(max) })
            }
            Self::All(tests) => json!({ "all": tests.iter().map(Self::canonical).collect::<Vec<_>>() }),
        }
    }

    fn is_met(&self, claim: Value<'_>) -> bool {
        match self {
            Self::Equals(expected) => claim.equals(expected),
            Self::OneOf(accepted) => accepted.iter().any(|expected| claim.equals(expected)),
            Self::Present => !claim.is_null(),
            Self::Contains(wanted) => holds(claim, |held| held.iter().any(|one| one.equals(wanted))),
            Self::ContainsAny(wanted) => {
                holds(claim, |held| wanted.iter().any(|wanted| held.iter().any(|one| one.equals(wanted))))
            }
            Self::ContainsAll(wanted) => {
                let all = |held: &[Value<'_>]| wanted.iter().all(|wanted| held.iter().any(|one| one.equals(wanted)));
                !wanted.is_empty() && holds(claim, all)
            }
            Self::Prefix(text) => claim.as_str().is_some_and(|claim| claim.starts_with(&**text)),
            Self::Between { min, max } => Decimal::read(claim.as_json()).is_some_and(|claim| {
                min.as_ref().is_none_or(|min| claim.order(&min.decimal()).is_ge())
                    && max.as_ref().is_none_or(|max| claim.order(&max.decimal()).is_le())
            }),
            Self::All(tests) => !tests.is_empty() && tests.iter().all(|test| test.is_met(claim)),
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Equals(value) => format!("is {value}"),
            Self::OneOf(values) => format!("is one of: {}", listed(values)),
            Self::Present => "is present and not null".to_owned(),
            Self::Contains(value) => format!("is an array that holds {value}"),
            Self::ContainsAny(values) => format!("is an array that holds one of: {}", listed(values)),
            Self::ContainsAll(values) => format!("is an array that holds all of: {}", listed(values)),
            Self::Prefix(text) => format!("is a text that begins with {}", Json::from(&**text)),
            Self::Between { min: Some(min), max: Some(max) } => format!("is a number from {min} to {max}"),
            Self::Between { min: Some(min), max: None } => format!("is a number not below {min}"),
            Self::Between { min: None, max: Some(max) } => format!("is a number not above {max}"),
            Self::Between { min: None, max: None } => "is a number".to_owned(),
            Self::All(tests) => tests.iter().map(Self::in_words).collect::<Vec<_>>().join("; and "),
        }
    }
}

/// How a claim stands to a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    Missing,
    Unmet,
}

/// A claim that is missing fails every test.
pub(super) fn judge(demand: &Demand, claims: &Claims) -> Verdict {
    match claims.at(&demand.claim) {
        None => Verdict::Missing,
        Some(claim) if demand.test.is_met(claim) => Verdict::Met,
        Some(_) => Verdict::Unmet,
    }
}

/// The demand as an operator reads it.
pub(super) fn in_words(demand: &Demand) -> String {
    format!("claim `{}` {}", demand.claim, demand.test.in_words())
}

fn holds(claim: Value<'_>, wanted: impl FnOnce(&[Value<'_>]) -> bool) -> bool {
    claim.as_array().is_some_and(|held| wanted(&held))
}

fn listed(values: &[Json]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::super::{Forward, Policy, Rule, fixtures};
    use super::*;

    fn verdict(test: &Test, claims: &str) -> Verdict {
        let demand = Demand { claim: ClaimPath::top("c"), test: test.clone() };
        judge(&demand, &Claims::parse(claims.as_bytes().to_vec()).unwrap())
    }

    fn check(test: &Test, met: &[&str], unmet: &[&str]) {
        for (values, expected) in [(met, Verdict::Met), (unmet, Verdict::Unmet)] {
            for value in values {
                assert_eq!(verdict(test, &format!(r#"{{"c":{value}}}"#)), expected, "{test:?} {value}");
            }
        }
    }

    fn between(min: Option<&str>, max: Option<&str>) -> Test {
        let number = |text: &str| Number::parse(text).unwrap();
        Test::Between { min: min.map(number), max: max.map(number) }
    }

    /// One of each.
    fn every_test() -> Vec<Test> {
        vec![
            Test::Equals(json!("a")),
            Test::OneOf(vec![json!("a")]),
            Test::Present,
            Test::Contains(json!("a")),
            Test::ContainsAny(vec![json!("a")]),
            Test::ContainsAll(vec![json!("a")]),
            Test::Prefix("a".into()),
            between(Some("1"), None),
            between(None, Some("1")),
            between(Some("1"), Some("1")),
            Test::All(vec![Test::Present, Test::Prefix("a".into())]),
        ]
    }

    #[test]
    fn a_missing_claim_fails_every_test() {
        for test in [every_test(), vec![Test::Equals(json!(null)), Test::OneOf(vec![json!(null)])]].concat() {
            assert_eq!(verdict(&test, r#"{"d":"a"}"#), Verdict::Missing, "{test:?}");
        }
    }

    #[test]
    fn null_and_an_object_pass_no_test_but_presence_and_equality() {
        for test in every_test() {
            assert_eq!(verdict(&test, r#"{"c":null}"#), Verdict::Unmet, "{test:?}");
            let expected = if test == Test::Present { Verdict::Met } else { Verdict::Unmet };
            assert_eq!(verdict(&test, r#"{"c":{"a":"a"}}"#), expected, "{test:?}");
        }
        check(&Test::Equals(json!(null)), &["null"], &["0", "\"\"", "false"]);
    }

    #[test]
    fn an_empty_list_is_never_met() {
        let every = &["1", "[]", "[1]", "\"a\"", "true", "null"];
        for test in [Test::OneOf(vec![]), Test::ContainsAny(vec![]), Test::ContainsAll(vec![]), Test::All(vec![])] {
            check(&test, &[], every);
        }
    }

    #[test]
    fn equality_is_of_type_and_content() {
        check(&Test::Equals(json!("admin")), &[r#""admin""#, r#""\u0061dmin""#], &[r#""Admin""#, r#"["admin"]"#]);
        check(&Test::Equals(json!(["admin"])), &[r#"["admin"]"#, r#"[ "admin" ]"#], &[r#"["admin","x"]"#]);
        check(&Test::Equals(json!(true)), &["true"], &[r#""true""#, "1", "false"]);
        check(&Test::Equals(json!(1)), &["1"], &["1.0", "\"1\"", "10", "true"]);
        check(&Test::OneOf(vec![json!("a"), json!(2)]), &[r#""a""#, "2"], &[r#""2""#, r#"["a"]"#, r#""b""#]);
    }

    #[test]
    fn a_text_does_not_contain_what_an_array_does() {
        let roles = || vec![json!("a"), json!("b")];
        let wrong =
            [r#""a b""#, r#""a""#, r#"{"a":1,"b":2}"#, "1", "[]", r#"[["a","b"]]"#, r#"["A","B"]"#, r#"["ab"]"#];
        check(&Test::Contains(json!("a")), &[r#"["a"]"#, r#"["x","\u0061"]"#], &wrong);
        check(&Test::Contains(json!(1)), &["[1]", "[\"1\", 1]"], &["[\"1\"]", "[1.0]", "[true]", "1"]);
        check(&Test::ContainsAny(roles()), &[r#"["b"]"#, r#"["x","a"]"#], &wrong);
        check(
            &Test::ContainsAll(roles()),
            &[r#"["b","x","a"]"#, r#"["a","b"]"#],
            &[&wrong[..], &[r#"["a"]"#]].concat(),
        );
    }

    #[test]
    fn a_prefix_is_of_a_string_alone() {
        let met = [r#""team-""#, r#""team-a""#, r#""\u0074eam-a""#];
        check(
            &Test::Prefix("team-".into()),
            &met,
            &[r#""team""#, r#""Team-a""#, r#""my-team-""#, r#"["team-a"]"#, "1"],
        );
        check(&Test::Prefix("1".into()), &[r#""12""#], &["12", "1"]);
    }

    #[test]
    fn bounds_are_included_and_exact_whatever_the_length() {
        check(
            &between(Some("18"), None),
            &["18", "18.0", "1.8e1", "9e300"],
            &["17", "17.999999", "-18", "\"18\"", "[18]"],
        );
        check(&between(None, Some("5")), &["5", "0", "-7", "5.0"], &["6", "5.0000000000000000001", "true", "\"1\""]);
        let one = between(Some("9007199254740993"), Some("9007199254740993"));
        check(&one, &["9007199254740993"], &["9007199254740992", "9007199254740994", "9007199254740993.5"]);
        let long = "170141183460469231731687303715884105727";
        check(&between(Some(long), None), &[long], &["170141183460469231731687303715884105726"]);
        check(&between(None, None), &["1"], &["\"1\"", "null", "false"]);
    }

    #[test]
    fn several_tests_must_all_be_met() {
        let test = Test::All(vec![Test::Prefix("a".into()), Test::OneOf(vec![json!("ab"), json!("b")])]);
        check(&test, &[r#""ab""#], &[r#""b""#, r#""a""#, "1"]);
    }

    #[test]
    fn a_nested_claim_is_judged_where_it_stands() {
        let claims =
            r#"{"realm_access":{"roles":["a","b"]},"realm_access.roles":["c"],"https://x.example/r":{"n":[1,2]}}"#;
        let claims = Claims::parse(claims.as_bytes().to_vec()).unwrap();
        let judged = |path: &str, value: Json| {
            judge(&Demand { claim: ClaimPath::parse(path).unwrap(), test: Test::Contains(value) }, &claims)
        };
        assert_eq!(judged("realm_access.roles", json!("a")), Verdict::Met);
        assert_eq!(judged("realm_access.roles", json!("c")), Verdict::Unmet, "not the member with a dot in its name");
        assert_eq!(judged("/realm_access.roles", json!("c")), Verdict::Met);
        assert_eq!(judged("/https:~1~1x.example~1r/n", json!(2)), Verdict::Met);
        for missing in
            ["realm_access.role", "realm_access.roles.x", "realm_access.roles.0", "roles", "/realm_access/roles/2"]
        {
            assert_eq!(judged(missing, json!("a")), Verdict::Missing, "{missing}");
        }
        assert_eq!(judged("/realm_access/roles/0", json!("a")), Verdict::Unmet, "the element is a string");
    }

    #[test]
    fn a_nested_claim_is_forwarded_with_every_digit() {
        let forward = |header: &'static str, claim: &str| Forward {
            header: http::HeaderName::from_static(header),
            claim: ClaimPath::parse(claim).unwrap(),
        };
        let forwards = vec![
            forward("x-roles", "realm.roles"),
            forward("x-id", "/realm/ids/1"),
            forward("x-none", "realm.none"),
            forward("x-null", "realm.null"),
        ];
        let demand = Demand { claim: ClaimPath::parse("realm.roles").unwrap(), test: Test::Contains(json!("b")) };
        let policy = |forwards| {
            fixtures::policy_with(fixtures::django(), |settings, forwarding| {
                settings.rule = Rule::Claim(demand.clone());
                forwarding.claims = forwards;
            })
        };
        let claims = r#""user_id":1,"realm":{"roles":["a","b"],"ids":[1,90071992547409931],"null":null}"#;
        let request = fixtures::Request::bearing(&fixtures::django_token(claims));
        let judged = |policy: &Policy| fixtures::judge(&fixtures::authority(0), policy, &request.asking());
        let mut headers = request.headers().clone();
        judged(&policy(forwards)).unwrap().apply(&mut headers);
        assert_eq!(
            (&headers["x-roles"], &headers["x-id"]),
            (&"a,b".parse().unwrap(), &"90071992547409931".parse().unwrap())
        );
        assert!(!headers.contains_key("x-none") && !headers.contains_key("x-null"));
        let denied = judged(&policy(vec![forward("x-realm", "realm")])).unwrap_err();
        assert_eq!(denied.reason(), "unusable_claim");
    }

    #[test]
    fn no_two_demands_hash_alike() {
        let tests = [
            every_test(),
            vec![
                Test::Equals(json!(["a"])),
                Test::OneOf(vec![json!(["a"])]),
                Test::Equals(json!("1")),
                Test::Equals(json!(1)),
                Test::Equals(json!(1.0)),
                Test::Equals(json!("present")),
                Test::Equals(json!({ "equals": "a" })),
                Test::Prefix("a\",\"b".into()),
                between(None, None),
                Test::All(vec![Test::Present]),
                Test::All(vec![]),
            ],
        ]
        .concat();
        let paths = ["a", "a.b", "/a.b", "/a/0", "a.0", "urn:a"].map(|path| ClaimPath::parse(path).unwrap());
        let demands = paths
            .iter()
            .flat_map(|claim| tests.iter().map(|test| Demand { claim: claim.clone(), test: test.clone() }.canonical()));
        assert_eq!(demands.collect::<HashSet<_>>().len(), paths.len() * tests.len());
        let same = ["a.b", "/a/b"].map(|path| Demand { claim: ClaimPath::parse(path).unwrap(), test: Test::Present });
        assert_eq!(same[0].canonical(), same[1].canonical());
    }

    #[test]
    fn every_test_has_its_words() {
        let worded = every_test().iter().map(Test::in_words).collect::<Vec<_>>();
        assert_eq!(
            worded,
            [
                "is \"a\"",
                "is one of: \"a\"",
                "is present and not null",
                "is an array that holds \"a\"",
                "is an array that holds one of: \"a\"",
                "is an array that holds all of: \"a\"",
                "is a text that begins with \"a\"",
                "is a number not below 1",
                "is a number not above 1",
                "is a number from 1 to 1",
                "is present and not null; and is a text that begins with \"a\"",
            ]
        );
        assert_eq!(in_words(&Demand::equals("token_type", "access")), "claim `token_type` is \"access\"");
        assert_eq!(in_words(&Demand::present("a.b")), "claim `a.b` is present and not null");
    }

    /// Small values, so that two of them are often equal.
    fn small_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Json::from),
            (-2_i64..3).prop_map(Json::from),
            Just(json!(u64::MAX)),
            Just(json!(1.5)),
            "[a\"\\\\é]{0,2}".prop_map(Json::from),
        ];
        leaf.prop_recursive(2, 6, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Json::from),
                prop::collection::btree_map("[ab]", inner, 0..3).prop_map(Json::from_iter),
            ]
        })
    }

    proptest! {
        #[test]
        fn equality_agrees_with_that_of_values(claim in small_json(), expected in small_json()) {
            let text = json!({ "c": claim }).to_string();
            prop_assert_eq!(verdict(&Test::Equals(expected.clone()), &text) == Verdict::Met, claim == expected);
            prop_assert_eq!(verdict(&Test::Equals(claim.clone()), &text), Verdict::Met);
            let held = claim.as_array().is_some_and(|held| held.contains(&expected));
            prop_assert_eq!(verdict(&Test::Contains(expected), &text) == Verdict::Met, held);
        }

        #[test]
        fn bounds_agree_with_whole_numbers(
            claim in prop_oneof![any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from)],
            low in prop_oneof![any::<i64>().prop_map(i128::from), any::<u64>().prop_map(i128::from)],
            near in -2_i128..3,
        ) {
            let text = format!(r#"{{"c":{claim}}}"#);
            for bound in [low, claim + near] {
                let written = bound.to_string();
                let met = |test| verdict(&test, &text) == Verdict::Met;
                prop_assert_eq!(met(between(Some(&written), None)), claim >= bound);
                prop_assert_eq!(met(between(None, Some(&written))), claim <= bound);
                prop_assert_eq!(met(between(Some(&written), Some(&written))), claim == bound);
            }
        }
    }
}
