//! The conversation between the caller and the container's first process while it is made: a `SOCK_SEQPACKET` pair, one
//! message per phase, descriptors beside it. That the program has been executed is told by the socket closing; so is an end: see `way`.

use std::{
    io::{IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use tinyd_core::{Error, Kind, Result, json};

use super::kernel;

/// The most descriptors in one message; the kernel's limit is 253.
const FDS_MAX: usize = 240;
/// The longest message, in bytes. A failure that is longer is cut.
const BYTES_MAX: usize = 8 << 10;
/// The first byte of a failure.
const FAILED: u8 = 0xff;

/// What is said, in the order in which it may be said. Any may be left out; none may come after a later one. [`Phase::Go`] and what comes
/// after it are said by one `tinyrun` to another, which may be older: their numbers stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// Child, where its gate is open: here is a socket of its network. Caller: here is what mounts are made of, one by one; then, the cgroup is made, and here are its `tasks` files; then what is seen of it.
    Cgroup = 0,
    /// Caller: ids are mapped; here are the mounts that needed that.
    Mapped = 1,
    /// Child: the mounts are made, and the old root is still there. Only where hooks run then.
    Mounted = 2,
    /// Caller: its hooks have run, or, where the gate is open and there are none, it has seen the process.
    Hooked = 3,
    /// Child: everything is made. With it come its warnings and its descriptors.
    Ready = 4,
    /// Caller: execute the program.
    Go = 5,
    /// Child: the hooks before its program have run. Only where there are any.
    Onward = 6,
    /// Child: its filter holds. With it comes the descriptor of whoever is to answer.
    Filtered = 7,
    /// Caller: somebody answers.
    Watched = 8,
    /// Caller, in place of [`Phase::Go`]: end.
    Leave = 9,
}

impl Phase {
    fn from_byte(byte: u8) -> Option<Phase> {
        const ALL: [Phase; 10] = [
            Phase::Cgroup,
            Phase::Mapped,
            Phase::Mounted,
            Phase::Hooked,
            Phase::Ready,
            Phase::Go,
            Phase::Onward,
            Phase::Filtered,
            Phase::Watched,
            Phase::Leave,
        ];
        ALL.into_iter().find(|phase| *phase as u8 == byte)
    }
}

/// Takes a phase as the next one.
///
/// # Errors
/// `Internal` when it is behind the last one; both are named.
fn advance(last: &mut Option<Phase>, got: Phase) -> Result<()> {
    if *last > Some(got) {
        return Err(Error::new(Kind::Internal, format!("{got:?} was said after {last:?}")));
    }
    *last = Some(got);
    Ok(())
}

/// One side of the conversation.
#[derive(Debug)]
pub struct Sync {
    socket: OwnedFd,
    last: Option<Phase>,
    patience: Option<Duration>,
    /// Where a message is received; nothing before the first one.
    bytes: Vec<u8>,
}

/// What was heard.
#[derive(Debug)]
pub enum Heard {
    /// A phase, what was said with it, and descriptors.
    Phase(Phase, Vec<u8>, Vec<OwnedFd>),
    /// The other side could not go on.
    Failed(Error),
    /// The other side has closed: it has executed its program, or it is gone.
    Closed,
}

impl Sync {
    /// Two sides.
    ///
    /// # Errors
    /// The kernel's refusal.
    pub fn pair() -> Result<(Sync, Sync)> {
        let pair =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
        let (ours, theirs) = pair.map_err(|error| kernel("socketpair(SOCK_SEQPACKET)", &error))?;
        Ok((Sync::new(ours), Sync::new(theirs)))
    }

    /// A side of a connection that exists.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Sync {
        Sync { socket, last: None, patience: None, bytes: Vec::new() }
    }

    /// From here on no word is waited for longer than this, and neither is room for one.
    pub fn wait_at_most(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    /// The socket, to be handed on.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Whether this phase, or a later one, has been said by either side.
    pub(super) fn has_come_to(&self, phase: Phase) -> bool {
        self.last >= Some(phase)
    }

    /// Says a phase; many descriptors go in several messages of it.
    ///
    /// # Errors
    /// The kernel's refusal; EPIPE when the other side is gone.
    pub fn say(&mut self, phase: Phase, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        advance(&mut self.last, phase)?;
        let mut chunks = fds.chunks(FDS_MAX);
        self.send(phase as u8, body, chunks.next().unwrap_or_default())?;
        chunks.try_for_each(|more| self.send(phase as u8, b"", more))
    }

    /// Tells the other side why this one cannot go on. That nobody listens is no news then.
    pub fn say_failed(&mut self, error: &Error) {
        let mut body = serde_json::to_vec(error).unwrap_or_default();
        if body.len() >= BYTES_MAX {
            let short: String = error.message().chars().take(BYTES_MAX / 8).collect();
            body = serde_json::to_vec(&Error::new(error.kind(), short)).unwrap_or_default();
        }
        let _ = self.send(FAILED, &body, &[]);
    }

    fn send(&self, kind: u8, body: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(fds));
        }
        let kind = [kind];
        let parts = [IoSlice::new(&kind), IoSlice::new(body)];
        let patient = if self.patience.is_some() { SendFlags::DONTWAIT } else { SendFlags::empty() };
        let mut send =
            || rustix::net::sendmsg(&self.socket, &parts, &mut control, SendFlags::NOSIGNAL | patient);
        let mut sent = send();
        if sent == Err(Errno::AGAIN) && self.patience.is_some() {
            // What was said before fills all the room that there is for it.
            self.wait_for(PollFlags::OUT, "took nothing")?;
            sent = send();
        }
        match sent {
            Ok(_) => Ok(()),
            // Only who is gone has said its last: of one that still listens there is nothing to wait for.
            Err(error @ (Errno::PIPE | Errno::CONNRESET)) => Err(self.cause(kernel("sendmsg(sync)", &error))),
            Err(error) => Err(kernel("sendmsg(sync)", &error)),
        }
    }

    /// Why something failed that was about the other side: what that has said if it has gone, or else `error`.
    pub(super) fn cause(&self, error: Error) -> Error {
        match self.last_words() {
            Ok(said) => said.unwrap_or(error),
            Err(unheard) => Error::new(error.kind(), format!("{error}; why cannot be heard: {unheard}")),
        }
    }

    /// Why the other side has gone, when it said so. Nothing is waited for.
    ///
    /// # Errors
    /// When that cannot be heard.
    fn last_words(&self) -> Result<Option<Error>> {
        let mut bytes = vec![0; BYTES_MAX + 1];
        while self.has_word() {
            let (len, _) = receive(&self.socket, &mut bytes)?;
            match bytes.get(..len).and_then(<[u8]>::split_first) {
                None => break,
                Some((&FAILED, body)) => return Ok(json::read(body).ok()),
                Some(_) => {}
            }
        }
        Ok(None)
    }

    /// Hears the next thing; waits for it.
    ///
    /// # Errors
    /// The kernel's refusal; a phase out of order; nothing within the time of [`Sync::wait_at_most`].
    pub fn hear(&mut self) -> Result<Heard> {
        self.wait_for(PollFlags::IN, "said nothing")?;
        if self.bytes.is_empty() {
            // Once for all: a new one for each word would take new pages each time (`tinyd_sys::heap`). Zeroes that nobody has to write.
            self.bytes = vec![0; BYTES_MAX + 1];
        }
        let (len, fds) = receive(&self.socket, &mut self.bytes)?;
        let Some((&kind, body)) = self.bytes.get(..len).and_then(<[u8]>::split_first) else {
            return Ok(Heard::Closed);
        };
        if kind == FAILED {
            let told = json::read(body);
            return Ok(Heard::Failed(
                told.unwrap_or_else(|_| Error::new(Kind::Internal, "a failure that cannot be read")),
            ));
        }
        let phase = Phase::from_byte(kind);
        let phase =
            phase.ok_or_else(|| Error::new(Kind::Internal, format!("sync message {kind} is unknown")))?;
        advance(&mut self.last, phase)?;
        Ok(Heard::Phase(phase, body.to_vec(), fds))
    }

    /// Waits until the other side has closed, but no longer than for a word. What it says before that stays to be heard. Saying it wakes
    /// nobody then: that costs the one who does so on another CPU more than all the rest of the message.
    pub(super) fn wait_for_close(&self) {
        // Of a hang-up poll(2) tells unasked. Whatever else there is to tell is told when the next word is waited for.
        let _ = self.is_there(PollFlags::empty());
    }

    /// Whether there is something to hear already.
    pub(crate) fn has_word(&self) -> bool {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&self.socket, PollFlags::IN)], Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Waits until there is something to hear, or room to say something; `missing` is what the other side did meanwhile where there is not.
    fn wait_for(&self, what: PollFlags, missing: &str) -> Result<()> {
        let Some(patience) = self.patience else { return Ok(()) };
        if self.is_there(what).map_err(|error| kernel("poll(sync)", &error))? {
            return Ok(());
        }
        let last = self.last.map_or_else(|| "nothing".to_owned(), |phase| format!("{phase:?}"));
        let secs = patience.as_secs();
        let message = format!("the process {missing} for {secs} seconds; the last word was {last}");
        Err(Error::new(Kind::Internal, message))
    }

    /// Whether something has come within the time of [`Sync::wait_at_most`].
    fn is_there(&self, what: PollFlags) -> rustix::io::Result<bool> {
        let deadline = self.patience.map(|patience| Instant::now() + patience);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left
                .map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
            match poll(&mut [PollFd::new(&self.socket, what)], timeout.as_ref()) {
                Err(Errno::INTR) => {}
                ready => return ready.map(|count| count > 0),
            }
        }
    }

    /// Checks that the other side is still there.
    ///
    /// # Errors
    /// `Internal` when it has gone.
    pub fn require_peer(&self) -> Result<()> {
        let mut byte = [0];
        match rustix::net::recv(&self.socket, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(rustix::io::Errno::AGAIN) => Ok(()),
            Ok((len, _)) if len > 0 => Ok(()),
            Ok(_) | Err(_) => Err(Error::new(Kind::Internal, "the caller has ended")),
        }
    }

    /// Hears `phase` and nothing else.
    ///
    /// # Errors
    /// What the other side could not do; `Internal` when it is gone or says something else.
    pub fn hear_phase(&mut self, wanted: Phase) -> Result<(Vec<u8>, Vec<OwnedFd>)> {
        match self.hear()? {
            Heard::Phase(phase, body, fds) if phase == wanted => Ok((body, fds)),
            Heard::Phase(phase, ..) => {
                Err(Error::new(Kind::Internal, format!("{phase:?} was said instead of {wanted:?}")))
            }
            Heard::Failed(error) => Err(error),
            Heard::Closed => {
                Err(Error::new(Kind::Internal, format!("the other side ended before it said {wanted:?}")))
            }
        }
    }
}

