//! What verbs do with what was given: they read it into the library's words and call that.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tinyd_core::{Error, Result, config::Signal};

use super::{World, args::Given, regex::Regex, report};
use crate::{
    container::{self, CreateOptions, ExecOptions, MountsChange, RunOptions},
    launch::{Extra, Fds},
};

/// The one word that most verbs take.
pub(super) fn id(given: &Given) -> Result<&str> {
    match given.words.as_slice() {
        [id] => Ok(id),
        [] => Err(Error::invalid("ID", "it is needed")),
        [_, more, ..] => Err(Error::invalid("arguments", format!("{more:?} is one too many"))),
    }
}

/// The descriptors that are kept.
fn fds(given: &Given, activated: bool) -> Result<Fds> {
    /// More than this no process may have by default.
    const FDS_MAX: u32 = 1 << 20;
    let text = given.get("preserve-fds").unwrap_or("0");
    let count = text.parse().ok().filter(|count| *count <= FDS_MAX);
    let bad = || Error::invalid("--preserve-fds", format!("{text:?} is not a number of descriptors"));
    container::kept_fds(count.ok_or_else(bad)?, activated)
}

fn create_options(world: &World, given: &Given) -> Result<CreateOptions> {
    Ok(CreateOptions {
        manager: world.manager,
        rootless: world.rootless,
        extra: Extra {
            fds: fds(given, true)?,
            no_pivot: given.has("no-pivot"),
            no_new_keyring: given.has("no-new-keyring"),
        },
        bundle: given.get("bundle").map(PathBuf::from),
        config: given.get("config").map(PathBuf::from),
        pid_file: given.get("pid-file").map(PathBuf::from),
        console_socket: given.get("console-socket").filter(|path| !path.is_empty()).map(PathBuf::from),
        failpoint: given.get("failpoint").unwrap_or_default().to_owned(),
    })
}

pub(super) fn create(world: &World, given: &Given) -> Result<u8> {
    let warnings = container::create(&world.root, id(given)?, &create_options(world, given)?)?;
    world.log.warn(&warnings);
    Ok(0)
}

pub(super) fn run(world: &World, given: &Given) -> Result<u8> {
    let warn = |warnings: &[String]| world.log.warn(warnings);
    let options = RunOptions {
        create: create_options(world, given)?,
        detach: given.has("detach"),
        keep: given.has("keep"),
        no_subreaper: given.has("no-subreaper"),
    };
    container::run(&world.root, id(given)?, &options, warn)
}

pub(super) fn exec(world: &World, given: &Given) -> Result<u8> {
    let (id, args) = given.words.split_first().ok_or_else(|| Error::invalid("ID", "it is needed"))?;
    let process = given.get("process").map(PathBuf::from);
    if process.is_none() && args.is_empty() {
        return Err(Error::invalid("COMMAND", "it is needed"));
    }
    let options = ExecOptions {
        process,
        args: args.to_vec(),
        tty: given.has("tty"),
        cwd: given.get("cwd").map(str::to_owned),
        env: given.all("env"),
        user: given.get("user").map(str::to_owned),
        caps: given.all("cap"),
        no_new_privs: given.get("no-new-privs").map(|value| value != "false"),
        additional_gids: given.all("additional-gids"),
        apparmor: given.get("apparmor").map(str::to_owned),
        process_label: given.get("process-label").map(str::to_owned),
        cgroups: given.all("cgroup"),
        ignore_paused: given.has("ignore-paused"),
        detach: given.has("detach"),
        pid_file: given.get("pid-file").map(PathBuf::from),
        console_socket: given.get("console-socket").filter(|path| !path.is_empty()).map(PathBuf::from),
        fds: fds(given, false)?,
    };
    container::exec(&world.root, id, &options, |warnings| world.log.warn(warnings))
}

