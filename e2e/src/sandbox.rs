//! One test's world: a host, a daemon with its own roots, and the proof at the end that nothing is left.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, Once,
        atomic::{AtomicU32, Ordering},
    },
};

use rustix::process::Signal;
use serde_json::Value;

use crate::{
    Background, Host, Output, Terminal, bin_dir, busybox, image,
    leaks::{self, Baseline},
    output, wait_for,
};

/// How a sandbox's daemon is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// More arguments for `tinyd daemon`.
    pub daemon_args: &'a [&'a str],
    /// Environment of the daemon.
    pub env: &'a [(&'a str, &'a str)],
    /// Words before `tinyd daemon`: a tracer, for example.
    pub wrap: &'a [&'a str],
}

/// One test's world. Dropping it checks for leaks, and then cleans up whatever is found.
#[derive(Debug)]
pub struct Sandbox {
    pub(crate) base: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) host: Host,
    pub(crate) daemon: Option<Child>,
    pub(crate) baseline: Baseline,
    /// Every container id that was ever on disk: names of kernel objects are looked for by them.
    pub(crate) seen: Mutex<BTreeSet<String>>,
    daemon_argv: Vec<String>,
    daemon_env: Vec<(String, String)>,
    /// Whether a daemon has ever served here.
    served: bool,
    checked: bool,
}

impl Sandbox {
    /// A host with a running daemon.
    ///
    /// # Panics
    /// When the daemon does not come up.
    #[must_use]
    pub fn new() -> Sandbox {
        Sandbox::with(Options::default())
    }

    /// A host with a running daemon that was started with these options.
    ///
    /// # Panics
    /// When the daemon does not come up.
    #[must_use]
    pub fn with(options: Options<'_>) -> Sandbox {
        let mut sandbox = Sandbox::without_daemon(options);
        sandbox.start_daemon();
        sandbox
    }

    /// A host whose daemon is started later.
    ///
    /// # Panics
    /// When the directories cannot be made.
    #[must_use]
    pub fn without_daemon(options: Options<'_>) -> Sandbox {
        static SWEPT: Once = Once::new();
        static COUNT: AtomicU32 = AtomicU32::new(0);
        SWEPT.call_once(|| {
            leaks::sweep_stale();
            image::sweep_stale();
        });
        let name = format!("te-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let base = Path::new("/var/tmp").join(&name);
        let run_dir = Path::new("/dev/shm").join(&name);
        for dir in [&base, &run_dir] {
            fs::create_dir_all(dir).expect("make the sandbox's directories");
        }
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let mut argv = words(options.wrap);
        argv.push(bin_dir().join("tinyd").display().to_string());
        argv.extend(words(&["daemon", "--root"]));
        argv.push(base.join("root").display().to_string());
        argv.push("--run-dir".to_owned());
        argv.push(run_dir.display().to_string());
        argv.extend(words(options.daemon_args));
        let env = options.env.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let host = Host::new();
        Sandbox {
            baseline: Baseline::take(&host),
            served: false,
            checked: false,
            host,
            daemon: None,
            seen: Mutex::default(),
            daemon_argv: argv,
            daemon_env: env,
            base,
            run_dir,
        }
    }

    /// Starts the daemon and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn start_daemon(&mut self) {
        self.spawn_daemon();
        let socket = self.socket();
        let log = self.base.join("daemon.log");
        let daemon = self.daemon.as_mut().expect("just started");
        wait_for("the daemon's socket", 20, || {
            if let Ok(Some(status)) = daemon.try_wait() {
                let said = fs::read_to_string(&log).unwrap_or_default();
                panic!("the daemon ended with {status}:\n{said}");
            }
            UnixStream::connect(&socket).ok()
        });
        if !self.served {
            self.served = true;
            self.baseline.take_firewall(&self.host);
        }
    }

    /// Starts the daemon without waiting for anything.
    ///
    /// # Panics
    /// When it cannot be executed.
    pub fn spawn_daemon(&mut self) {
        let log = fs::OpenOptions::new().append(true).create(true).open(self.base.join("daemon.log"));
        let log = log.expect("open the daemon's log");
        let argv: Vec<&str> = self.daemon_argv.iter().map(String::as_str).collect();
        let mut command = self.host.command(&argv);
        command.envs(self.daemon_env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("dup")).stderr(log);
        self.daemon = Some(command.spawn().expect("start the daemon"));
    }

