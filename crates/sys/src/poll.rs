//! Waiting for one of many things: epoll, and the end of children as a descriptor.
//!
//! Readiness is a hint: whoever is woken asks the kernel with a non-blocking call and believes only that answer.

#![expect(unsafe_code, reason = "signalfd has no safe wrapper")]

use std::{
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
    time::Duration,
};

use rustix::{
    event::{Timespec, epoll},
    io::Errno,
};

use crate::{Ask, Error, Result};

/// What a descriptor is watched for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    /// Bytes, connections, an end.
    pub read: bool,
    /// Room.
    pub write: bool,
    /// The other end gone. Always part of the other two.
    pub hangup: bool,
    /// A change of a kernel's file that tells of its changes (`EPOLLPRI`).
    pub change: bool,
}

/// Something that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// The token of its [`Watch`].
    pub token: u64,
    /// The other end has closed, or the connection has failed.
    pub gone: bool,
}

impl Interest {
    /// Nothing: the descriptor is not watched at all, so that a hang-up wakes nobody either.
    pub const NONE: Interest = Interest { read: false, write: false, hangup: false, change: false };
    /// Only that the other end is gone; see [`Ready::gone`].
    pub const HANGUP: Interest = Interest { hangup: true, ..Interest::NONE };
    /// Reading.
    pub const READ: Interest = Interest { read: true, ..Interest::NONE };
    /// Writing.
    pub const WRITE: Interest = Interest { write: true, ..Interest::NONE };
    /// Changes of a kernel's file. Who is woken reads it again: it is ready until then.
    pub const CHANGE: Interest = Interest { change: true, ..Interest::NONE };

    fn flags(self) -> epoll::EventFlags {
        let mut flags = epoll::EventFlags::empty();
        flags.set(epoll::EventFlags::IN, self.read);
        flags.set(epoll::EventFlags::RDHUP, self.hangup);
        flags.set(epoll::EventFlags::OUT, self.write);
        flags.set(epoll::EventFlags::PRI, self.change);
        flags
    }
}

/// An epoll instance, level-triggered.
#[derive(Debug)]
pub struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    /// Makes one.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<Poll> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).ask("epoll_create1")?;
        Ok(Poll { epoll })
    }

    /// Waits until something that is watched is ready or the time is over, and puts what is ready into
    /// `ready` (emptied first; at most 32 at a time).
    ///
    /// # Errors
    /// None that a correct caller sees; an interrupted call comes back with nothing ready.
    pub fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<()> {
        ready.clear();
        let timeout = timeout.map(|time| Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: time.subsec_nanos().into(),
        });
        let mut events = [MaybeUninit::uninit(); 32];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => {
                let gone = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
                ready.extend(
                    events.iter().map(|event| Ready {
                        token: event.data.u64(),
                        gone: { event.flags }.intersects(gone),
                    }),
                );
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Error::new("epoll_wait", error)),
        }
    }

    /// Changes what `fd` is watched for from what `watch` remembers to `interest`. No call when that is the same.
    ///
    /// # Errors
    /// EPERM for a descriptor that cannot be polled (a regular file), ENOMEM, ENOSPC.
    pub fn set(&self, watch: &mut Watch, fd: BorrowedFd<'_>, interest: Interest) -> Result<()> {
        if watch.interest == interest {
            return Ok(());
        }
        let data = epoll::EventData::new_u64(watch.token);
        let flags = interest.flags();
        match (watch.interest == Interest::NONE, interest == Interest::NONE) {
            (true, _) => epoll::add(&self.epoll, fd, data, flags).ask("epoll_ctl(ADD)")?,
            (false, true) => epoll::delete(&self.epoll, fd).ask("epoll_ctl(DEL)")?,
            (false, false) => epoll::modify(&self.epoll, fd, data, flags).ask("epoll_ctl(MOD)")?,
        }
        watch.interest = interest;
        Ok(())
    }
}

/// What one descriptor is watched for at present. Closing the descriptor ends the watch, when no copy of it is open.
#[derive(Debug)]
pub struct Watch {
    token: u64,
    interest: Interest,
}

