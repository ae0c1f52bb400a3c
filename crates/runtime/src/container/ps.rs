//! `ps`: the processes of a container as the host's ps(1) shows them.

use std::{
    ffi::CString,
    io::Read,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{fs::OFlags, pipe::PipeFlags};
use tinyd_core::{Error, Kind, Result, error::chain};
use tinyd_sys::process::{self, Ended, Strings};

use super::{root::Root, state::processes};
use crate::{
    init::set_streams,
    launch::{kernel, program, step},
};

/// How ps is asked when nothing is said about it, as by runc.
const USUAL: &str = "-ef";

/// A table of a container's processes: what ps prints with `args`, less everybody else. A host without ps shows their numbers.
///
/// # Errors
/// `NotFound`; `InvalidArgument` when ps does not know an option, or does not print numbers.
pub fn ps(root: &Root, id: &str, args: &[String]) -> Result<String> {
    let pids = processes(root, id)?;
    let Some(ps) = program("ps") else {
        if let Some(option) = args.first() {
            return Err(
                Error::new(Kind::Unsupported, "this host has no ps in PATH").of_field(option.as_str())
            );
        }
        let numbers: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        return Ok(format!("PID\n{numbers}"));
    };
    let args: Vec<&str> =
        if args.is_empty() { vec![USUAL] } else { args.iter().map(String::as_str).collect() };
    let said = said_by(&ps.to_string_lossy(), &args)?;
    let mut lines = said.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|word| word == "PID");
    let column =
        column.ok_or_else(|| Error::invalid("arguments of ps", "it prints no column PID with them"))?;
    let is_ours = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse().ok());
        pid.is_some_and(|pid: i32| pids.binary_search(&pid).is_ok())
    };
    let ours: String =
        [head].into_iter().chain(lines.filter(is_ours)).map(|line| format!("{line}\n")).collect();
    Ok(ours)
}

/// What a program of the host says. Its errors go where ours go.
fn said_by(path: &str, args: &[&str]) -> Result<String> {
    let c_string =
        |text: &str| CString::new(text).map_err(|_| Error::invalid("arguments of ps", "one has a NUL"));
    let words = [path].iter().chain(args).map(|word| c_string(word)).collect::<Result<Vec<_>>>()?;
    let env =
        std::env::vars().map(|(key, value)| c_string(&format!("{key}={value}"))).collect::<Result<_>>()?;
    let (words, env, path) = (Strings::new(words), Strings::new(env), c_string(path)?);
    let (said, say) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|error| kernel("pipe", &error))?;
    let Some(pid) = process::fork().map_err(step("start ps"))? else {
        let error = match streams(say) {
            Ok(()) => chain(&process::execve(&path, &words, &env)),
            Err(error) => error.to_string(),
        };
        let _ = rustix::io::write(std::io::stderr(), error.as_bytes());
        process::exit_now(127)
    };
    drop(say);
    let child = process::pidfd_open(pid).map_err(step("watch ps"))?;
    let mut text = Vec::new();
    let read = std::fs::File::from(said).read_to_end(&mut text);
    let ended = process::wait(child.as_fd()).map_err(step("wait for ps"))?;
    read.map_err(|error| kernel("read what ps says", &error))?;
    if ended != Ended::Exited(0) {
        return Err(Error::invalid("arguments of ps", format!("it ends with status {}", ended.code())));
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn streams(say: OwnedFd) -> Result<()> {
    let null = rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, rustix::fs::Mode::empty());
    let null = null.map_err(|error| kernel("open(/dev/null)", &error))?;
    let errors = rustix::io::fcntl_dupfd_cloexec(std::io::stderr(), 3);
    set_streams([null, say, errors.map_err(|error| kernel("dup(stderr)", &error))?])?;
    process::reset_signals();
    Ok(())
}
