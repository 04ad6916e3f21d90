//! What must not reach a log: the values of query parameters whose names speak of credentials.

use std::borrow::Cow;

use percent_encoding::percent_decode;

/// What stands in the place of a value.
const REDACTED: &[u8] = b"REDACTED";

/// A parameter is a secret if its name, letters and digits only, in lower case, ends like this: `access_token`,
/// `csrf-token`, `user[password]`.
const ENDINGS: [&str; 7] = ["token", "jwt", "secret", "password", "passwd", "apikey", "assertion"];

/// ... or is exactly this: authorization codes, signatures and the like.
const NAMES: [&str; 6] = ["code", "auth", "authorization", "sig", "signature", "sessionid"];

/// No honest name is longer; the value of one that is goes unread.
const LONGEST_NAME: usize = 128;

/// Whether the value of a query parameter of this name is kept out of the access log.
pub fn is_redacted(parameter: &str) -> bool {
    is_secret(parameter.as_bytes())
}

/// The request target with the values of credentials replaced; borrowed when there are none.
pub(super) fn redacted(target: &[u8]) -> Cow<'_, [u8]> {
    let Some(query) = memchr::memchr(b'?', target) else { return Cow::Borrowed(target) };
    if !target[query + 1..].split(|byte| is_separator(*byte)).any(|parameter| secret_value(parameter).is_some()) {
        return Cow::Borrowed(target);
    }
    let mut clean = target[..query].to_vec();
    let mut separator = query;
    for parameter in target[query + 1..].split(|byte| is_separator(*byte)) {
        clean.push(target[separator]);
        separator += parameter.len() + 1;
        match secret_value(parameter) {
            Some(value) => {
                clean.extend_from_slice(&parameter[..value]);
                clean.extend_from_slice(REDACTED);
            }
            None => clean.extend_from_slice(parameter),
        }
    }
    Cow::Owned(clean)
}

/// Applications split a query at `&`, some at `;`; a second `?` is a client's mistake that must not cost a secret.
fn is_separator(byte: u8) -> bool {
    matches!(byte, b'&' | b';' | b'?')
}

/// Where the value of a parameter begins, if it is a secret.
fn secret_value(parameter: &[u8]) -> Option<usize> {
    let equals = memchr::memchr(b'=', parameter)?;
    is_secret(&parameter[..equals]).then_some(equals + 1)
}

fn is_secret(name: &[u8]) -> bool {
    if name.len() > LONGEST_NAME {
        return true;
    }
    let mut letters = [0; LONGEST_NAME];
    let mut length = 0;
    for byte in percent_decode(name).filter(u8::is_ascii_alphanumeric) {
        letters[length] = byte.to_ascii_lowercase();
        length += 1;
    }
    let name = &letters[..length];
    NAMES.iter().any(|known| known.as_bytes() == name) || ENDINGS.iter().any(|ending| name.ends_with(ending.as_bytes()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(target: &str) -> String {
        String::from_utf8(redacted(target.as_bytes()).into_owned()).unwrap()
    }

    #[test]
    fn credentials_in_a_query_are_redacted_and_nothing_else() {
        for (target, logged) in [
            ("/orders", "/orders"),
            ("/orders?page=2&sort=name", "/orders?page=2&sort=name"),
            ("/ws?token=abc", "/ws?token=REDACTED"),
            ("/ws?a=1&access_token=abc&b=2", "/ws?a=1&access_token=REDACTED&b=2"),
            ("/cb?code=xyz&state=s", "/cb?code=REDACTED&state=s"),
            ("/x?JWT=a.b.c", "/x?JWT=REDACTED"),
            ("/x?%74oken=abc", "/x?%74oken=REDACTED"),
            ("/x?to%6Ben=abc", "/x?to%6Ben=REDACTED"),
            ("/x?user[password]=p", "/x?user[password]=REDACTED"),
            ("/x?csrf-token=p;api_key=q", "/x?csrf-token=REDACTED;api_key=REDACTED"),
            ("/x?a=1?token=abc", "/x?a=1?token=REDACTED"),
            ("/x?token=a=b==", "/x?token=REDACTED"),
            ("/x?token", "/x?token"),
            ("/x?token=", "/x?token=REDACTED"),
            ("/x?zipcode=1234&tokens=3", "/x?zipcode=1234&tokens=3"),
            ("/token=abc", "/token=abc"),
            ("/x?", "/x?"),
            ("/x?&&", "/x?&&"),
        ] {
            assert_eq!(text(target), logged);
        }
    }

    #[test]
    fn a_name_too_long_to_read_hides_its_value() {
        let target = format!("/x?{}=secret", "a".repeat(LONGEST_NAME + 1));
        assert!(!text(&target).contains("secret"));
    }

    proptest! {
        #[test]
        fn a_token_value_never_survives(before in "[a-z=&;?%0-9]{0,20}", after in "(&[a-z=&;?%0-9]{0,20})?") {
            let target = format!("/p?{before}&access_token=S3CR3T{after}");
            prop_assert!(!text(&target).contains("S3CR3T"));
        }

        #[test]
        fn no_target_panics_and_the_path_stays(target in prop::collection::vec(any::<u8>(), 0..200)) {
            let path = target.split(|byte| *byte == b'?').next().unwrap();
            prop_assert!(redacted(&target).starts_with(path));
        }
    }
}
