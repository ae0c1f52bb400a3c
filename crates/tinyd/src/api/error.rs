//! An engine's error as a gRPC status and back, by the one table of `tinyd_core::Kind`. A status carries its kind as the `reason`
//! of a `google.rpc.ErrorInfo`, and the field at fault as a `google.rpc.BadRequest` too. `docs/errors.md` is the page for users.

use std::collections::HashMap;

use tinyd_core::{Error, Kind, error::chain};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Who says so, in error details.
const DOMAIN: &str = "tinyd";
/// The key under which error details carry the field at fault.
const FIELD: &str = "field";
/// The longest message, in bytes. It travels three times in HTTP/2 headers, of which a client takes 16 KiB.
const MESSAGE_MAX: usize = 2048;

/// What the client is told.
pub(crate) fn status(error: &Error) -> Status {
    let mut metadata = HashMap::new();
    let mut details = ErrorDetails::new();
    if let Some(field) = error.field() {
        metadata.insert(FIELD.to_owned(), clipped(field));
        if error.kind() == Kind::InvalidArgument {
            details.add_bad_request_violation(clipped(field), clipped(error.message()));
        }
    }
    details.set_error_info(error.kind().reason(), DOMAIN, metadata);
    Status::with_error_details(Code::from(error.kind().grpc_code()), clipped(&error.to_string()), details)
}

/// What a client was told: the engine's own error, or what the connection did in its place.
pub(crate) fn error(status: &Status) -> Error {
    let details = status.get_error_details();
    let info = details.error_info().filter(|info| info.domain == DOMAIN);
    let Some((kind, info)) = info.and_then(|info| Some((Kind::from_reason(&info.reason)?, info))) else {
        return foreign(status);
    };
    match info.metadata.get(FIELD) {
        Some(field) => {
            let message = status.message().strip_prefix(&format!("{field}: ")).unwrap_or(status.message());
            Error::new(kind, message).of_field(field)
        }
        None => Error::new(kind, status.message()),
    }
}

/// A status that the engine did not make: tonic's own, a proxy's, or a broken connection's.
fn foreign(status: &Status) -> Error {
    if let Some(size) = too_large(status.message()) {
        return size;
    }
    if let Some(source) = std::error::Error::source(status) {
        return Error::new(
            Kind::Unavailable,
            format!("lost the connection to the daemon: {}", chain(source)),
        );
    }
    Error::new(kind_of(status.code()), format!("{} ({:?})", status.message(), status.code()))
}

/// tonic's words for a message over the limit, in ours.
fn too_large(message: &str) -> Option<Error> {
    let (_, sizes) = message.split_once("message length too large: found ")?;
    let (found, limit) = sizes.split_once(" bytes, the limit is: ")?;
    let limit: usize = limit.trim_end_matches(" bytes").parse().ok()?;
    let rule = format!("a message of {found} bytes is too large: at most {limit} ({} MiB)", limit >> 20);
    Some(Error::invalid("request", rule))
}

/// The kind that a code stands for when nothing else is said.
fn kind_of(code: Code) -> Kind {
    match code {
        Code::NotFound => Kind::NotFound,
        Code::AlreadyExists => Kind::AlreadyExists,
        Code::InvalidArgument | Code::OutOfRange => Kind::InvalidArgument,
        Code::FailedPrecondition | Code::Aborted => Kind::WrongState,
        Code::ResourceExhausted => Kind::Exhausted,
        Code::Unimplemented => Kind::Unsupported,
        Code::PermissionDenied | Code::Unauthenticated => Kind::PermissionDenied,
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => Kind::Unavailable,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => Kind::Internal,
    }
}

/// At most [`MESSAGE_MAX`] bytes of it, on a character's border.
fn clipped(text: &str) -> String {
    if text.len() <= MESSAGE_MAX {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(MESSAGE_MAX - '…'.len_utf8())])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = Kind> {
        proptest::sample::select(Kind::ALL.to_vec())
    }

    proptest! {
        #[test]
        fn an_error_comes_back_as_it_went(kind in kind(), field: Option<String>, message in ".{0,200}") {
            let mut sent = Error::new(kind, message);
            if let Some(field) = field {
                sent = sent.of_field(field.chars().take(40).collect::<String>());
            }
            let travelled = Status::from_header_map(&status(&sent).into_http::<()>().into_parts().0.headers);
            prop_assert_eq!(error(&travelled.unwrap()), sent);
        }

        #[test]
        fn a_message_is_clipped_between_characters(message in "[aé→𝄞]{0,3000}") {
            let told = clipped(&message);
            prop_assert!(told.len() <= MESSAGE_MAX);
            prop_assert!(message.starts_with(told.trim_end_matches('…')));
        }
    }

    #[test]
    fn the_code_is_the_tables() {
        for kind in Kind::ALL {
            let status = status(&Error::new(kind, "x"));
            assert_eq!(status.code() as i32, kind.grpc_code(), "{kind:?}");
        }
    }

    #[test]
    fn the_page_for_users_has_every_row_of_the_table() {
        let page = include_str!("../../../../docs/errors.md");
        let rows: Vec<Vec<&str>> = page
            .lines()
            .map(|line| line.split('|').map(str::trim).collect())
            .filter(|row: &Vec<_>| row.len() > 5)
            .collect();
        let told: Vec<_> =
            rows.iter().filter(|row| row[1].starts_with('`')).map(|row| (row[1], row[2], row[3])).collect();
        let table: Vec<_> = Kind::ALL
            .map(|kind| {
                let code = kind.grpc_code();
                (
                    format!("`{}`", kind.reason()),
                    format!("{code} {:?}", Code::from(code)),
                    kind.exit_code().to_string(),
                )
            })
            .into();
        let table: Vec<_> = table.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        assert_eq!(told, table);
    }

    #[test]
    fn a_field_at_fault_is_a_field_violation() {
        let status = status(&Error::invalid("--mem", "5q is not a size"));
        let violations = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(
            (violations[0].field.as_str(), violations[0].description.as_str()),
            ("--mem", "5q is not a size")
        );
        assert_eq!(status.message(), "--mem: 5q is not a size");
    }

    #[test]
    fn a_message_over_the_limit_names_the_limit() {
        let told =
            "Error, decoded message length too large: found 5242880 bytes, the limit is: 4194304 bytes";
        let error = error(&Status::out_of_range(told));
        assert_eq!(error.kind(), Kind::InvalidArgument);
        assert_eq!(
            error.to_string(),
            "request: a message of 5242880 bytes is too large: at most 4194304 (4 MiB)"
        );
    }

    #[test]
    fn a_status_of_somebody_else_keeps_its_code() {
        let error = error(&Status::unimplemented("no such method"));
        assert_eq!((error.kind(), error.message()), (Kind::Unsupported, "no such method (Unimplemented)"));
    }
}
