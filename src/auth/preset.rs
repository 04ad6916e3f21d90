//! Settings that come in one word.
//!
//! Owns what the tokens of well-known products look like. A preset only fills in settings; it opens no path around them.

use std::str::FromStr;

use super::settings::{Algorithm, Demand, IssuerSettings, Style};
use super::wanted::{self, Wanted};

/// A named set of issuer settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// djangorestframework-simplejwt 5.5 with its default settings.
    SimpleJwt,
    /// Access tokens of a Keycloak realm: the claim `typ` is `Bearer`, where ID tokens say `ID`, refresh tokens `Refresh`, `Offline`, and
    /// logout tokens `Logout`. Keycloak, Server Administration Guide and `org.keycloak.util.TokenUtil`.
    Keycloak,
    /// Access tokens of an Auth0 API. Nothing but `aud` tells them from ID tokens. Auth0 documentation, "Validate Access Tokens".
    Auth0,
    /// Access tokens of an Amazon Cognito user pool: `token_use` is `access`, and `client_id` stands in the place of `aud`. Amazon Cognito
    /// Developer Guide, "Understanding the access token" and "Verifying JSON web tokens".
    Cognito,
    /// Access tokens of Microsoft Entra ID, version 2.0: `ver` says so, and `azp`, which ID tokens lack, names the client. Microsoft identity
    /// platform, "Access token claims reference", "ID token claims reference" and "Secure applications and APIs by validating claims".
    Entra,
    /// ID tokens of Google, for its access tokens are opaque. Google Identity, "Verify the Google ID token on your server side".
    Google,
    /// Access tokens in the profile of RFC 9068: `typ` as in section 2.1, the claims of section 2.2, and the checks of section 4.
    Rfc9068,
}

/// A name that is no preset.
#[derive(Debug, thiserror::Error)]
#[error("unknown preset `{0}`")]
pub struct UnknownPreset(pub String);

impl Preset {
    /// Every preset, in the order the documentation lists them.
    pub const ALL: [Self; 7] =
        [Self::SimpleJwt, Self::Keycloak, Self::Auth0, Self::Cognito, Self::Entra, Self::Google, Self::Rfc9068];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::SimpleJwt => "simplejwt",
            Self::Keycloak => "keycloak",
            Self::Auth0 => "auth0",
            Self::Cognito => "cognito",
            Self::Entra => "entra",
            Self::Google => "google",
            Self::Rfc9068 => "rfc9068",
        }
    }

    /// Writes the preset's values over `settings`; what the operator typed is to be written afterwards. Name, keys and audiences stay as
    /// they are.
    ///
    /// simplejwt looks at `exp`, `jti`, the token type and the user id in this order, and says which was wrong; so the user id is
    /// a demand after the token type and not one of the required claims before it.
    pub fn apply(self, settings: &mut IssuerSettings) {
        match self {
            Self::SimpleJwt => {
                settings.algorithms = vec![Algorithm::Hs256];
                settings.leeway_secs = 0;
                settings.require_exp = true;
                settings.required_claims = vec!["jti".into()];
                settings.require = vec![Demand::equals("token_type", "access"), Demand::present("user_id")];
                settings.typ = Vec::new();
                settings.subject_claim = "user_id".into();
                settings.style = Style::Drf;
                settings.realm = "api".into();
            }
            Self::Keycloak => rs256(settings, vec![Demand::equals("typ", "Bearer")]),
            Self::Auth0 => rs256(settings, Vec::new()),
            Self::Cognito => rs256(settings, vec![Demand::equals("token_use", "access")]),
            Self::Entra => {
                rs256(settings, vec![Demand::equals("ver", "2.0"), Demand::present("azp")]);
                settings.subject_claim = "oid".into();
            }
            Self::Google => {
                rs256(settings, Vec::new());
                settings.issuer = Some("https://accounts.google.com".into());
            }
            Self::Rfc9068 => {
                settings.require_exp = true;
                settings.typ = vec!["at+jwt".into()];
                settings.required_claims = ["sub", "client_id", "iat", "jti"].map(Into::into).to_vec();
            }
        }
    }

    /// What is left to the operator.
    pub fn wants(self) -> &'static [Wanted] {
        match self {
            Self::SimpleJwt => &[],
            Self::Keycloak => &wanted::KEYCLOAK,
            Self::Auth0 => &wanted::AUTH0,
            Self::Cognito => &wanted::COGNITO,
            Self::Entra => &wanted::ENTRA,
            Self::Google => &wanted::GOOGLE,
            Self::Rfc9068 => &wanted::RFC9068,
        }
    }

    /// Whether the tokens it is made for have no `aud`, so that none would pass where one is demanded.
    pub fn lacks_audience(self) -> bool {
        self == Self::Cognito
    }
}

