//! `tinyrun shim`: the supervisor of one container. It is the parent of the container's processes, holds their streams, writes the
//! log, records the exit status on disk before it tells anyone, and takes everything down, with or without a daemon.
//!
//! One thread, one epoll loop: wait, do what is ready, say what it is to wait for next. Nothing here waits for a client. It never looks
//! at a container that is not its own, and there is no configuration but the plan.

mod client;
mod container;
mod end;
mod exec;
mod forward;
mod frame;
mod log;
mod memory;
mod serve;
mod setup;
mod slab;
mod streams;
mod token;

use std::{
    fmt,
    io::Write,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use client::Client;
use container::Container;
use forward::Forwards;
use frame::Filled;
use memory::Memory;
use setup::Before;
use slab::Slab;
use tinyd_core::State;
use tinyd_sys::{
    Result,
    poll::{ChildEnds, Interest, Poll, Ready, Watch},
    socket,
};
use token::{Of, parts, token};

/// How long a shim without a container waits for a client: a daemon that died before Create leaves nothing.
const UNUSED_MAX: Duration = Duration::from_secs(10);
/// How long a shim whose container has ended waits for its clients to read.
const LINGER: Duration = Duration::from_secs(2);
/// How long no connection is accepted after descriptors ran out.
const BACK_OFF: Duration = Duration::from_millis(100);
/// How long nothing has happened when memory is given back.
const REST: Duration = Duration::from_millis(300);
/// How many connections there may be.
const CLIENTS_MAX: usize = 512;

/// Serves on the listening socket that is standard input until the container has ended; the exit status.
#[must_use]
pub fn main() -> u8 {
    let ran = setup::become_supervisor().and_then(Shim::new).and_then(Shim::run);
    match ran {
        Ok(()) => 0,
        Err(error) => {
            note(tinyd_core::error::chain(&error));
            1
        }
    }
}

/// Says something on standard error, which may lead nowhere.
fn note(what: impl fmt::Display) {
    let _ = writeln!(std::io::stderr(), "tinyrun shim: {what}");
}

/// The supervisor.
#[derive(Debug)]
struct Shim {
    poll: Poll,
    listener: OwnedFd,
    /// See [`Before`].
    oom_score_adj: Option<i32>,
    listening: Watch,
    children: ChildEnds,
    clients: Slab<Client>,
    container: Option<Container>,
    forwards: Forwards,
    memory: Memory,
    /// The last state, once the container has ended.
    ended: Option<State>,
    /// The state that those who watch know, and whether they know of a process killed for memory.
    told: (Option<State>, bool),
    /// When the shim ends at the latest, once nothing is left to do.
    over_at: Option<Instant>,
    /// Since when there is neither a container nor a client.
    unused_since: Instant,
    accept_again_at: Option<Instant>,
    told_of_rest: bool,
    /// When nothing will have happened for a while.
    rest_at: Option<Instant>,
}

impl Shim {
    fn new(before: Before) -> Result<Shim> {
        let poll = Poll::new()?;
        let children = ChildEnds::new()?;
        poll.set(&mut Watch::new(token(Of::Children, 0)), children.as_fd(), Interest::READ)?;
        Ok(Shim {
            poll,
            listener: before.listener,
            oom_score_adj: before.oom_score_adj,
            listening: Watch::new(token(Of::Listener, 0)),
            children,
            clients: Slab::default(),
            container: None,
            forwards: Forwards::default(),
            memory: Memory::default(),
            ended: None,
            told: (None, false),
            over_at: None,
            unused_since: Instant::now(),
            accept_again_at: None,
            told_of_rest: false,
            rest_at: None,
        })
    }

    fn run(mut self) -> Result<()> {
        let mut ready = Vec::new();
        while !self.is_finished(Instant::now()) {
            self.watch_all()?;
            let rests = self.takes_rest(Instant::now());
            let timeout = self.wait_for(Instant::now());
            if rests {
                // The last thing before the wait: every page that is touched after it is there again.
                tinyd_sys::memory::give_back();
            }
            self.poll.wait(&mut ready, timeout)?;
            if !ready.is_empty() {
                self.rest_at = Some(Instant::now() + REST);
            }
            for one in &ready {
                self.wake(*one);
            }
            // New connections come last: what was ready above cannot be mistaken for theirs.
            if ready.iter().any(|one| one.token == token(Of::Listener, 0)) {
                self.accept();
            }
            self.on_time(Instant::now());
            self.settle();
        }
        Ok(())
    }

    fn wake(&mut self, one: Ready) {
        match parts(one.token) {
            Some((Of::Children, _)) => self.reap(),
            Some((Of::Output, index)) => {
                if let Some(container) = &mut self.container {
                    container.streams.copy_output(index, &mut self.clients);
                }
            }
            Some((Of::Input, _)) => {
                if let Some(container) = &mut self.container {
                    container.streams.write_input();
                }
            }
            Some((Of::Memory, _)) => {
                if let Some(container) = &self.container {
                    self.memory.wake(&container.prepared.cgroup);
                    self.tell_state();
                }
            }
            Some((Of::Client, index)) => self.hear(index, one.gone),
            Some((Of::Exec, index)) => self.hear_exec(index),
            Some((of @ (Of::Port | Of::Outer | Of::Inner | Of::Flow), index)) => {
                self.forwards.wake(&self.poll, of, index);
            }
            Some((Of::Listener, _)) | None => {}
        }
    }

    /// Reads and writes what a client's socket has for us, or room for.
    fn hear(&mut self, index: usize, gone: bool) {
        let input_full = self.input_is_full();
        let Some(client) = self.clients.get_mut(index) else { return };
        client.flush();
        if !client.may_go_on(input_full) {
            // It is not read now, so its end would not be seen by reading.
            if gone {
                client.lose();
            }
            return;
        }
        match client.fill() {
            Ok(Filled::Some) => self.serve(index),
            Ok(Filled::Nothing) => {}
            Ok(Filled::End) | Err(_) => client.lose(),
        }
    }

    fn input_is_full(&self) -> bool {
        self.container.as_ref().is_some_and(|container| container.streams.input_full())
    }

    fn accept(&mut self) {
        match socket::accept(self.listener.as_fd()) {
            Ok(Some(socket)) if may_connect(&socket) => {
                let token = token(Of::Client, self.clients.next_index());
                self.clients.insert(Client::new(socket, token));
            }
            Ok(_) => {}
            Err(error) => {
                // Told once: it may go on for long, ten times a second.
                if !std::mem::replace(&mut self.told_of_rest, true) {
                    note(format_args!("clients wait: {}", tinyd_core::error::chain(&error)));
                }
                self.accept_again_at = Some(Instant::now() + BACK_OFF);
            }
        }
    }

    /// Goes on with what waited, and forgets who is gone.
    fn settle(&mut self) {
        let waiting: Vec<usize> =
            self.clients.iter_mut().filter(|(_, c)| c.inbox.has_more()).map(|(index, _)| index).collect();
        for index in waiting {
            self.serve(index);
        }
        self.clients.retain(|client| !client.is_over());
        if self.container.is_some() || self.clients.len() > 0 {
            self.unused_since = Instant::now();
        }
    }

    fn watch_all(&mut self) -> Result<()> {
        let open = self.accept_again_at.is_none() && self.clients.len() < CLIENTS_MAX;
        let interest = if open { Interest::READ } else { Interest::NONE };
        self.poll.set(&mut self.listening, self.listener.as_fd(), interest)?;
        let input_full = self.input_is_full();
        let behind = self.clients.iter().any(|client| client.is_attached() && client.is_behind());
        for (_, client) in self.clients.iter_mut() {
            client.watch(&self.poll, input_full)?;
        }
        match &mut self.container {
            Some(container) => container.streams.watch(&self.poll, behind),
            None => Ok(()),
        }
    }

    /// Begins to forward ports: the program runs.
    fn open_ports(&mut self) {
        if let Some(container) = &mut self.container {
            self.forwards = Forwards::open(&self.poll, std::mem::take(&mut container.ports));
        }
    }

    fn wait_for(&self, now: Instant) -> Option<Duration> {
        let unused = self.unused_since + UNUSED_MAX;
        let is_unused = self.container.is_none() && self.clients.len() == 0;
        [
            self.over_at,
            self.accept_again_at,
            self.rest_at,
            is_unused.then_some(unused),
            self.container.as_ref().and_then(|container| container.streams.quiet_at()),
            self.forwards.due_at(),
            self.memory.due_at(),
            self.clients.iter().filter_map(|client| Some(client.starting.as_ref()?.until())).min(),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(|at| at.saturating_duration_since(now))
    }

    fn on_time(&mut self, now: Instant) {
        self.accept_again_at = self.accept_again_at.filter(|at| *at > now);
        self.forwards.on_time(&self.poll, now);
        self.give_up_execs(now);
        if let Some(container) = &mut self.container {
            container.streams.on_quiet(now);
            self.memory.on_time(&container.prepared.cgroup, now);
        }
        self.tell_state();
    }

    /// Whether nothing has happened for a while; once for each while.
    fn takes_rest(&mut self, now: Instant) -> bool {
        self.rest_at.take_if(|at| *at <= now).is_some()
    }

    fn is_finished(&self, now: Instant) -> bool {
        match self.over_at {
            Some(at) => at <= now || !self.clients.iter().any(Client::is_behind),
            None => {
                let unused = self.container.is_none() && self.clients.len() == 0;
                unused && self.unused_since + UNUSED_MAX <= now
            }
        }
    }
}

/// Root, and whoever the shim runs as.
fn may_connect(socket: &OwnedFd) -> bool {
    let us = rustix::process::geteuid().as_raw();
    socket::peer_uid(socket.as_fd()).is_ok_and(|uid| uid == 0 || uid == us)
}
