//! Properties from annotations: `org.systemd.property.NAME` with a value in GVariant's text, as runc and crun read it: `true`, `7`,
//! `uint64 7`, `'text'`, `['a', 'b']`, `@as []`. Decides only.

use std::collections::BTreeMap;

use tinyd_core::{Error, Result};

use super::{message::Value, properties::Property};

const PREFIX: &str = "org.systemd.property.";

/// The properties that a configuration's annotations ask for.
///
/// # Errors
/// `InvalidArgument` with the annotation's name: not a property's name, or not a value.
pub(super) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>> {
    let named = annotations.iter().filter_map(|(key, text)| Some((key, key.strip_prefix(PREFIX)?, text)));
    named
        .map(|(key, name, text)| property(name, text).map_err(|rule| Error::invalid(key.as_str(), rule)))
        .collect()
}

fn property(name: &str, text: &str) -> std::result::Result<Property, String> {
    if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return Err(format!("{name:?} is not the name of a property"));
    }
    let seconds =
        name.strip_suffix("Sec").filter(|stem| stem.ends_with(|last: char| last.is_ascii_lowercase()));
    if let Some(stem) = seconds {
        let micros = micros(text).ok_or_else(|| format!("{text:?} is not a number of seconds"))?;
        return Ok(Property::new(&format!("{stem}USec"), Value::U64(micros)));
    }
    let mut rest = text;
    // A text of D-Bus has no NUL.
    let value = value(&mut rest).filter(|_| rest.trim().is_empty() && !text.contains('\0'));
    let value = value
        .ok_or_else(|| format!("{text:?} is not a value such as true, uint64 7, 'text' or ['a', 'b']"))?;
    Ok(Property::new(name, value))
}

