//! What a registry or the way to it says, as an error for people: bounded, with control characters escaped, and without a secret.

use std::{fmt::Write as _, time::Duration};

use http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use tinyd_core::{Error, Kind};

/// The most bytes of an error's body that are read.
pub(super) const BODY_MAX_BYTES: u64 = 64 << 10;
/// The most characters of what a stranger says that are shown.
const SHOWN_MAX_CHARS: usize = 400;
/// The most errors of one answer that are shown.
const SHOWN_MAX_ERRORS: usize = 4;

/// Whether it makes sense to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Again {
    /// The answer will be the same.
    Never,
    /// After a while.
    Backoff,
    /// When the registry says so.
    After(Duration),
}

/// An error, and whether it makes sense to ask again.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) again: Again,
    /// Nothing was said to the host: another way to it may do.
    pub(super) is_unreached: bool,
}

impl Failure {
    pub(super) fn transient(message: impl Into<String>) -> Failure {
        let error = Error::new(Kind::Unavailable, message);
        Failure { error, again: Again::Backoff, is_unreached: false }
    }

    pub(super) fn context(self, what: impl std::fmt::Display) -> Failure {
        Failure { error: self.error.context(what), ..self }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, again: Again::Never, is_unreached: false }
    }
}

/// What a refusal was an answer to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    /// The registry as its user calls it, for the hint.
    pub(super) registry: &'a str,
    /// Whether there were credentials to show.
    pub(super) has_login: bool,
}

/// Makes an error of an answer that is none of the good ones.
pub(super) fn refusal(asked: Asked<'_>, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Failure {
    let said = said(body);
    let mut message = match status.canonical_reason() {
        Some(reason) => format!("{} {reason}", status.as_u16()),
        None => status.as_u16().to_string(),
    };
    if let Some(said) = &said {
        let _ = write!(message, ": {said}");
    }
    let (kind, again) = match status {
        StatusCode::NOT_FOUND => (Kind::NotFound, Again::Never),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            let hint = if asked.has_login { "with other credentials" } else { "first" };
            let _ = write!(message, ": tinyd login {} {hint}, if the image is there at all", asked.registry);
            (Kind::PermissionDenied, Again::Never)
        }
        StatusCode::TOO_MANY_REQUESTS => {
            let _ = write!(message, ": {}", rate_limit(asked, headers));
            (Kind::Unavailable, pause(headers))
        }
        StatusCode::REQUEST_TIMEOUT => (Kind::Unavailable, Again::Backoff),
        StatusCode::CONFLICT => (Kind::WrongState, Again::Never),
        StatusCode::METHOD_NOT_ALLOWED => (Kind::Unsupported, Again::Never),
        status if status.is_server_error() => (Kind::Unavailable, pause(headers)),
        status if status.is_client_error() => (Kind::InvalidArgument, Again::Never),
        _ => (Kind::Internal, Again::Never),
    };
    Failure { error: Error::new(kind, message), again, is_unreached: false }
}

/// When a registry says how long one is to wait.
fn pause(headers: &HeaderMap) -> Again {
    let said = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    // A date needs both clocks to agree: back-off is as good.
    match said.and_then(|text| text.trim().parse::<u64>().ok()) {
        Some(seconds) => Again::After(Duration::from_secs(seconds)),
        None => Again::Backoff,
    }
}

fn rate_limit(asked: Asked<'_>, headers: &HeaderMap) -> String {
    let mut text = "the registry limits how much is pulled".to_owned();
    for (header, words) in [("ratelimit-limit", "limit"), ("ratelimit-remaining", "left")] {
        if let Some(value) = headers.get(header).and_then(|value| value.to_str().ok()) {
            let _ = write!(text, ", {words} {}", shown(value, 40));
        }
    }
    match pause(headers) {
        Again::After(time) => {
            let _ = write!(text, ", again in {} s", time.as_secs());
        }
        Again::Never | Again::Backoff => {}
    }
    if !asked.has_login {
        let _ = write!(text, "; it may allow more after tinyd login {}", asked.registry);
    }
    text
}

