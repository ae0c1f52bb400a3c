//! What crun's and podman's users ask for by annotation.

use std::{
    fs,
    os::{fd::AsRawFd, unix::net::UnixListener},
};

use serde_json::json;

use crate::{
    driver::{Bundle, until_stopped},
    seccomp::{asked, received},
};

impl Bundle {
    fn annotated(mut self, name: &str, value: &str) -> Bundle {
        self.spec["annotations"][name] = json!(value);
        self
    }
}

#[test]
fn the_callers_groups_are_kept_when_asked_for() {
    let around = ["setpriv", "--groups", "7,8"];
    for users in [false, true] {
        let bundle = Bundle::new(&format!("keep-groups-{users}"));
        let bundle = if users { bundle.with_users() } else { bundle };
        let mut bundle = bundle.args(&["grep", "^Groups", "/proc/self/status"]);
        bundle.spec["process"]["user"] = json!({ "uid": 5, "gid": 5, "additionalGids": [9] });
        let run = |bundle: &Bundle| {
            bundle.write();
            let said =
                bundle.tinyrun_in(&around, &["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
            said.out.trim_start_matches("Groups:").trim().to_owned()
        };
        assert_eq!(run(&bundle), "9");
        let bundle = bundle.annotated("run.oci.keep_original_groups", "1");
        // Inside they have no number of their own.
        assert_eq!(run(&bundle), if users { "65534 65534" } else { "7 8" });
        let bundle = bundle.args(&["sleep", "1000"]);
        bundle.write();
        let dir = bundle.dir.to_str().unwrap();
        bundle.tinyrun_in(&around, &["run", "-d", "--bundle", dir, &bundle.id]).says("");
        let exec = ["exec", "--user", "5", &bundle.id, "grep", "^Groups", "/proc/self/status"];
        let said = bundle.tinyrun_in(&around, &exec).out;
        let said: Vec<&str> = said.split_whitespace().skip(1).collect();
        assert_eq!(said, if users { ["65534", "65534"] } else { ["7", "8"] });
    }
}

#[test]
fn hooks_of_the_host_write_to_files() {
    let mut bundle = Bundle::new("hooks-output").script("true");
    let (out, err) = (bundle.dir.join("hooks-out"), bundle.dir.join("hooks-err"));
    bundle.spec["annotations"] = json!({});
    let hook = |word: &str| json!([{ "path": "/bin/sh", "args": ["sh", "-c", format!("echo {word}; echo {word}! >&2")] }]);
    bundle.spec["hooks"] = json!({
        "prestart": hook("a"), "createRuntime": hook("b"), "createContainer": hook("c"), "startContainer": hook("d"),
        "poststart": hook("e"), "poststop": hook("f"),
    });
    let bundle = bundle
        .annotated("run.oci.hooks.stdout", out.to_str().unwrap())
        .annotated("run.oci.hooks.stderr", err.to_str().unwrap());
    bundle.write();
    // Written to what is there; by the hooks of other commands, too.
    fs::write(&out, "before\n").unwrap();
    bundle.tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["start", &bundle.id]).says("");
    bundle.tinyrun(&["delete", "--force", &bundle.id]).says("");
    assert_eq!(fs::read_to_string(&out).unwrap(), "before\na\nb\ne\nf\n");
    assert_eq!(fs::read_to_string(&err).unwrap(), "a!\nb!\ne!\nf!\n");
    let bundle = bundle.annotated("run.oci.hooks.stdout", "/nonexistent/file");
    bundle.run().fails(1, "open(/nonexistent/file)");
}

#[test]
fn a_descriptor_of_the_first_process_is_sent() {
    let bundle = Bundle::new("pidfd").args(&["sleep", "1000"]);
    let socket = bundle.dir.join("receiver");
    let bundle = bundle.annotated("run.oci.pidfd_receiver", socket.to_str().unwrap());
    let listener = UnixListener::bind(&socket).unwrap();
    let waits = std::thread::spawn(move || received(&listener).0.remove(0));
    bundle.write();
    bundle.tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    let pidfd = waits.join().unwrap();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd())).unwrap();
    assert!(info.contains(&format!("\nPid:\t{}\n", bundle.state()["pid"])), "{info}");
    bundle.tinyrun(&["delete", &bundle.id]).says("");
    // Nobody listens any more.
    bundle.run().fails(1, "run.oci.pidfd_receiver: ");
    bundle.assert_clean();
}

#[test]
fn a_filter_is_given_to_whoever_an_annotation_names() {
    let mut bundle = Bundle::new("receiver").script("mkdir /dev/shm/x");
    fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/mkdir")).unwrap();
    bundle.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let socket = bundle.dir.join("agent");
    let listener = UnixListener::bind(&socket).unwrap();
    let answer = || {
        let listener = listener.try_clone().unwrap();
        std::thread::spawn(move || asked(&listener).1)
    };
    let waits = answer();
    bundle.write();
    let variable = format!("RUN_OCI_SECCOMP_RECEIVER={}", socket.display());
    let dir = bundle.dir.to_str().unwrap().to_owned();
    let said = bundle.tinyrun_in(&["env", &variable], &["run", "--bundle", &dir, &bundle.id]);
    assert!(said.err.contains("Function not implemented"), "{said:?}");
    assert_eq!(waits.join().unwrap()["fds"], json!(["seccompFd"]));
    // Who starts it, and who adds a process, need not have the variable: they waited in vain, and were refused.
    let waits = answer();
    let pid = bundle.dir.join("pid").display().to_string();
    let create = ["create", "--pid-file", &pid, "--bundle", &dir, &bundle.id];
    bundle.tinyrun_in(&["env", &variable], &create).says("");
    bundle.tinyrun(&["start", &bundle.id]).says("");
    assert_eq!(waits.join().unwrap()["fds"], json!(["seccompFd"]));
    until_stopped(&bundle);
    bundle.tinyrun(&["delete", &bundle.id]).says("");
    let bundle = bundle.annotated("run.oci.seccomp.receiver", socket.to_str().unwrap());
    let waits = answer();
    assert!(bundle.run().err.contains("Function not implemented"));
    assert_eq!(waits.join().unwrap()["fds"], json!(["seccompFd"]));
}

#[test]
fn a_profile_with_calls_that_are_none_is_refused_when_asked_for() {
    let mut bundle = Bundle::new("unknown-call").script("echo ran");
    bundle.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["mkdir", "mkdirrr"], "action": "SCMP_ACT_ERRNO" }],
    });
    bundle.run().says("ran");
    let bundle = bundle.annotated("run.oci.seccomp_fail_unknown_syscall", "1");
    bundle.run().fails(1, "linux.seccomp.syscalls: \"mkdirrr\" is no system call");
}

#[test]
fn clocks_are_set_by_annotation() {
    let mut bundle = Bundle::new("clocks-annotated").args(&["cat", "/proc/uptime"]);
    bundle.spec["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "time" }));
    let bundle = bundle.annotated("run.oci.timens_offset", "boottime 1000000 0");
    let said = bundle.run();
    let up = |text: &str| text.split('.').next().unwrap().parse::<u64>().unwrap();
    let host = up(&fs::read_to_string("/proc/uptime").unwrap());
    assert!(up(&said.out).abs_diff(host + 1_000_000) < 100, "{said:?}");
    let bundle = bundle.annotated("run.oci.timens_offset", "soon");
    bundle.run().fails(1, "run.oci.timens_offset: \"soon\"");
}
