//! A program step by step, with every process that it clones, up to where that executes another program (ptrace(2)).

use std::{
    collections::{HashMap, HashSet},
    fs,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, ensure};
use nix::{
    sys::{
        ptrace::{self, Event, Options},
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// Addresses in a program's file as it is mapped, in the order of the first time.
#[derive(Debug, Default)]
pub(super) struct Touched {
    known: HashSet<u64>,
    order: Vec<u64>,
}

/// A process that is stepped through.
#[derive(Clone, Copy, Debug)]
struct Stepped {
    /// Where its program begins.
    base: u64,
    /// Whether it is another program's by now.
    is_done: bool,
}

impl Touched {
    pub(super) fn addresses(self) -> Vec<u64> {
        self.order
    }

    fn add(&mut self, address: u64) {
        if self.known.insert(address) {
            self.order.push(address);
        }
    }

    /// Runs a command to its end; it must succeed.
    pub(super) fn step(&mut self, command: Command) -> Result<()> {
        // A shell that stops until it is traced, and becomes the command then.
        let mut shell = Command::new("/bin/sh");
        shell
            .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        let mut child = shell.stdout(Stdio::null()).spawn().context("start a shell")?;
        let stepped = self.follow(Pid::from_raw(i32::try_from(child.id())?));
        if stepped.is_err() {
            // It is stopped, perhaps for good.
            let _ = child.kill().and_then(|()| child.wait());
        }
        stepped.with_context(|| format!("{command:?}"))
    }

    fn follow(&mut self, main: Pid) -> Result<()> {
        waitpid(main, Some(WaitPidFlag::WUNTRACED)).context("wait for the shell")?;
        let options =
            Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_TRACEFORK | Options::PTRACE_O_TRACEEXEC;
        ptrace::seize(main, options).context("trace the shell")?;
        nix::sys::signal::kill(main, Signal::SIGCONT)?;
        let mut processes = HashMap::new();
        loop {
            let status = waitpid(None, Some(WaitPidFlag::__WALL)).context("wait for a step")?;
            match status {
                WaitStatus::Exited(pid, code) if pid == main => {
                    ensure!(code == 0, "it ends with {code}");
                    return Ok(());
                }
                WaitStatus::Signaled(pid, signal, _) if pid == main => {
                    return Err(anyhow!("it ends by {signal}"));
                }
                WaitStatus::PtraceEvent(pid, _, event) => event_of(pid, event, main, &mut processes)?,
                WaitStatus::Stopped(pid, signal) => self.stopped(pid, signal, &processes)?,
                WaitStatus::Exited(..)
                | WaitStatus::Signaled(..)
                | WaitStatus::PtraceSyscall(_)
                | WaitStatus::Continued(_)
                | WaitStatus::StillAlive => {}
            }
        }
    }

    fn stopped(&mut self, pid: Pid, signal: Signal, processes: &HashMap<Pid, Stepped>) -> Result<()> {
        if let Some(stepped) = processes.get(&pid).filter(|stepped| !stepped.is_done) {
            match ptrace::getregs(pid) {
                Ok(registers) => self.add(registers.rip.wrapping_sub(stepped.base)),
                // It was killed meanwhile.
                Err(nix::Error::ESRCH) => return Ok(()),
                Err(error) => return Err(error).context("read registers"),
            }
        }
        let own = matches!(signal, Signal::SIGTRAP | Signal::SIGSTOP | Signal::SIGCONT);
        go_on(pid, Some(signal).filter(|_| !own), processes)
    }
}

/// A process executes a program, is a new one, or has cloned one.
fn event_of(pid: Pid, event: i32, main: Pid, processes: &mut HashMap<Pid, Stepped>) -> Result<()> {
    let known = processes.get(&pid).copied();
    if event == Event::PTRACE_EVENT_EXEC as i32 {
        // The first one is the command itself.
        let stepped = match known {
            Some(stepped) => Stepped { is_done: true, ..stepped },
            None => Stepped { base: base(pid)?, is_done: false },
        };
        processes.insert(pid, stepped);
    } else if known.is_none()
        && let Some(program) = processes.get(&main).copied()
    {
        // Whoever cloned it may not have been heard yet; it is where the program is.
        processes.insert(pid, Stepped { is_done: false, ..program });
    }
    go_on(pid, None, processes)
}

fn go_on(pid: Pid, signal: Option<Signal>, processes: &HashMap<Pid, Stepped>) -> Result<()> {
    let is_stepped = processes.get(&pid).is_some_and(|stepped| !stepped.is_done);
    let gone = if is_stepped { ptrace::step(pid, signal) } else { ptrace::cont(pid, signal) };
    match gone {
        // It was killed meanwhile.
        Err(nix::Error::ESRCH) => Ok(()),
        gone => gone.context("go on"),
    }
}

/// Where the file of a process's program is mapped from its beginning.
fn base(pid: Pid) -> Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let first = maps.split('-').next().unwrap_or_default();
    u64::from_str_radix(first, 16).with_context(|| format!("the first line of /proc/{pid}/maps"))
}