/// What those have in common that sign with RSA and publish a key set.
fn rs256(settings: &mut IssuerSettings, require: Vec<Demand>) {
    settings.algorithms = vec![Algorithm::Rs256];
    settings.require_exp = true;
    settings.require = require;
}

impl FromStr for Preset {
    type Err = UnknownPreset;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|preset| preset.name() == name).ok_or_else(|| UnknownPreset(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::super::fixtures::{self, NOW};
    use super::super::{Answer, Issuer};
    use super::*;

    #[test]
    fn a_preset_is_known_by_its_exact_name() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse::<Preset>().unwrap(), preset);
        }
        assert_eq!("SimpleJWT".parse::<Preset>().unwrap_err().to_string(), "unknown preset `SimpleJWT`");
    }

    #[test]
    fn simplejwt_demands_an_access_token_with_id_user_and_expiry() {
        let mut settings = IssuerSettings::named("django");
        settings.require_exp = false;
        Preset::SimpleJwt.apply(&mut settings);
        assert!(settings.require_exp && settings.leeway_secs == 0 && &*settings.realm == "api");
        assert_eq!(settings.algorithms, [Algorithm::Hs256]);
        assert_eq!(settings.required_claims, [Box::<str>::from("jti")]);
        assert_eq!(settings.require[0], Demand::equals("token_type", "access"));
    }

    /// A product's issuer as the documentation sets it up, and what it issues.
    struct Product {
        issuer: Issuer,
        header: Value,
        access: Value,
    }

    impl Product {
        fn new(preset: Preset, access: Value, change: impl FnOnce(&mut IssuerSettings)) -> Self {
            let mut settings = IssuerSettings::named("corp");
            preset.apply(&mut settings);
            settings.keys = vec![fixtures::rsa().key()];
            change(&mut settings);
            let header = json!({ "alg": "RS256", "typ": "JWT", "kid": "k" });
            let dates = json!({ "iat": NOW - 10, "exp": NOW + 300 });
            Self { issuer: Issuer::compile(settings).unwrap().0, header, access: with(access, &dates) }
        }

        fn judge(&self, header: &Value, claims: &Value) -> Result<Option<String>, &'static str> {
            let token = fixtures::rsa().sign(Algorithm::Rs256, &header.to_string(), &claims.to_string());
            let verified = fixtures::verified(&self.issuer, &token).map_err(|cause| cause.reason())?;
            Ok(verified.subject.map(Into::into))
        }

        fn passes_for(&self, subject: &str) {
            assert_eq!(self.judge(&self.header, &self.access), Ok(Some(subject.to_owned())));
            let endless = without(self.access.clone(), &["exp"]);
            assert_eq!(self.judge(&self.header, &endless), Err("missing_claim"), "a token ends");
        }

        fn refuses(&self, what: &str, changes: &Value, removed: &[&str], reason: &str) {
            let claims = without(with(self.access.clone(), changes), removed);
            assert_eq!(self.judge(&self.header, &claims), Err(reason), "{what}");
        }
    }

    fn with(mut claims: Value, more: &Value) -> Value {
        let more = more.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(more);
        claims
    }

    fn without(mut claims: Value, removed: &[&str]) -> Value {
        claims.as_object_mut().unwrap().retain(|name, _| !removed.contains(&name.as_str()));
        claims
    }

    #[test]
    fn keycloak_takes_bearer_tokens_and_no_other_kind() {
        let access = json!({
            "iss": "https://id.test/realms/corp", "aud": "account", "sub": "f:1", "typ": "Bearer", "azp": "web", "jti": "j",
            "realm_access": { "roles": ["staff"] }, "scope": "openid profile",
        });
        let keycloak = Product::new(Preset::Keycloak, access, |_| {});
        keycloak.passes_for("f:1");
        for kind in ["ID", "Refresh", "Offline", "Logout", "bearer", "DPoP"] {
            keycloak.refuses(kind, &json!({ "typ": kind }), &[], "wrong_token_type");
        }
        keycloak.refuses("none", &json!({}), &["typ"], "missing_claim");
    }

    #[test]
    fn auth0_takes_tokens_for_the_api_and_not_for_the_client() {
        let access = json!({
            "iss": "https://corp.auth0.test/", "aud": ["https://api.test/", "https://corp.auth0.test/userinfo"],
            "sub": "auth0|1", "azp": "web", "scope": "openid read:orders",
        });
        let auth0 =
            Product::new(Preset::Auth0, access, |settings| settings.audiences = vec!["https://api.test/".into()]);
        auth0.passes_for("auth0|1");
        auth0.refuses("an ID token", &json!({ "aud": "web", "nonce": "n" }), &["scope", "azp"], "wrong_audience");
        auth0.refuses("for userinfo", &json!({ "aud": ["https://corp.auth0.test/userinfo"] }), &[], "wrong_audience");
        auth0.refuses("for nobody", &json!({}), &["aud"], "missing_claim");
    }

    #[test]
    fn cognito_takes_access_tokens_of_the_app_client() {
        let access = json!({
            "iss": "https://cognito-idp.eu-west-1.amazonaws.test/pool", "sub": "u", "token_use": "access", "client_id": "web",
            "scope": "orders/read", "username": "ann", "jti": "j",
        });
        let client = |settings: &mut IssuerSettings| settings.require.push(Demand::equals("client_id", "web"));
        let cognito = Product::new(Preset::Cognito, access, client);
        cognito.passes_for("u");
        cognito.refuses(
            "an ID token",
            &json!({ "token_use": "id", "aud": "web" }),
            &["client_id", "scope"],
            "wrong_token_type",
        );
        cognito.refuses("another client's", &json!({ "client_id": "other" }), &[], "claim_refused");
    }

    #[test]
    fn entra_takes_access_tokens_of_version_2_and_knows_users_by_oid() {
        let iss = "https://login.microsoftonline.test/t/v2.0";
        let access = json!({
            "iss": iss, "aud": "api", "oid": "o-1", "sub": "pairwise", "tid": "t", "ver": "2.0", "azp": "web", "azpacr": "1",
            "scp": "orders.read",
        });
        let entra = Product::new(Preset::Entra, access, |settings| {
            settings.issuer = Some(iss.into());
            settings.audiences = vec!["api".into()];
        });
        entra.passes_for("o-1");
        entra.refuses(
            "an ID token of the same application",
            &json!({ "nonce": "n" }),
            &["azp", "azpacr", "scp"],
            "missing_claim",
        );
        entra.refuses("version 1.0", &json!({ "ver": "1.0", "appid": "web" }), &[], "claim_refused");
        entra.refuses(
            "another tenant's",
            &json!({ "iss": "https://login.microsoftonline.test/x/v2.0" }),
            &[],
            "wrong_issuer",
        );
        entra.refuses("for Microsoft Graph", &json!({ "aud": "graph" }), &[], "wrong_audience");
    }

    #[test]
    fn google_takes_id_tokens_given_to_this_client() {
        let id = json!({ "iss": "https://accounts.google.com", "aud": "web.apps", "azp": "web.apps", "sub": "10769150350006150715113082367" });
        let google = Product::new(Preset::Google, id, |settings| settings.audiences = vec!["web.apps".into()]);
        google.passes_for("10769150350006150715113082367");
        google.refuses("another site's", &json!({ "aud": "other.apps" }), &[], "wrong_audience");
        google.refuses("another issuer's", &json!({ "iss": "https://accounts.google.example" }), &[], "wrong_issuer");
    }

    #[test]
    fn rfc9068_takes_access_tokens_that_are_typed_and_whole() {
        let access = json!({ "iss": "https://id.test/", "aud": "https://api.test/", "sub": "u", "client_id": "web", "jti": "j" });
        let mut rfc = Product::new(Preset::Rfc9068, access, |settings| {
            settings.issuer = Some("https://id.test/".into());
            settings.audiences = vec!["https://api.test/".into()];
        });
        assert_eq!(rfc.judge(&rfc.header, &rfc.access), Err("wrong_token_type"), "an ID token is a `JWT`");
        for typ in ["at+jwt", "application/at+jwt", "AT+JWT"] {
            rfc.header["typ"] = json!(typ);
            rfc.passes_for("u");
        }
        for claim in ["sub", "client_id", "iat", "jti", "iss", "aud"] {
            rfc.refuses(claim, &json!({}), &[claim], "missing_claim");
        }
        for typ in ["JWT", "logout+jwt", "dpop+jwt", "secevent+jwt"] {
            rfc.header["typ"] = json!(typ);
            assert_eq!(rfc.judge(&rfc.header, &rfc.access), Err("wrong_token_type"), "{typ}");
        }
    }

    #[test]
    fn no_preset_takes_another_algorithm_than_its_own() {
        for preset in [Preset::Keycloak, Preset::Auth0, Preset::Cognito, Preset::Entra, Preset::Google] {
            let mut settings = IssuerSettings::named("corp");
            preset.apply(&mut settings);
            assert_eq!(settings.algorithms, [Algorithm::Rs256], "{preset:?}");
        }
    }

    #[test]
    fn a_preset_whose_tokens_are_told_apart_by_their_audience_alone_needs_one() {
        for preset in [Preset::Auth0, Preset::Entra, Preset::Google, Preset::Rfc9068] {
            let audience = |wanted: &&Wanted| wanted.needed && wanted.any_of == [Answer::Audiences];
            assert_eq!(preset.wants().iter().filter(audience).count(), 1, "{preset:?}");
        }
    }
}