    /// Sets an environment variable of daemons started from now on.
    pub fn set_daemon_env(&mut self, key: &str, value: &str) {
        self.daemon_env.retain(|(had, _)| had != key);
        self.daemon_env.push((key.to_owned(), value.to_owned()));
    }

    /// Sends the daemon SIGKILL and waits for its end; containers and shims are left alone.
    ///
    /// # Panics
    /// When there is no daemon.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        daemon.kill().expect("kill the daemon");
        let _ = daemon.wait();
    }

    /// Asks the daemon to end; its exit status.
    ///
    /// # Panics
    /// When it does not within ten seconds.
    pub fn stop_daemon(&mut self) -> i32 {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        // Behind a tracer, the tracer ends with what it traces.
        output::kill(leaks::traced_by(daemon.id()).unwrap_or(daemon.id()), Signal::TERM);
        output::code(wait_for("the daemon's end after SIGTERM", 10, || daemon.try_wait().expect("wait")))
    }

    /// Waits for a daemon that ends by itself; its exit status.
    ///
    /// # Panics
    /// When it does not within ten seconds.
    pub fn wait_daemon(&mut self) -> i32 {
        let mut daemon = self.daemon.take().expect("a daemon runs");
        output::code(wait_for("the daemon's end", 10, || daemon.try_wait().expect("wait")))
    }

    /// Stops the daemon with SIGTERM and starts it again.
    pub fn restart_daemon(&mut self) {
        self.stop_daemon();
        self.start_daemon();
    }

    /// The daemon's process.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("a daemon runs").id()
    }

    /// What the daemon has written to its standard error so far.
    #[must_use]
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.base.join("daemon.log")).unwrap_or_default()
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// A directory for the test's own files, on the disk.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.base
    }

    /// The daemon's data root.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.base.join("root")
    }

    /// The daemon's run directory.
    #[must_use]
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.run_dir.join("tinyd.sock")
    }

    /// A file of the test's own with this text; its path.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> String {
        let path = self.base.join(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("make a directory");
        fs::write(&path, text).expect("write a file");
        path.display().to_string()
    }

    /// A directory of the test's own; its path.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn make_dir(&self, name: &str) -> String {
        let path = self.base.join(name);
        fs::create_dir_all(&path).expect("make a directory");
        path.display().to_string()
    }

    /// Gives the host an `/etc` of its own, a copy of the machine's, which is `etc` of the test's own directory.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn own_etc(&mut self) {
        let etc = self.make_dir("etc");
        let _ = self.host.sh(&format!("cp -a /etc/. {etc} && mount --bind {etc} /etc")).expect_ok();
        self.baseline.allow_mount("/etc");
    }

    /// The client with these arguments, ready to run in here.
    #[must_use]
    pub fn client(&self, args: &[&str]) -> Command {
        self.prepared(args, Host::command)
    }

    fn prepared(&self, args: &[&str], make: impl Fn(&Host, &[&str]) -> Command) -> Command {
        let tinyd = bin_dir().join("tinyd").display().to_string();
        let argv: Vec<&str> = std::iter::once(tinyd.as_str()).chain(args.iter().copied()).collect();
        let mut command = make(&self.host, &argv);
        command.env("TINYD_HOST", format!("unix://{}", self.socket().display()));
        command.env("HOME", &self.base);
        for elsewhere in ["XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "DOCKER_CONFIG", "REGISTRY_AUTH_FILE"] {
            command.env_remove(elsewhere);
        }
        command
    }

    /// Runs the client to its end.
    #[must_use]
    pub fn tinyd(&self, args: &[&str]) -> Output {
        self.tinyd_with_input(args, b"")
    }

    /// Runs the client to its end with this standard input.
    #[must_use]
    pub fn tinyd_with_input(&self, args: &[&str], input: &[u8]) -> Output {
        let out = Output::of(self.client(args), &line(args), input);
        self.remember();
        out
    }

    /// Runs the client, which must succeed; its standard output without the last newline.
    pub fn ok(&self, args: &[&str]) -> String {
        self.tinyd(args).expect_ok().trimmed().to_owned()
    }

    /// Runs the client, which must fail with this exit status and these words.
    pub fn error(&self, code: i32, args: &[&str], words: &[&str]) -> Output {
        self.tinyd(args).expect_error(code, words)
    }

    /// Starts the client and lets it run.
    #[must_use]
    pub fn spawn(&self, args: &[&str]) -> Background {
        Background::start(self.client(args), &line(args))
    }

    /// Starts the client on a terminal.
    #[must_use]
    pub fn terminal(&self, args: &[&str]) -> Terminal {
        Terminal::start(self.prepared(args, Host::command_on_terminal))
    }

    /// `tinyd run -d OPTIONS -i BUSYBOX COMMAND`; the container's id.
    pub fn run(&self, options: &[&str], command: &[&str]) -> String {
        let image = busybox();
        self.ok(&[&["run", "-d"], options, &["-i", &image], command].concat())
    }

    /// `tinyd run --rm --attach OPTIONS -i BUSYBOX COMMAND`, to its end.
    #[must_use]
    pub fn attached(&self, options: &[&str], command: &[&str]) -> Output {
        let image = busybox();
        self.tinyd(&[&["run", "--rm", "--attach"], options, &["-i", &image], command].concat())
    }

    /// Standard output of `run --rm --attach`, which must succeed.
    pub fn out(&self, options: &[&str], command: &[&str]) -> String {
        self.attached(options, command).expect_ok().trimmed().to_owned()
    }

    /// Standard output of `exec`, which must succeed.
    pub fn exec(&self, who: &str, command: &[&str]) -> String {
        self.ok(&[&["exec", who], command].concat())
    }

    /// What `inspect` says of a container.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn inspect(&self, who: &str) -> Value {
        let text = self.ok(&["inspect", who]);
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("inspect: {error}: {text}"));
        // One container: an array of one, as Docker's, or the object itself.
        value.as_array().and_then(|all| all.first()).cloned().unwrap_or(value)
    }

    /// The lines of a table told as JSON, one value per line or one array.
    ///
    /// # Panics
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Vec<Value> {
        let text = self.ok(&[args, &["--format", "json"]].concat());
        let bad = |error| panic!("{}: {error}: {text}", line(args));
        let documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
        let values: Vec<Value> = documents.map(|value| value.unwrap_or_else(bad)).collect();
        match values.as_slice() {
            [Value::Array(all)] => all.clone(),
            _ => values,
        }
    }

    /// Ids of all containers.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        self.ok(&["ps", "-aq"]).lines().map(str::to_owned).collect()
    }

    /// The process of this sandbox, in a container or not, that has this command line; as the host counts.
    ///
    /// # Panics
    /// When it does not appear.
    #[must_use]
    pub fn pid_of(&self, command: &[&str]) -> u32 {
        wait_for(&format!("a process {command:?}"), 10, || leaks::process_of(self, command))
    }

    /// A process's parent, as the host counts.
    ///
    /// # Panics
    /// When the process has gone.
    #[must_use]
    pub fn parent_of(&self, pid: u32) -> u32 {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process is there");
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        parent.expect("a parent")
    }

    /// Asserts that there is no container, and no trace of one on disk.
    ///
    /// # Panics
    /// When there is.
    pub fn expect_nothing(&self) {
        assert_eq!(self.ids(), Vec::<String>::new(), "containers");
        let left = leaks::entries(&self.root().join("containers"));
        assert!(left.is_empty(), "left on disk: {left:?}");
    }

    /// Notes which containers there are, so that a leak of a removed one is found by its name.
    fn remember(&self) {
        let now = leaks::entries(&self.root().join("containers"));
        self.seen.lock().expect("the ids").extend(now);
    }

    /// Ends the test now: what leaks would make it fail with, as a list.
    #[must_use]
    pub fn leaks(mut self) -> Vec<String> {
        let left = leaks::check(&mut self);
        leaks::clean(&mut self);
        self.checked = true;
        left
    }
}

impl Default for Sandbox {
    fn default() -> Self {
        Sandbox::new()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = File::open(self.base.join("daemon.log")).map(BufReader::new);
            let lines: Vec<String> =
                log.into_iter().flat_map(|log| log.lines().map_while(Result::ok)).collect();
            let tail = lines.len().saturating_sub(30);
            // Through print, so that libtest shows it with the test that failed.
            let mut said = String::from("the daemon's last words:\n");
            for line in &lines[tail..] {
                said.push_str("  ");
                said.push_str(line);
                said.push('\n');
            }
            #[expect(clippy::print_stderr, reason = "a failed test's report")]
            {
                eprint!("{said}");
            }
            leaks::clean(self);
        } else if !self.checked {
            let left = leaks::check(self);
            leaks::clean(self);
            assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
        }
    }
}

fn line(args: &[&str]) -> String {
    format!("tinyd {}", args.join(" "))
}
