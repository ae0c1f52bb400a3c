//! `logs`: a container's log file, from its end or its beginning, and what is written until the container ends.

mod line;
mod tail;

use std::{
    fs::File,
    io::{ErrorKind, Read, Seek, SeekFrom},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tinyd_core::{Result, State};
use tokio::sync::mpsc;

use self::line::Lines;
use crate::{
    Inner,
    api::{LogLine, LogQuery},
    blocking,
    files::failed,
    handle::Handle,
};

/// How many lines wait for a client.
const CHANNEL: usize = 32;
/// How much is read at once, in bytes.
const BLOCK: usize = 32 << 10;
/// How long a follower sleeps when nothing is new. Looking costs one read; a watch on each log would use up the host's inotify instances.
const NAP: Duration = Duration::from_millis(50);

/// The log of a container. The channel closes at the end, or when the container has ended and all is told.
pub(crate) fn logs(
    inner: &Arc<Inner>,
    who: &str,
    query: LogQuery,
) -> Result<mpsc::Receiver<Result<LogLine>>> {
    let handle = inner.registry.find(who)?;
    let path = inner.layout.log(&handle.record.id);
    let (sender, receiver) = mpsc::channel(CHANNEL);
    tokio::spawn(async move {
        if let Err(error) = tell(handle, path, query, &sender).await {
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(receiver)
}

async fn tell(
    handle: Handle,
    path: PathBuf,
    query: LogQuery,
    sender: &mpsc::Sender<Result<LogLine>>,
) -> Result<()> {
    let mut reader = Reader { path, file: None, lines: Lines::default(), tail: query.tail };
    loop {
        // Looked at before the file: what was written before the end is then read for certain.
        let over = !query.follow || is_over(&handle);
        loop {
            let (back, block) = blocking(move || {
                let block = reader.read()?;
                Ok((reader, block))
            })
            .await?;
            reader = back;
            if block.is_empty() {
                break;
            }
            for line in reader.lines.feed(&block) {
                match pass(&line, &query) {
                    Pass::Tell => {
                        if sender.send(Ok(line)).await.is_err() {
                            return Ok(());
                        }
                    }
                    Pass::Skip => {}
                    Pass::Over => return Ok(()),
                }
            }
        }
        if over {
            for line in reader.lines.rest() {
                if pass(&line, &query) == Pass::Tell && sender.send(Ok(line)).await.is_err() {
                    return Ok(());
                }
            }
            return Ok(());
        }
        // A line that stays open, such as a prompt, is told as far as it goes.
        for line in reader.lines.rest() {
            if pass(&line, &query) == Pass::Tell && sender.send(Ok(line)).await.is_err() {
                return Ok(());
            }
        }
        tokio::select! {
            () = tokio::time::sleep(NAP) => {}
            () = sender.closed() => return Ok(()),
        }
    }
}

/// Whether nothing more will be written in this run.
fn is_over(handle: &Handle) -> bool {
    let view = handle.view.borrow();
    view.gone || matches!(view.state, State::Stopped { .. }) || handle.view.has_changed().is_err()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    Tell,
    Skip,
    Over,
}

fn pass(line: &LogLine, query: &LogQuery) -> Pass {
    if query.since_unix_nanos.is_some_and(|since| line.at_unix_nanos < since) {
        Pass::Skip
    } else if query.until_unix_nanos.is_some_and(|until| line.at_unix_nanos >= until) {
        // Times in one log do not go back.
        Pass::Over
    } else {
        Pass::Tell
    }
}

/// A log file that may not be there yet.
struct Reader {
    path: PathBuf,
    file: Option<File>,
    lines: Lines,
    /// Where to begin, as long as that has not been looked for.
    tail: Option<u64>,
}

impl Reader {
    /// The next bytes; none at the end.
    fn read(&mut self) -> Result<Vec<u8>> {
        let read = self.read_file();
        read.map_err(|source| failed(format_args!("read {:?}", self.path), source))
    }

    fn read_file(&mut self) -> std::io::Result<Vec<u8>> {
        let file = match &mut self.file {
            Some(file) => file,
            None => match File::open(&self.path) {
                Ok(mut file) => {
                    if let Some(lines) = self.tail.take() {
                        let start = tail::start_of(&file, lines)?;
                        file.seek(SeekFrom::Start(start))?;
                    }
                    self.file.insert(file)
                }
                Err(source) if source.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
                Err(source) => return Err(source),
            },
        };
        let mut block = vec![0; BLOCK];
        let length = file.read(&mut block)?;
        block.truncate(length);
        Ok(block)
    }
}
