//! A name and a password from whoever sits at the terminal; the password is not shown while it is typed.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use tinyd_core::{Error, Result as Checked};

use crate::cli::{
    failure::{Failure, Result},
    terminal::Raw,
};

/// The longest password that is taken, in bytes.
const SECRET_MAX_BYTES: usize = 64 << 10;

/// Asks for a name.
///
/// # Errors
/// `InvalidArgument` of `--username` when there is nobody to ask.
pub(super) fn username() -> Result<String> {
    if !io::stdin().is_terminal() {
        let rule = "no name, and nobody at a terminal to ask: -u USER, with --password-stdin";
        return Err(Error::invalid("--username", rule).into());
    }
    prompt("Username: ");
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|error| Error::internal(&error))?;
    match line.trim() {
        "" => Err(Error::invalid("--username", "no name was typed").into()),
        name => Ok(name.to_owned()),
    }
}

/// Asks for a password, without showing it.
///
/// # Errors
/// `InvalidArgument` of `--password-stdin` when there is nobody to ask; a quiet 130 after Ctrl-C.
pub(super) fn password() -> Result<String> {
    if !io::stdin().is_terminal() {
        let rule =
            "no password, and nobody at a terminal to ask: send it to standard input with --password-stdin";
        return Err(Error::invalid("--password-stdin", rule).into());
    }
    prompt("Password: ");
    let raw = Raw::enter()?;
    let typed = typed(&mut io::stdin().lock());
    drop(raw);
    prompt("\n");
    match typed.map_err(|error| Error::internal(&error))? {
        Some(text) if text.is_empty() => {
            Err(Error::invalid("--password-stdin", "no password was typed").into())
        }
        Some(text) => Ok(text),
        None => Err(Failure::Quiet(130)),
    }
}

/// The password that comes on standard input, without the end of its line.
///
/// # Errors
/// `InvalidArgument` of `--password-stdin`: none, too long, or not UTF-8.
pub(super) fn from_stdin() -> Checked<String> {
    let bad = |rule: &str| Error::invalid("--password-stdin", rule);
    let mut bytes = Vec::new();
    let limit = SECRET_MAX_BYTES as u64 + 1;
    io::stdin().lock().take(limit).read_to_end(&mut bytes).map_err(|error| Error::internal(&error))?;
    if bytes.len() > SECRET_MAX_BYTES {
        return Err(bad("the password on standard input is longer than 64 KiB"));
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("the password on standard input is not UTF-8"))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    match text.strip_suffix('\r').unwrap_or(text) {
        "" => Err(bad("there is no password on standard input")),
        text => Ok(text.to_owned()),
    }
}

fn prompt(text: &str) {
    let mut stderr = io::stderr().lock();
    // A closed stderr cannot be told about.
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

/// What is typed on a raw terminal up to the enter key; `None` after Ctrl-C.
fn typed(keys: &mut impl Read) -> io::Result<Option<String>> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    const CTRL_U: u8 = 0x15;
    let mut text = Vec::new();
    let mut key = [0];
    while keys.read(&mut key)? == 1 && text.len() < SECRET_MAX_BYTES {
        match key[0] {
            b'\r' | b'\n' | CTRL_D => break,
            CTRL_C => return Ok(None),
            CTRL_U => text.clear(),
            8 | 0x7f => {
                // A character may have several bytes.
                while text.pop().is_some_and(|byte: u8| byte & 0xc0 == 0x80) {}
            }
            byte => text.push(byte),
        }
    }
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_make_a_password() {
        let typed = |keys: &str| typed(&mut keys.as_bytes()).unwrap();
        assert_eq!(typed("secret\rmore").as_deref(), Some("secret"));
        assert_eq!(typed("sé\u{7f}ecrt\u{8}et\n").as_deref(), Some("secret"));
        assert_eq!(typed("wrong\u{15}right\r").as_deref(), Some("right"));
        assert_eq!(typed("\u{7f}a\u{4}").as_deref(), Some("a"));
        assert_eq!(typed("sec\u{3}"), None);
    }
}
