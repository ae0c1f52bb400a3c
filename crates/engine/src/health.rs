//! The health of a container: its check is run in it from time to time, as long as it runs. The owner is told what each one found.
//! A daemon that is new begins anew: what an earlier one knew is not written down.

use std::{sync::Arc, time::Duration};

use tinyd_core::{
    State,
    config::{HealthTest, Healthcheck},
    health::{Check, Health, OUTPUT_MAX_BYTES},
};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::AbortOnDropHandle;

use crate::{
    Inner,
    api::{Attachment, ExecConfig, Input, Output},
    container::{self, Owner, now},
    exec,
    handle::Handle,
};

/// How long a command that was killed may take to end.
const KILLED_MAX: Duration = Duration::from_secs(2);
/// The exit code of a check that found out nothing.
const NO_ANSWER: i32 = -1;

impl Owner {
    /// Begins to look after the health of the present run, where that is asked for.
    pub(crate) fn doctor(&self) -> Option<AbortOnDropHandle<()>> {
        let rules = self.record.config.healthcheck.clone().filter(Healthcheck::is_on);
        self.view.send_modify(|view| view.health = rules.as_ref().map(|_| Health::default()));
        let rules = rules?;
        let handle = Handle {
            record: Arc::clone(&self.record),
            view: self.view.subscribe(),
            inbox: self.inbox.clone(),
        };
        let task = look_after(Arc::clone(&self.inner), handle, rules, self.run);
        Some(AbortOnDropHandle::new(tokio::spawn(task)))
    }

    /// A check was made.
    pub(crate) fn checked(&self, check: Check) {
        let Some(rules) = &self.record.config.healthcheck else { return };
        let Some(started) = started(self.state()) else { return };
        self.view.send_modify(|view| {
            if let Some(health) = &mut view.health {
                health.on(check, rules, started);
            }
        });
    }
}

/// When the container that is alive was started, in nanoseconds since the epoch.
fn started(state: State) -> Option<i64> {
    match state {
        State::Running { since_unix_nanos, .. } | State::Paused { since_unix_nanos, .. } => {
            Some(since_unix_nanos)
        }
        State::Created | State::Stopped { .. } => None,
    }
}

/// Checks until somebody drops this.
async fn look_after(inner: Arc<Inner>, handle: Handle, rules: Healthcheck, run: u32) {
    loop {
        let pause = {
            let view = handle.view.borrow();
            // Before the owner has heard of its start it has just started.
            let started = started(view.state).unwrap_or_else(now);
            view.health.as_ref().map(|health| health.pause(&rules, started, now()))
        };
        let Some(pause) = pause else { return };
        sleep(pause).await;
        if !matches!(handle.view.borrow().state, State::Running { .. }) {
            // Nothing can be run in it while it is frozen.
            continue;
        }
        let check = check(&inner, &handle, &rules).await;
        if handle.inbox.send(container::Input::Checked(run, check)).await.is_err() {
            return;
        }
    }
}

/// Runs the check once.
async fn check(inner: &Arc<Inner>, handle: &Handle, rules: &Healthcheck) -> Check {
    let (begun_unix_nanos, deadline) = (now(), Instant::now() + rules.timeout());
    let command = match &rules.test {
        Some(HealthTest::Exec(argv)) => argv.clone(),
        Some(HealthTest::Shell(line)) => ["/bin/sh", "-c", line].map(str::to_owned).to_vec(),
        Some(HealthTest::None) | None => Vec::new(),
    };
    let exec = ExecConfig { command, ..ExecConfig::default() };
    let (exit_code, output) = match exec::run(inner, handle, exec).await {
        Ok(mut running) => {
            let mut output = Vec::new();
            match timeout_at(deadline, outcome(&mut running, &mut output)).await {
                Ok(code) => (code, String::from_utf8_lossy(&output).into_owned()),
                Err(_) => {
                    end(running).await;
                    let limit = rules.timeout();
                    (NO_ANSWER, format!("the health check took longer than {limit:?}"))
                }
            }
        }
        Err(error) => (NO_ANSWER, error.to_string()),
    };
    Check { begun_unix_nanos, ended_unix_nanos: now(), exit_code, output }
}

/// How the command ended, and the beginning of what it printed.
async fn outcome(running: &mut Attachment, output: &mut Vec<u8>) -> i32 {
    while let Some(said) = running.output.recv().await {
        match said {
            Output::Stdout(bytes) | Output::Stderr(bytes) => {
                let room = OUTPUT_MAX_BYTES.saturating_sub(output.len());
                output.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
            Output::Exited(exit) => return exit.code.into(),
            Output::Failed(error) => {
                output.extend_from_slice(error.to_string().as_bytes());
                return NO_ANSWER;
            }
        }
    }
    NO_ANSWER
}

/// Kills a command that takes too long, and waits for its end, so that there is never a second one beside it.
async fn end(mut running: Attachment) {
    const KILL: i32 = 9;
    if running.input.send(Input::Signal(KILL)).await.is_ok() {
        // What cannot be killed is left alone.
        let _ = timeout(KILLED_MAX, outcome(&mut running, &mut Vec::new())).await;
    }
}
