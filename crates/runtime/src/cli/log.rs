//! What the command line says when something is wrong: on stderr, and in the log file where engines look for the reason.

use std::{fmt::Write as _, io::Write as _, path::PathBuf, time::SystemTime};

use serde::Serialize;
use tinyd_core::{Error, Kind, Result, time};

use super::args::Given;

/// Where messages go beside stderr.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    path: Option<PathBuf>,
    json: bool,
    debug: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    level: &'a str,
    msg: &'a str,
    time: &'a str,
}

impl Log {
    /// As the options say.
    ///
    /// # Errors
    /// `InvalidArgument` for a form that it does not write.
    pub(super) fn new(global: &Given) -> Result<Log> {
        let json = match global.get("log-format") {
            None | Some("" | "text") => false,
            Some("json") => true,
            Some(other) => {
                return Err(Error::invalid("--log-format", format!("{other:?} is neither text nor json")));
            }
        };
        let path = global.get("log").unwrap_or_default();
        if let Some((other @ ("journald" | "syslog"), _)) = path.split_once(':') {
            let message = format!("messages go to a file, and not to {other}");
            return Err(Error::new(Kind::Unsupported, message).of_field("--log"));
        }
        let path = path.strip_prefix("file:").unwrap_or(path);
        let path = (!path.is_empty()).then(|| PathBuf::from(path));
        Ok(Log { path, json, debug: global.has("debug") })
    }

    /// Tells a failure; the exit code for it.
    pub(super) fn told(&self, error: &Error, code: u8) -> u8 {
        let message = error.to_string();
        self.append("error", &message);
        say(&message);
        code
    }

    /// Tells what is wrong, and keeps nobody from going on.
    pub(super) fn complain(&self, messages: &[String]) {
        for message in messages {
            self.append("error", message);
            say(message);
        }
    }

    /// Tells what could not be done and is no reason to stop. As with runc it goes to the log, or to stderr where no log is named, and
    /// with `--debug` to both: stderr is the container's too.
    pub(super) fn warn(&self, warnings: &[String]) {
        for warning in warnings {
            self.append("warning", warning);
            if self.debug || self.path.is_none() {
                say(&format!("warning: {warning}"));
            }
        }
    }

    fn append(&self, level: &str, message: &str) {
        let Some(path) = &self.path else { return };
        let now = time::rfc3339(time::unix_nanos(SystemTime::now()));
        let mut line = String::new();
        if self.json {
            line = serde_json::to_string(&Line { level, msg: message, time: &now }).unwrap_or_default();
        } else {
            // Writing to a String cannot fail.
            let _ = write!(line, "time={now:?} level={level} msg={message:?}");
        }
        line.push('\n');
        // A log that cannot be written is not worth failing for; stderr has the message too.
        if let Ok(mut file) = std::fs::OpenOptions::new().create(true).append(true).open(path) {
            let _ = file.write_all(line.as_bytes());
        }
    }
}

/// A line on stderr. Where nobody hears it the exit code still tells.
fn say(message: &str) {
    // In one piece: others write there too.
    let _ = std::io::stderr().write_all(format!("tinyrun: {}\n", harmless(message)).as_bytes());
}

/// A message without what a terminal takes for an order: a path of a configuration may have that in it, and what a hook has said, of which
/// the lines are kept.
fn harmless(message: &str) -> String {
    let is_order = |sign: &char| sign.is_control() && !['\n', '\t'].contains(sign);
    message.chars().fold(String::with_capacity(message.len()), |mut text, sign| {
        if is_order(&sign) {
            text.extend(sign.escape_default());
        } else {
            text.push(sign);
        }
        text
    })
}
