//! Text that others chose, made safe for a terminal and short enough for a table.

use std::borrow::Cow;

/// Text with its control characters as escapes, so that no name or command moves the cursor.
pub(super) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for letter in text.chars() {
        if letter.is_control() {
            safe.extend(letter.escape_default());
        } else {
            safe.push(letter);
        }
    }
    Cow::Owned(safe)
}

/// The same for a text of several lines, which it keeps.
pub(super) fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<_>>().join("\n")
}

/// At most `most` characters, the last an ellipsis when some are missing.
pub(super) fn ellipsis(text: &str, most: usize) -> Cow<'_, str> {
    match text.char_indices().nth(most) {
        None => Cow::Borrowed(text),
        Some(_) => {
            let kept: String = text.chars().take(most.saturating_sub(1)).collect();
            Cow::Owned(kept + "…")
        }
    }
}

/// A command in one line; arguments that a shell would not take as one are quoted.
pub(super) fn command_line(command: &[String]) -> String {
    command.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ")
}

fn quoted(arg: &str) -> Cow<'_, str> {
    let plain =
        !arg.is_empty() && !arg.contains(|c: char| c.is_whitespace() || "'\"\\$`;&|<>()*?".contains(c));
    if plain { Cow::Borrowed(arg) } else { Cow::Owned(format!("'{}'", arg.replace('\'', r"'\''"))) }
}

/// The digits of an id that people are shown.
pub(super) fn short_id(id: &str) -> &str {
    id.get(..tinyd_core::ContainerId::SHORT).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("plain é"), "plain é");
        assert_eq!(printable_lines("a\nb\r"), "a\nb\\r");
    }

    #[test]
    fn an_ellipsis_counts_characters() {
        assert_eq!(ellipsis("abcd", 4), "abcd");
        assert_eq!(ellipsis("éééééé", 4), "ééé…");
    }

    #[test]
    fn a_command_reads_as_a_shell_would_take_it() {
        let command = ["sh", "-c", "echo 'a b'", ""].map(str::to_owned);
        assert_eq!(command_line(&command), r"sh -c 'echo '\''a b'\''' ''");
    }
}
