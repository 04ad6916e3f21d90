//! Settings that come in one word.
//!
//! Owns what a named product's tokens look like. A preset only fills in settings; it opens no path around them.

use std::str::FromStr;

use super::settings::{Algorithm, Demand, IssuerSettings, Style};

/// A named set of issuer settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// djangorestframework-simplejwt 5.5 with its default settings.
    SimpleJwt,
}

/// A name that is no preset.
#[derive(Debug, thiserror::Error)]
#[error("unknown preset `{0}`")]
pub struct UnknownPreset(pub String);

impl Preset {
    /// Every preset, in the order the documentation lists them.
    pub const ALL: [Self; 1] = [Self::SimpleJwt];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::SimpleJwt => "simplejwt",
        }
    }

    /// Writes the preset's values over `settings`; what the operator typed is to be written afterwards. Name, keys, `iss` and
    /// audiences stay as they are.
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
        }
    }
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
    use super::*;

    #[test]
    fn simplejwt_is_known_by_its_exact_name() {
        assert_eq!("simplejwt".parse::<Preset>().unwrap(), Preset::SimpleJwt);
        assert_eq!("SimpleJWT".parse::<Preset>().unwrap_err().to_string(), "unknown preset `SimpleJWT`");
    }

    #[test]
    fn simplejwt_demands_an_access_token_with_id_user_and_expiry() {
        let mut settings = IssuerSettings::named("django");
        settings.require_exp = false;
        Preset::SimpleJwt.apply(&mut settings);
        assert!(settings.require_exp && settings.leeway_secs == 0 && &*settings.realm == "api");
        assert_eq!(settings.algorithms, [Algorithm::Hs256]);
        assert_eq!(settings.required_claims, ["jti".into()]);
        assert_eq!(settings.require[0], Demand::equals("token_type", "access"));
    }
}
