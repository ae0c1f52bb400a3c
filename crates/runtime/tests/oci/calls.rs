//! System calls of a container by number, in the three ways that an x86_64 kernel has, with the default profile and beside a container
//! without one: what the profile allows comes to the same, what it refuses has its errno.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::json;
use tinyd_runtime::seccomp::default_profile;

use crate::driver::Bundle;

/// What is expected of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// What the kernel says without a filter.
    Kernel,
    /// This errno.
    Errno(i32),
}

use Expect::{Errno, Kernel};

const REFUSED: Expect = Errno(libc::EPERM);
const UNKNOWN: Expect = Errno(libc::ENOSYS);

/// The calls, with arguments that do no harm: descriptors and pointers that are none. Most of those that are refused would come to something else
/// than EPERM without the filter.
#[rustfmt::skip]
const CALLS: [(&str, Expect); 64] = [
    ("64:0:-1", Kernel),            // read
    ("64:39", Kernel),              // getpid
    ("64:41:1:1", Kernel),          // socket, AF_UNIX
    ("64:41:2:2", Kernel),          // socket, AF_INET
    ("64:41:16:3", Kernel),         // socket, AF_NETLINK
    ("64:41:38:5", REFUSED),        // socket, AF_ALG
    ("64:41:40:1", REFUSED),        // socket, AF_VSOCK
    ("64:41:0x100000028:1", REFUSED), // the same to the kernel: an int
    ("64:56:0x11", Kernel),         // clone
    ("64:56:0x10000011", REFUSED),  // clone, CLONE_NEWUSER
    ("64:56:0x20011", REFUSED),     // clone, CLONE_NEWNS
    ("64:101:-1", Kernel),          // ptrace
    ("64:135:0xffffffff", Kernel),  // personality, asking
    ("64:135:0x400000", REFUSED),   // personality, READ_IMPLIES_EXEC
    ("64:155:0:0", REFUSED),        // pivot_root
    ("64:161:0", REFUSED),          // chroot
    ("64:163:-1", REFUSED),         // acct
    ("64:164:-1", REFUSED),         // settimeofday
    ("64:165:0:0:0", REFUSED),      // mount
    ("64:166:0", REFUSED),          // umount2
    ("64:167:0", REFUSED),          // swapon
    ("64:172:4", REFUSED),          // iopl
    ("64:175:0:0:0", REFUSED),      // init_module
    ("64:179:-1", REFUSED),         // quotactl
    ("64:202:0:99", Kernel),        // futex
    ("64:246:0:99:0:-1", REFUSED),  // kexec_load
    ("64:248:0:0", REFUSED),        // add_key
    ("64:250:99", REFUSED),         // keyctl
    ("64:257:-100:0", Kernel),      // openat
    ("64:272:0", REFUSED),          // unshare
    ("64:298:0:0:-1", REFUSED),     // perf_event_open
    ("64:304:-1:0", REFUSED),       // open_by_handle_at
    ("64:308:-1:0", REFUSED),       // setns
    ("64:321:99", REFUSED),         // bpf
    ("64:323:-1", REFUSED),         // userfaultfd
    ("64:425:0:0", REFUSED),        // io_uring_setup
    ("64:428:-1:0", REFUSED),       // open_tree
    ("64:430:0", REFUSED),          // fsopen
    ("64:435:0:0", UNKNOWN),        // clone3: its flags are out of sight
    ("64:444:0:0:1", Kernel),       // landlock_create_ruleset, asking
    ("64:462:-1:0:0", Kernel),      // mseal
    ("64:469:-1:0:0:0:0", UNKNOWN), // file_setattr: newer than the profile
    ("64:999", UNKNOWN),
    ("64:-1", UNKNOWN),             // what a tracer writes
    ("x32:0:-1", Kernel),           // read
    ("x32:41:40:1", REFUSED),       // socket, AF_VSOCK
    ("x32:56:0x10000011", REFUSED), // clone, CLONE_NEWUSER
    ("x32:165:0:0:0", REFUSED),     // mount
    ("x32:250:99", REFUSED),        // keyctl
    ("x32:272:0", REFUSED),         // unshare
    ("x32:425:0:0", REFUSED),       // io_uring_setup
    ("x32:999", UNKNOWN),
    ("32:3:-1", Kernel),            // read
    ("32:20", Kernel),              // getpid
    ("32:21:0:0:0", REFUSED),       // mount
    ("32:22:0", REFUSED),           // umount
    ("32:120:0x10000011", REFUSED), // clone, CLONE_NEWUSER
    ("32:288:99", REFUSED),         // keyctl
    ("32:310:0", REFUSED),          // unshare
    ("32:357:99", REFUSED),         // bpf
    ("32:359:40:1", REFUSED),       // socket, AF_VSOCK
    ("32:425:0:0", REFUSED),        // io_uring_setup
    ("32:435:0:0", UNKNOWN),        // clone3
    ("32:999", UNKNOWN),
];

