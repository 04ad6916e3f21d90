//! What a preset leaves to the operator of `[issuer.NAME]`, asked for here so that no preset is weaker than its name.

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use crate::auth::{Answer, IssuerSettings, Preset, Wanted};

/// `base` is what the preset says; `name` is pointed at where nothing better is there.
pub(super) fn complete(
    context: &mut Context<'_>,
    raw: &raw::Issuer,
    preset: Preset,
    base: &IssuerSettings,
    name: Span,
) {
    let span = raw.preset.span().unwrap_or(name);
    for wanted in preset.wants() {
        if !wanted.any_of.iter().any(|answer| is_given(raw, *answer)) {
            context.report(missing(preset, wanted, span));
        }
    }
    if !raw.introspection.is_absent() && !base.typ.is_empty() {
        let message = format!("the preset `{}` beside `introspection`, which looks at no `typ`", preset.name());
        context.report(
            Problem::error(span, message)
                .hint("remove the preset: what the issuer's answer must say goes into `require`"),
        );
    }
    let kind_is_chosen = base.require.iter().any(|demand| demands(raw, demand.claim.as_str()));
    if let Some(at) = raw.audiences.span().filter(|_| preset.lacks_audience() && !kind_is_chosen) {
        let message = format!("the tokens of the preset `{}` have no `aud`: none would pass", preset.name());
        context.report(Problem::warning(at, message).hint(preset.wants()[0].remedy));
    }
}

fn missing(preset: Preset, wanted: &Wanted, span: Span) -> Problem {
    let ways: Vec<String> = wanted.any_of.iter().map(|answer| in_words(*answer)).collect();
    let (name, ways, reason) = (preset.name(), ways.join(" or "), wanted.reason);
    let problem = if wanted.needed {
        Problem::error(span, format!("the preset `{name}` needs {ways}: {reason}"))
    } else {
        Problem::warning(span, format!("the preset `{name}` without {ways}: {reason}"))
    };
    problem.hint(wanted.remedy)
}

fn is_given(raw: &raw::Issuer, answer: Answer) -> bool {
    match answer {
        Answer::Issuer => !raw.issuer.is_absent() || !raw.discovery.is_absent(),
        Answer::Audiences => !raw.audiences.is_absent(),
        Answer::Claim(claim) => demands(raw, claim),
    }
}

fn demands(raw: &raw::Issuer, claim: &str) -> bool {
    matches!(&raw.require, Entry::Given(_, table) if table.0.iter().any(|(name, _)| name.text == claim))
}

fn in_words(answer: Answer) -> String {
    match answer {
        Answer::Issuer => "`issuer`".to_owned(),
        Answer::Audiences => "`audiences`".to_owned(),
        Answer::Claim(claim) => format!("`{claim}` in `require`"),
    }
}
