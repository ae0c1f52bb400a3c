//! The verbs: their words and options, as a table.

use tinyd_core::{Error, Result};

use super::{
    World, actions,
    args::{Given, Opt, Until, switch, value},
    report, update,
};
use crate::container;

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
    switch("no-subreaper", "as it is in any case: taken since runc takes it"),
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
        run: actions::create,
    },
    Verb {
        name: "run",
        help: "create and start a container",
        usage: "[OPTIONS] ID",
        example: "tinyrun run --bundle /srv/web web",
        options: RUN,
        until: Until::End,
        run: actions::run,
    },
    Verb {
        name: "start",
        help: "start a created container",
        usage: "ID",
        example: "tinyrun start web",
        options: &[HELP],
        until: Until::End,
        run: |world, given| container::start(&world.root, actions::id(given)?).map(|()| 0),
    },
    Verb {
        name: "exec",
        help: "run one more process in a container",
        usage: "[OPTIONS] ID COMMAND [ARGUMENTS]",
        example: "tinyrun exec --tty web sh",
        options: EXEC,
        until: Until::FirstWord,
        run: actions::exec,
    },
    Verb {
        name: "state",
        help: "print where a container is, as JSON",
        usage: "ID",
        example: "tinyrun state web",
        options: &[HELP],
        until: Until::End,
        run: |world, given| report::json(&container::state(&world.root, actions::id(given)?)?),
    },
    Verb {
        name: "kill",
        help: "send a signal to a container",
        usage: "[OPTIONS] ID [SIGNAL]",
        example: "tinyrun kill web KILL",
        options: &[switch("all", "to every process").short("a"), REGEX, HELP],
        until: Until::End,
        run: actions::kill,
    },
    Verb {
        name: "delete",
        help: "take away what is left of a container",
        usage: "[OPTIONS] ID",
        example: "tinyrun delete --force web",
        options: &[switch("force", "kill it first").short("f"), REGEX, HELP],
        until: Until::End,
        run: actions::delete,
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
        run: |world, given| container::pause(&world.root, actions::id(given)?).map(|()| 0),
    },
    Verb {
        name: "resume",
        help: "thaw a container",
        usage: "ID",
        example: "tinyrun resume web",
        options: &[HELP],
        until: Until::End,
        run: |world, given| container::resume(&world.root, actions::id(given)?).map(|()| 0),
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
        run: actions::events,
    },
    Verb {
        name: "mounts",
        help: "mount in a container that runs, or take mounts away",
        usage: "add|remove ID FILE",
        example: "tinyrun mounts add web mounts.json",
        options: &[HELP],
        until: Until::End,
        run: actions::mounts,
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
