//! What presets leave to the operator.
//!
//! Owns the list, so that the configuration asks for all of it and knows no product. Knows no TOML; the remedies show what is usually written.

/// What a preset leaves to the operator, because nobody else knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The ways to say it, the usual one first; one is enough.
    pub any_of: &'static [Answer],
    /// What it is needed for, or what passes without it.
    pub reason: &'static str,
    /// What to write.
    pub remedy: &'static str,
    /// Whether the preset would not keep its promise without.
    pub needed: bool,
}

/// A way to say what a preset wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The `iss` that is expected.
    Issuer,
    /// The audiences that are accepted.
    Audiences,
    /// A demand on this claim.
    Claim(&'static str),
}

pub(super) const AUTH0: [Wanted; 1] = [Wanted {
    any_of: &[Answer::Audiences],
    reason: "nothing else tells access tokens from ID tokens",
    remedy: "write the API's identifier, as `audiences = [\"https://api.example.com/\"]`",
    needed: true,
}];

pub(super) const KEYCLOAK: [Wanted; 1] = [Wanted {
    any_of: &[Answer::Audiences, Answer::Claim("azp")],
    reason: "tokens of every client of the realm pass",
    remedy: "add an audience mapper to the client scope and write `audiences = [\"...\"]`, or `require = { azp = \"CLIENT\" }`",
    needed: false,
}];

pub(super) const COGNITO: [Wanted; 1] = [Wanted {
    any_of: &[Answer::Claim("client_id"), Answer::Audiences],
    reason: "tokens of every app client of the user pool pass",
    remedy: "write the app client's id, as `require = { client_id = \"...\" }`: these access tokens have no `aud`",
    needed: false,
}];

pub(super) const ENTRA: [Wanted; 2] = [
    Wanted {
        any_of: &[Answer::Issuer, Answer::Claim("tid")],
        reason: "one set of keys signs for every tenant, so tokens of any of them would pass",
        remedy: "write `issuer = \"https://login.microsoftonline.com/TENANT-ID/v2.0\"`, or `require = { tid = [..] }` for several tenants",
        needed: true,
    },
    Wanted {
        any_of: &[Answer::Audiences],
        reason: "one set of keys signs for every application, so tokens for any of them would pass",
        remedy: "write the application (client) id of the API, as `audiences = [\"00000000-...\"]`",
        needed: true,
    },
];

pub(super) const GOOGLE: [Wanted; 1] = [Wanted {
    any_of: &[Answer::Audiences],
    reason: "one set of keys signs for every site, so tokens given to any of them would pass",
    remedy: "write your OAuth client's id, as `audiences = [\"....apps.googleusercontent.com\"]`",
    needed: true,
}];

pub(super) const RFC9068: [Wanted; 2] = [
    Wanted {
        any_of: &[Answer::Issuer],
        reason: "RFC 9068 section 4 has it compared",
        remedy: "write the authorization server's issuer identifier, as `issuer = \"https://id.example.com/\"`",
        needed: true,
    },
    Wanted {
        any_of: &[Answer::Audiences],
        reason: "RFC 9068 section 4 has it compared",
        remedy: "write the identifier this resource is known by, as `audiences = [\"https://api.example.com/\"]`",
        needed: true,
    },
];
