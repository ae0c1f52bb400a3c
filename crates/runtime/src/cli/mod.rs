//! The OCI command line: a drop-in for runc. Reads arguments, calls one verb, prints, exits. Everything that it says goes to
//! stderr (and the log file, as engines read it); stdout is data.

mod actions;
mod args;
mod help;
mod log;
mod regex;
mod report;
mod update;
mod verbs;

use std::{ffi::OsString, path::PathBuf};

use tinyd_core::{Error, Result};

use self::{
    args::{Given, Until},
    log::Log,
};
use crate::{cgroup::CgroupManager, container::Root};

/// What every verb gets.
#[derive(Debug)]
struct World {
    root: Root,
    /// Who makes the cgroups of new containers.
    manager: CgroupManager,
    /// Whether those are made where this user may, if anywhere; unless it is not said.
    rootless: Option<bool>,
    log: Log,
}

/// Runs the command line of this process; its exit status.
#[must_use]
pub fn main() -> u8 {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    // The supervisor has a protocol instead of options.
    if args.first().is_some_and(|first| first == "shim") {
        return crate::shim::main();
    }
    let global = match args::read(&mut args, verbs::GLOBAL, Until::FirstWord) {
        Ok(global) => global,
        Err(error) => return Log::default().told(&error, 1),
    };
    let log = match Log::new(&global) {
        Ok(log) => log,
        Err(error) => return Log::default().told(&error, 1),
    };
    // As runc: a failure of `exec` has a number that its process would not be likely to end with.
    let failed = if args.first().is_some_and(|first| first == "exec") { 255 } else { 1 };
    match dispatch(&global, args, log.clone()) {
        Ok(code) => code,
        Err(error) => log.told(&error, failed),
    }
}

fn dispatch(global: &Given, mut args: Vec<OsString>, log: Log) -> Result<u8> {
    if global.has("version") {
        return report::print(&help::version());
    }
    if args.is_empty() || global.has("help") {
        return report::print(&help::overview());
    }
    let (manager, rootless) = (manager(global)?, rootless(global)?);
    let name = args.remove(0);
    let verb = verbs::find(&name.to_string_lossy())?;
    let mut given = args::read(&mut args, verb.options, verb.until)?;
    for arg in args {
        let word =
            arg.into_string().map_err(|arg| Error::invalid("arguments", format!("{arg:?} is not UTF-8")))?;
        given.words.push(word);
    }
    if given.has("help") {
        return report::print(&help::of(verb));
    }
    let world = World { root: Root::new(global.get("root").map(PathBuf::from))?, manager, rootless, log };
    (verb.run)(&world, &given)
}

/// Who makes cgroups: runc's word for it, or crun's.
fn manager(global: &Given) -> Result<CgroupManager> {
    if global.has("systemd-cgroup") {
        return Ok(CgroupManager::Systemd);
    }
    let word = global.get("cgroup-manager").unwrap_or("cgroupfs");
    word.parse().map_err(|rule: String| Error::invalid("--cgroup-manager", rule))
}

/// As runc has it.
fn rootless(global: &Given) -> Result<Option<bool>> {
    match global.get("rootless") {
        None | Some("auto") => Ok(None),
        Some("true" | "1") => Ok(Some(true)),
        Some("false" | "0") => Ok(Some(false)),
        Some(other) => Err(Error::invalid("--rootless", format!("{other:?} is none of true, false, auto"))),
    }
}
