//! The few kinds of failure that cross a boundary, and the one table that maps them to gRPC
//! codes and exit codes. Everything below the engine has its own error types; this is what
//! the engine, the API and the command line speak.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A result with the engine's error.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What class of failure this is. One kind, one gRPC code, one exit code: see [`Kind::grpc_code`] and
/// [`Kind::exit_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The caller named something that does not exist.
    NotFound,
    /// The name, address or port is taken.
    AlreadyExists,
    /// A value breaks a rule; the message says which and what would be right.
    InvalidArgument,
    /// Right request, wrong moment: for example `pause` of a stopped container.
    WrongState,
    /// No address, id range, descriptor or space is left.
    Exhausted,
    /// This kernel, file system or build cannot do what was asked for by name.
    Unsupported,
    /// The caller may not do this.
    PermissionDenied,
    /// The command is there but cannot be executed (exit code 126, as in Docker).
    CannotExecute,
    /// The command is not in the container's root (exit code 127, as in Docker).
    CommandNotFound,
    /// The daemon cannot be reached, or it is shutting down.
    Unavailable,
    /// A failure that the caller cannot mend; the message has the call and the errno.
    Internal,
}

impl Kind {
    /// Every kind, in the order of the table in `docs/errors.md`.
    pub const ALL: [Kind; 11] = [
        Kind::NotFound,
        Kind::AlreadyExists,
        Kind::InvalidArgument,
        Kind::WrongState,
        Kind::Exhausted,
        Kind::Unsupported,
        Kind::PermissionDenied,
        Kind::CannotExecute,
        Kind::CommandNotFound,
        Kind::Unavailable,
        Kind::Internal,
    ];

    /// The gRPC status code number (grpc/grpc `doc/statuscodes.md`).
    #[must_use]
    pub const fn grpc_code(self) -> i32 {
        match self {
            Kind::NotFound => 5,
            Kind::AlreadyExists => 6,
            Kind::InvalidArgument => 3,
            Kind::WrongState | Kind::CannotExecute | Kind::CommandNotFound => 9,
            Kind::Exhausted => 8,
            Kind::Unsupported => 12,
            Kind::PermissionDenied => 7,
            Kind::Unavailable => 14,
            Kind::Internal => 13,
        }
    }

    /// What the command line exits with. `run`, `create` and `exec` turn the engine's failures into 125 so that
    /// the container's own exit codes stay apart from it, as Docker does; the other commands exit with 1.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Kind::CannotExecute => 126,
            Kind::CommandNotFound => 127,
            Kind::NotFound
            | Kind::AlreadyExists
            | Kind::InvalidArgument
            | Kind::WrongState
            | Kind::Exhausted
            | Kind::Unsupported
            | Kind::PermissionDenied
            | Kind::Unavailable
            | Kind::Internal => 125,
        }
    }

    /// The word that travels as `reason` in the gRPC error details: `NOT_FOUND` and so on.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Kind::NotFound => "NOT_FOUND",
            Kind::AlreadyExists => "ALREADY_EXISTS",
            Kind::InvalidArgument => "INVALID_ARGUMENT",
            Kind::WrongState => "WRONG_STATE",
            Kind::Exhausted => "EXHAUSTED",
            Kind::Unsupported => "UNSUPPORTED",
            Kind::PermissionDenied => "PERMISSION_DENIED",
            Kind::CannotExecute => "CANNOT_EXECUTE",
            Kind::CommandNotFound => "COMMAND_NOT_FOUND",
            Kind::Unavailable => "UNAVAILABLE",
            Kind::Internal => "INTERNAL",
        }
    }

    /// The kind that a `reason` word stands for.
    #[must_use]
    pub fn from_reason(word: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.reason() == word)
    }
}

/// A failure as a person reads it: one line that says what was asked, which value broke which rule, and why.
///
/// Messages are bare phrases: no capital, no full stop, no "failed to" (see `docs/style.md`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    kind: Kind,
    /// The option or field at fault, as its user spells it: `--mem`, `-p`, `subnet`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    message: String,
}

impl Error {
    /// A failure of a kind, told in a message.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Error { kind, field: None, message: message.into() }
    }

    /// A value that breaks a rule: `field` is what the user wrote it under, `message` names value and rule.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Error { kind: Kind::InvalidArgument, field: Some(field.into()), message: message.into() }
    }

    /// A failure that the caller cannot mend, with its whole chain of sources in one line.
    pub fn internal(source: &dyn std::error::Error) -> Self {
        Error::new(Kind::Internal, chain(source))
    }

    /// The same failure, said to be of one field.
    #[must_use]
    pub fn of_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same failure one floor up: `what: message`.
    #[must_use]
    pub fn context(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// What class of failure this is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The option or field at fault.
    #[must_use]
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }

    /// The message alone, without the field.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{field}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for Error {}

/// An error and all its sources in one line, `outer: inner: innermost`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let text = inner.to_string();
        if !line.ends_with(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = inner.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_its_reason_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_reason(kind.reason()), Some(kind));
        }
    }

    #[test]
    fn a_chain_is_one_line_and_does_not_repeat_itself() {
        #[derive(Debug, thiserror::Error)]
        #[error("mount rootfs")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::from_raw_os_error(22));
        assert_eq!(chain(&error), "mount rootfs: Invalid argument (os error 22)");
    }
}
