//! `require = { claim = ... }`: from TOML values to demands on claims.

use serde_json::Value;

use super::super::entry::{Entry, Named};
use super::super::problem::{Problem, Span};
use super::super::shapes::ClaimValue;
use super::context::Context;
use crate::auth::{Demand, Test};

const FORMS: &str = "write `claim = \"value\"`, `claim = [\"one\", \"of\"]` or `claim = { present = true }`";

pub(super) fn demands(context: &mut Context<'_>, entry: &Entry<Named<ClaimValue>>) -> Vec<Demand> {
    let Some((claims, span)) = context.take(entry) else { return Vec::new() };
    if claims.0.is_empty() {
        context.report(Problem::error(span, "`require` demands nothing").hint("leave the key out, or name a claim"));
    }
    let mut demands = Vec::new();
    for (claim, value) in &claims.0 {
        if claim.text.is_empty() {
            context.report(Problem::error(claim.span, "a claim has no name").hint(FORMS));
        }
        let Some((ClaimValue(value), span)) = context.take(value) else { continue };
        match test(&claim.text, value) {
            Ok(test) => demands.push(Demand { claim: claim.text.as_str().into(), test }),
            Err(message) => context.report(refused(span, message)),
        }
    }
    demands
}

fn refused(span: Span, message: String) -> Problem {
    Problem::error(span, message).hint(FORMS)
}

fn test(claim: &str, value: &toml::Value) -> Result<Test, String> {
    match value {
        toml::Value::Array(items) if items.is_empty() => Err(format!("no value of `{claim}` can meet an empty list")),
        toml::Value::Array(items) => {
            items.iter().map(|item| scalar(claim, item)).collect::<Result<_, _>>().map(Test::OneOf)
        }
        toml::Value::Table(table) if table.len() == 1 && table.get("present") == Some(&toml::Value::Boolean(true)) => {
            Ok(Test::Present)
        }
        other => scalar(claim, other).map(Test::Equals),
    }
}

fn scalar(claim: &str, value: &toml::Value) -> Result<Value, String> {
    match value {
        toml::Value::String(text) => Ok(text.as_str().into()),
        toml::Value::Integer(number) => Ok((*number).into()),
        toml::Value::Boolean(flag) => Ok((*flag).into()),
        toml::Value::Float(number) if number.is_finite() => Ok((*number).into()),
        other => Err(format!("`{claim}` cannot be compared with {}", kind(other))),
    }
}

fn kind(value: &toml::Value) -> &'static str {
    match value {
        toml::Value::Array(_) => "a list in a list",
        toml::Value::Table(_) => "a table",
        toml::Value::Datetime(_) => "a date: claims are JSON, which has none",
        _ => "this number: JSON cannot write it",
    }
}