/// The errors in a body (distribution specification, "Error codes"); `None` when it has none that can be read.
fn said(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        errors: Vec<One>,
        /// Of a token server, and of some registries.
        #[serde(default, alias = "details", alias = "error_description")]
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
        #[serde(default)]
        detail: serde_json::Value,
    }
    let answer: Answer = serde_json::from_slice(body).ok()?;
    let told = |one: &One| {
        let mut line = match (one.code.as_str(), one.message.as_str()) {
            ("", message) => message.to_owned(),
            (code, "") => code.to_owned(),
            (code, message) => format!("{code}: {message}"),
        };
        match &one.detail {
            serde_json::Value::Null => {}
            serde_json::Value::String(text) if text.is_empty() => {}
            serde_json::Value::String(text) => {
                let _ = write!(line, " ({text})");
            }
            other @ (serde_json::Value::Bool(_)
            | serde_json::Value::Number(_)
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_)) => {
                let _ = write!(line, " ({other})");
            }
        }
        line
    };
    let mut all: Vec<String> = answer.errors.iter().take(SHOWN_MAX_ERRORS).map(told).collect();
    all.extend(answer.message.filter(|_| answer.errors.is_empty()));
    let all = all.join("; ");
    (!all.is_empty()).then(|| shown(&all, SHOWN_MAX_CHARS))
}

/// What a stranger says, fit for a terminal and a log: bounded, and nothing in it moves the cursor or turns the text around.
pub(super) fn shown(text: &str, max_chars: usize) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    for char in chars.by_ref().take(max_chars) {
        let turns_text = matches!(char, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2028}' | '\u{2029}' | '\u{2066}'..='\u{2069}');
        if char.is_control() || turns_text {
            out.extend(char.escape_unicode());
        } else {
            out.push(char);
        }
    }
    if chars.next().is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANONYMOUS: Asked<'_> = Asked { registry: "docker.io", has_login: false };

    fn of(status: u16, headers: &[(&'static str, &str)], body: &str) -> Failure {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        refusal(ANONYMOUS, StatusCode::from_u16(status).unwrap(), &map, body.as_bytes())
    }

    #[test]
    fn what_a_registry_says_is_told_with_code_message_and_detail() {
        let failure = of(
            404,
            &[],
            r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown","detail":{"Tag":"9"}}]}"#,
        );
        assert_eq!(failure.error.kind(), Kind::NotFound);
        assert_eq!(
            failure.error.message(),
            r#"404 Not Found: MANIFEST_UNKNOWN: manifest unknown ({"Tag":"9"})"#
        );
        assert_eq!(failure.again, Again::Never);
    }

    #[test]
    fn what_a_registry_says_neither_moves_the_cursor_nor_fills_the_screen() {
        let body =
            format!(r#"{{"errors":[{{"code":"DENIED","message":"\u001b[2J\u202e{}"}}]}}"#, "x".repeat(5000));
        let message = of(403, &[], &body).error.message().to_owned();
        assert!(message.chars().count() < 600, "{message}");
        assert!(message.chars().all(|char| !char.is_control() && char != '\u{202e}'), "{message:?}");
        assert!(message.contains("tinyd login docker.io"), "{message}");
    }

    #[test]
    fn a_rate_limit_is_told_with_its_numbers() {
        let failure = of(
            429,
            &[("retry-after", "7"), ("ratelimit-remaining", "0;w=21600")],
            r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}"#,
        );
        let message = failure.error.message();
        for part in
            ["reached your pull rate limit", "left 0;w=21600", "again in 7 s", "tinyd login docker.io"]
        {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(failure.again, Again::After(Duration::from_secs(7)));
    }

    #[test]
    fn a_body_that_is_no_json_is_not_shown() {
        assert_eq!(of(502, &[], "<html>secret</html>").error.message(), "502 Bad Gateway");
    }
}
