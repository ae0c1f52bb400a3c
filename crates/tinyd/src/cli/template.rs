//! `--format '{{.Names}}'`: the part of Go's templates that people use with Docker. Fields, pipes, and the functions
//! `json`, `index`, `len`, `join`, `upper`, `lower`; no ranges, no conditions.

use serde_json::Value;
use tinyd_core::{Error, Result};

/// A template, read.
#[derive(Debug)]
pub(super) struct Template {
    /// What an error is told of: `--format`.
    field: String,
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Pipe(Vec<Vec<Word>>),
}

#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// `.A.B`; empty is the whole.
    Path(Vec<String>),
    Literal(Value),
    Function(String),
}

impl Word {
    /// The last part of a path.
    fn field(&self) -> Option<&str> {
        match self {
            Word::Path(path) => path.last().map(String::as_str),
            Word::Literal(_) | Word::Function(_) => None,
        }
    }
}

impl Template {
    /// Reads a template. `\t` and `\n` outside of the braces are a tab and a newline.
    ///
    /// # Errors
    /// `InvalidArgument` of `field` with what is not understood.
    pub(super) fn parse(field: &str, text: &str) -> Result<Template> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            pieces.push(Piece::Text(unescape(before)));
            let (inside, behind) = after
                .split_once("}}")
                .ok_or_else(|| Error::invalid(field, format!("{text:?}: a {{{{ is not closed")))?;
            let stages = words(inside)
                .and_then(stages)
                .map_err(|why| Error::invalid(field, format!("{text:?}: {why}")))?;
            pieces.push(Piece::Pipe(stages));
            rest = behind;
        }
        pieces.push(Piece::Text(unescape(rest)));
        Ok(Template { field: field.to_owned(), pieces })
    }

    /// What stands above a column of it: the field's name, as `CREATED AT`.
    pub(super) fn head(&self) -> String {
        let fields = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Pipe(stages) => stages.iter().flatten().find_map(Word::field),
            Piece::Text(_) => None,
        });
        fields.map(spaced).collect::<Vec<_>>().join(" ")
    }

    /// The text that it makes of a value.
    ///
    /// # Errors
    /// `InvalidArgument` of the template's field: a name that is not there, a function given the wrong thing.
    pub(super) fn apply(&self, root: &Value) -> Result<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Pipe(stages) => {
                    let value = evaluate(stages, root).map_err(|why| Error::invalid(&self.field, why))?;
                    text.push_str(&show(&value));
                }
            }
        }
        Ok(text)
    }
}

/// `CreatedAt` as `CREATED AT`; a run of capitals is one word.
fn spaced(field: &str) -> String {
    let mut head = String::new();
    let mut last_was_small = false;
    for letter in field.chars() {
        if letter.is_uppercase() && last_was_small {
            head.push(' ');
        }
        last_was_small = letter.is_lowercase();
        head.extend(letter.to_uppercase());
    }
    head
}

fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// The words between the braces; `|` is a function with no name.
fn words(inside: &str) -> Result<Vec<Word>, String> {
    let mut words = Vec::new();
    let mut rest = inside.trim_start();
    while let Some(first) = rest.chars().next() {
        let (word, behind) = match first {
            '"' => string(rest)?,
            '|' => (Word::Function(String::new()), &rest[1..]),
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || c == '|').unwrap_or(rest.len());
                (bare(&rest[..end])?, &rest[end..])
            }
        };
        words.push(word);
        rest = behind.trim_start();
    }
    Ok(words)
}

/// A string in double quotes, with JSON's escapes.
fn string(text: &str) -> Result<(Word, &str), String> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<String>();
    match values.next() {
        Some(Ok(value)) => Ok((Word::Literal(Value::String(value)), &text[values.byte_offset()..])),
        Some(Err(_)) | None => Err(format!("{text:?} is not a string in double quotes")),
    }
}

