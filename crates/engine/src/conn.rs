//! The daemon's end of a conversation with a shim: frames of `core::wire` over a unix socket, descriptors beside them.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tinyd_core::{
    Error, Kind, Result,
    wire::{self, FrameKind, HEAD_BYTES, Message, Request},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::UnixStream,
};

use crate::files::failed;

/// The most descriptors that come with one frame.
const FDS_MAX: usize = 8;
/// How long a shim may take for an answer, in seconds. Making a container is the longest.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// One conversation.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: UnixStream,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A message, and the descriptors that came with it.
    Message(Box<Message>, Vec<OwnedFd>),
    /// Bytes of standard output.
    Stdout(Bytes),
    /// Bytes of standard error.
    Stderr(Bytes),
}

impl Conn {
    /// Connects to the shim whose directory this is.
    pub(crate) async fn connect(dir: &Path) -> Result<Conn> {
        let connect = async {
            // A socket's path holds 107 bytes; through the descriptor of its directory it is always short enough.
            let dir = open_dir(dir)?;
            UnixStream::connect(short_path(dir.as_fd())).await
        };
        let stream = connect.await.map_err(|source| {
            Error::new(Kind::Unavailable, format!("connect to the supervisor at {dir:?}: {source}"))
        })?;
        Ok(Conn { stream })
    }