/// The program, static: from the directory of the runtime where there is no compiler, else compiled once.
fn program() -> PathBuf {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let make = || {
        if let Some(dir) = std::env::var_os("TINYD_BIN_DIR") {
            let made = Path::new(&dir).join("oci-calls");
            if made.exists() {
                return made;
            }
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oci/calls.c");
        let program = std::env::current_exe().unwrap().with_file_name("oci-calls");
        // Another run of the tests may be making it too.
        let own = program.with_extension(std::process::id().to_string());
        let made =
            Command::new("cc").args(["-static", "-O1", "-pthread", "-o"]).arg(&own).arg(source).status();
        assert!(made.unwrap().success());
        fs::rename(&own, &program).unwrap();
        program
    };
    PROGRAM.get_or_init(make).clone()
}

/// A container that makes the calls; what came of each.
pub(crate) fn outcomes(bundle: &Bundle) -> BTreeMap<String, String> {
    let said = bundle.run();
    assert_eq!(said.code, 0, "{said:?}");
    let line = |line: &str| line.split_once(' ').map(|(call, what)| (call.to_owned(), what.to_owned()));
    said.out.lines().filter_map(line).collect()
}

/// A bundle whose program makes these calls.
pub(crate) fn bundle(name: &str, calls: &[&str]) -> Bundle {
    let bundle = Bundle::new(name).args(&[&["/bin/calls"], calls].concat());
    fs::copy(program(), bundle.rootfs("bin/calls")).unwrap();
    bundle
}

#[test]
fn the_default_profile_decides_on_calls_of_every_kind() {
    let mut bundle = bundle("calls", &CALLS.map(|(call, _)| call));
    bundle.spec["linux"]["seccomp"] = json!(null);
    let kernel = outcomes(&bundle);
    bundle.spec["linux"]["seccomp"] = json!(default_profile(&[]));
    let filtered = outcomes(&bundle);
    let mut hidden = 0;
    for (call, expect) in CALLS {
        let expected = match expect {
            Kernel => kernel[call].clone(),
            Errno(errno) => errno.to_string(),
        };
        // A kernel without i386 ends the process before any filter is asked.
        let no_i386 = call.starts_with("32:") && kernel["32:20"].starts_with("signal");
        assert!(filtered[call] == expected || no_i386, "{call}: {} and not {expected}", filtered[call]);
        hidden += usize::from(filtered[call] != kernel[call]);
    }
    assert!(hidden >= 20, "the filter changes {hidden} calls: {kernel:?}");
}

#[test]
fn calls_of_architectures_that_are_not_listed_kill() {
    let mut bundle = bundle("calls-kill", &CALLS.map(|(call, _)| call));
    let mut profile = default_profile(&[]);
    profile.architectures.clear();
    bundle.spec["linux"]["seccomp"] = json!(profile);
    let filtered = outcomes(&bundle);
    let killed = format!("signal {}", libc::SIGSYS);
    for (call, _) in CALLS {
        let segv = format!("signal {}", libc::SIGSEGV);
        let is_foreign = call.starts_with("x32:") || call.starts_with("32:");
        let ends = filtered[call] == killed || (call.starts_with("32:") && filtered[call] == segv);
        assert_eq!(ends, is_foreign, "{call}: {}", filtered[call]);
    }
}
