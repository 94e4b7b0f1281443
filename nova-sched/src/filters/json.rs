//! A query that the request brings along.

use std::cmp::Ordering;

use nova_core::domain::{HostState, Invalid, RequestSpec};
use serde_json::Value;

use super::attributes;
use crate::{Filter, Reason, Rules, Verdict};

/// Passes hosts for which the hint `query` holds: a JSON list `[operator, argument...]`, such as
/// `["and", [">=", "$free_ram_mb", 2048], ["in", "$hypervisor_type", "QEMU", "LXC"]]`.
///
/// | operator | holds when |
/// |---|---|
/// | `=`, `<`, `>`, `<=`, `>=` | the first argument compares so with each of the others |
/// | `in` | the first is one of the others |
/// | `and`, `or` | all, any of the arguments hold |
/// | `not` | its one argument does not hold |
///
/// An argument that begins with `$` is an attribute of the host, with Nova's name, and members of
/// it behind points: `$stats.grade`. A comparison with what a host does not tell does not hold.
///
/// Under [Nova's rules](Rules::Nova) arguments that a host does not tell are dropped, `not` makes a
/// list of the opposite of each argument, and such a list counts as true within another operator
/// whenever it is not empty: `["or", ["not", true]]` holds.
#[derive(Debug, Default, Clone, Copy)]
pub struct Json {
    /// Whose rules hold.
    pub rules: Rules,
}

const HINT: &str = "query";
/// No query is deeper: reading one is a descent.
const DEPTH_MAX: usize = 32;

impl Filter for Json {
    fn name(&self) -> &str {
        "json"
    }

    fn check(&self, host: &HostState, request: &RequestSpec) -> Verdict {
        let Some(text) = query(request) else { return Verdict::Pass };
        let Ok(query) = serde_json::from_str::<Value>(text) else {
            return Verdict::Error(MALFORMED);
        };
        let asked = Asked { host, rules: self.rules };
        match asked.evaluate(&query, 0) {
            Ok(value) => Verdict::pass_if(passes(&value), Reason("the query does not hold")),
            Err(reason) => Verdict::Error(reason),
        }
    }

    fn concerns(&self, request: &RequestSpec) -> bool {
        query(request).is_some()
    }

    fn hint(&self, name: &str, words: &[String]) -> Option<Result<(), Invalid>> {
        if name != HINT {
            return None;
        }
        let good = match words {
            [text] => serde_json::from_str::<Value>(text).is_ok_and(|query| is_query(&query, 0)),
            _ => false,
        };
        let bad = || {
            let allowed = "one JSON list [operator, argument...] with operators =, <, >, <=, >=, in, \
                           and, or, not";
            Invalid::new("hints.query", words.join(" "), allowed)
        };
        Some(if good { Ok(()) } else { Err(bad()) })
    }
}

const MALFORMED: Reason = Reason("the query is malformed");
const INCOMPARABLE: Reason = Reason("the query compares a number with text");

fn query(request: &RequestSpec) -> Option<&str> {
    let words = request.hints.custom.get(HINT)?;
    words.first().map(String::as_str).filter(|text| !text.is_empty())
}

/// What the whole query comes to.
fn passes(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(truthy),
        value => truthy(value),
    }
}

/// What counts as true.
fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => !members.is_empty(),
    }
}

/// One question to one host.
struct Asked<'a> {
    host: &'a HostState,
    rules: Rules,
}