    /// Asks, and waits for the answer. A failure that the shim tells is the error.
    pub(crate) async fn ask(
        &mut self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Message, Vec<OwnedFd>)> {
        let answer = async {
            self.send(request, fds).await?;
            self.receive_message().await
        };
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok((Message::Failed(error), _))) => Err(error),
            Ok(answer) => answer,
            Err(_) => Err(Error::new(
                Kind::Unavailable,
                format!("the supervisor gave no answer within {} seconds", ANSWER_MAX.as_secs()),
            )),
        }
    }

    /// Asks for something that is answered with [`Message::Done`].
    pub(crate) async fn ask_done(&mut self, request: &Request) -> Result<()> {
        match self.ask(request, &[]).await? {
            (Message::Done, _) => Ok(()),
            (other, _) => Err(out_of_turn(&other)),
        }
    }

    /// Sends a request with descriptors.
    pub(crate) async fn send(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let frame = wire::json_frame(request)
            .map_err(|source| failed("write a message to the supervisor", source))?;
        let send = async {
            let mut sent = 0;
            if !fds.is_empty() {
                sent =
                    self.stream.async_io(Interest::WRITABLE, || send_with(&self.stream, &frame, fds)).await?;
            }
            self.stream.write_all(&frame[sent..]).await
        };
        send.await.map_err(lost)
    }

    /// The next message; stream frames are none here.
    pub(crate) async fn receive_message(&mut self) -> Result<(Message, Vec<OwnedFd>)> {
        match self.receive().await? {
            Some(Frame::Message(message, fds)) => Ok((*message, fds)),
            Some(Frame::Stdout(_) | Frame::Stderr(_)) => {
                Err(Error::new(Kind::Internal, "the supervisor sent output where an answer was due"))
            }
            None => Err(lost(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// The next frame; `None` when the shim has closed the conversation between two frames.
    pub(crate) async fn receive(&mut self) -> Result<Option<Frame>> {
        let mut head = [0; HEAD_BYTES];
        let mut fds = Vec::new();
        let mut got = 0;
        while got < HEAD_BYTES {
            let read = self
                .stream
                .async_io(Interest::READABLE, || receive_with(&self.stream, &mut head[got..], &mut fds));
            match read.await.map_err(lost)? {
                0 if got == 0 => return Ok(None),
                0 => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
                read => got += read,
            }
        }
        let bad = |error: wire::BadFrame| {
            Error::new(Kind::Internal, format!("the supervisor sent a bad frame: {error}"))
        };
        let (kind, len) = wire::parse_head(head).map_err(bad)?;
        let mut payload = BytesMut::zeroed(len as usize);
        self.stream.read_exact(&mut payload).await.map_err(lost)?;
        match kind {
            FrameKind::Json => {
                let message = serde_json::from_slice(&payload)
                    .map_err(|source| failed("read a message of the supervisor", source))?;
                Ok(Some(Frame::Message(Box::new(in_our_words(message)), fds)))
            }
            FrameKind::Stdout => Ok(Some(Frame::Stdout(payload.freeze()))),
            FrameKind::Stderr => Ok(Some(Frame::Stderr(payload.freeze()))),
            FrameKind::Stdin | FrameKind::StdinEnd => {
                Err(Error::new(Kind::Internal, "the supervisor sent a frame that only a client sends"))
            }
        }
    }

    /// The two directions apart: whole frames are read by [`Conn::receive`] on the first, the second writes.
    pub(crate) fn split(self) -> Result<(Conn, ConnWriter)> {
        let dup = || {
            let std = self.stream.into_std()?;
            let other = std.try_clone()?;
            Ok((
                Conn { stream: UnixStream::from_std(std)? },
                ConnWriter { stream: UnixStream::from_std(other)? },
            ))
        };
        dup().map_err(lost)
    }
}

/// The writing direction of an attached conversation.
#[derive(Debug)]
pub(crate) struct ConnWriter {
    stream: UnixStream,
}

impl ConnWriter {
    /// Sends bytes of standard input.
    pub(crate) async fn stdin(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(wire::STREAM_MAX_BYTES as usize) {
            let len = u32::try_from(piece.len()).unwrap_or(wire::STREAM_MAX_BYTES);
            self.stream.write_all(&wire::head(FrameKind::Stdin, len)).await.map_err(lost)?;
            self.stream.write_all(piece).await.map_err(lost)?;
        }
        Ok(())
    }

    /// Says that standard input has ended.
    pub(crate) async fn stdin_end(&mut self) -> Result<()> {
        self.stream.write_all(&wire::head(FrameKind::StdinEnd, 0)).await.map_err(lost)
    }

    /// Sends a request that has no answer here.
    pub(crate) async fn tell(&mut self, request: &Request) -> Result<()> {
        let frame = wire::json_frame(request)
            .map_err(|source| failed("write a message to the supervisor", source))?;
        self.stream.write_all(&frame).await.map_err(lost)
    }
}

/// A shim's directory as a descriptor.
pub(crate) fn open_dir(dir: &Path) -> io::Result<OwnedFd> {
    use rustix::fs::{CWD, Mode, OFlags, openat};
    Ok(openat(CWD, dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The path of the socket in a directory that is open.
pub(crate) fn short_path(dir: BorrowedFd<'_>) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}/{}", dir.as_raw_fd(), wire::SOCKET_FILE)
}

fn send_with(stream: &UnixStream, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(fds.len()))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL)?)
}

fn receive_with(stream: &UnixStream, into: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(stream, &mut [IoSliceMut::new(into)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    Ok(read.bytes)
}

fn lost(source: io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("the supervisor's connection was lost: {source}"))
}

/// The supervisor names fields of the OCI specification; the user has typed options.
fn in_our_words(message: Message) -> Message {
    let Message::Failed(error) = message else { return message };
    let option = match error.field() {
        Some("process.args") => "COMMAND",
        Some("process.cwd") => "-w",
        Some("linux.resources.devices") => "--device",
        Some("linux.resources.memory.swap") => "--memory-swap",
        Some(field) if field.starts_with("process.user") => "-u",
        Some(field) if field.starts_with("process.capabilities") => "--cap-add",
        Some(field) if field.starts_with("linux.seccomp") => "--security-opt",
        Some(_) | None => return Message::Failed(error),
    };
    Message::Failed(error.of_field(option))
}

/// An answer that does not belong to the question.
pub(crate) fn out_of_turn(message: &Message) -> Error {
    Error::new(Kind::Internal, format!("the supervisor answered out of turn: {message:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_option_and_not_the_specification() {
        for (field, option) in [
            ("process.cwd", "-w"),
            ("process.user.uid", "-u"),
            ("linux.seccomp.syscalls", "--security-opt"),
            ("--mem", "--mem"),
        ] {
            let Message::Failed(error) = in_our_words(Message::Failed(Error::invalid(field, "no"))) else {
                panic!("another message")
            };
            assert_eq!((error.field(), error.message()), (Some(option), "no"));
        }
    }

    #[tokio::test]
    async fn descriptors_travel_with_their_frame() {
        let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
        for end in [&a, &b] {
            end.set_nonblocking(true).unwrap();
        }
        let mut a = Conn { stream: UnixStream::from_std(a).unwrap() };
        let mut b = Conn { stream: UnixStream::from_std(b).unwrap() };
        let null = std::fs::File::open("/dev/null").unwrap();
        let many: Vec<_> = (0..3).map(|_| null.as_fd()).collect();
        a.send(&Request::Status, &[]).await.unwrap();
        // What a shim would answer, sent by hand: the frame and its descriptors.
        let frame = wire::json_frame(&Message::Created { pid: 7, warnings: vec![] }).unwrap();
        let sent = send_with(&a.stream, &frame, &many).unwrap();
        assert_eq!(sent, frame.len());
        drop(a);
        // The first frame is a request, which no shim sends.
        assert!(b.receive().await.is_err());
        let Some(Frame::Message(message, fds)) = b.receive().await.unwrap() else { panic!("no message") };
        assert_eq!((*message, fds.len()), (Message::Created { pid: 7, warnings: vec![] }, 3));
        assert!(b.receive().await.unwrap().is_none());
    }
}
