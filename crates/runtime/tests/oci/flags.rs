//! Flags and variables of the caller's: descriptors, sockets, keys, the way to the root.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    path::Path,
    thread::{JoinHandle, sleep},
    time::Duration,
};

use serde_json::json;

use crate::driver::{Bundle, Said, tinyrun};

impl Bundle {
    /// `tinyrun run` with what a shell does before it.
    fn run_after(&self, before: &str, flags: &[&str]) -> Said {
        self.write();
        let script = format!("{before} exec \"$0\" \"$@\"");
        let run = [&["run"], flags, &["--bundle", self.dir.to_str().unwrap(), &self.id]].concat();
        self.tinyrun_in(&["sh", "-c", &script], &run)
    }
}

#[test]
fn descriptors_are_kept_as_many_as_asked_for() {
    let open = "exec 3</etc/hostname 4</etc/passwd 5</etc/group;";
    let bundle = Bundle::new("fds").script("for n in 3 4 5; do readlink /proc/self/fd/$n; done; true");
    bundle.run_after(open, &["--preserve-fds", "2"]).says("/etc/hostname\n/etc/passwd");
    bundle.run_after(open, &[]).says("");
    bundle.run_after(open, &["--preserve-fds", "4"]).fails(1, "--preserve-fds: descriptor 6 is not open");
    bundle.run_after(open, &["--preserve-fds", "x"]).fails(1, "--preserve-fds");
    // A process that is added has its own.
    let bundle = bundle.args(&["sleep", "1000"]);
    bundle.run_after("", &["-d"]).says("");
    let exec = [
        "exec",
        "--preserve-fds=1",
        &bundle.id,
        "sh",
        "-c",
        "for n in 3 4; do readlink /proc/self/fd/$n; done",
    ];
    let said =
        bundle.tinyrun_in(&["sh", "-c", "exec 3</etc/hostname 4</etc/passwd; exec \"$0\" \"$@\""], &exec);
    assert_eq!(said.out, "/etc/hostname", "{said:?}");
}

#[test]
fn sockets_of_activation_are_handed_on() {
    let bundle = Bundle::new("activation")
        .script("env | grep ^LISTEN_ | sort; for n in 3 4 5; do readlink /proc/self/fd/$n; done; echo $$");
    fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/sort")).unwrap();
    let open = "exec 3</etc/hostname 4</etc/passwd; export LISTEN_FDS=1 LISTEN_PID=$$;";
    bundle
        .run_after(open, &["--preserve-fds", "1"])
        .says("LISTEN_FDS=1\nLISTEN_PID=1\n/etc/hostname\n/etc/passwd\n1");
    // They are another process's.
    bundle.run_after("exec 3</etc/hostname; export LISTEN_FDS=1 LISTEN_PID=1;", &[]).says("1");
    // Without a PID namespace of its own the number is the host's.
    let mut bundle = bundle.script("test $LISTEN_PID = $$ && echo same");
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/test")).unwrap();
    bundle.run_after(open, &[]).says("same");
}

/// A service manager that reads `count` messages.
fn manager(path: &Path, count: usize) -> JoinHandle<Vec<String>> {
    let socket = UnixDatagram::bind(path).unwrap();
    std::thread::spawn(move || {
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = [0; 256];
        let mut read =
            || socket.recv(&mut bytes).map(|len| String::from_utf8_lossy(&bytes[..len]).into_owned());
        (0..count).map(|_| read().unwrap()).collect()
    })
}

#[test]
fn a_service_manager_is_told_when_the_program_is_ready() {
    // busybox has no datagram client for unix sockets: the test is the program's hand, by the mount's own directory.
    let mut bundle = Bundle::new("notify-socket")
        .script("stat -c %a $NOTIFY_SOCKET; touch /run/notify/x; exec sleep 1000");
    bundle.spec["root"]["readonly"] = json!(false);
    bundle.write();
    let path = bundle.dir.join("manager");
    let around = format!("NOTIFY_SOCKET={}", path.display());
    let around = ["env", around.as_str()];
    let dir = bundle.dir.to_str().unwrap();
    let said = bundle.tinyrun_in(&around, &["create", "--bundle", dir, &bundle.id]);
    said.says("");
    let waits = manager(&path, 3);
    let pid = bundle.state()["pid"].to_string();
    let inside = bundle.dir.join("records").join(&bundle.id).join("notify/notify.sock");
    let program = std::thread::spawn(move || {
        let socket = UnixDatagram::unbound().unwrap();
        while socket.send_to(b"STATUS=nearly\nMAINPID=1", &inside).is_err() {
            sleep(Duration::from_millis(1));
        }
        socket.send_to(b"READY=1\nSTATUS=there", &inside).unwrap();
    });
    // It comes back when the program is ready, and not before.
    assert_eq!(bundle.tinyrun_in(&around, &["start", &bundle.id]).code, 0);
    program.join().unwrap();
    assert_eq!(
        waits.join().unwrap(),
        ["READY=1".to_owned(), format!("MAINPID={pid}"), "BARRIER=1".to_owned()]
    );
}

