//! The verbs: their options, and what each calls.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use tinyd_core::{Error, Result, config::Signal};

use super::{
    World,
    args::{Given, Opt, Until, switch, value},
    regex::Regex,
    report, update,
};
use crate::{
    container::{self, CreateOptions, ExecOptions, MountsChange, RunOptions},
    launch::{Extra, Fds},
};

/// One verb of the command line.
pub(super) struct Verb {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) usage: &'static str,
    pub(super) example: &'static str,
    pub(super) options: &'static [Opt],
    pub(super) until: Until,
    pub(super) run: fn(&World, &Given) -> Result<u8>,
}

pub(super) const HELP: Opt = switch("help", "print this").short("h?");

/// Options before the verb.
pub(super) const GLOBAL: &[Opt] = &[
    value("root", "DIR", "where containers are recorded (/run/tinyrun)"),
    value("log", "FILE", "where failures are logged as well"),
    value("log-format", "FORMAT", "text or json"),
    switch("debug", "say more"),
    value("cgroup-manager", "MANAGER", "who makes cgroups: cgroupfs, systemd, disabled"),
    switch("systemd-cgroup", "the same as --cgroup-manager systemd"),
    value("criu", "PATH", "ignored"),
    value(
        "rootless",
        "BOOL",
        "whether cgroups are made only where one may: true, false, auto (who is not root)",
    ),
    HELP,
    switch("version", "print the version").short("vV"),
];

const BUNDLE: Opt = value("bundle", "DIR", "the bundle (the working directory)").short("b");
const CONFIG: Opt =
    value("config", "FILE", "the configuration, relative to the bundle (config.json)").short("f");
const PID_FILE: Opt = value("pid-file", "FILE", "where the process's number is written");
const CONSOLE_SOCKET: Opt = value("console-socket", "PATH", "a unix socket that the terminal is sent to");
const NO_PIVOT: Opt =
    switch("no-pivot", "change the root without leaving the old one (on a ramdisk; less safe)");
const NO_NEW_KEYRING: Opt = switch("no-new-keyring", "keep the session keyring of the caller");
const NO_SUBREAPER: Opt = switch("no-subreaper", "leave processes that lose their parent to somebody else");
const REGEX: Opt = switch("regex", "every container whose id matches ID").short("r");
const PRESERVE_FDS: Opt =
    value("preserve-fds", "N", "keep N more descriptors, from 3 on or after those of LISTEN_FDS");
const DETACH: Opt = switch("detach", "come back once it runs").short("d");
const FAILPOINT: Opt = value("failpoint", "NAME", "the step that fails, for tests");

const CREATE: &[Opt] = &[
    BUNDLE,
    CONFIG,
    PID_FILE,
    CONSOLE_SOCKET,
    NO_PIVOT,
    NO_NEW_KEYRING,
    NO_SUBREAPER,
    PRESERVE_FDS,
    FAILPOINT,
    HELP,
];
const RUN: &[Opt] = &[
    BUNDLE,
    CONFIG,
    PID_FILE,
    CONSOLE_SOCKET,
    NO_PIVOT,
    NO_NEW_KEYRING,
    NO_SUBREAPER,
    switch("keep", "do not delete it when it has ended"),
    PRESERVE_FDS,
    DETACH,
    FAILPOINT,
    HELP,
];
const EXEC: &[Opt] = &[
    value("process", "FILE", "the process as JSON").short("p"),
    PID_FILE,
    CONSOLE_SOCKET,
    DETACH,
    switch("tty", "give it a terminal").short("t"),
    value("cwd", "DIR", "its working directory"),
    value("env", "KEY=VALUE", "an environment variable").short("e"),
    value("user", "UID[:GID]", "who it runs as").short("u"),
    value("additional-gids", "GID", "one more group").short("g"),
    value("cap", "CAP_NAME", "one more capability").short("c"),
    switch("no-new-privs", "no program may gain privileges"),
    value("apparmor", "PROFILE", "its AppArmor profile"),
    value("process-label", "LABEL", "its SELinux label"),
    value("cgroup", "[CONTROLLER:]PATH", "a cgroup below the container's that it enters"),
    switch("ignore-paused", "in a paused container: it runs when that is resumed"),
    PRESERVE_FDS,
    HELP,
];
const EVENTS: &[Opt] = &[
    switch("stats", "print what it uses now, and end"),
    value("interval", "DURATION", "how often, such as 500ms, 5s, 1m (5s)"),
    HELP,
];
const FORMAT: Opt = value("format", "FORMAT", "table or json").short("f");

