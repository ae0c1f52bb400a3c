//! The container's end: what is left is killed and read, the exit status is on disk before anyone is told.

use std::time::{Instant, SystemTime};

use tinyd_core::{
    Error, Event, Exit, Kind, Result, State,
    time::unix_nanos,
    wire::{EXIT_FILE, Message},
};
use tinyd_sys::{
    fs::write_atomic_volatile,
    process::{Ended, take_ended},
};

use super::{LINGER, Shim, client::Role, container::Container, forward::Forwards, memory::Memory, note};

impl Shim {
    /// Reaps what has ended: the first process, execs, orphans.
    pub(super) fn reap(&mut self) {
        self.children.clear();
        let first = self.reap_all();
        match (first, self.container.take()) {
            (Some(ended), Some(container)) if container.state.is_alive() => self.finish(container, ended),
            (Some(_), Some(container)) => {
                // It never came to its program, so there is no exit to tell: a Start that comes now is refused.
                report("take down a container whose first process ended early", container.take_down());
                self.end(None);
            }
            (_, container) => self.container = container,
        }
    }

    /// Reaps everyone; how the first process ended, when it is among them.
    fn reap_all(&mut self) -> Option<Ended> {
        let first_pid = self.container.as_ref().map(|container| container.prepared.pid);
        let mut first = None;
        while let Some((pid, ended)) = take_ended() {
            if Some(pid) == first_pid {
                first = Some(ended);
            } else {
                self.tell_exec(pid, ended);
            }
        }
        first
    }

    fn tell_exec(&mut self, pid: i32, ended: Ended) {
        for (_, client) in self.clients.iter_mut() {
            if client.exec == Some(pid) {
                client.exec = None;
                client.say(&Message::ExecExited { code: ended.code() });
            } else if let Some(pending) = &mut client.starting {
                pending.ended(pid, ended.code());
            }
        }
    }

    /// The order of the end. Each step is done even when one before has failed: all failures are in the log.
    fn finish(&mut self, mut container: Container, ended: Ended) {
        let at_unix_nanos = unix_nanos(SystemTime::now());
        self.forwards = Forwards::default();
        self.memory = Memory::default();
        // A PID namespace has ended with its first process. Without one others may be left, who would go on to write.
        if !container.has_own_pids() {
            report("kill what is left", container.prepared.cgroup.kill_all());
            self.reap_all();
        }
        container.streams.drain(&mut self.clients);
        let exit = exit(ended, container.has_oom(), at_unix_nanos);
        report("remove the cgroup", container.prepared.cgroup.remove());
        if let Some(group) = &container.prepared.rdt {
            report("remove the resctrl group", group.remove());
        }
        container.prepared.later.poststop().iter().for_each(note);
        report("write the exit status", write_exit(&container, exit));
        match container.state.on(Event::Exited(exit)) {
            Ok(state) => self.end(Some(state)),
            Err(denied) => {
                note(denied);
                self.end(None);
            }
        }
    }

    /// Tells everyone and comes to the shim's own end, which waits a little for clients to read.
    pub(super) fn end(&mut self, state: Option<State>) {
        self.ended = state;
        self.forwards = Forwards::default();
        self.tell_state();
        for (_, client) in self.clients.iter_mut() {
            if let (Some(State::Stopped { exit, .. }), Role::Attached { .. }) = (state, client.role) {
                client.say(&Message::Exited(exit));
            }
            if client.starting.take().is_some() {
                let message = "the container ended before the process got to its program";
                client.say(&Message::Failed(Error::new(Kind::WrongState, message)));
            }
            if client.destroying {
                client.say(&Message::Done);
            }
        }
        self.over_at.get_or_insert_with(|| Instant::now() + LINGER);
    }
}

fn exit(ended: Ended, oom: bool, at_unix_nanos: i64) -> Exit {
    let signal = match ended {
        Ended::Exited(_) => None,
        Ended::Signalled(number) => Some(number),
    };
    Exit { code: ended.code(), signal, oom, at_unix_nanos }
}

fn write_exit(container: &Container, exit: Exit) -> Result<()> {
    let bytes = serde_json::to_vec(&exit).map_err(|error| Error::new(Kind::Internal, error.to_string()))?;
    write_atomic_volatile(&container.run_dir.join(EXIT_FILE), &bytes).map_err(|error| Error::internal(&error))
}

fn report(what: &str, result: Result<()>) {
    if let Err(error) = result {
        note(error.context(what));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_says_how() {
        let killed = exit(Ended::Signalled(9), true, 3);
        assert_eq!((killed.code, killed.signal, killed.oom, killed.at_unix_nanos), (137, Some(9), true, 3));
        assert_eq!(exit(Ended::Exited(4), false, 3).signal, None);
    }
}