impl Asked<'_> {
    fn evaluate(&self, query: &Value, depth: usize) -> Result<Value, Reason> {
        let Value::Array(parts) = query else {
            // Nova takes whatever counts as false for no query.
            let none = self.rules == Rules::Nova && !truthy(query);
            return if none { Ok(Value::Bool(true)) } else { Err(MALFORMED) };
        };
        let Some((operator, arguments)) = parts.split_first() else { return Ok(Value::Bool(true)) };
        let Some(operator) = operator.as_str().filter(|_| depth < DEPTH_MAX) else {
            return Err(MALFORMED);
        };
        let mut values = Vec::with_capacity(arguments.len());
        let mut untold = false;
        for argument in arguments {
            match self.argument(argument, depth)? {
                Value::Null => untold = true,
                value => values.push(value),
            }
        }
        // Nova drops what a host does not tell and compares the rest.
        let untold = untold && self.rules == Rules::Strict;
        let comparison = |holds: fn(Ordering) -> bool| {
            if untold { Ok(Value::Bool(false)) } else { compare(&values, holds).map(Value::Bool) }
        };
        let held = |holds: bool| Ok(Value::Bool(holds && !untold));
        match operator {
            "=" => {
                held(values.len() > 1 && values[1..].iter().all(|value| equal(&values[0], value)))
            }
            "in" => {
                held(values.len() > 1 && values[1..].iter().any(|value| equal(&values[0], value)))
            }
            "<" => comparison(Ordering::is_lt),
            ">" => comparison(Ordering::is_gt),
            "<=" => comparison(Ordering::is_le),
            ">=" => comparison(Ordering::is_ge),
            "and" => Ok(Value::Bool(values.iter().all(truthy) && !untold)),
            "or" => Ok(Value::Bool(values.iter().any(truthy))),
            "not" => match (self.rules, values.as_slice()) {
                (Rules::Nova, values) => {
                    Ok(values.iter().map(|value| Value::Bool(!truthy(value))).collect())
                }
                (Rules::Strict, [value]) => Ok(Value::Bool(!truthy(value))),
                // The opposite of what the host does not tell is not told either.
                (Rules::Strict, []) if untold => Ok(Value::Bool(false)),
                (Rules::Strict, _) => Err(MALFORMED),
            },
            _ => Err(MALFORMED),
        }
    }

    fn argument(&self, argument: &Value, depth: usize) -> Result<Value, Reason> {
        match argument {
            Value::Array(_) => self.evaluate(argument, depth + 1),
            Value::String(text) if text.is_empty() => Ok(Value::Null),
            Value::String(text) => match text.strip_prefix('$') {
                None => Ok(argument.clone()),
                Some(path) => Ok(self.look_up(path).unwrap_or(Value::Null)),
            },
            other => Ok(other.clone()),
        }
    }

    fn look_up(&self, path: &str) -> Option<Value> {
        let mut parts = path.split('.');
        let mut value = attributes::of(self.host, parts.next()?)?;
        for part in parts {
            value = value.as_object_mut()?.remove(part)?;
        }
        Some(value)
    }
}

/// Whether the first of `values` compares so with each of the others.
fn compare(values: &[Value], holds: fn(Ordering) -> bool) -> Result<bool, Reason> {
    let Some((first, others)) = values.split_first().filter(|(_, others)| !others.is_empty())
    else {
        return Ok(false);
    };
    let mut all = true;
    for other in others {
        all &= holds(order(first, other).ok_or(INCOMPARABLE)?);
    }
    Ok(all)
}