/// The bundle is somewhere else than the records, which are named as they are seen from here.
#[test]
fn records_at_a_relative_place_are_found_for_the_notify_socket_too() {
    let bundle = Bundle::new("notify-relative").script("stat -c %F $NOTIFY_SOCKET");
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    let said = std::process::Command::new(tinyrun())
        .args(["--root", "../records", "run", "--bundle", dir, &bundle.id])
        .current_dir(bundle.rootfs(""))
        .env("NOTIFY_SOCKET", bundle.dir.join("manager"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&said.stdout), "socket\n", "{said:?}");
}

#[test]
fn a_container_that_is_kept_is_deleted_by_hand() {
    let bundle = Bundle::new("keep").script("exit 4");
    assert_eq!(bundle.run_after("", &["--keep"]).code, 4);
    assert_eq!(bundle.state()["status"], "stopped");
    bundle.tinyrun(&["delete", &bundle.id]).says("");
}

#[test]
fn the_session_keyring_is_its_own_unless_the_callers_is_asked_for() {
    let bundle = Bundle::new("keyring").script("true");
    bundle.write();
    for (flags, calls) in [(&["run"][..], 1), (&["run", "--no-new-keyring"], 0)] {
        let trace = bundle.dir.join("trace");
        let around = ["strace", "-f", "-e", "trace=keyctl", "-o", trace.to_str().unwrap()];
        let run = [flags, &["--bundle", bundle.dir.to_str().unwrap(), &bundle.id]].concat();
        bundle.tinyrun_in(&around, &run).says("");
        let seen = fs::read_to_string(&trace).unwrap();
        assert_eq!(seen.matches("KEYCTL_JOIN_SESSION_KEYRING").count(), calls, "{seen}");
    }
}

#[test]
fn without_pivot_the_root_is_the_containers_and_the_hosts_mounts_are_gone() {
    for placed in [false, true] {
        let mut bundle = Bundle::new(&format!("no-pivot-{placed}"))
            .script("ls -d /etc/passwd /home 2>&1; ls /proc/self/fd | wc -l; cut -d' ' -f5 /proc/self/mountinfo | grep -c ^/sys$; pwd");
        fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/cut")).unwrap();
        if placed {
            bundle.spec["hooks"]["createContainer"] = json!([{ "path": "/bin/true" }]);
        }
        let said = bundle.run_after("", &["--no-pivot"]);
        assert_eq!(said.out, "ls: /home: No such file or directory\n/etc/passwd\n4\n1\n/", "{said:?}");
    }
}

/// Somebody who takes the container's root away from over the old one finds none of the host's mounts there.
#[test]
fn without_pivot_nothing_of_the_hosts_mounts_is_left() {
    let bundle = Bundle::new("no-pivot-left").args(&["sleep", "1000"]);
    bundle.write();
    // One whose path has a space, too.
    let odd = bundle.dir.join("a b");
    fs::create_dir(&odd).unwrap();
    let mount = format!("mount -t tmpfs t '{0}' && touch '{0}/left' && exec \"$0\" \"$@\"", odd.display());
    let run = ["run", "-d", "--no-pivot", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id];
    bundle.tinyrun_in(&["unshare", "--mount", "sh", "-c", &mount], &run).says("");
    let pid = bundle.state()["pid"].to_string();
    let enter = |program: &[&str]| {
        let said =
            std::process::Command::new("nsenter").args(["-t", &pid, "-m"]).args(program).output().unwrap();
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    enter(&["/bin/umount", "-l", "/"]);
    assert_eq!(
        enter(&["/bin/ls", "/proc", "/sys", odd.to_str().unwrap()]),
        format!("/proc:\n\n/sys:\n\n{}:\n", odd.display())
    );
}

#[test]
fn who_loses_its_parent_is_the_runtimes_and_is_reaped() {
    let mut bundle = Bundle::new("orphans").script(
        "sh -c 'sleep 1000 & echo $! > /dev/shm/pid'; o=$(cat /dev/shm/pid); grep PPid /proc/$o/status; \
         printf 'PPid:\\t%s\\n' $PPID; kill $o; n=0; \
         while [ -e /proc/$o ] && [ $n -lt 500 ]; do n=$((n + 1)); sleep 0.01; done; [ ! -e /proc/$o ]",
    );
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().retain(|one| one["type"] != "pid");
    for (flags, same) in [(&[][..], true), (&["--no-subreaper"], false)] {
        let said = bundle.run_after("", flags);
        let (orphan, first) = said.out.split_once('\n').unwrap();
        assert_eq!((said.code, orphan == first), (0, same), "{said:?}");
    }
}