fn receive(socket: &OwnedFd, bytes: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut parts = [IoSliceMut::new(bytes)];
        match rustix::net::recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            // The other side has gone with something of ours unread. That is told once; what it had said before comes next.
            Err(rustix::io::Errno::CONNRESET) => {}
            done => break done.map_err(|error| kernel("recvmsg(sync)", &error))?,
        }
    };
    if got.flags.contains(ReturnFlags::CTRUNC) {
        return Err(Error::new(
            Kind::Exhausted,
            "recvmsg(sync): not all descriptors that were sent can be had",
        ));
    }
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            fds.extend(some);
        }
    }
    Ok((got.bytes, fds))
}

impl AsFd for Sync {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_come_in_order() {
        let (mut ours, mut theirs) = Sync::pair().unwrap();
        ours.say(Phase::Go, b"", &[]).unwrap();
        theirs.hear_phase(Phase::Go).unwrap();
        assert!(theirs.say(Phase::Ready, b"", &[]).unwrap_err().message().contains("Ready was said after"));
    }

    #[test]
    fn descriptors_and_failures_arrive() {
        let (mut ours, mut theirs) = Sync::pair().unwrap();
        let fds = vec![theirs.as_fd(); 300];
        ours.say(Phase::Mapped, b"x", &fds).unwrap();
        let (body, first) = theirs.hear_phase(Phase::Mapped).unwrap();
        let (_, second) = theirs.hear_phase(Phase::Mapped).unwrap();
        assert_eq!((body.as_slice(), first.len() + second.len()), (&b"x"[..], 300));
        ours.say_failed(&Error::new(Kind::CommandNotFound, "nope"));
        let Heard::Failed(error) = theirs.hear().unwrap() else { panic!() };
        assert_eq!(error.kind(), Kind::CommandNotFound);
        drop(ours);
        assert!(matches!(theirs.hear().unwrap(), Heard::Closed));
    }

