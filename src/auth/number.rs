//! Numbers compared as they are written, digit by digit.
//!
//! Owns exactness: nothing is converted, so 9007199254740993 is more than 9007199254740992, and no number is too long. Knows nothing
//! of claims. RFC 8259 section 6.

use std::cmp::Ordering;
use std::fmt;

/// A number with every digit it was written with; 1, 1.0 and 10e-1 are equal.
#[derive(Clone)]
pub struct Number(Box<str>);

impl Number {
    /// Reads the text of a JSON number.
    pub fn parse(text: &str) -> Option<Self> {
        Decimal::read(text).map(|_| Self(text.into()))
    }

    /// The number as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn decimal(&self) -> Decimal<'_> {
        Decimal::read(&self.0).expect("it was read when it was made")
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Number({})", self.0)
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        self.decimal().order(&other.decimal())
    }
}

/// What a text means as a number: 0.`whole``fraction` times ten to the power of `point`, with no zero at either end of the digits.
pub(super) struct Decimal<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    point: i64,
}

impl<'a> Decimal<'a> {
    /// Reads the text of a JSON number; an exponent beyond 64 bits stays at their end.
    pub(super) fn read(text: &'a str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |text| (true, text));
        let (digits, exponent) = text.split_once(['e', 'E']).map_or((text, None), |(left, right)| (left, Some(right)));
        let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(left, right)| (left, Some(right)));
        let legal = all_digits(whole) && fraction.is_none_or(all_digits) && (whole == "0" || !whole.starts_with('0'));
        if !legal {
            return None;
        }
        let exponent = exponent.map_or(Some(0), power)?;
        Some(Self::normal(negative, whole, fraction.unwrap_or_default(), exponent))
    }

    fn normal(negative: bool, whole: &'a str, fraction: &'a str, exponent: i64) -> Self {
        let whole_len = length(whole);
        let fraction = fraction.trim_end_matches('0');
        let whole = whole.trim_start_matches('0');
        if whole.is_empty() {
            let significant = fraction.trim_start_matches('0');
            let point = exponent.saturating_sub(length(fraction) - length(significant));
            return Self { negative, whole, fraction: significant, point };
        }
        let point = exponent.saturating_add(whole_len);
        let whole = if fraction.is_empty() { whole.trim_end_matches('0') } else { whole };
        Self { negative, whole, fraction, point }
    }

    /// How this number stands to another.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let by_sign = self.sign().cmp(&other.sign());
        by_sign.then_with(|| match self.sign() {
            0 => Ordering::Equal,
            1 => self.magnitude(other),
            _ => other.magnitude(self),
        })
    }

    fn sign(&self) -> i8 {
        match (self.whole.is_empty() && self.fraction.is_empty(), self.negative) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => -1,
        }
    }

    /// Neither is zero, so the first digit is none, and the place of the point decides before the digits do.
    fn magnitude(&self, other: &Self) -> Ordering {
        self.point.cmp(&other.point).then_with(|| self.digits().cmp(other.digits()))
    }

    fn digits(&self) -> impl Iterator<Item = u8> {
        self.whole.bytes().chain(self.fraction.bytes())
    }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn power(text: &str) -> Option<i64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = if text.starts_with('-') { i64::MIN } else { i64::MAX };
    all_digits(digits).then(|| text.parse().unwrap_or(end))
}

fn length(text: &str) -> i64 {
    i64::try_from(text.len()).expect("no text is longer than memory")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|| panic!("{text} is a number"))
    }

    #[test]
    fn numbers_stand_in_order_whatever_their_spelling() {
        let rising = [
            "-1e400",
            "-9007199254740993",
            "-9007199254740992.5",
            "-9007199254740992",
            "-10",
            "-1.5",
            "-0.05",
            "-1e-999999999999999999999",
            "0",
            "1e-400",
            "0.05",
            "0.5",
            "1",
            "1.0000000000000000000000000000001",
            "9.99",
            "10",
            "100",
            "9007199254740992",
            "9007199254740993",
            "170141183460469231731687303715884105727",
            "170141183460469231731687303715884105728",
            "1e400",
            "1e999999999999999999999",
        ];
        for (at, low) in rising.iter().enumerate() {
            assert_eq!(number(low), number(low));
            for high in &rising[at + 1..] {
                assert!(number(low) < number(high) && number(high) > number(low), "{low} {high}");
            }
        }
    }

    #[test]
    fn one_number_is_equal_in_every_spelling() {
        for same in [
            &["1", "1.0", "10e-1", "0.1e1", "0.01E+2", "1e0"][..],
            &["0", "-0", "0.00", "0e5", "-0.0e-99999999999999999999"],
            &["-1500", "-1.5e3", "-15E+2", "-1500.000"],
        ] {
            assert!(same.iter().all(|text| number(text) == number(same[0])), "{same:?}");
        }
    }

    #[test]
    fn what_is_no_json_number_is_none() {
        for text in
            ["", "-", "+1", "01", "1.", ".5", "1e", "1e+", "e5", "inf", "NaN", "0x1", "1_0", " 1", "1 ", "--1", "\"1\""]
        {
            assert_eq!(Number::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_compare_as_whole_numbers(a in any::<i128>(), b in any::<i128>(), near in -2_i128..3) {
            prop_assert_eq!(number(&a.to_string()).cmp(&number(&b.to_string())), a.cmp(&b));
            let close = a.saturating_add(near);
            prop_assert_eq!(number(&a.to_string()).cmp(&number(&close.to_string())), a.cmp(&close));
        }

        #[test]
        fn fractions_compare_as_fractions(a in any::<f64>(), b in any::<f64>()) {
            prop_assume!(a.is_finite() && b.is_finite());
            prop_assert_eq!(Some(number(&a.to_string()).cmp(&number(&b.to_string()))), a.partial_cmp(&b));
        }

        #[test]
        fn reading_agrees_with_the_json_parser(text in "-?[0-9]{0,4}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,2})?") {
            prop_assert_eq!(Number::parse(&text).is_some(), serde_json::from_str::<f64>(&text).is_ok());
        }
    }
}