/// Seconds with or without a type and a fraction, in microseconds.
fn micros(text: &str) -> Option<u64> {
    let mut rest = text.trim();
    let word = word(rest);
    if kind(word).is_some() || word == "double" {
        rest = rest[word.len()..].trim_start();
    }
    let (whole, fraction) = rest.split_once('.').unwrap_or((rest, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > 6 || !all_digits(fraction) || !all_digits(whole) {
        return None;
    }
    let fraction: u64 = format!("{fraction:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(fraction)
}

/// The types that are numbers.
fn kind(word: &str) -> Option<char> {
    const WORDS: [(&str, char); 9] = [
        ("byte", 'y'),
        ("int16", 'n'),
        ("uint16", 'q'),
        ("int32", 'i'),
        ("uint32", 'u'),
        ("int64", 'x'),
        ("uint64", 't'),
        ("boolean", 'b'),
        ("string", 's'),
    ];
    WORDS.iter().find(|(known, _)| *known == word).map(|(_, kind)| *kind)
}

fn word(text: &str) -> &str {
    let end = text.find(|end: char| !end.is_ascii_alphanumeric()).unwrap_or(text.len());
    &text[..end]
}

/// Reads a value from the front.
fn value(rest: &mut &str) -> Option<Value> {
    typed(rest, None)
}

/// Reads a value whose type may be known already, as one character of D-Bus's.
fn typed(rest: &mut &str, wanted: Option<char>) -> Option<Value> {
    *rest = rest.trim_start();
    if let Some(signature) = rest.strip_prefix('@') {
        return signed(signature, rest);
    }
    if let Some(after) = rest.strip_prefix('[') {
        *rest = after;
        return array(rest, None);
    }
    if rest.starts_with(['\'', '"']) {
        let text = quoted(rest)?;
        return match wanted {
            None | Some('s') => Some(Value::Str(text)),
            Some(_) => None,
        };
    }
    let word = word(rest);
    if let Some(kind) = kind(word) {
        *rest = &rest[word.len()..];
        return typed(rest, Some(kind));
    }
    if let (Ok(value), None | Some('b')) = (word.parse(), wanted) {
        *rest = &rest[word.len()..];
        return Some(Value::Bool(value));
    }
    number(rest, wanted.unwrap_or('i'))
}

/// Reads what stands behind `@`: a type of one character, or an array of such, and its value.
fn signed<'a>(signature: &'a str, rest: &mut &'a str) -> Option<Value> {
    let mut kinds = signature.chars();
    match kinds.next()? {
        'a' => {
            let item = kinds.next()?;
            *rest = kinds.as_str().trim_start().strip_prefix('[')?;
            array(rest, Some(item))
        }
        one => {
            *rest = kinds.as_str();
            typed(rest, Some(one))
        }
    }
}

/// Reads an array whose bracket has been read. All its items have the type of the first.
fn array(rest: &mut &str, wanted: Option<char>) -> Option<Value> {
    let (mut items, mut wanted) = (Vec::<Value>::new(), wanted);
    loop {
        *rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            *rest = after;
            break;
        }
        if !items.is_empty() {
            *rest = rest.strip_prefix(',')?;
        }
        let item = typed(rest, wanted)?;
        let mut kinds = item.signature();
        let kind = kinds.pop().filter(|_| kinds.is_empty())?;
        if wanted.is_some_and(|wanted| wanted != kind) {
            return None;
        }
        wanted = Some(kind);
        items.push(item);
    }
    // What an empty array is of has to be said.
    wanted.map(|kind| Value::Array(kind.to_string(), items))
}

/// Reads a text in quotes.
fn quoted(rest: &mut &str) -> Option<String> {
    let mut chars = rest.chars();
    let quote = chars.next()?;
    let mut text = String::new();
    loop {
        match chars.next()? {
            '\\' => text.push(match chars.next()? {
                'n' => '\n',
                't' => '\t',
                other => other,
            }),
            end if end == quote => break,
            other => text.push(other),
        }
    }
    *rest = chars.as_str();
    Some(text)
}

/// Reads a number of a type.
fn number(rest: &mut &str, kind: char) -> Option<Value> {
    *rest = rest.trim_start();
    let signs = rest.len() - rest.trim_start_matches(['-', '+']).len();
    let word = &rest[..signs + word(&rest[signs..]).len()];
    *rest = &rest[word.len()..];
    let (sign, digits) = word.split_at(signs);
    let magnitude = match digits.strip_prefix("0x") {
        Some(hex) => i128::from(u64::from_str_radix(hex, 16).ok()?),
        None => i128::from(digits.parse::<u64>().ok()?),
    };
    let value = match sign {
        "" | "+" => magnitude,
        "-" => -magnitude,
        _ => return None,
    };
    match kind {
        'y' => value.try_into().ok().map(Value::Byte),
        'n' => value.try_into().ok().map(Value::I16),
        'q' => value.try_into().ok().map(Value::U16),
        'i' => value.try_into().ok().map(Value::I32),
        'u' => value.try_into().ok().map(Value::U32),
        'x' => value.try_into().ok().map(Value::I64),
        't' => value.try_into().ok().map(Value::U64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(name: &str, text: &str) -> Result<Property> {
        let annotations = BTreeMap::from([(format!("{PREFIX}{name}"), text.to_owned())]);
        properties(&annotations).map(|mut all| all.remove(0))
    }

    #[test]
    fn values_are_read_as_runc_reads_them() {
        let strings =
            |items: &[&str]| Value::Array("s".into(), items.iter().map(|item| Value::str(item)).collect());
        for (text, value) in [
            ("true", Value::Bool(true)),
            (" false ", Value::Bool(false)),
            ("7", Value::I32(7)),
            ("-7", Value::I32(-7)),
            ("0x10", Value::I32(16)),
            ("int32 7", Value::I32(7)),
            ("uint32 7", Value::U32(7)),
            ("int64 -7", Value::I64(-7)),
            ("uint64 18446744073709551615", Value::U64(u64::MAX)),
            ("byte 255", Value::Byte(255)),
            ("@t 7", Value::U64(7)),
            ("'mixed'", Value::str("mixed")),
            ("\"it's\"", Value::str("it's")),
            (r"'it\'s'", Value::str("it's")),
            ("['a.service', \"b.service\"]", strings(&["a.service", "b.service"])),
            ("@as []", strings(&[])),
            ("@as ['a']", strings(&["a"])),
            ("[byte 1, 2]", Value::Array("y".into(), vec![Value::Byte(1), Value::Byte(2)])),
        ] {
            assert_eq!(read("CollectMode", text).unwrap(), Property::new("CollectMode", value), "{text}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused_by_name() {
        for bad in [
            "",
            "nope",
            "[]",
            "[1, 'a']",
            "['a' 'b']",
            "['a'",
            "'a",
            "4294967296",
            "uint64 -1",
            "byte 256",
            "1.5",
            "true false",
            "@x",
        ] {
            assert_eq!(
                read("KillMode", bad).unwrap_err().field(),
                Some("org.systemd.property.KillMode"),
                "{bad}"
            );
        }
        for bad in ["", "AB", "A-B-C", "After!", "Nämé"] {
            assert!(read(bad, "true").is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_become_microseconds() {
        for (text, micros) in
            [("20", 20_000_000), ("uint64 1", 1_000_000), ("1.5", 1_500_000), ("double 0.25", 250_000)]
        {
            let expected = Property::new("TimeoutStopUSec", Value::U64(micros));
            assert_eq!(read("TimeoutStopSec", text).unwrap(), expected, "{text}");
        }
        assert!(read("TimeoutStopSec", "'1'").is_err());
        assert!(read("TimeoutStopSec", "-1").is_err());
        // Not a time: no small letter stands before it.
        assert_eq!(read("CPUQuotaPerSecUSec", "uint64 7").unwrap().name, "CPUQuotaPerSecUSec");
    }

    proptest! {
        #[test]
        fn no_text_is_too_much(text in "[@\\[\\]'\"a-z0-9 ,.\\\\-]{0,40}") {
            let _ = read("KillMode", &text);
            let _ = read("TimeoutStopSec", &text);
        }
    }
}