    #[test]
    fn last_words_are_heard_whoever_speaks_first() {
        let failure = || Error::new(Kind::CommandNotFound, "nope");
        // Gone with a message of ours unread.
        let (mut ours, mut theirs) = Sync::pair().unwrap();
        ours.say(Phase::Mapped, b"", &[]).unwrap();
        theirs.say_failed(&failure());
        drop(theirs);
        assert_eq!(ours.hear_phase(Phase::Ready).unwrap_err(), failure());
        // Gone before we spoke.
        let (mut ours, mut theirs) = Sync::pair().unwrap();
        theirs.say_failed(&failure());
        drop(theirs);
        assert_eq!(ours.say(Phase::Mapped, b"", &[]).unwrap_err(), failure());
    }

    #[test]
    fn nobody_waits_for_ever_for_one_who_says_nothing() {
        let (mut ours, _theirs) = Sync::pair().unwrap();
        ours.say(Phase::Mapped, b"", &[]).unwrap();
        ours.wait_at_most(Duration::from_millis(10));
        let error = ours.hear_phase(Phase::Ready).unwrap_err();
        assert!(error.message().contains("the last word was Mapped"), "{error}");
    }

    #[test]
    fn nobody_waits_for_ever_for_one_who_takes_nothing() {
        let (mut ours, mut theirs) = Sync::pair().unwrap();
        ours.wait_at_most(Duration::from_millis(10));
        let mut said = (0..100_000).map(|_| ours.say(Phase::Mapped, b"x", &[]));
        let error = said.find_map(Result::err).unwrap();
        assert!(error.message().contains("took nothing for"), "{error}");
        // As soon as there is room.
        ours.wait_at_most(Duration::from_secs(1000));
        std::thread::scope(|scope| {
            let said = scope.spawn(|| ours.say(Phase::Ready, b"", &[]));
            while !said.is_finished() {
                theirs.hear().unwrap();
            }
            said.join().unwrap().unwrap();
        });
    }

    #[test]
    fn what_is_said_before_the_end_waits_for_it() {
        let (mut ours, mut theirs) = Sync::pair().unwrap();
        theirs.say(Phase::Ready, b"told", &[]).unwrap();
        ours.wait_at_most(Duration::from_millis(10));
        // A word is no end; who does not come to one is heard all the same.
        let begun = Instant::now();
        ours.wait_for_close();
        assert!(begun.elapsed() >= Duration::from_millis(10));
        ours.wait_at_most(Duration::from_secs(1000));
        drop(theirs);
        ours.wait_for_close();
        assert_eq!(ours.hear_phase(Phase::Ready).unwrap().0, b"told");
        assert!(matches!(ours.hear().unwrap(), Heard::Closed));
    }

    #[test]
    fn a_failure_that_is_too_long_is_cut() {
        let (mut ours, mut theirs) = Sync::pair().unwrap();
        ours.say_failed(&Error::new(Kind::Internal, "\u{1}".repeat(100_000)));
        assert!(matches!(theirs.hear().unwrap(), Heard::Failed(_)));
    }
}
