//! `e2e-ns hold` makes a host: a network and a mount namespace, alive until standard input ends.
//! `e2e-ns enter PID COMMAND…` becomes COMMAND inside a host; `enter-terminal` does so as leader of a session on its terminal.

use std::{
    io::{Read, Write},
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use rustix::{
    mount::{MountPropagationFlags, mount_change},
    process::{Pid, PidfdFlags, Signal, pidfd_open, set_parent_process_death_signal},
    thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces},
};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["hold"] => hold(),
        ["enter", pid, program, args @ ..] => enter(pid, program, args),
        ["enter-terminal", pid, program, args @ ..] => {
            own_terminal().and_then(|()| enter(pid, program, args))
        }
        _ => Err("usage: e2e-ns hold | e2e-ns enter PID COMMAND…".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "e2e-ns: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold() -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    #[expect(
        deprecated,
        reason = "the safe spelling; this process has one thread and shares no descriptor table"
    )]
    rustix::thread::unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS)?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    if !up.success() {
        return Err("ip link set lo up".into());
    }
    std::io::stdout().write_all(b"ready\n")?;
    std::io::stdout().flush()?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Makes standard input the terminal of a new session.
fn own_terminal() -> Result<(), Failure> {
    rustix::process::setsid()?;
    rustix::process::ioctl_tiocsctty(std::io::stdin())?;
    Ok(())
}

fn enter(pid: &str, program: &str, args: &[&str]) -> Result<(), Failure> {
    let pid = Pid::from_raw(pid.parse()?).ok_or("not a pid")?;
    let host = pidfd_open(pid, PidfdFlags::empty())?;
    let cwd = std::env::current_dir()?;
    move_into_thread_name_spaces(
        std::os::fd::AsFd::as_fd(&host),
        ThreadNameSpaceType::NETWORK | ThreadNameSpaceType::MOUNT,
    )?;
    std::env::set_current_dir(cwd)?;
    Err(Command::new(program).args(args).exec().into())
}
