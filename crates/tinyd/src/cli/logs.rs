//! `tinyd logs`: what a container has written, and what it writes.

use clap::Args;
use jiff::Zoned;
use tinyd_core::{Error, time::rfc3339};

use super::{
    failure::Result,
    globals::Globals,
    output::Sink,
    remote::{Remote, answer},
    verb::Verb,
    when,
};
use crate::{client, pb};

/// Show what a container has written: its stdout on stdout, its stderr on stderr
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  tinyd logs c1\n  tinyd logs -f --tail 20 c1\n  tinyd logs --since 10m -t c1"
)]
pub(super) struct Logs {
    /// Go on with what it writes, until it ends
    #[arg(short, long)]
    follow: bool,
    /// Only this many of the last lines, or all
    #[arg(short = 'n', long, value_name = "COUNT", default_value = "all", allow_hyphen_values = true)]
    tail: String,
    /// Only from then on: RFC 3339, a local date or time, seconds since 1970, or how long ago (10m, 1h30m)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Put the time, as RFC 3339, before each line
    #[arg(short, long)]
    timestamps: bool,
    /// Its name, id, or a unique beginning of its id
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl Verb for Logs {
    fn run(self, globals: &Globals) -> Result<u8> {
        let timestamps = self.timestamps;
        let request = self.request(&when::now())?;
        globals.online(async move |remote| show(&remote, request, timestamps).await)
    }
}

impl Logs {
    /// What the words mean.
    fn request(self, now: &Zoned) -> tinyd_core::Result<pb::LogsRequest> {
        let tail = match self.tail.as_str() {
            "all" | "-1" => None,
            text => Some(text.parse().map_err(|_| {
                Error::invalid("--tail", format!("{text:?} is not a number of lines, nor all"))
            })?),
        };
        let moment =
            |field: &str, text: Option<String>| text.map_or(Ok(0), |text| when::parse(field, &text, now));
        Ok(pb::LogsRequest {
            container: self.container,
            follow: self.follow,
            tail,
            since_unix_nanos: moment("--since", self.since)?,
            until_unix_nanos: moment("--until", self.until)?,
        })
    }
}

async fn show(remote: &Remote, request: pb::LogsRequest, timestamps: bool) -> Result<u8> {
    let mut lines = answer(remote.containers().logs(request)).await?;
    let mut outputs = [(Sink::stdout()?, Line::default()), (Sink::stderr()?, Line::default())];
    while let Some(line) = lines.message().await.map_err(|status| client::error(&status))? {
        let (sink, begun) = match line.stream() {
            pb::Stream::Stdout => &mut outputs[0],
            pb::Stream::Stderr => &mut outputs[1],
        };
        let stamp = timestamps.then(|| rfc3339(line.at_unix_nanos));
        sink.write(&begun.ready(&line.data, stamp)).await?;
    }
    Ok(0)
}

/// Whether a line has begun on an output: a long one comes in pieces, and has one time.
#[derive(Debug, Default)]
struct Line {
    begun: bool,
}

impl Line {
    /// The bytes to write: with the time before them where a line begins.
    fn ready(&mut self, data: &[u8], stamp: Option<String>) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(data.len() + 32);
        if let Some(stamp) = stamp.filter(|_| !self.begun) {
            bytes.extend(stamp.bytes());
            bytes.push(b' ');
        }
        bytes.extend(data);
        self.begun = data.last().is_some_and(|last| *last != b'\n');
        bytes
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;

    fn request(words: &[&str]) -> tinyd_core::Result<pb::LogsRequest> {
        let words = std::iter::once("logs").chain(words.iter().copied());
        let matches = Logs::augment_args(Command::new("logs")).try_get_matches_from(words).unwrap();
        Logs::from_arg_matches(&matches).unwrap().request(&"2026-11-24T14:00:00Z[UTC]".parse().unwrap())
    }

    #[test]
    fn which_lines() {
        let all = request(&["c1"]).unwrap();
        assert_eq!((all.tail, all.since_unix_nanos, all.follow), (None, 0, false));
        let some = request(&["-f", "--tail", "0", "--since", "10m", "--until", "1795493813", "c1"]).unwrap();
        assert_eq!((some.tail, some.follow), (Some(0), true));
        assert_eq!(rfc3339(some.since_unix_nanos), "2026-11-24T13:50:00.000000000Z");
        assert_eq!(some.until_unix_nanos, 1_795_493_813_000_000_000);
    }

    #[test]
    fn bad_words_name_their_flag() {
        for (words, flag) in [
            (&["--tail", "x", "c"][..], "--tail"),
            (&["--since", "x", "c"], "--since"),
            (&["--until", "x", "c"], "--until"),
        ] {
            assert_eq!(request(words).unwrap_err().field(), Some(flag));
        }
    }

    #[test]
    fn a_line_in_pieces_has_one_time() {
        let mut line = Line::default();
        let mut text = Vec::new();
        for piece in ["a", "b\n", "c\n"] {
            text.extend(line.ready(piece.as_bytes(), Some("T".to_owned())));
        }
        assert_eq!(text, b"T ab\nT c\n");
    }
}
