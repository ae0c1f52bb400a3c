//! A question before something is removed.

use std::io::{self, BufRead, Write};

use tinyd_core::Error;

use super::failure::{Failure, Result};

/// Goes on only after a yes.
///
/// # Errors
/// A quiet 1 after a no; `InvalidArgument` of `--force` when nobody answers.
pub(super) fn consent(what: &str) -> Result<()> {
    match ask(what, &mut io::stdin().lock(), &mut io::stderr().lock()) {
        Some(true) => Ok(()),
        Some(false) => Err(Failure::Quiet(1)),
        None => Err(Error::invalid("--force", "nobody answers, so nothing is removed: say it").into()),
    }
}

/// Asks, and takes anything but a yes for a no; `None` when there is no answer.
fn ask(what: &str, answer: &mut impl BufRead, question: &mut impl Write) -> Option<bool> {
    write!(question, "{what} Go on? [y/N] ").and_then(|()| question.flush()).ok()?;
    let mut line = String::new();
    if answer.read_line(&mut line).ok()? == 0 {
        // The question stands alone on its line.
        let _ = writeln!(question);
        return None;
    }
    Some(matches!(line.trim(), "y" | "Y" | "yes" | "Yes" | "YES"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_yes_is_a_yes() {
        let ask = |mut line: &[u8]| ask("?", &mut line, &mut io::sink());
        assert!(ask(b"y\n") == Some(true) && ask(b" yes \n") == Some(true));
        assert!(ask(b"\n") == Some(false) && ask(b"no\n") == Some(false));
        assert!(ask(b"").is_none() && ask(b"\xff\n").is_none());
    }
}
