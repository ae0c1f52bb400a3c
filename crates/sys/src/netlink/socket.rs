//! The socket: sends requests, waits for what the kernel says to each.

use std::{
    io,
    mem::size_of,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::{
    message::Messages,
    parse::{Message, Reply, Verdict, messages},
};
use crate::{Ask, Error, Result};

/// How long the kernel may take to answer. It answers before `send` returns, so this is for the day it does not.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The kernel fills at most 32 KiB at once in a dump.
const RECEIVE_BYTES: usize = 32 << 10;
/// Room for an nftables transaction of tens of thousands of elements, which goes as one datagram.
const SEND_BUFFER_BYTES: usize = 32 << 20;
/// How often an interrupted dump is asked for again.
const DUMP_TRIES: u32 = 10;

/// Which part of the kernel to talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes: `NETLINK_ROUTE`.
    Route,
    /// nftables, conntrack: `NETLINK_NETFILTER`.
    Netfilter,
}

/// A netlink socket. It belongs to the network namespace it was made in.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel has no such family, or no descriptor is left.
    pub fn open(family: Family) -> Result<Socket> {
        let (protocol, name) = match family {
            // Protocol 0.
            Family::Route => (None, "NETLINK_ROUTE"),
            Family::Netfilter => (Some(netlink::NETFILTER), "NETLINK_NETFILTER"),
        };
        let fd =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
                .ask(format_args!("socket({name})"))?;
        if family == Family::Netfilter {
            // Only large transactions need it, and they say so themselves if it cannot be had.
            let _ = sockopt::set_socket_send_buffer_size_force(&fd, SEND_BUFFER_BYTES);
        }
        Socket::from_fd(fd)
    }

    /// Takes over a netlink socket that was made somewhere else, perhaps in another network namespace.
    ///
    /// # Errors
    /// When it is not a netlink socket.
    pub fn from_fd(fd: OwnedFd) -> Result<Socket> {
        set_option(&fd, libc::NETLINK_EXT_ACK, "NETLINK_EXT_ACK")?;
        set_option(&fd, libc::NETLINK_CAP_ACK, "NETLINK_CAP_ACK")?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(TIMEOUT))
            .ask("setsockopt(SO_RCVTIMEO)")?;
        Ok(Socket { fd, sequence: 0, buffer: Vec::new() })
    }

    /// Sends messages that the kernel treats one by one, in one system call, and waits for its word on each. A later one is tried even when
    /// an earlier one is refused. The verdicts are in the order of the messages.
    ///
    /// # Errors
    /// When the talk itself breaks; then nothing is known of any message.
    pub fn exchange(&mut self, mut messages: Messages) -> Result<Vec<Result<()>>> {
        for head in &messages.heads {
            let at = head.offset + 6;
            let flags =
                u16::from_ne_bytes([messages.bytes[at], messages.bytes[at + 1]]) | libc::NLM_F_ACK as u16;
            messages.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        }
        let first = self.send(&mut messages)?;
        let mut verdicts: Vec<Option<Result<()>>> = messages.heads.iter().map(|_| None).collect();
        while verdicts.iter().any(Option::is_none) {
            let (buffer, call) = (self.receive()?, &messages.heads);
            for (index, verdict) in acknowledgements(buffer, first) {
                if let (Some(slot), Some(head)) = (verdicts.get_mut(index), call.get(index)) {
                    slot.get_or_insert(verdict.into_result(&head.call));
                }
            }
        }
        Ok(verdicts.into_iter().flatten().collect())
    }

    /// As [`Socket::exchange`]; the first refusal is the error.
    ///
    /// # Errors
    /// The kernel's first refusal, in its own words; or the talk itself broke.
    pub fn request(&mut self, messages: Messages) -> Result<()> {
        self.exchange(messages)?.into_iter().collect()
    }

    /// Sends messages that the kernel treats as one transaction (an nfnetlink batch, from `BATCH_BEGIN` to `BATCH_END`): all of it comes true
    /// or none.
    ///
    /// # Errors
    /// The first refusal, in the kernel's words; or the talk itself broke.
    pub fn transaction(&mut self, mut messages: Messages) -> Result<()> {
        let Some(last) = messages.heads.len().checked_sub(2) else { return Ok(()) };
        // The last message before BATCH_END is the one whose word says that all of them were taken.
        let at = messages.heads[last].offset + 6;
        let flags = u16::from_ne_bytes([messages.bytes[at], messages.bytes[at + 1]]) | libc::NLM_F_ACK as u16;
        messages.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
        let first = self.send(&mut messages)?;
        let verdict = self.verdict_of_all(&messages, first, last);
        if verdict.is_err() {
            self.drain();
        }
        verdict
    }

    /// The first refusal, or the last message's acknowledgement.
    fn verdict_of_all(&mut self, messages: &Messages, first: u32, last: usize) -> Result<()> {
        loop {
            for (index, verdict) in acknowledgements(self.receive()?, first) {
                let Some(head) = messages.heads.get(index) else { continue };
                verdict.into_result(&head.call)?;
                if index == last {
                    return Ok(());
                }
            }
        }
    }

    /// Forgets what the kernel has said and nobody wants to know: every refused message of a transaction has a refusal of its own.
    fn drain(&mut self) {
        while rustix::net::recv(&self.fd, &mut self.buffer[..], RecvFlags::DONTWAIT | RecvFlags::TRUNC)
            .is_ok()
        {}
    }

    /// Asks for a list (`NLM_F_DUMP` is set here). The kernel says when the list changed under its hands; then it is asked again.
    ///
    /// # Errors
    /// The kernel's refusal, in its own words; or the list never held still.
    pub fn dump(&mut self, call: &str, kind: u16, fill: impl Fn(&mut super::Body<'_>)) -> Result<Vec<Reply>> {
        for _ in 0..DUMP_TRIES {
            if let Some(replies) = self.dump_once(call, kind, &fill)? {
                return Ok(replies);
            }
        }
        Err(Error::new(call, io::Error::from_raw_os_error(libc::EINTR)))
    }

    /// Asks for one thing.
    ///
    /// # Errors
    /// The kernel's refusal, in its own words: `ENOENT`, `ENODEV` when there is no such thing.
    pub fn get(&mut self, call: &str, kind: u16, fill: impl FnOnce(&mut super::Body<'_>)) -> Result<Reply> {
        let mut request = Messages::new();
        request.add(call, kind, 0, fill);
        let first = self.send(&mut request)?;
        loop {
            let buffer = self.receive()?;
            for message in messages(buffer).filter(|message| message.sequence == first) {
                match Verdict::of(message) {
                    Some(verdict) => verdict.into_result(call)?,
                    None => return Ok(Reply { kind: message.kind, payload: message.payload.to_vec() }),
                }
            }
        }
    }

    fn dump_once(
        &mut self,
        call: &str,
        kind: u16,
        fill: impl Fn(&mut super::Body<'_>),
    ) -> Result<Option<Vec<Reply>>> {
        let mut request = Messages::new();
        request.add(call, kind, libc::NLM_F_DUMP as u16, fill);
        let first = self.send(&mut request)?;
        let (mut replies, mut interrupted) = (Vec::new(), false);
        loop {
            let buffer = self.receive()?;
            for message in messages(buffer).filter(|message| message.sequence == first) {
                interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match Verdict::of(message) {
                    None => replies.push(Reply { kind: message.kind, payload: message.payload.to_vec() }),
                    Some(verdict) => {
                        verdict.into_result(call)?;
                        return Ok((!interrupted).then_some(replies));
                    }
                }
            }
        }
    }

    /// Numbers and sends; the first number.
    fn send(&mut self, messages: &mut Messages) -> Result<u32> {
        let call =
            |messages: &Messages| messages.heads.first().map_or_else(String::new, |head| head.call.clone());
        if messages.too_long() {
            return Err(Error::new(call(messages), io::Error::from_raw_os_error(libc::EMSGSIZE)));
        }
        let first = self.sequence.wrapping_add(1);
        messages.number(first);
        self.sequence = self.sequence.wrapping_add(messages.heads.len() as u32);
        rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, &messages.bytes, SendFlags::empty()))
            .ask(format_args!("send(netlink, {})", call(messages)))?;
        Ok(first)
    }

    /// One datagram.
    fn receive(&mut self) -> Result<&[u8]> {
        self.buffer.resize(RECEIVE_BYTES, 0);
        let buffer = self.buffer.as_mut_slice();
        let (_, len) =
            rustix::io::retry_on_intr(|| rustix::net::recv(&self.fd, &mut *buffer, RecvFlags::TRUNC))
                .ask("recv(netlink)")?;
        self.buffer
            .get(..len)
            .ok_or_else(|| Error::new("recv(netlink)", io::Error::from_raw_os_error(libc::EMSGSIZE)))
    }
}