/// Every verb.
pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "create",
        help: "make a container that waits for start",
        usage: "[OPTIONS] ID",
        example: "tinyrun create --bundle /srv/web web",
        options: CREATE,
        until: Until::End,
        run: create,
    },
    Verb {
        name: "run",
        help: "create and start a container",
        usage: "[OPTIONS] ID",
        example: "tinyrun run --bundle /srv/web web",
        options: RUN,
        until: Until::End,
        run,
    },
    Verb {
        name: "start",
        help: "start a created container",
        usage: "ID",
        example: "tinyrun start web",
        options: &[HELP],
        until: Until::End,
        run: |world, given| container::start(&world.root, id(given)?).map(|()| 0),
    },
    Verb {
        name: "exec",
        help: "run one more process in a container",
        usage: "[OPTIONS] ID COMMAND [ARGUMENTS]",
        example: "tinyrun exec --tty web sh",
        options: EXEC,
        until: Until::FirstWord,
        run: exec,
    },
    Verb {
        name: "state",
        help: "print where a container is, as JSON",
        usage: "ID",
        example: "tinyrun state web",
        options: &[HELP],
        until: Until::End,
        run: |world, given| report::json(&container::state(&world.root, id(given)?)?),
    },
    Verb {
        name: "kill",
        help: "send a signal to a container",
        usage: "[OPTIONS] ID [SIGNAL]",
        example: "tinyrun kill web KILL",
        options: &[switch("all", "to every process").short("a"), REGEX, HELP],
        until: Until::End,
        run: kill,
    },
    Verb {
        name: "delete",
        help: "take away what is left of a container",
        usage: "[OPTIONS] ID",
        example: "tinyrun delete --force web",
        options: &[switch("force", "kill it first").short("f"), REGEX, HELP],
        until: Until::End,
        run: delete,
    },
    Verb {
        name: "list",
        help: "print all containers",
        usage: "[OPTIONS]",
        example: "tinyrun list --format json",
        options: &[FORMAT, switch("quiet", "print ids alone").short("q"), HELP],
        until: Until::End,
        run: report::list,
    },
    Verb {
        name: "ps",
        help: "print a container's processes, as the host counts, and as ps(1) does",
        usage: "[OPTIONS] ID [OPTIONS OF PS]",
        example: "tinyrun ps web -o pid,comm",
        options: &[FORMAT, HELP],
        until: Until::FirstWord,
        run: report::processes,
    },
    Verb {
        name: "pause",
        help: "freeze a container",
        usage: "ID",
        example: "tinyrun pause web",
        options: &[HELP],
        until: Until::End,
        run: |world, given| container::pause(&world.root, id(given)?).map(|()| 0),
    },
    Verb {
        name: "resume",
        help: "thaw a container",
        usage: "ID",
        example: "tinyrun resume web",
        options: &[HELP],
        until: Until::End,
        run: |world, given| container::resume(&world.root, id(given)?).map(|()| 0),
    },
    Verb {
        name: "update",
        help: "change a container's limits",
        usage: "[OPTIONS] ID",
        example: "tinyrun update --memory 128m --cpu-quota 50000 web",
        options: update::OPTIONS,
        until: Until::End,
        run: update::run,
    },
    Verb {
        name: "events",
        help: "print what a container uses, and kills for memory, as JSON",
        usage: "[OPTIONS] ID",
        example: "tinyrun events --stats web",
        options: EVENTS,
        until: Until::End,
        run: events,
    },
    Verb {
        name: "mounts",
        help: "mount in a container that runs, or take mounts away",
        usage: "add|remove ID FILE",
        example: "tinyrun mounts add web mounts.json",
        options: &[HELP],
        until: Until::End,
        run: mounts,
    },
    Verb {
        name: "features",
        help: "print what this runtime can do, as JSON",
        usage: "",
        example: "tinyrun features",
        options: &[HELP],
        until: Until::End,
        run: |_, _| report::json(&report::features()),
    },
    Verb {
        name: "spec",
        help: "write a config.json to begin with",
        usage: "[OPTIONS]",
        example: "tinyrun spec --bundle /srv/web",
        options: &[
            BUNDLE,
            value("file", "FILE", "its name, relative to the bundle (config.json)").short("f"),
            switch("rootless", "one that an ordinary user can run"),
            HELP,
        ],
        until: Until::End,
        run: |_, given| report::write_spec(given),
    },
];

/// The verb of a name.
pub(super) fn find(name: &str) -> Result<&'static Verb> {
    VERBS
        .iter()
        .find(|verb| verb.name == name)
        .ok_or_else(|| Error::invalid("command", format!("{name:?} is not known: see tinyrun --help")))
}

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

fn create(world: &World, given: &Given) -> Result<u8> {
    let warnings = container::create(&world.root, id(given)?, &create_options(world, given)?)?;
    world.log.warn(&warnings);
    Ok(0)
}

fn run(world: &World, given: &Given) -> Result<u8> {
    let warn = |warnings: &[String]| world.log.warn(warnings);
    let options = RunOptions {
        create: create_options(world, given)?,
        detach: given.has("detach"),
        keep: given.has("keep"),
        no_subreaper: given.has("no-subreaper"),
    };
    container::run(&world.root, id(given)?, &options, warn)
}

fn exec(world: &World, given: &Given) -> Result<u8> {
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

fn kill(world: &World, given: &Given) -> Result<u8> {
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

fn mounts(world: &World, given: &Given) -> Result<u8> {
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

fn delete(world: &World, given: &Given) -> Result<u8> {
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

fn events(world: &World, given: &Given) -> Result<u8> {
    const USUAL: Duration = Duration::from_secs(5);
    let interval = given.get("interval").map_or(Ok(USUAL), parse_interval)?;
    let interval = (!given.has("stats")).then_some(interval);
    container::events(&world.root, id(given)?, interval, report::line)?;
    Ok(0)
}

/// `500ms`, `5s`, `1m`.
fn parse_interval(text: &str) -> Result<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let unit = units.iter().find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, millis)));
    let time = unit.and_then(|(count, millis)| count.parse::<u32>().ok()?.checked_mul(*millis));
    let time = time.filter(|millis| *millis > 0).map(|millis| Duration::from_millis(millis.into()));
    time.ok_or_else(|| {
        Error::invalid("--interval", format!("{text:?} is not a time such as 500ms, 5s or 1m"))
    })
}
