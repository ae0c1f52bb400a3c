//! What each request does. A request is answered before the next one of its connection is looked at.

use std::os::fd::OwnedFd;

use tinyd_core::{
    Error, Kind, Result, State,
    wire::{Message, Plan, Request, Status, VERSION},
};

use super::{
    Shim,
    client::Role,
    container::{Container, wrong},
    frame::Frame,
    memory::Memory,
};

impl Shim {
    /// Uses the frames that client `index` has sent, as far as they may be used now.
    pub(super) fn serve(&mut self, index: usize) {
        loop {
            let input_full = self.input_is_full();
            let Some(client) = self.clients.get_mut(index) else { return };
            if !client.may_go_on(input_full) {
                return;
            }
            match client.inbox.next() {
                Ok(Some(frame)) => self.take(index, frame),
                Ok(None) => return,
                Err(broken) => {
                    client.say(&Message::Failed(Error::new(Kind::InvalidArgument, broken.to_string())));
                    client.closing = true;
                }
            }
        }
    }

    fn take(&mut self, index: usize, frame: Frame) {
        let Some(role) = self.clients.get_mut(index).map(|client| client.role) else { return };
        match (frame, role) {
            (Frame::Request(Request::Resize { rows, cols }), Role::Attached { .. }) => {
                // Nobody waits for an answer; a size that comes too late is no error.
                let _ = self.resize(rows, cols);
            }
            (Frame::Request(request), Role::Commands) => {
                self.obey(index, request);
                if let Some(client) = self.clients.get_mut(index) {
                    client.inbox.drop_unclaimed_fds();
                }
            }
            (Frame::Stdin(bytes), Role::Attached { stdin: true }) => {
                if let Some(container) = &mut self.container {
                    container.streams.add_input(bytes);
                }
            }
            (Frame::StdinEnd, Role::Attached { stdin: true }) => {
                if let Some(container) = &mut self.container {
                    container.streams.end_input();
                }
            }
            (Frame::Stdin(_) | Frame::StdinEnd, _) => {}
            (Frame::Request(_), Role::Attached { .. } | Role::Watching) => {
                let message = "this connection has become a stream and takes no requests";
                self.say(index, &Message::Failed(Error::new(Kind::WrongState, message)));
            }
        }
    }

    fn obey(&mut self, index: usize, request: Request) {
        let answer = match request {
            Request::Create(plan) => return self.create(index, *plan),
            Request::Start => return self.start(index),
            Request::Exec(plan) => return self.exec(index, *plan),
            Request::SignalExec { number } => return self.signal_exec(index, number),
            Request::Destroy => return self.destroy(index),
            Request::Attach { stdin } => self.attach(index, stdin),
            Request::Watch => Ok(self.watch(index)),
            Request::Status => Ok(Message::Status(self.status())),
            Request::Signal { number } => done(self.alive("signal").and_then(|c| c.signal(number))),
            Request::KillAll => done(self.alive("kill").and_then(|c| c.prepared.cgroup.kill_all())),
            Request::Pause => done(self.alive("pause").and_then(Container::pause)),
            Request::Resume => done(self.alive("resume").and_then(Container::resume)),
            Request::Resize { rows, cols } => done(self.resize(rows, cols)),
            Request::Processes => self
                .alive("list the processes of")
                .and_then(|container| container.prepared.cgroup.pids())
                .map(|pids| Message::Processes { pids }),
        };
        self.say(index, &answer.unwrap_or_else(Message::Failed));
        self.tell_state();
    }

    fn create(&mut self, index: usize, mut plan: Plan) {
        if let Some(process) = &mut plan.spec.process {
            process.oom_score_adj = process.oom_score_adj.or(self.oom_score_adj);
        }
        let created = self.check_create(index, &plan).and_then(|sockets| Container::create(plan, sockets));
        match created {
            Ok(mut container) => {
                self.memory = Memory::watch(&self.poll, &container.prepared.cgroup);
                let (message, fds) = container.created();
                self.container = Some(container);
                if let Some(client) = self.clients.get_mut(index) {
                    client.say_with(&message, fds);
                }
                self.tell_state();
            }
            Err(error) => {
                self.say(index, &Message::Failed(error));
                // A second Create must not end the container of the first.
                if self.container.is_none() {
                    self.end(None);
                }
            }
        }
    }

