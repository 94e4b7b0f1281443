//! The small language in which a flavor's extra spec says what a value must be.
//!
//! | requirement | holds when |
//! |---|---|
//! | `= 4`, `>= 4` | the value as a number is at least 4 (`=` too: Nova's oldest operator) |
//! | `== 4`, `!= 4`, `<= 4` | the same as a number, another number, at most that number |
//! | `s== a`, `s!= a`, `s< a`, `s<= a`, `s> a`, `s>= a` | the value as text compares so |
//! | `<in> a` | the value contains `a` |
//! | `<all-in> a b` | the value contains each of the words |
//! | `<or> a <or> b` | the value is one of the words |
//! | anything else | the value is exactly that text |
//!
//! There is no `>` and no `<`: `> 4` is compared as text, as in Nova.
//!
//! Nova reads a requirement as far as it needs and no further, or raises an error in the middle of
//! scheduling. Here a requirement that is not wholly in the table is [malformed](Mismatch): a
//! missing or a superfluous word, a number that is none, `<or>` without its alternation. So
//! `s== a b` and `<or> v1 v2` match nothing, where Nova would take them for `s== a` and
//! `<or> v1`.

use nova_core::domain::Invalid;

/// Why a value does not meet a requirement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// It does not.
    Other,
    /// The requirement compares numbers, and the value is none.
    ValueIsNoNumber,
    /// Nothing can meet the requirement: it is malformed.
    Malformed,
}

/// Whether `value` meets `requirement`.
pub(crate) fn matches(value: &str, requirement: &str) -> Result<(), Mismatch> {
    let mut words = requirement.split_whitespace();
    let Some(operator) = words.next() else { return holds(value == requirement) };
    match operator {
        "=" | ">=" => numbers(value, words, |value, wanted| value >= wanted),
        "==" => numbers(value, words, |value, wanted| value == wanted),
        "!=" => numbers(value, words, |value, wanted| value != wanted),
        "<=" => numbers(value, words, |value, wanted| value <= wanted),
        "s==" => texts(words, |wanted| value == wanted),
        "s!=" => texts(words, |wanted| value != wanted),
        "s<" => texts(words, |wanted| value < wanted),
        "s<=" => texts(words, |wanted| value <= wanted),
        "s>" => texts(words, |wanted| value > wanted),
        "s>=" => texts(words, |wanted| value >= wanted),
        "<in>" => texts(words, |wanted| value.contains(wanted)),
        "<all-in>" => {
            let mut wanted = words.peekable();
            if wanted.peek().is_none() {
                return Err(Mismatch::Malformed);
            }
            holds(wanted.all(|word| value.contains(word)))
        }
        "<or>" => any_of(value, words),
        _ => holds(value == requirement),
    }
}

/// Whether `requirement` is well-formed, whatever it is compared with.
pub(crate) fn checked(key: &str, requirement: &str) -> Result<(), Invalid> {
    match matches("", requirement) {
        Err(Mismatch::Malformed) => {
            let said = format!("{key} = {requirement}");
            let allowed = "an operator with its operands: = >= == != <= with a number, \
                           s== s!= s< s<= s> s>= <in> with a word, <all-in> with words, \
                           <or> a <or> b; or a plain value";
            Err(Invalid::new("extra spec", said, allowed))
        }
        _ => Ok(()),
    }
}

/// Whether `value` meets `requirement` in Nova, which reads as far as it needs.
///
/// Words behind the operand are not looked at, `<or>` takes every second word whatever is between
/// them, and an operator without an operand meets nothing. What is [malformed](Mismatch::Malformed)
/// or [no number](Mismatch::ValueIsNoNumber) raises an error there.
pub(crate) fn matches_as_nova(value: &str, requirement: &str) -> Result<(), Mismatch> {
    let mut words = requirement.split_whitespace();
    let Some(operator) = words.next() else { return holds(value == requirement) };
    let operand = words.next();
    let compare = |compare: fn(f64, f64) -> bool| {
        let Some(wanted) = operand else { return Err(Mismatch::Other) };
        let value = number(value).ok_or(Mismatch::ValueIsNoNumber)?;
        holds(compare(value, number(wanted).ok_or(Mismatch::Malformed)?))
    };
    let text = |compare: fn(&str, &str) -> bool| {
        holds(operand.is_some_and(|wanted| compare(value, wanted)))
    };
    match operator {
        "=" | ">=" => compare(|value, wanted| value >= wanted),
        "==" => compare(|value, wanted| value == wanted),
        "!=" => compare(|value, wanted| value != wanted),
        "<=" => compare(|value, wanted| value <= wanted),
        "s==" => text(|value, wanted| value == wanted),
        "s!=" => text(|value, wanted| value != wanted),
        "s<" => text(|value, wanted| value < wanted),
        "s<=" => text(|value, wanted| value <= wanted),
        "s>" => text(|value, wanted| value > wanted),
        "s>=" => text(|value, wanted| value >= wanted),
        "<in>" => text(|value, wanted| value.contains(wanted)),
        "<all-in>" => {
            let mut wanted = operand.into_iter().chain(words).peekable();
            holds(wanted.peek().is_some() && wanted.all(|word| value.contains(word)))
        }
        "<or>" => {
            let wanted = operand.ok_or(Mismatch::Malformed)?;
            holds(value == wanted || words.skip(1).step_by(2).any(|word| value == word))
        }
        _ => holds(value == requirement),
    }
}

