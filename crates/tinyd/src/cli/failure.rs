//! How a command ends when it does not do what was asked: one line on stderr, and an exit code.

use std::io::{self, Write};

use clap::error::ErrorKind;
use tinyd_core::{Error, Kind};

use super::{text, verb::Fails};

/// A result of the command line.
pub(super) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command ends early.
#[derive(Debug)]
pub(super) enum Failure {
    /// An error to tell.
    Told(Error),
    /// Words that clap refused, or `--help`.
    Usage(clap::Error),
    /// Nothing to say: the exit code says it all.
    Quiet(u8),
}

impl Failure {
    /// What a program exits with that a closed pipe ends: 128 + SIGPIPE.
    const BROKEN_PIPE: Failure = Failure::Quiet(141);

    /// A failure of writing to standard output; a reader that went away is no news.
    pub(super) fn of_stdout(error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::BROKEN_PIPE;
        }
        Failure::Told(Error::internal(error).context("write standard output"))
    }

    /// Writes what there is to say to stderr and gives the exit code.
    pub(super) fn tell(&self, fails: Fails) -> u8 {
        match self {
            Failure::Told(error) => {
                say(&error.to_string());
                fails.code(error.kind())
            }
            Failure::Usage(error) if !error.use_stderr() => {
                // Help: asked for, so it is data.
                match super::output::print(&error.render().to_string()) {
                    Ok(()) => 0,
                    Err(failure) => failure.tell(fails),
                }
            }
            Failure::Usage(error) if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
                let _ = write!(io::stderr().lock(), "{}", error.render());
                fails.code(Kind::InvalidArgument)
            }
            Failure::Usage(error) => {
                say(&usage(&error.render().to_string()));
                fails.code(Kind::InvalidArgument)
            }
            Failure::Quiet(code) => *code,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Told(error)
    }
}

/// One line of talk: `tinyd: message`.
pub(super) fn say(message: &str) {
    // A closed stderr cannot be told about.
    let _ = writeln!(io::stderr().lock(), "tinyd: {}", text::printable_lines(message));
}

/// What could not be done and was not asked for by name.
pub(super) fn warn(warnings: &[String]) {
    for warning in warnings {
        say(&format!("warning: {warning}"));
    }
}

/// clap's message without its `error: ` and its blank lines.
fn usage(rendered: &str) -> String {
    let message = rendered.trim().strip_prefix("error: ").unwrap_or(rendered.trim());
    message.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usage_error_reads_like_every_other_error() {
        assert_eq!(usage("error: bad\n\nUsage: tinyd ps\n\n"), "bad\nUsage: tinyd ps");
    }
}
