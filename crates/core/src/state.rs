//! A container's states and the one function that leads from one to the next.

use serde::{Deserialize, Serialize};

/// How a container's first process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// The exit status, 0 to 255; 128+n when signal n ended it.
    pub code: u8,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether the kernel killed a process of the container because its memory limit was reached.
    #[serde(default)]
    pub oom: bool,
    /// When, in nanoseconds since the epoch.
    pub at_unix_nanos: i64,
}

/// Where a container is in its life. A variant holds what exists in that state.
///
/// ```text
///            start           exit
/// Created ───────► Running ───────► Stopped
///    │              │   ▲              ▲  │
///    │        pause ▼   │ resume       │  └─ start (again) ─► Running
///    └────────────► Paused ────────────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Defined; nothing of it runs.
    Created,
    /// Its first process runs. `pid` is the host's number for it, to be shown, never to be signalled.
    Running {
        /// The first process, as the host counts.
        pid: i32,
        /// When it started, in nanoseconds since the epoch.
        since_unix_nanos: i64,
    },
    /// Frozen in its cgroup.
    Paused {
        /// The first process, as the host counts.
        pid: i32,
        /// When it started, in nanoseconds since the epoch.
        since_unix_nanos: i64,
    },
    /// Its first process has ended.
    Stopped {
        /// How it ended.
        exit: Exit,
        /// When it had started, in nanoseconds since the epoch.
        since_unix_nanos: i64,
    },
}

/// What can happen to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The shim has released its first process.
    Started {
        /// The first process, as the host counts.
        pid: i32,
        /// When, in nanoseconds since the epoch.
        at_unix_nanos: i64,
    },
    /// The cgroup is frozen.
    Paused,
    /// The cgroup runs again.
    Resumed,
    /// The first process has ended.
    Exited(Exit),
}

/// An event that does not fit the state. Both are in the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{event:?} does not fit a container that is {}", state.word())]
pub struct Denied {
    /// Where the container is.
    pub state: State,
    /// What was said to have happened.
    pub event: Event,
}

impl State {
    /// The only way from one state to the next.
    ///
    /// # Errors
    /// [`Denied`] when the event does not fit; the state stays.
    pub fn on(self, event: Event) -> Result<State, Denied> {
        match (self, event) {
            (State::Created | State::Stopped { .. }, Event::Started { pid, at_unix_nanos }) => {
                Ok(State::Running { pid, since_unix_nanos: at_unix_nanos })
            }
            (State::Running { pid, since_unix_nanos }, Event::Paused) => {
                Ok(State::Paused { pid, since_unix_nanos })
            }
            (State::Paused { pid, since_unix_nanos }, Event::Resumed) => {
                Ok(State::Running { pid, since_unix_nanos })
            }
            (
                State::Running { since_unix_nanos, .. } | State::Paused { since_unix_nanos, .. },
                Event::Exited(exit),
            ) => Ok(State::Stopped { exit, since_unix_nanos }),
            (state, event) => Err(Denied { state, event }),
        }
    }

    /// The word for it: `created`, `running`, `paused`, `stopped`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running { .. } => "running",
            State::Paused { .. } => "paused",
            State::Stopped { .. } => "stopped",
        }
    }

    /// Whether a first process exists.
    #[must_use]
    pub const fn is_alive(&self) -> bool {
        match self {
            State::Running { .. } | State::Paused { .. } => true,
            State::Created | State::Stopped { .. } => false,
        }
    }

    /// The first process, as the host counts, while there is one.
    #[must_use]
    pub const fn pid(&self) -> Option<i32> {
        match self {
            State::Running { pid, .. } | State::Paused { pid, .. } => Some(*pid),
            State::Created | State::Stopped { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn exit(code: u8) -> Exit {
        Exit { code, signal: None, oom: false, at_unix_nanos: 2 }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (1..1000i32).prop_map(|pid| Event::Started { pid, at_unix_nanos: 1 }),
            Just(Event::Paused),
            Just(Event::Resumed),
            (0..=255u8).prop_map(|code| Event::Exited(exit(code))),
        ]
    }

    proptest! {
        #[test]
        fn only_a_start_leaves_stopped(events in vec(event(), 0..40)) {
            let mut state = State::Created;
            for event in events {
                let was = state;
                state = state.on(event).unwrap_or(state);
                if matches!(was, State::Stopped { .. }) && state != was {
                    let started = matches!(event, Event::Started { .. });
                    prop_assert!(started);
                }
            }
        }

        #[test]
        fn the_pid_does_not_change_while_alive(events in vec(event(), 0..40)) {
            let mut state = State::Created;
            for event in events {
                let was = state;
                state = state.on(event).unwrap_or(state);
                if let (Some(before), Some(after)) = (was.pid(), state.pid()) {
                    prop_assert_eq!(before, after);
                }
            }
        }

        #[test]
        fn a_refusal_names_both(event in event()) {
            if let Err(denied) = State::Created.on(event) {
                prop_assert!(denied.to_string().contains("created"));
            }
        }
    }

    #[test]
    fn a_created_container_cannot_pause_or_exit() {
        assert!(State::Created.on(Event::Paused).is_err());
        assert!(State::Created.on(Event::Exited(exit(0))).is_err());
    }
}