impl Verdict {
    /// The verdict that a message is, when it is one.
    fn of(message: Message<'_>) -> Option<Verdict> {
        match i32::from(message.kind) {
            libc::NLMSG_ERROR => Verdict::of_error(message),
            libc::NLMSG_DONE => Some(Verdict::of_done(message)),
            _ => None,
        }
    }

    fn into_result(self, call: &str) -> Result<()> {
        let source = match self.errno {
            0 => return Ok(()),
            errno => io::Error::from_raw_os_error(errno),
        };
        Err(match self.words {
            Some(words) => Error::new(format_args!("{call}: {words}"), source),
            None => Error::new(call, source),
        })
    }
}

/// The verdicts in a datagram, with the index of the message each is of. What belongs to an earlier exchange is left out.
fn acknowledgements(buffer: &[u8], first: u32) -> impl Iterator<Item = (usize, Verdict)> {
    messages(buffer).filter_map(move |message| {
        Some((message.sequence.wrapping_sub(first) as usize, Verdict::of(message)?))
    })
}

#[expect(unsafe_code, reason = "neither std nor rustix sets options of SOL_NETLINK")]
fn set_option(fd: impl AsFd, option: libc::c_int, name: &str) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is borrowed and so is open for the whole call; the option's value is a C int that lives on the stack
    // until after the call, and its length is given.
    let done = unsafe {
        libc::setsockopt(
            fd.as_fd().as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(Error::last(format_args!("setsockopt({name})"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct ifinfomsg` with nothing in it.
    const ANY_LINK: [u8; 16] = [0; 16];

    #[test]
    fn a_dump_of_links_has_loopback() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let links = socket.dump("RTM_GETLINK", libc::RTM_GETLINK, |body| body.fixed(&ANY_LINK)).unwrap();
        let names: Vec<_> = links
            .iter()
            .filter_map(|link| {
                link.attributes(16).find(|attr| attr.kind == libc::IFLA_IFNAME)?.text().map(str::to_owned)
            })
            .collect();
        assert!(names.contains(&"lo".to_owned()), "{names:?}");
    }

    #[test]
    fn a_refusal_names_the_call_and_says_why() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let error = socket
            .get("RTM_GETLINK(nosuchlink)", libc::RTM_GETLINK, |body| {
                body.fixed(&ANY_LINK);
                body.text(libc::IFLA_IFNAME, "nosuchlink");
            })
            .unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV));
        assert_eq!(error.call(), "RTM_GETLINK(nosuchlink)");
    }

    #[test]
    fn every_message_of_an_exchange_has_its_own_verdict_in_the_kernels_words() {
        let mut socket = Socket::open(Family::Route).unwrap();
        let mut request = Messages::new();
        for name in ["nosuchlink1", "nosuchlink2"] {
            request.add(format!("RTM_SETLINK({name})"), libc::RTM_SETLINK, 0, |body| {
                body.fixed(&ANY_LINK);
                body.text(libc::IFLA_IFNAME, name);
            });
        }
        // An attribute that is too short: the kernel says so.
        request.add("RTM_NEWADDR", libc::RTM_NEWADDR, 0, |body| {
            body.fixed(&[libc::AF_INET as u8, 24, 0, 0, 1, 0, 0, 0]);
            body.u8(libc::IFA_LOCAL, 1);
        });
        let verdicts = socket.exchange(request).unwrap();
        let calls: Vec<_> = verdicts.iter().map(|verdict| verdict.as_ref().unwrap_err().call()).collect();
        assert_eq!(calls[..2], ["RTM_SETLINK(nosuchlink1)", "RTM_SETLINK(nosuchlink2)"]);
        assert!(calls[2].starts_with("RTM_NEWADDR: "), "{calls:?}");
    }

    #[test]
    fn only_a_netlink_socket_will_do() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(Socket::from_fd(file.into()).unwrap_err().errno(), Some(libc::ENOTSOCK));
    }
}
