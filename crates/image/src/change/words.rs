//! Words as a Dockerfile has them: quotes, backslashes, and variables of the environment so far.

use std::{iter::Peekable, str::Chars};

use tinyd_core::{Error, Result};

use super::wrong;

/// The words of a line.
///
/// # Errors
/// `InvalidArgument` when a quote or a brace is not closed.
pub(super) fn split(line: &str, env: &[String]) -> Result<Vec<String>> {
    let mut reader = Reader { rest: line.chars().peekable(), env };
    let mut words = Vec::new();
    while let Some(word) = reader.word()? {
        words.push(word);
    }
    Ok(words)
}

/// `NAME=VALUE` for each word, or, as it was once written, `NAME the rest of the line`.
///
/// # Errors
/// `InvalidArgument` when there is no name or no value.
pub(super) fn pairs(word: &str, line: &str, env: &[String]) -> Result<Vec<(String, String)>> {
    let rule = || wrong(format!("{word} has NAME=VALUE, once or several times"));
    let first = line.split_whitespace().next().ok_or_else(rule)?;
    if !first.contains('=') {
        let (name, value) = line.split_once(char::is_whitespace).ok_or_else(rule)?;
        return Ok(vec![(name.to_owned(), split(value.trim(), env)?.join(" "))]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err(rule()),
    };
    split(line, env)?.into_iter().map(pair).collect()
}

struct Reader<'a> {
    rest: Peekable<Chars<'a>>,
    env: &'a [String],
}

impl Reader<'_> {
    fn word(&mut self) -> Result<Option<String>> {
        while self.rest.next_if(|letter| letter.is_whitespace()).is_some() {}
        if self.rest.peek().is_none() {
            return Ok(None);
        }
        let mut word = String::new();
        while let Some(letter) = self.rest.next_if(|letter| !letter.is_whitespace()) {
            match letter {
                '\'' => self.single(&mut word)?,
                '"' => self.double(&mut word)?,
                '\\' => word.extend(self.rest.next()),
                '$' => word.push_str(&self.variable()?),
                letter => word.push(letter),
            }
        }
        Ok(Some(word))
    }

    /// Up to the next single quote everything is as it is.
    fn single(&mut self, word: &mut String) -> Result<()> {
        loop {
            match self.rest.next().ok_or_else(|| unclosed("quote '"))? {
                '\'' => return Ok(()),
                letter => word.push(letter),
            }
        }
    }

    fn double(&mut self, word: &mut String) -> Result<()> {
        loop {
            match self.rest.next().ok_or_else(|| unclosed("quote \""))? {
                '"' => return Ok(()),
                '$' => word.push_str(&self.variable()?),
                '\\' => match self.rest.next_if(|letter| matches!(letter, '"' | '$' | '\\')) {
                    Some(letter) => word.push(letter),
                    None => word.push('\\'),
                },
                letter => word.push(letter),
            }
        }
    }

    /// `$NAME`, `${NAME}`, `${NAME:-else}`, `${NAME:+instead}`; a dollar before anything else is one.
    fn variable(&mut self) -> Result<String> {
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            return Ok(if name.is_empty() { "$".to_owned() } else { self.value(&name) });
        }
        let name = self.name();
        let mut inner = String::new();
        loop {
            match self.rest.next().ok_or_else(|| unclosed("brace {"))? {
                '}' => break,
                letter => inner.push(letter),
            }
        }
        let value = self.value(&name);
        match (inner.get(..2), inner.get(2..)) {
            _ if inner.is_empty() && !name.is_empty() => Ok(value),
            (Some(":-"), Some(other)) if value.is_empty() => Ok(other.to_owned()),
            (Some(":-"), Some(_)) => Ok(value),
            (Some(":+"), Some(_)) if value.is_empty() => Ok(value),
            (Some(":+"), Some(other)) => Ok(other.to_owned()),
            _ => Err(wrong(format!(
                "${{{name}{inner}}} is not known: there is ${{NAME}}, ${{NAME:-ELSE}} and ${{NAME:+INSTEAD}}"
            ))),
        }
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(letter) = self.rest.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
        {
            name.push(letter);
        }
        name
    }

    fn value(&self, name: &str) -> String {
        let entry = self.env.iter().rev().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
        entry.unwrap_or_default().to_owned()
    }
}

fn unclosed(what: &str) -> Error {
    wrong(format!("a {what} is not closed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_and_variables_put_in() {
        let env = ["A=one".to_owned(), "B=".to_owned(), "A=two".to_owned()];
        let split = |line: &str| split(line, &env).unwrap();
        assert_eq!(split(r#"a  'b c' "d $A" e\ f"#), ["a", "b c", "d two", "e f"]);
        assert_eq!(
            split(r"$A$B${A} \$A '$A' ${B:-x} ${A:+y} ${NO:+z}."),
            ["twotwo", "$A", "$A", "x", "y", "."]
        );
        assert_eq!(split(r#""a\"b\n" $ 5$"#), ["a\"b\\n", "$", "5$"]);
        assert_eq!(split(r#"'' """#), ["", ""]);
    }

    #[test]
    fn what_is_not_closed_is_told() {
        for bad in ["'a", "\"a", "${A", "${A:?x}"] {
            assert!(split(bad, &[]).is_err(), "{bad}");
        }
    }
}
