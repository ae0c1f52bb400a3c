//! What a process of a container has open, listed from the host's /proc: its streams and what was asked for, and nothing else of a caller that
//! had much open. For `create`, `start`, `run` and `exec`, with a terminal and without.

use std::{
    collections::BTreeMap,
    fs,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
    thread::JoinHandle,
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};

use crate::driver::{Bundle, Said, wait_for};

/// What the caller has open beside its streams: a file, directories that would lead out, a descriptor far up, all inherited.
fn with_much_open(file: &str) -> String {
    format!("exec 3<{file} 4</etc 5</ 6</proc 7</dev/null 8<.; exec \"$0\" \"$@\"")
}

/// By number, what each leads to.
type Open = BTreeMap<u32, String>;

fn open(pid: &str) -> Open {
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    fds.map(|fd| {
        let fd = fd.unwrap().path();
        let number = fd.file_name().unwrap().to_str().unwrap().parse().unwrap();
        (number, fs::read_link(&fd).unwrap().display().to_string())
    })
    .collect()
}

/// Takes the terminal that is sent to a console socket, and holds it.
fn console(path: &Path) -> JoinHandle<OwnedFd> {
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (connection, _) = listener.accept().unwrap();
        let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut bytes = [0; 64];
        let mut parts = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(&connection, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        let mut fds = control.drain().flat_map(|message| {
            let RecvAncillaryMessage::ScmRights(fds) = message else { panic!("not descriptors") };
            fds
        });
        fds.next().unwrap()
    })
}

/// A container, a verb and its words: how a process comes to be.
struct Case {
    bundle: Bundle,
    terminal: bool,
    kept: u32,
}

impl Case {
    fn new(verb: &str, terminal: bool, kept: u32) -> Case {
        let mut bundle = Bundle::new(&format!("open-{verb}-{terminal}-{kept}")).args(&["sleep", "1000"]);
        bundle.spec["process"]["terminal"] = terminal.into();
        bundle.write();
        Case { bundle, terminal, kept }
    }

    /// The first one that its caller has open beside the streams.
    fn file(&self) -> String {
        self.bundle.dir.join("config.json").display().to_string()
    }

    /// `verb`, called by somebody who has much open; it is given the words for descriptors and terminal, and the terminal comes back.
    fn call(&self, verb: &[&str], rest: &[&str]) -> Option<OwnedFd> {
        let socket = self.bundle.dir.join("console");
        let _ = fs::remove_file(&socket);
        let waits = self.terminal.then(|| console(&socket));
        let kept = self.kept.to_string();
        let mut words = verb.to_vec();
        words.extend(["--preserve-fds", &kept]);
        if self.terminal {
            words.extend(["--console-socket", socket.to_str().unwrap()]);
        }
        words.extend(rest);
        let said: Said = self.bundle.tinyrun_in(&["sh", "-c", &with_much_open(&self.file())], &words);
        said.says("");
        waits.map(|waits| waits.join().unwrap())
    }

    /// The streams, the caller's first ones as many as asked for, and nothing else.
    fn assert_only_what_was_asked_for(&self, what: &str, pid: &str) {
        let mut found = open(pid);
        for number in 0..3 {
            let leads = found.remove(&number).unwrap_or_default();
            let right = if self.terminal {
                leads.starts_with("/dev/pts/")
            } else {
                leads == "/dev/null" || leads.starts_with(self.bundle.dir.to_str().unwrap())
            };
            assert!(right, "{what}: {number} leads to {leads:?}");
        }
        let given = [self.file(), "/etc".to_owned()];
        let kept: Open = (3..).zip(given).take(self.kept as usize).collect();
        assert_eq!(found, kept, "{what} with {} kept", self.kept);
    }

    fn until_it_is(&self, pid: &str, program: &str) {
        let exe = format!("/proc/{pid}/exe");
        wait_for(program, || fs::read_link(&exe).unwrap() == Path::new(program));
    }
}

fn cases(verb: &str) -> impl Iterator<Item = Case> {
    let all = [(false, 0), (false, 2), (true, 0), (true, 2)];
    all.into_iter().map(move |(terminal, kept)| Case::new(verb, terminal, kept))
}

#[test]
fn a_created_process_has_the_gate_beside_what_was_asked_for_and_loses_it() {
    for case in cases("create") {
        let bundle = &case.bundle;
        let dir = bundle.dir.to_str().unwrap();
        let _terminal = case.call(&["create"], &["--bundle", dir, &bundle.id]);
        let pid = bundle.state()["pid"].to_string();
        // The conversation and the gate, sockets without a name in any file system.
        let waiting = open(&pid);
        let gate: Vec<u32> = waiting
            .iter()
            .filter(|(_, leads)| leads.starts_with("socket:["))
            .map(|(number, _)| *number)
            .collect();
        assert_eq!(waiting.len(), 3 + case.kept as usize + gate.len(), "{waiting:?}");
        assert!(gate.len() <= 2 && gate.iter().all(|number| *number > 2 + case.kept), "{waiting:?}");
        bundle.tinyrun_in(&["sh", "-c", &with_much_open(&case.file())], &["start", &bundle.id]).says("");
        case.until_it_is(&pid, "/bin/busybox");
        case.assert_only_what_was_asked_for("start", &pid);
    }
}

#[test]
fn a_process_of_run_has_what_was_asked_for() {
    for case in cases("run") {
        let bundle = &case.bundle;
        let dir = bundle.dir.to_str().unwrap();
        let _terminal = case.call(&["run", "-d"], &["--bundle", dir, &bundle.id]);
        let pid = bundle.state()["pid"].to_string();
        case.assert_only_what_was_asked_for("run", &pid);
    }
}

#[test]
fn a_process_that_is_added_has_what_was_asked_for() {
    for case in cases("exec") {
        let bundle = &case.bundle;
        let mut spec = bundle.spec.clone();
        spec["process"]["terminal"] = false.into();
        fs::write(bundle.dir.join("config.json"), spec.to_string()).unwrap();
        let dir = bundle.dir.to_str().unwrap();
        bundle.tinyrun(&["run", "-d", "--bundle", dir, &bundle.id]).says("");
        let pid_file = bundle.dir.join("pid");
        let tty: &[&str] = if case.terminal { &["exec", "-d", "-t"] } else { &["exec", "-d"] };
        let words = ["--pid-file", pid_file.to_str().unwrap(), &bundle.id, "sleep", "1001"];
        let _terminal = case.call(tty, &words);
        let pid = fs::read_to_string(&pid_file).unwrap();
        case.assert_only_what_was_asked_for("exec", &pid);
    }
}

/// What is opened first would get the number of a standard stream that is closed, and the container would have the host's file.
#[test]
fn a_standard_stream_that_is_closed_is_nothing_and_not_a_file() {
    let bundle = Bundle::new("closed-streams").args(&["sleep", "1000"]);
    bundle.write();
    let closed = ["sh", "-c", r#"exec "$0" "$@" <&- >&- 2>&-"#];
    let said = bundle.tinyrun_in(&closed, &["run", "-d", "-b", bundle.dir.to_str().unwrap(), &bundle.id]);
    assert_eq!(said.code, 0, "{said:?}");
    let fds = format!("/proc/{}/fd", bundle.state()["pid"]);
    wait_for("the program", || fs::read_dir(&fds).unwrap().count() == 3);
    for stream in ["0", "1", "2"] {
        assert_eq!(fs::read_link(Path::new(&fds).join(stream)).unwrap(), Path::new("/dev/null"));
    }
}
