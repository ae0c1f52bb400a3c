//! Reads arguments: options of a fixed list, then words. As runc takes them: `--name value`, `--name=value`, `-n value`.

use std::ffi::OsString;

use tinyd_core::{Error, Result};

/// An option that a verb takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opt {
    /// `--name`, without the dashes.
    pub(super) name: &'static str,
    /// `-n`: one letter, or several that mean the same.
    pub(super) short: &'static str,
    /// What its value is called; an option without one is a switch.
    pub(super) value: Option<&'static str>,
    /// What it does, for `--help`.
    pub(super) help: &'static str,
}

/// An option with a value.
pub(super) const fn value(name: &'static str, value: &'static str, help: &'static str) -> Opt {
    Opt { name, short: "", value: Some(value), help }
}

/// A switch.
pub(super) const fn switch(name: &'static str, help: &'static str) -> Opt {
    Opt { name, short: "", value: None, help }
}

impl Opt {
    /// With short names, of one letter each.
    pub(super) const fn short(mut self, short: &'static str) -> Opt {
        self.short = short;
        self
    }
}

/// What was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    options: Vec<(&'static str, String)>,
    /// The words that are no options.
    pub(super) words: Vec<String>,
}

impl Given {
    /// The value of an option, the last one when it was given several times.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.options.iter().rev().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    /// Every value of an option.
    pub(super) fn all(&self, name: &str) -> Vec<String> {
        self.options.iter().filter(|(given, _)| *given == name).map(|(_, value)| value.clone()).collect()
    }

    /// Whether a switch is on.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value != "false")
    }
}

/// Where options end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// At the first word; it and all that follow are left for the next reader.
    FirstWord,
    /// Nowhere, but after `--`.
    End,
}

/// Reads options and words from the front of `args`.
///
/// # Errors
/// `InvalidArgument` naming the option.
pub(super) fn read(args: &mut Vec<OsString>, known: &[Opt], until: Until) -> Result<Given> {
    let mut given = Given::default();
    let mut rest = std::mem::take(args).into_iter();
    while let Some(arg) = rest.next() {
        let text = text(arg)?;
        if text == "--" {
            given.words.extend(rest.by_ref().map(self::text).collect::<Result<Vec<_>>>()?);
        } else if text.len() < 2 || !text.starts_with('-') {
            if until == Until::FirstWord {
                args.push(text.into());
                args.extend(rest);
                break;
            }
            given.words.push(text);
        } else {
            read_option(&text, known, &mut rest, &mut given)?;
        }
    }
    Ok(given)
}

fn read_option(
    text: &str,
    known: &[Opt],
    rest: &mut impl Iterator<Item = OsString>,
    given: &mut Given,
) -> Result<()> {
    let (name, attached) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    let found = known.iter().find(|opt| is_named(opt, name));
    let Some(opt) = found else { return read_cluster(text, known, rest, given) };
    let value = match (opt.value, attached) {
        (_, Some(value)) => value,
        (None, None) => "true".to_owned(),
        (Some(what), None) => {
            let next = rest.next().ok_or_else(|| Error::invalid(name, format!("it needs a {what}")))?;
            self::text(next)?
        }
    };
    given.options.push((opt.name, value));
    Ok(())
}

/// crun's way of writing short options: several switches behind one dash, and a value right after its letter.
fn read_cluster(
    text: &str,
    known: &[Opt],
    rest: &mut impl Iterator<Item = OsString>,
    given: &mut Given,
) -> Result<()> {
    let unknown = || Error::invalid(text.split('=').next().unwrap_or(text), "there is no such option");
    let letters = text.strip_prefix('-').filter(|letters| !letters.starts_with('-')).ok_or_else(unknown)?;
    let mut found = Vec::new();
    let mut letters = letters.chars();
    while let Some(letter) = letters.next() {
        let opt = known.iter().find(|opt| opt.short.contains(letter)).ok_or_else(unknown)?;
        let attached = letters.as_str();
        let value = match opt.value {
            None => "true".to_owned(),
            Some(_) if !attached.is_empty() => {
                let value = attached.to_owned();
                letters = "".chars();
                value
            }
            Some(what) => {
                let next = rest.next().ok_or_else(|| Error::invalid(text, format!("it needs a {what}")))?;
                self::text(next)?
            }
        };
        found.push((opt.name, value));
    }
    given.options.extend(found);
    Ok(())
}

/// Go's flag packages take a long name with one dash too, and some callers write it so.
fn is_named(opt: &Opt, name: &str) -> bool {
    let bare = name.strip_prefix("--").or_else(|| name.strip_prefix('-')).unwrap_or(name);
    let mut letters = bare.chars();
    let letter = letters.next().filter(|_| letters.as_str().is_empty() && !name.starts_with("--"));
    bare == opt.name || letter.is_some_and(|letter| opt.short.contains(letter))
}

fn text(arg: OsString) -> Result<String> {
    arg.into_string().map_err(|arg| Error::invalid("arguments", format!("{arg:?} is not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [Opt; 3] = [
        value("bundle", "DIR", "").short("b"),
        switch("detach", "").short("d"),
        value("env", "KEY=VALUE", "").short("e"),
    ];

    fn read(args: &[&str], until: Until) -> Result<(Given, Vec<OsString>)> {
        let mut args: Vec<OsString> = args.iter().map(OsString::from).collect();
        super::read(&mut args, &KNOWN, until).map(|given| (given, args))
    }

    #[test]
    fn options_are_read_in_every_spelling() {
        for args in
            [["--bundle", "/b"].as_slice(), &["--bundle=/b"], &["-b", "/b"], &["-b=/b"], &["-bundle", "/b"]]
        {
            assert_eq!(read(args, Until::End).unwrap().0.get("bundle"), Some("/b"), "{args:?}");
        }
        let (given, _) = read(&["-e", "A=1", "--env=B=2", "id", "-d"], Until::End).unwrap();
        assert_eq!(given.all("env"), ["A=1", "B=2"]);
        assert!(given.has("detach"));
        assert_eq!(given.words, ["id"]);
        for args in [["-de", "A=1"].as_slice(), &["-deA=1"], &["-d", "-eA=1"]] {
            let (given, _) = read(args, Until::End).unwrap();
            assert_eq!((given.has("detach"), given.get("env")), (true, Some("A=1")), "{args:?}");
        }
    }

    #[test]
    fn words_after_the_first_belong_to_the_program() {
        let (given, rest) = read(&["-d", "id", "ls", "-d"], Until::FirstWord).unwrap();
        assert!(given.has("detach"));
        assert_eq!(rest, ["id", "ls", "-d"]);
        assert_eq!(read(&["--", "-d"], Until::End).unwrap().0.words, ["-d"]);
    }

    #[test]
    fn mistakes_name_the_option() {
        assert_eq!(read(&["--nope"], Until::End).unwrap_err().to_string(), "--nope: there is no such option");
        assert_eq!(read(&["-b"], Until::End).unwrap_err().to_string(), "-b: it needs a DIR");
        assert_eq!(read(&["-de"], Until::End).unwrap_err().to_string(), "-de: it needs a KEY=VALUE");
        for bad in ["--b", "-dx", "--de", "-x", "--detach-not"] {
            let error = read(&[bad, "x"], Until::End).unwrap_err().to_string();
            assert_eq!(error, format!("{bad}: there is no such option"));
        }
    }
}