/// How `a` compares with `b`; none when they are of different kinds.
fn order(a: &Value, b: &Value) -> Option<Ordering> {
    match (number(a), number(b), a, b) {
        (Some(a), Some(b), ..) => a.partial_cmp(&b),
        (_, _, Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (_, _, Value::Array(a), Value::Array(b)) => {
            match a.iter().zip(b).find(|(a, b)| !equal(a, b)) {
                Some((a, b)) => order(a, b),
                None => Some(a.len().cmp(&b.len())),
            }
        }
        _ => None,
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (number(a), number(b), a, b) {
        (Some(a), Some(b), ..) => a == b,
        (_, _, Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        _ => a == b,
    }
}

/// `value` as a number: true and false are 1 and 0, as in Python.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Number(number) => number.as_f64(),
        _ => None,
    }
}

/// Whether `query` is a list that can be evaluated, whatever the host.
fn is_query(query: &Value, depth: usize) -> bool {
    let Value::Array(parts) = query else { return false };
    let Some((operator, arguments)) = parts.split_first() else { return depth == 0 };
    let known = ["=", "<", ">", "<=", ">=", "in", "and", "or", "not"];
    let operator = operator.as_str().filter(|operator| known.contains(operator));
    let enough = match operator {
        None => return false,
        Some("not") => arguments.len() == 1,
        Some("and" | "or") => !arguments.is_empty(),
        Some(_) => arguments.len() > 1,
    };
    let good = |argument: &Value| match argument {
        Value::Array(_) => depth < DEPTH_MAX && is_query(argument, depth + 1),
        Value::String(text) => text.strip_prefix('$').is_none_or(|path| {
            attributes::NAMES.contains(&path.split('.').next().unwrap_or_default())
        }),
        _ => true,
    };
    enough && arguments.iter().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filters::check as check_filter;

    const NOT: Result<(), &str> = Err("the query does not hold");

    fn check(rules: Rules, query: &str, expected: Result<(), &str>) {
        let hint = |r: &mut RequestSpec| {
            r.hints.custom = [(HINT.to_owned(), vec![query.to_owned()])].into();
        };
        check_filter(Json { rules }, |_| {}, hint, expected);
    }

    #[test]
    fn operators_mean_the_same_under_both_rules() {
        for rules in [Rules::Strict, Rules::Nova] {
            check(rules, "", Ok(()));
            check(rules, "[]", Ok(()));
            check(rules, r#"[">=", "$vcpus_total", 8]"#, Ok(()));
            check(rules, r#"[">=", "$vcpus_total", 8, 9]"#, NOT);
            check(rules, r#"["=", "$host", "host-1"]"#, Ok(()));
            check(rules, r#"["in", "$vcpus_total", 4, 8.0]"#, Ok(()));
            check(rules, r#"["and", ["<", 1, 2], ["<", 2, 1]]"#, NOT);
            check(rules, r#"["or", ["<", 1, 2], ["<", 2, 1]]"#, Ok(()));
            check(rules, r#"["not", ["<", 1, 2]]"#, NOT);
            check(rules, r#"["<", "a", 1]"#, Err(INCOMPARABLE.0));
            check(rules, r#"["like", 1, 1]"#, Err(MALFORMED.0));
            check(rules, "[not json", Err(MALFORMED.0));
        }
    }

    #[test]
    fn nova_counts_a_list_of_opposites_as_true() {
        let trap = r#"["and", ["not", ["<", 1, 2]]]"#;
        check(Rules::Nova, trap, Ok(()));
        check(Rules::Strict, trap, NOT);
        let two = r#"["not", ["<", 1, 2], ["<", 2, 1]]"#;
        check(Rules::Nova, two, Ok(()));
        check(Rules::Strict, two, Err(MALFORMED.0));
    }

    #[test]
    fn what_a_host_does_not_tell_compares_with_nothing() {
        check(Rules::Nova, r#"["=", "$colour", 1, 1]"#, Ok(()));
        check(Rules::Strict, r#"["=", "$colour", 1, 1]"#, NOT);
        check(Rules::Strict, r#"["=", "$stats.none", 1]"#, NOT);
    }

    #[test]
    fn nova_compares_all_before_it_says_no() {
        check(Rules::Nova, r#"["<", 2, 1, "a"]"#, Err(INCOMPARABLE.0));
        check(Rules::Nova, r#"["<", ["not", true], ["not", false]]"#, Ok(()));
        check(Rules::Nova, r#"["=", ["not", true], ["not", 1]]"#, Ok(()));
    }

    #[test]
    fn what_is_no_list_is_no_query() {
        check(Rules::Nova, "0", Ok(()));
        check(Rules::Nova, "7", Err(MALFORMED.0));
        check(Rules::Strict, "0", Err(MALFORMED.0));
    }

    #[test]
    fn a_hint_is_read_before_it_is_kept() {
        let hint = |text: &str| Json::default().hint(HINT, &[text.to_owned()]).unwrap().is_ok();
        assert!(hint(r#"["and", [">=", "$free_ram_mb", 2048], ["not", ["=", "$host", "a"]]]"#));
        let deep = format!("{}{}", r#"["not", "#.repeat(40), "]".repeat(40));
        for bad in
            ["", "7", "[not", r#"["like", 1]"#, r#"["=", "$colour", 1]"#, r#"["<", 1]"#, &deep]
        {
            assert!(!hint(bad), "{bad}");
        }
        assert!(Json::default().hint("colour", &[]).is_none());
    }
}