pub(super) fn kill(world: &World, given: &Given) -> Result<u8> {
    let (id, signal) = match given.words.as_slice() {
        [id] => (id, "TERM"),
        [id, signal] => (id, signal.as_str()),
        [] => return Err(Error::invalid("ID", "it is needed")),
        [_, _, more, ..] => return Err(Error::invalid("arguments", format!("{more:?} is one too many"))),
    };
    // Nobody gets signal 0; it asks whether there is somebody.
    let number = if signal == "0" { 0 } else { Signal::parse("SIGNAL", signal)?.number() };
    each(world, given, id, |id| container::kill(&world.root, id, number, given.has("all")))
}

pub(super) fn mounts(world: &World, given: &Given) -> Result<u8> {
    let [change, id, file] = given.words.as_slice() else {
        return Err(Error::invalid(
            "arguments",
            "they are add or remove, an ID, and a file with mounts as JSON",
        ));
    };
    let change = match change.as_str() {
        "add" => MountsChange::Add,
        "remove" => MountsChange::Remove,
        other => return Err(Error::invalid("arguments", format!("{other:?} is neither add nor remove"))),
    };
    let warnings = container::change_mounts(&world.root, id, change, Path::new(file))?;
    world.log.warn(&warnings);
    Ok(0)
}

pub(super) fn delete(world: &World, given: &Given) -> Result<u8> {
    each(world, given, id(given)?, |id| {
        let warnings = container::delete(&world.root, id, given.has("force"))?;
        world.log.warn(&warnings);
        Ok(())
    })
}

/// Does it with the container of this id, or with every one that it matches: goes on after a failure, and tells all of them.
fn each(world: &World, given: &Given, id: &str, act: impl Fn(&str) -> Result<()>) -> Result<u8> {
    if !given.has("regex") {
        return act(id).map(|()| 0);
    }
    let regex = Regex::parse(id)?;
    let ids = container::ids(&world.root)?;
    let errors: Vec<Error> =
        ids.iter().filter(|id| regex.matches(id)).filter_map(|id| act(id).err()).collect();
    match errors.as_slice() {
        [] => Ok(0),
        [first, ..] => {
            let lines: Vec<String> = errors.iter().map(Error::to_string).collect();
            Err(Error::new(first.kind(), lines.join("; ")))
        }
    }
}

pub(super) fn events(world: &World, given: &Given) -> Result<u8> {
    const USUAL: Duration = Duration::from_secs(5);
    let interval = given.get("interval").map_or(Ok(USUAL), parse_interval)?;
    let interval = (!given.has("stats")).then_some(interval);
    container::events(&world.root, id(given)?, interval, report::line)?;
    Ok(0)
}

/// `500ms`, `5s`, `1.5s`, `1m30s`, `1h`, as Go's `time.ParseDuration` has them; at least a millisecond.
fn parse_interval(text: &str) -> Result<Duration> {
    let time = duration(text).filter(|time| *time >= Duration::from_millis(1));
    time.ok_or_else(|| {
        Error::invalid(
            "--interval",
            format!("{text:?} is not a time of at least 1ms, such as 500ms, 5s or 1m30s"),
        )
    })
}

fn duration(text: &str) -> Option<Duration> {
    /// `ms` stands before `m`, with which it begins.
    const UNITS: [(&str, f64); 7] =
        [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("ns", 1e-9), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
        let (number, after) = rest.split_at(digits);
        let (after, unit) = UNITS.iter().find_map(|(unit, size)| Some((after.strip_prefix(unit)?, size)))?;
        seconds += number.parse::<f64>().ok()? * unit;
        rest = after;
    }
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_is_a_time_as_go_writes_it() {
        for (text, millis) in [
            ("500ms", 500),
            ("5s", 5000),
            ("1.5s", 1500),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            (".5s", 500),
            ("2000us", 2),
        ] {
            assert_eq!(parse_interval(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "5", "0s", "-1s", "1x", "s", "1.2.3s", "1ns", "1s5", "1e3s", "99999999999999999999h"]
        {
            assert_eq!(parse_interval(bad).unwrap_err().field(), Some("--interval"), "{bad}");
        }
    }
}