fn bare(word: &str) -> Result<Word, String> {
    if let Some(path) = word.strip_prefix('.') {
        if path.is_empty() {
            return Ok(Word::Path(Vec::new()));
        }
        let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
        let sound = parts
            .iter()
            .all(|part| !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_'));
        return if sound {
            Ok(Word::Path(parts))
        } else {
            Err(format!("{word:?} is not a field such as .State.Pid"))
        };
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(Word::Literal(number.into()));
    }
    match word {
        "json" | "index" | "len" | "join" | "upper" | "lower" | "println" => {
            Ok(Word::Function(word.to_owned()))
        }
        _ => Err(format!(
            "{word:?} is not known here: fields such as .Id, and json, index, len, join, upper, lower"
        )),
    }
}

fn stages(words: Vec<Word>) -> Result<Vec<Vec<Word>>, String> {
    let stages: Vec<Vec<Word>> =
        words.split(|word| *word == Word::Function(String::new())).map(<[Word]>::to_vec).collect();
    if stages.iter().any(Vec::is_empty) {
        Err("there is nothing between {{ and }}, or beside a |".to_owned())
    } else {
        Ok(stages)
    }
}

fn evaluate(stages: &[Vec<Word>], root: &Value) -> Result<Value, String> {
    let mut piped = None;
    for stage in stages {
        piped = Some(run_stage(stage, piped, root)?);
    }
    Ok(piped.unwrap_or(Value::Null))
}

fn run_stage(stage: &[Word], piped: Option<Value>, root: &Value) -> Result<Value, String> {
    let mut operands = Vec::new();
    for word in stage.iter().skip_while(|word| matches!(word, Word::Function(_))) {
        match word {
            Word::Path(path) => operands.push(look_up(root, path)?.clone()),
            Word::Literal(value) => operands.push(value.clone()),
            Word::Function(name) => return Err(format!("{name}: a function stands first")),
        }
    }
    operands.extend(piped);
    match stage {
        [Word::Function(first), Word::Function(second), ..] => {
            Err(format!("{first} {second}: one function at a time"))
        }
        [Word::Function(name), ..] => call(name, operands),
        _ => match <[Value; 1]>::try_from(operands) {
            Ok([value]) => Ok(value),
            Err(_) => Err("two values in a row: a function stands first".to_owned()),
        },
    }
}

fn call(name: &str, operands: Vec<Value>) -> Result<Value, String> {
    let count = operands.len();
    match (name, operands.as_slice()) {
        ("json", [value]) => Ok(Value::String(value.to_string())),
        ("len", [value]) => length(value),
        ("upper", [value]) => Ok(Value::String(show(value).to_uppercase())),
        ("lower", [value]) => Ok(Value::String(show(value).to_lowercase())),
        ("println", [value]) => Ok(Value::String(show(value) + "\n")),
        ("join", [Value::Array(items), Value::String(between)]) => {
            Ok(Value::String(items.iter().map(show).collect::<Vec<_>>().join(between)))
        }
        ("index", [value, keys @ ..]) if !keys.is_empty() => {
            keys.iter().try_fold(value.clone(), |value, key| index(&value, key))
        }
        _ => Err(format!("{name} cannot be given these {count} values")),
    }
}

fn length(value: &Value) -> Result<Value, String> {
    match value {
        Value::Array(items) => Ok(items.len().into()),
        Value::Object(fields) => Ok(fields.len().into()),
        Value::String(text) => Ok(text.len().into()),
        Value::Null | Value::Bool(_) | Value::Number(_) => Err(format!("len: {value} has no length")),
    }
}

/// An element of a list, or the value of a key; a key that is not there is empty, as in Go.
fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::Object(fields), Value::String(key)) => Ok(fields.get(key).cloned().unwrap_or(Value::Null)),
        (Value::Array(items), Value::Number(at)) => {
            let element = at.as_u64().and_then(|at| usize::try_from(at).ok()).and_then(|at| items.get(at));
            element
                .cloned()
                .ok_or_else(|| format!("index: there is no element {at} in a list of {}", items.len()))
        }
        _ => Err(format!("index: {key} does not fit")),
    }
}

/// The value at a path. Case does not matter, so `.ID` and `.Id` are the same.
fn look_up<'v>(root: &'v Value, path: &[String]) -> Result<&'v Value, String> {
    path.iter().try_fold(root, |value, part| {
        let Value::Object(fields) = value else {
            return Err(format!(".{part}: this is not something with fields"));
        };
        fields
            .get(part)
            .or_else(|| {
                fields.iter().find(|(name, _)| name.eq_ignore_ascii_case(part)).map(|(_, value)| value)
            })
            .ok_or_else(|| {
                let known: Vec<&str> = fields.keys().map(String::as_str).collect();
                format!("there is no field {part:?} here: one of {}", known.join(", "))
            })
    })
}

/// A value as Go shows it: lists in brackets, maps as `map[key:value]`, nothing for nothing.
fn show(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(show).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|(key, value)| format!("{key}:{}", show(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn apply(text: &str) -> String {
        let value = json!({
            "Id": "abc", "State": {"Pid": 7, "OOMKilled": false}, "Command": ["sh", "-c"], "Labels": {"a.b": "c"}, "None": null
        });
        match Template::parse("--format", text).and_then(|template| template.apply(&value)) {
            Ok(text) => text,
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn fields_and_functions() {
        for (template, text) in [
            ("{{.Id}}", "abc"),
            (r"{{ .Id }}\t{{.State.Pid}}", "abc\t7"),
            ("{{.State.OomKilled}}", "false"),
            ("{{json .State}}", r#"{"OOMKilled":false,"Pid":7}"#),
            ("{{.State | json}}", r#"{"OOMKilled":false,"Pid":7}"#),
            ("{{.Command}}", "[sh -c]"),
            ("{{.Labels}}", "map[a.b:c]"),
            (r#"{{index .Labels "a.b"}}"#, "c"),
            (r#"{{index .Labels "nope"}}"#, ""),
            ("{{index .Command 1}}", "-c"),
            ("{{len .Command}}", "2"),
            (r#"{{join .Command "|"}}"#, "sh|-c"),
            ("{{upper .Id}}{{.None}}", "ABC"),
            (r#"{{"x | y"}}"#, "x | y"),
        ] {
            assert_eq!(apply(template), text, "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for (template, part) in [
            ("{{.Nope}}", "no field \"Nope\" here: one of Command, Id"),
            ("{{.Id.More}}", "not something with fields"),
            ("{{.Id", "not closed"),
            ("{{}}", "nothing between"),
            ("{{range .Command}}", "\"range\" is not known here"),
            ("{{.Id | nope}}", "\"nope\" is not known here"),
            ("{{.Id .Id}}", "two values"),
            ("{{index .Command 5}}", "no element 5 in a list of 2"),
            ("{{json}}", "json cannot be given these 0 values"),
            ("{{..}}", "is not a field"),
            (r#"{{"open}}"#, "double quotes"),
        ] {
            let told = apply(template);
            assert!(told.starts_with("--format: ") && told.contains(part), "{template}: {told}");
        }
    }

    proptest! {
        #[test]
        fn no_template_panics(inside in ".*", raw in ".*") {
            apply(&format!("{{{{{inside}}}}}"));
            apply(&raw);
        }
    }
}