/// A number as extra specs and aggregate metadata write it: decimal digits with an optional sign,
/// point and exponent; no infinity, and space around it does not count.
pub(crate) fn number(text: &str) -> Option<f64> {
    let text = text.trim();
    let plain = |b: u8| b.is_ascii_digit() || b"+-.eE".contains(&b);
    if !text.bytes().all(plain) {
        return None;
    }
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn holds(condition: bool) -> Result<(), Mismatch> {
    if condition { Ok(()) } else { Err(Mismatch::Other) }
}

fn only<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<&'a str, Mismatch> {
    match (words.next(), words.next()) {
        (Some(word), None) => Ok(word),
        _ => Err(Mismatch::Malformed),
    }
}

fn numbers<'a>(
    value: &str,
    words: impl Iterator<Item = &'a str>,
    compare: fn(f64, f64) -> bool,
) -> Result<(), Mismatch> {
    let wanted = number(only(words)?).ok_or(Mismatch::Malformed)?;
    let value = number(value).ok_or(Mismatch::ValueIsNoNumber)?;
    holds(compare(value, wanted))
}

fn texts<'a>(
    words: impl Iterator<Item = &'a str>,
    compare: impl FnOnce(&str) -> bool,
) -> Result<(), Mismatch> {
    holds(compare(only(words)?))
}

/// The words after a first `<or>`: one, then each further one after an `<or>` of its own.
fn any_of<'a>(value: &str, mut words: impl Iterator<Item = &'a str>) -> Result<(), Mismatch> {
    let mut found = false;
    loop {
        found |= words.next().ok_or(Mismatch::Malformed)? == value;
        match words.next() {
            None => return holds(found),
            Some("<or>") => {}
            Some(_) => return Err(Mismatch::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: &str, requirement: &str, expected: Result<(), Mismatch>) {
        assert_eq!(matches(value, requirement), expected, "{value:?} against {requirement:?}");
    }

    #[test]
    fn the_answers_are_novas_where_nova_answers() {
        for (value, requirement, expected) in [
            ("5", "= 4", true),
            ("4", "= 5", false),
            ("5", "> 4", false),
            ("x86", "<in> x8", true),
            ("12", "s< 2", true),
            ("", "", true),
            ("a", "", false),
            ("5 5", "5 5", true),
            ("4", "== 4.0", true),
            ("4", "!= 4.0", false),
            ("4", "<= 4", true),
            ("5", "<= 4", false),
            ("4", ">= 4", true),
            ("b", "s== b", true),
            ("b", "s!= b", false),
            ("b", "s<= b", true),
            ("b", "s> a", true),
            ("b", "s>= c", false),
            ("aes mmx", "<all-in> aes mmx", true),
            ("aes mmx", "<all-in> aes sse", false),
            ("v2", "<or> v1 <or> v2", true),
            ("v3", "<or> v1 <or> v2", false),
            ("true", "true", true),
            ("true", "True", false),
        ] {
            check(value, requirement, if expected { Ok(()) } else { Err(Mismatch::Other) });
        }
    }

    #[test]
    fn nova_reads_no_further_than_it_needs() {
        let check = |value: &str, requirement: &str, expected| {
            let met = matches_as_nova(value, requirement);
            assert_eq!(met, expected, "{value:?} against {requirement:?}");
        };
        let (yes, no) = (Ok(()), Err(Mismatch::Other));
        check("v2", "<or> v1 v2", no);
        check("v1", "<or> v1 v2", yes);
        check("v3", "<or> v1 v2 v3", yes);
        check("v1", "<or> v1 <or>", yes);
        check("v1", "<or>", Err(Mismatch::Malformed));
        check("a", "<in>", no);
        check("a", "<all-in>", no);
        check("aes mmx", "<all-in> aes mmx", yes);
        check("a", "s== a b", yes);
        check("5", ">=", no);
        check("5", "= 4 or more", yes);
        check("5", ">= four", Err(Mismatch::Malformed));
        check("abc", ">= 4", Err(Mismatch::ValueIsNoNumber));
        check("5", "> 4", no);
        check("", "", yes);
    }

    #[test]
    fn a_malformed_requirement_is_refused_with_what_is_allowed() {
        let error = checked("capabilities:x", ">= four").unwrap_err().to_string();
        assert!(error.contains("capabilities:x = >= four") && error.contains("<or> a <or> b"));
        for good in ["", "true", ">= 4", "<or> a <or> b", "a b"] {
            assert_eq!(checked("x", good), Ok(()));
        }
    }

    #[test]
    fn a_malformed_requirement_matches_nothing() {
        for (value, requirement) in [
            ("v2", "<or> v1 v2"),
            ("v1", "<or> v1 v2"),
            ("v1", "<or>"),
            ("v1", "<or> v1 <or>"),
            ("a", "<in>"),
            ("a", "<all-in>"),
            ("a b", "s== a b"),
            ("5", ">="),
            ("5", ">= four"),
            ("5", ">= inf"),
            ("5", ">= 0x4"),
        ] {
            check(value, requirement, Err(Mismatch::Malformed));
        }
    }

    #[test]
    fn a_value_that_is_no_number_is_told_apart_from_a_wrong_one() {
        check("abc", ">= 4", Err(Mismatch::ValueIsNoNumber));
        check("nan", "== 5", Err(Mismatch::ValueIsNoNumber));
    }

    #[test]
    fn numbers_are_decimal() {
        let read = |texts: &[&str]| texts.iter().map(|text| number(text)).collect::<Vec<_>>();
        let good = read(&["7.", ".5", "1e2", " -3 ", "+4"]);
        assert_eq!(good, [7.0, 0.5, 100.0, -3.0, 4.0].map(Some));
        let bad = read(&["", "1,5", "- 2", "1e", "inf", "nan", "1_000", "0x10", "1e999"]);
        assert_eq!(bad, [None; 9]);
    }
}
