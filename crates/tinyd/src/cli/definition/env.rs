//! `-e` and `--env-file`, as Docker reads them.

use tinyd_core::{Error, Result};

use super::Here;

/// The entries of `-e` words: `KEY=VALUE` as it is; a bare `KEY` takes this client's value, and nothing when there is none.
///
/// # Errors
/// `InvalidArgument` of `field`: an empty key.
pub(in crate::cli) fn entries(field: &str, words: &[String], here: &impl Here) -> Result<Vec<String>> {
    let mut entries = Vec::new();
    for word in words {
        if word.is_empty() || word.starts_with('=') {
            return Err(Error::invalid(
                field,
                format!("{word:?} is not KEY=VALUE, nor the KEY of a variable here"),
            ));
        }
        entries.extend(entry(word, here));
    }
    Ok(entries)
}

/// The entries of a file: one on each line; blank lines and lines that begin with `#` are left out.
///
/// # Errors
/// `InvalidArgument` of `--env-file` with the line's number; values are secret and never told.
pub(in crate::cli) fn read_file(path: &str, here: &impl Here) -> Result<Vec<String>> {
    let text = here.text(path).map_err(|error| Error::invalid("--env-file", format!("{path}: {error}")))?;
    let mut entries = Vec::new();
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let key = line.split('=').next().unwrap_or_default();
        if key.is_empty() || key.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(Error::invalid("--env-file", format!("{path}: line {} is not KEY=VALUE", index + 1)));
        }
        entries.extend(entry(line, here));
    }
    Ok(entries)
}

fn entry(word: &str, here: &impl Here) -> Option<String> {
    if word.contains('=') {
        return Some(word.to_owned());
    }
    here.env(word).map(|value| format!("{word}={value}"))
}