impl Watch {
    /// Not watched yet; `token` is what [`Poll::wait`] will tell.
    #[must_use]
    pub const fn new(token: u64) -> Watch {
        Watch { token, interest: Interest::NONE }
    }

    /// What it is watched for.
    #[must_use]
    pub const fn interest(&self) -> Interest {
        self.interest
    }
}

/// A descriptor that is readable when a child has ended.
///
/// SIGCHLD stays blocked in the caller for good: what it executes must unblock its signals.
#[derive(Debug)]
pub struct ChildEnds {
    signals: OwnedFd,
}

impl ChildEnds {
    /// Blocks SIGCHLD and has it told by descriptor.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOMEM.
    pub fn new() -> Result<ChildEnds> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises what it is given.
        unsafe { libc::sigemptyset(set.as_mut_ptr()) };
        // SAFETY: initialised one line above.
        let mut set = unsafe { set.assume_init() };
        // SAFETY: `set` is an initialised signal set and SIGCHLD a signal.
        unsafe { libc::sigaddset(&raw mut set, libc::SIGCHLD) };
        // SAFETY: `set` is initialised; the old mask is not asked for.
        unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut()) };
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd == -1 {
            return Err(Error::last("signalfd(SIGCHLD)"));
        }
        // SAFETY: signalfd succeeded, so this is a new descriptor that nobody else owns.
        Ok(ChildEnds { signals: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Takes what has been told so far. To be called before the children are reaped, so that no end is missed.
    pub fn clear(&self) {
        let mut told = [0u8; size_of::<libc::signalfd_siginfo>() * 4];
        while rustix::io::read(&self.signals, &mut told).is_ok_and(|len| len == told.len()) {}
    }
}

impl AsFd for ChildEnds {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

/// Ignores signal `number` from here on. What the caller executes inherits that unless it resets its signals.
pub fn ignore_signal(number: i32) {
    // SAFETY: SIG_IGN for any signal; those that cannot be ignored are refused with EINVAL.
    unsafe { libc::signal(number, libc::SIG_IGN) };
}

/// Makes descriptor `number` a copy of `fd`, closing what it was; it outlives an exec. For standard streams.
///
/// # Errors
/// EBUSY and EMFILE as the manual says.
pub fn put_at(fd: BorrowedFd<'_>, number: i32) -> Result<()> {
    // SAFETY: takes two numbers. `number` is a standard stream, which no `OwnedFd` owns (the caller's part).
    let done = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    if done == -1 { Err(Error::last(format_args!("dup2({}, {number})", fd.as_raw_fd()))) } else { Ok(()) }
}

/// Makes reads and writes of `fd` return EAGAIN where they would wait.
///
/// # Errors
/// None that the kernel documents for an open descriptor.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    rustix::io::ioctl_fionbio(fd, true).ask(format_args!("ioctl({}, FIONBIO)", fd.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_what_is_watched_is_told() {
        let poll = Poll::new().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let (mut read, mut write) = (Watch::new(7), Watch::new(8));
        let mut ready = vec![Ready { token: 99, gone: false }];
        poll.set(&mut read, reader.as_fd(), Interest::READ).unwrap();
        poll.wait(&mut ready, Some(Duration::ZERO)).unwrap();
        assert!(ready.is_empty());

        poll.set(&mut write, writer.as_fd(), Interest::WRITE).unwrap();
        poll.wait(&mut ready, None).unwrap();
        assert_eq!(ready, [Ready { token: 8, gone: false }]);

        (&writer).write_all(b"x").unwrap();
        poll.set(&mut write, writer.as_fd(), Interest::NONE).unwrap();
        poll.wait(&mut ready, None).unwrap();
        assert_eq!(ready, [Ready { token: 7, gone: false }]);

        // Without interest not even a hang-up wakes.
        poll.set(&mut read, reader.as_fd(), Interest::NONE).unwrap();
        drop(writer);
        poll.wait(&mut ready, Some(Duration::from_millis(1))).unwrap();
        assert!(ready.is_empty());

        poll.set(&mut read, reader.as_fd(), Interest::HANGUP).unwrap();
        poll.wait(&mut ready, None).unwrap();
        assert_eq!(ready, [Ready { token: 7, gone: true }]);
    }
}
