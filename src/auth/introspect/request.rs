//! The question: who asks, about which token (RFC 7662 section 2.1).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::settings::IntrospectionSettings;

/// What `application/x-www-form-urlencoded` escapes (RFC 6749 appendix B).
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

/// HTTP Basic with both halves encoded as in a form, so that a colon in either is no separator (RFC 6749 section 2.3.1).
pub(super) fn authorization(settings: &IntrospectionSettings) -> HeaderValue {
    let id = encoded(settings.client_id.as_bytes());
    let secret = encoded(settings.client_secret.expose());
    let credentials = STANDARD.encode(format!("{id}:{secret}"));
    let mut value =
        HeaderValue::from_str(&format!("Basic {credentials}")).expect("base64 is made of legal characters alone");
    value.set_sensitive(true);
    value
}

/// The form that asks about `token`.
pub(super) fn form(token: &str) -> String {
    format!("token={}&token_type_hint=access_token", encoded(token.as_bytes()))
}

fn encoded(bytes: &[u8]) -> String {
    percent_encode(bytes, FORM).to_string().replace("%20", "+")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::settings_at;
    use super::*;
    use crate::auth::Secret;

    #[test]
    fn both_halves_of_the_credentials_are_encoded_before_they_are_joined() {
        let mut settings = settings_at("https://id.test/introspect");
        settings.client_id = "a:b c".into();
        settings.client_secret = Secret::new(*b"p%:+~\xc3\xa9");
        let value = authorization(&settings);
        let credentials = STANDARD.decode(value.to_str().unwrap().strip_prefix("Basic ").unwrap()).unwrap();
        assert_eq!(credentials, b"a%3Ab+c:p%25%3A%2B%7E%C3%A9");
        assert!(value.is_sensitive());
    }

    #[test]
    fn a_token_cannot_add_a_parameter() {
        assert_eq!(form("aZ9-._~+/=="), "token=aZ9-._%7E%2B%2F%3D%3D&token_type_hint=access_token");
        assert_eq!(form("a&token=b"), "token=a%26token%3Db&token_type_hint=access_token");
    }
}
