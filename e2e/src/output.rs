//! What a finished command said, and commands that run in the background. Every command has a deadline.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::patience;

const LIMIT: Duration = Duration::from_secs(60);

/// What a finished command said.
#[derive(Clone, Debug)]
pub struct Output {
    /// The command as a person would type it.
    pub line: String,
    /// Its exit status; 128+n when signal n ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// How long it took.
    pub took: Duration,
}

impl Output {
    /// Runs a command to its end with `input` as standard input.
    ///
    /// # Panics
    /// When it cannot be started, or has not ended after a minute.
    pub(crate) fn of(mut command: Command, line: &str, input: &[u8]) -> Output {
        let begun = Instant::now();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let mut stdin = child.stdin.take().expect("piped");
        let input = input.to_owned();
        // A command may end without reading: then the pipe breaks, and that is its right.
        let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let pid = child.id();
        let (tell, hear) = channel();
        std::thread::spawn(move || tell.send(child.wait_with_output()));
        let out = match hear.recv_timeout(patience(LIMIT)) {
            Ok(out) => out.unwrap_or_else(|error| panic!("{line}: {error}")),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                kill(pid, Signal::KILL);
                let said = hear.recv_timeout(Duration::from_secs(2)).ok().and_then(Result::ok);
                let (out, err) = said.map(|said| (said.stdout, said.stderr)).unwrap_or_default();
                panic!("{line}: not ended after {LIMIT:?}: {} {}", end(&text(&out)), text(&err));
            }
        };
        let _ = writer.join();
        Output {
            line: line.to_owned(),
            code: code(out.status),
            stdout: text(&out.stdout),
            stderr: text(&out.stderr),
            took: begun.elapsed(),
        }
    }

    /// Whether the exit status is zero.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == 0
    }

    /// Standard output without the newline at its end.
    #[must_use]
    pub fn trimmed(&self) -> &str {
        self.stdout.trim_end()
    }

    /// Standard output's lines.
    #[must_use]
    pub fn lines(&self) -> Vec<&str> {
        self.stdout.lines().collect()
    }

    /// The same, asserted to have gone well.
    ///
    /// # Panics
    /// When the exit status is not zero.
    #[must_use]
    pub fn expect_ok(self) -> Output {
        assert!(
            self.ok(),
            "{} → {}\nstdout: {}\nstderr: {}",
            self.line,
            self.code,
            end(&self.stdout),
            self.stderr
        );
        self
    }

    /// The same, asserted to have failed with this status and with these words on standard error.
    ///
    /// # Panics
    /// Otherwise.
    pub fn expect_error(self, code: i32, words: &[&str]) -> Output {
        let said = &self.stderr;
        assert_eq!(self.code, code, "{}\nstdout: {}\nstderr: {said}", self.line, self.stdout);
        for word in words {
            assert!(said.contains(word), "{}: no {word:?} in what it said: {said}", self.line);
        }
        assert!(!said.contains("failed to"), "{}: house style: {said}", self.line);
        assert!(!said.contains("panicked"), "{}: {said}", self.line);
        self
    }
}

/// A command that runs while the test goes on. It is killed when dropped.
#[derive(Debug)]
pub struct Background {
    child: Child,
    line: String,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Background {
    pub(crate) fn start(mut command: Command, line: &str) -> Background {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        let stdout = lines(child.stdout.take().expect("piped"));
        let stderr = lines(child.stderr.take().expect("piped"));
        Background { child, line: line.to_owned(), stdout, stderr }
    }

    /// Starts a command whose output nobody reads: its pipes fill up.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn unread(mut command: Command, line: &str) -> Background {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap_or_else(|error| panic!("{line}: {error}"));
        Background { child, line: line.to_owned(), stdout: channel().1, stderr: channel().1 }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output.
    ///
    /// # Panics
    /// When none comes.
    pub fn next_line(&self) -> String {
        let line = self.stdout.recv_timeout(patience(Duration::from_secs(15)));
        line.unwrap_or_else(|_| {
            let said: Vec<String> = self.stderr.try_iter().collect();
            panic!("{}: no more output; stderr: {}", self.line, said.join("\n"))
        })
    }

    /// Everything on standard output from now to its end.
    pub fn rest(&self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Ok(line) = self.stdout.recv_timeout(patience(Duration::from_secs(15))) {
            rest.push(line);
        }
        rest
    }

    /// Gives it input.
    ///
    /// # Panics
    /// When it no longer reads.
    pub fn write(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("its input is still open");
        stdin
            .write_all(bytes)
            .and_then(|()| stdin.flush())
            .unwrap_or_else(|error| panic!("{}: {error}", self.line));
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        self.child.stdin = None;
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.child.id(), signal);
    }

    /// Waits for its end; the exit status, 128+n when signal n ended it.
    ///
    /// # Panics
    /// When it does not end.
    pub fn wait(&mut self) -> i32 {
        let status = crate::wait_for(&format!("the end of {}", self.line), 30, || {
            self.child.try_wait().unwrap_or_else(|error| panic!("{}: {error}", self.line))
        });
        code(status)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lines of a stream, read on a thread of their own so that the writer never waits.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, hear) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            if tell.send(text(&line)).is_err() {
                return;
            }
        }
    });
    hear
}

/// The last part of a long text.
fn end(text: &str) -> &str {
    let from = text.len().saturating_sub(1000);
    text.get(text.ceil_char_boundary(from)..).unwrap_or(text)
}

pub(crate) fn kill(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended on its own.
        let _ = kill_process(pid, signal);
    }
}

pub(crate) fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
