//! Finds the program inside the root, as execvp(3) would, before it is needed: `create` already says that it is missing.

use std::{
    ffi::{CString, OsStr},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, FileType},
    io::Errno,
};
use tinyd_core::{Error, Kind, Result, error::chain};
use tinyd_sys::process::{self, Strings};

use super::home;
use crate::plan::process::{ProcessPlan, needs_search};

/// A program that was found, with what it is started with.
#[derive(Debug)]
pub(crate) struct Program {
    path: CString,
    named: String,
    args: Strings,
    env: Strings,
}

impl Program {
    /// Executes it. Comes back only with a failure.
    pub(super) fn execute(&self) -> Error {
        let error = process::execve(&self.path, &self.args, &self.env);
        let kind = match error.errno() {
            // The file was there when it was looked for.
            Some(libc::ENOENT) => {
                let path = self.path.to_string_lossy();
                // Engines know by these words that it is the command's fault.
                let why = format!(
                    "no such file or directory: {path} is there; what is missing is its interpreter: the program after #!, or its loader"
                );
                return Error::new(Kind::CommandNotFound, format!("{}: {why}", self.named));
            }
            Some(libc::EACCES | libc::ENOEXEC | libc::ELIBBAD | libc::ETXTBSY | libc::EPERM) => {
                Kind::CannotExecute
            }
            Some(_) | None => Kind::Internal,
        };
        Error::new(kind, format!("{}: {}", self.named, chain(&error)))
    }
}

/// Finds the program of a process whose identity, root and working directory the caller has.
///
/// # Errors
/// `CommandNotFound`, `CannotExecute`; the message names the file as it was written.
pub(super) fn find(process: &ProcessPlan, listen_fds: u32) -> Result<Program> {
    let command =
        process.args.first().ok_or_else(|| Error::invalid("process.args", "a command is needed"))?;
    let written = Path::new(OsStr::from_bytes(command.as_bytes()));
    let named = format!("{:?}", written.to_string_lossy());
    let path = locate(written, &process.search)
        .map_err(|(kind, why)| Error::new(kind, format!("{named}: {why}")))?;
    let path = CString::new(path.into_os_string().into_encoded_bytes());
    let path = path.map_err(|_| Error::invalid("process.args", "a NUL in the command"))?;
    Ok(Program {
        path,
        named,
        args: Strings::new(process.args.clone()),
        env: Strings::new(environment(process, listen_fds)?),
    })
}

/// The environment: with a HOME, and with word of the sockets from 3 on where there are any. They are for this process and for no child
/// of its.
fn environment(process: &ProcessPlan, listen_fds: u32) -> Result<Vec<CString>> {
    let mut env = process.env.clone();
    let said = |entry: &CString| entry.as_bytes().strip_prefix(b"HOME=").is_some_and(|home| !home.is_empty());
    if !env.iter().any(said) {
        env.retain(|entry| !entry.as_bytes().starts_with(b"HOME="));
        // It has no NUL.
        env.push(CString::new(format!("HOME={}", home::of(process.uid)?)).unwrap_or_default());
    }
    if listen_fds == 0 {
        return Ok(env);
    }
    let names = [&b"LISTEN_FDS="[..], b"LISTEN_PID="];
    env.retain(|entry| !names.iter().any(|name| entry.as_bytes().starts_with(name)));
    let pid = rustix::process::getpid().as_raw_pid();
    // Neither number has a NUL.
    env.extend(
        [format!("LISTEN_FDS={listen_fds}"), format!("LISTEN_PID={pid}")]
            .map(|entry| CString::new(entry).unwrap_or_default()),
    );
    Ok(env)
}

type Why = (Kind, String);

fn locate(command: &Path, search: &[PathBuf]) -> Result<PathBuf, Why> {
    if command.as_os_str().is_empty() {
        return Err((Kind::CommandNotFound, "no such file or directory".into()));
    }
    if !needs_search(command) {
        return check(command).map(|()| command.to_owned());
    }
    // The first that can be executed wins; one that is there and cannot be is a better answer than none.
    let mut why = (Kind::CommandNotFound, "executable file not found in $PATH".to_owned());
    for dir in search {
        let path = dir.join(command);
        match check(&path) {
            Ok(()) => return Ok(path),
            Err((Kind::CannotExecute, reason)) => why = (Kind::CannotExecute, reason),
            Err(_) => {}
        }
    }
    Err(why)
}

fn check(path: &Path) -> Result<(), Why> {
    let stat = rustix::fs::stat(path).map_err(|error| reason("stat", error))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind.is_dir() {
        return Err((Kind::CannotExecute, "permission denied: it is a directory".into()));
    }
    if !kind.is_file() {
        return Err((Kind::CannotExecute, "permission denied: it is not a regular file".into()));
    }
    rustix::fs::access(path, Access::EXEC_OK).map_err(|error| reason("access", error))
}

fn reason(call: &str, error: Errno) -> Why {
    match error {
        Errno::NOENT | Errno::NOTDIR => (Kind::CommandNotFound, "no such file or directory".into()),
        Errno::ACCESS => (Kind::CannotExecute, "permission denied".into()),
        other => (Kind::CannotExecute, format!("{call}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search() -> Vec<PathBuf> {
        ["/proc/self", "/bin", "/usr/bin"].map(PathBuf::from).to_vec()
    }

    #[test]
    fn the_first_that_can_be_executed_wins() {
        assert_eq!(locate(Path::new("sh"), &search()).unwrap(), Path::new("/bin/sh"));
        assert_eq!(locate(Path::new("/bin/sh"), &[]).unwrap(), Path::new("/bin/sh"));
    }

    #[test]
    fn missing_and_unusable_are_told_apart() {
        assert_eq!(locate(Path::new("no-such-thing"), &search()).unwrap_err().0, Kind::CommandNotFound);
        assert_eq!(locate(Path::new(""), &search()).unwrap_err().0, Kind::CommandNotFound);
        assert_eq!(
            locate(Path::new("/etc"), &[]).unwrap_err(),
            (Kind::CannotExecute, "permission denied: it is a directory".into())
        );
        assert_eq!(
            locate(Path::new("/etc/passwd"), &[]).unwrap_err(),
            (Kind::CannotExecute, "permission denied".into())
        );
        // Found in PATH, but a directory.
        assert_eq!(locate(Path::new("fd"), &search()).unwrap_err().0, Kind::CannotExecute);
    }
}
