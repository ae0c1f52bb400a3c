//! A failed system call: what was asked, and what the kernel said.

use std::{fmt, io};

/// A result of a system call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed system call, written the way strace would: `move_mount("proc"): Operation not permitted (os error 1)` once its
/// source is added by whoever prints the chain.
#[derive(Debug, thiserror::Error)]
#[error("{call}")]
pub struct Error {
    call: String,
    source: io::Error,
}

impl Error {
    /// A failure of `call`.
    pub fn new(call: impl fmt::Display, source: impl Into<io::Error>) -> Self {
        Error { call: call.to_string(), source: source.into() }
    }

    /// A failure of `call`, with the errno that the last system call left.
    pub fn last(call: impl fmt::Display) -> Self {
        Error::new(call, io::Error::last_os_error())
    }

    /// The errno, when the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }

    /// The class of failure, as the standard library sorts them.
    #[must_use]
    pub fn io_kind(&self) -> io::ErrorKind {
        self.source.kind()
    }

    /// The call as it was made.
    #[must_use]
    pub fn call(&self) -> &str {
        &self.call
    }
}

/// Says what was asked when a call fails.
pub trait Ask<T> {
    /// Names the call: `.ask(format_args!("mkdirat({dir:?}, {name:?})"))`. Costs nothing when the call succeeded.
    ///
    /// # Errors
    /// The call's own failure, with its name.
    fn ask(self, call: impl fmt::Display) -> Result<T>;
}

impl<T, E: Into<io::Error>> Ask<T> for std::result::Result<T, E> {
    fn ask(self, call: impl fmt::Display) -> Result<T> {
        self.map_err(|source| Error::new(call, source))
    }
}