    fn check_create(&mut self, index: usize, plan: &Plan) -> Result<Vec<OwnedFd>> {
        if let Some(state) = self.state() {
            return Err(wrong("create again", state));
        }
        self.take_fds(index, plan.forwards.len())
    }

    pub(super) fn take_fds(&mut self, index: usize, count: usize) -> Result<Vec<OwnedFd>> {
        let fds = self.clients.get_mut(index).and_then(|client| client.inbox.take_fds(count));
        let short =
            || Error::new(Kind::InvalidArgument, format!("{count} descriptors belong to this request"));
        fds.ok_or_else(short)
    }

    fn start(&mut self, index: usize) {
        let started = self.alive("start").and_then(Container::start);
        match started {
            Ok(at_unix_nanos) => {
                self.say(index, &Message::Started { at_unix_nanos });
                self.tell_state();
                self.open_ports();
            }
            Err(error) => {
                let created = self.state() == Some(State::Created);
                let left = if created { self.take_down().err() } else { None };
                let error = match left {
                    Some(left) => Error::new(error.kind(), format!("{error}; and then: {left}")),
                    None => error,
                };
                self.say(index, &Message::Failed(error));
                if created {
                    self.end(None);
                }
            }
        }
    }

    fn attach(&mut self, index: usize, stdin: bool) -> Result<Message> {
        self.alive("attach to")?;
        if let Some(client) = self.clients.get_mut(index) {
            client.role = Role::Attached { stdin };
        }
        Ok(Message::Done)
    }

    fn watch(&mut self, index: usize) -> Message {
        if let Some(client) = self.clients.get_mut(index) {
            client.role = Role::Watching;
        }
        Message::Status(self.status())
    }

    /// Kills what runs and takes it down. A container that runs ends as it always does; the answer comes after that.
    fn destroy(&mut self, index: usize) {
        let state = self.state();
        let answer = match state {
            Some(State::Running { .. } | State::Paused { .. }) => {
                let killed = self.alive("destroy").and_then(|container| container.prepared.cgroup.kill_all());
                match killed {
                    Ok(()) => {
                        if let Some(client) = self.clients.get_mut(index) {
                            client.destroying = true;
                        }
                        return;
                    }
                    Err(error) => Err(error),
                }
            }
            Some(State::Created) => self.take_down(),
            Some(State::Stopped { .. }) | None => Ok(()),
        };
        self.say(index, &answer.map_or_else(Message::Failed, |()| Message::Done));
        if state == Some(State::Created) || state.is_none() {
            self.end(None);
        }
    }

    /// Takes away a container that has not started.
    pub(super) fn take_down(&mut self) -> Result<()> {
        self.container.take().map_or(Ok(()), Container::take_down)
    }

    fn resize(&mut self, rows: u16, cols: u16) -> Result<()> {
        self.alive("resize")?.streams.resize(rows, cols)
    }

    /// The container, unless there is none yet or no more.
    pub(super) fn alive(&mut self, verb: &str) -> Result<&mut Container> {
        match (&mut self.container, &self.ended) {
            (Some(container), _) => Ok(container),
            (None, Some(state)) => Err(wrong(verb, *state)),
            (None, None) => {
                Err(Error::new(Kind::WrongState, format!("cannot {verb} a container that is not created")))
            }
        }
    }

    /// Where the container is; `None` when there is none yet, or it ended without having run.
    fn state(&self) -> Option<State> {
        self.container.as_ref().map(|container| container.state).or(self.ended)
    }

    fn status(&self) -> Status {
        let oom = match (&self.container, self.ended) {
            (Some(container), _) => container.has_oom(),
            (None, Some(State::Stopped { exit, .. })) => exit.oom,
            (None, _) => false,
        };
        Status { version: VERSION, state: self.state(), oom }
    }

    pub(super) fn say(&mut self, index: usize, message: &Message) {
        if let Some(client) = self.clients.get_mut(index) {
            client.say(message);
        }
    }

    /// Tells those who watch, when the state is another than they know.
    pub(super) fn tell_state(&mut self) {
        let news = (self.state(), self.memory.oom);
        if news == self.told {
            return;
        }
        self.told = news;
        let message = Message::Status(self.status());
        for (_, client) in self.clients.iter_mut().filter(|(_, client)| client.role == Role::Watching) {
            client.say(&message);
        }
    }
}

fn done(result: Result<()>) -> Result<Message> {
    result.map(|()| Message::Done)
}
