//! Filters that ask somebody.

use std::{
    fs,
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::UnixListener,
    },
    thread::JoinHandle,
};

use rustix::{
    event::{PollFd, PollFlags},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags},
};
use serde_json::{Value, json};

use crate::driver::{Bundle, until_stopped};

/// Waits for one process's filter and its first question: the filter's descriptors, which answer when they close (the call does not
/// exist then), and what was told about it.
pub(crate) fn asked(listener: &UnixListener) -> (Vec<OwnedFd>, Value) {
    let (fds, told) = received(listener);
    let kind = fs::read_link(format!("/proc/self/fd/{}", fds[0].as_raw_fd())).unwrap();
    assert_eq!(kind.to_str(), Some("anon_inode:seccomp notify"));
    let mut asked = [PollFd::new(&fds[0], PollFlags::IN)];
    let patience = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut asked, Some(&patience)), Ok(1), "nobody asks");
    (fds, tinyd_core::json::read(&told).unwrap())
}

/// Descriptors that the next one sends, and what is told about them.
pub(crate) fn received(listener: &UnixListener) -> (Vec<OwnedFd>, Vec<u8>) {
    let (connection, _) = listener.accept().unwrap();
    let mut space = [MaybeUninit::<u8>::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut bytes = vec![0; 64 << 10];
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let got = rustix::net::recvmsg(&connection, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fds: Vec<OwnedFd> = control
        .drain()
        .flat_map(|message| {
            let RecvAncillaryMessage::ScmRights(fds) = message else { panic!("not descriptors") };
            fds
        })
        .collect();
    bytes.truncate(got.bytes);
    (fds, bytes)
}

/// An agent that lets one process ask. What it was told.
fn agent(listener: UnixListener) -> JoinHandle<Value> {
    std::thread::spawn(move || asked(&listener).1)
}

fn with_agent(name: &str, no_new_privileges: bool) -> (Bundle, UnixListener) {
    let mut bundle = Bundle::new(name);
    let socket = bundle.dir.join("agent");
    fs::copy(bundle.rootfs("bin/busybox"), bundle.rootfs("bin/mkdir")).unwrap();
    bundle.spec["process"]["noNewPrivileges"] = json!(no_new_privileges);
    bundle.spec["annotations"] = json!({ "a": "b" });
    bundle.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": socket.to_str().unwrap(),
        "listenerMetadata": "meta",
        "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let listener = UnixListener::bind(socket).unwrap();
    (bundle, listener)
}

#[test]
fn a_filter_that_asks_is_handed_to_its_agent() {
    for no_new_privileges in [true, false] {
        let (mut bundle, listener) = with_agent(&format!("notify-{no_new_privileges}"), no_new_privileges);
        if no_new_privileges {
            let flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"];
            bundle.spec["linux"]["seccomp"]["flags"] = json!(flags);
        }
        let bundle = bundle.script("mkdir /dev/shm/x; sleep 1000");
        let waits = agent(listener.try_clone().unwrap());
        bundle.write();
        bundle.tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
        bundle.tinyrun(&["start", &bundle.id]).says("");
        let pid = bundle.state()["pid"].clone();
        let told = waits.join().unwrap();
        let state = json!({
            "ociVersion": told["ociVersion"], "id": bundle.id, "status": "created", "pid": pid,
            "bundle": bundle.dir.to_str().unwrap(), "annotations": { "a": "b" },
        });
        let whole = json!({
            "ociVersion": told["ociVersion"], "fds": ["seccompFd"], "pid": pid, "metadata": "meta", "state": state,
        });
        assert_eq!(told, whole);
        // One more process has a filter of its own.
        let waits = agent(listener);
        let said = bundle.tinyrun(&["exec", &bundle.id, "mkdir", "/dev/shm/y"]);
        assert!(said.err.contains("Function not implemented"), "{said:?}");
        let told = waits.join().unwrap();
        assert_eq!((&told["state"]["status"], &told["state"]["pid"]), (&json!("running"), &pid));
        assert!(told["pid"].is_i64() && told["pid"] != pid, "{told}");
    }
}

#[test]
fn without_an_agent_nothing_starts() {
    let (bundle, listener) = with_agent("notify-none", true);
    drop(listener);
    let mut bundle = bundle.script("true");
    bundle.run().fails(1, "linux.seccomp.listenerPath: ");
    bundle.assert_clean();
    bundle.tinyrun(&["create", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]).says("");
    bundle.tinyrun(&["start", &bundle.id]).fails(1, "Connection refused");
    until_stopped(&bundle);
    bundle.tinyrun(&["delete", &bundle.id]).says("");
    bundle.spec["linux"]["seccomp"]["listenerPath"] = json!("");
    bundle.run().fails(1, "linux.seccomp.listenerPath: SCMP_ACT_NOTIFY needs one");
    for name in ["write", "sendmsg"] {
        bundle.spec["linux"]["seccomp"]["syscalls"][0]["names"] = json!([name]);
        bundle.run().fails(1, "would stop the runtime itself");
    }
}
