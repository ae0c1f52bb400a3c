//! What each action, comparison and flag of a filter comes to in a container.

use std::{fs, process::Command, time::Duration};

use serde_json::{Value, json};

use crate::{
    calls::{bundle, outcomes},
    driver::Bundle,
};

fn filtered(bundle: &mut Bundle, rules: Value, flags: &[&str]) {
    bundle.spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "syscalls": rules,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    });
}

/// getpriority(2) with this first argument and no such process; 22 or 3 are the kernel's.
const CALL: &str = "64:140:0:99999";

#[test]
fn each_action_comes_to_its_own() {
    let signal = format!("signal {}", libc::SIGSYS);
    let signal = signal.as_str();
    for (action, errno, once, in_a_thread) in [
        ("SCMP_ACT_ALLOW", None, "3", "3"),
        ("SCMP_ACT_LOG", None, "3", "3"),
        ("SCMP_ACT_ERRNO", None, "1", "1"),
        ("SCMP_ACT_ERRNO", Some(77), "77", "77"),
        // Nobody traces it: the call does not exist then.
        ("SCMP_ACT_TRACE", Some(5), "38", "38"),
        ("SCMP_ACT_TRAP", None, "trap", "trap"),
        ("SCMP_ACT_KILL", None, signal, "alone"),
        ("SCMP_ACT_KILL_THREAD", None, signal, "alone"),
        ("SCMP_ACT_KILL_PROCESS", None, signal, signal),
    ] {
        let thread = CALL.replace("64:", "thread:");
        let mut bundle = bundle(&format!("action-{action}-{}", errno.unwrap_or(0)), &[CALL, &thread]);
        filtered(
            &mut bundle,
            json!([{ "names": ["getpriority"], "action": action, "errnoRet": errno }]),
            &[],
        );
        if errno.is_none() {
            bundle.spec["linux"]["seccomp"]["syscalls"][0].as_object_mut().unwrap().remove("errnoRet");
        }
        let found = outcomes(&bundle);
        assert_eq!((found[CALL].as_str(), found[&thread].as_str()), (once, in_a_thread), "{action}");
    }
}

/// As the default, too: with all that a program needs allowed.
#[test]
fn each_action_can_be_the_default() {
    let needed = [
        "read",
        "write",
        "openat",
        "close",
        "execve",
        "execveat",
        "brk",
        "mmap",
        "mprotect",
        "munmap",
        "arch_prctl",
        "set_tid_address",
        "set_robust_list",
        "rseq",
        "prlimit64",
        "readlinkat",
        "getrandom",
        "newfstatat",
        "fstat",
        "clone",
        "wait4",
        "getpid",
        "rt_sigaction",
        "exit_group",
        "rt_sigprocmask",
        "capget",
        "capset",
        "prctl",
        "setresuid",
        "setresgid",
        "setgroups",
        "close_range",
        "sendmsg",
        "recvmsg",
        "fcntl",
        "umask",
        "chdir",
        "access",
        "uname",
        "readlink",
        "sysinfo",
        "gettid",
        "futex",
        "ioctl",
    ];
    let signal = format!("signal {}", libc::SIGSYS);
    for (action, errno, expected) in [
        ("SCMP_ACT_LOG", None, "3"),
        ("SCMP_ACT_ERRNO", Some(78), "78"),
        ("SCMP_ACT_TRACE", None, "38"),
        ("SCMP_ACT_TRAP", None, "trap"),
        ("SCMP_ACT_KILL_PROCESS", None, &signal),
    ] {
        let mut bundle = bundle(&format!("default-{action}"), &[CALL]);
        let mut profile = json!({
            "defaultAction": action, "syscalls": [{ "names": needed.as_slice(), "action": "SCMP_ACT_ALLOW" },
            // Newer than the rest, so that what is asked of is not beyond the profile.
            { "names": ["mseal"], "action": "SCMP_ACT_ALLOW" }],
        });
        if let Some(errno) = errno {
            profile["defaultErrnoRet"] = json!(errno);
        }
        bundle.spec["linux"]["seccomp"] = profile;
        assert_eq!(outcomes(&bundle)[CALL], expected, "{action}");
    }
}

#[test]
fn each_comparison_holds_where_it_should() {
    let calls = ["64:140:4:99999", "64:140:5:99999", "64:140:6:99999", "64:140:0x100000005:99999"];
    for (op, holds) in [
        ("SCMP_CMP_NE", [true, false, true, true]),
        ("SCMP_CMP_LT", [true, false, false, false]),
        ("SCMP_CMP_LE", [true, true, false, false]),
        ("SCMP_CMP_EQ", [false, true, false, false]),
        ("SCMP_CMP_GE", [false, true, true, true]),
        ("SCMP_CMP_GT", [false, false, true, true]),
        // With the mask 5 its value is 4: bit 0 is not set and bit 2 is.
        ("SCMP_CMP_MASKED_EQ", [true, false, true, false]),
    ] {
        let mut bundle = bundle(&format!("compare-{op}"), &calls);
        let mut arg = json!({ "index": 0, "value": 5, "op": op });
        if op == "SCMP_CMP_MASKED_EQ" {
            arg["valueTwo"] = json!(4);
        }
        let rule =
            json!([{ "names": ["getpriority"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77, "args": [arg] }]);
        filtered(&mut bundle, rule, &[]);
        let found = outcomes(&bundle);
        assert_eq!(calls.map(|call| found[call] == "77"), holds, "{op}: {found:?}");
    }
}

/// What seccomp(2) is told, and that the kernel takes it.
#[test]
fn each_flag_reaches_the_kernel() {
    let asks = |names: &str| json!([{ "names": [names], "action": "SCMP_ACT_ERRNO" }]);
    for (flags, told) in [
        (&[][..], "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
        (&["SECCOMP_FILTER_FLAG_LOG"], "SECCOMP_FILTER_FLAG_LOG"),
        (&["SECCOMP_FILTER_FLAG_TSYNC"], "SECCOMP_FILTER_FLAG_TSYNC"),
        (
            &["SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_LOG"],
            "SECCOMP_FILTER_FLAG_LOG|SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        ),
        // It is about supervisors: without one it means nothing, and the kernel refuses it.
        (&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "0"),
    ] {
        let mut bundle = Bundle::new(&format!("flags-{}", flags.join("-").len())).args(&["true"]);
        filtered(&mut bundle, asks("mkdir"), flags);
        bundle.write();
        let trace = bundle.dir.join("trace");
        let around = ["strace", "-f", "-e", "trace=seccomp", "-o", trace.to_str().unwrap()];
        let said = bundle.tinyrun_in(&around, &["run", "--bundle", bundle.dir.to_str().unwrap(), &bundle.id]);
        said.says("");
        let seen = fs::read_to_string(&trace).unwrap();
        let call = format!("seccomp(SECCOMP_SET_MODE_FILTER, {told}, ");
        assert!(seen.contains(&call), "{flags:?}: {seen}");
    }
}

/// A container whose program has this name and makes the call under a rule and a flag.
fn named(comm: &str, action: &str, flags: &[&str]) -> Bundle {
    let mut bundle = bundle(&format!("log-{comm}"), &[CALL]);
    let program = format!("/bin/{comm}");
    fs::rename(bundle.rootfs("bin/calls"), bundle.rootfs(&program[1..])).unwrap();
    bundle.spec["process"]["args"][0] = json!(program);
    filtered(&mut bundle, json!([{ "names": ["getpriority"], "action": action }]), flags);
    bundle
}

/// The kernel's log has a line of each call that is let through to be logged, and with the flag of each that is refused.
#[test]
fn what_is_to_be_logged_is_in_the_kernels_log() {
    if !fs::read_to_string("/proc/sys/kernel/seccomp/actions_logged")
        .is_ok_and(|actions| actions.contains("log"))
    {
        return;
    }
    let comm = |letter: char| format!("log{letter}{}", std::process::id());
    let is_logged = |comm: &str| {
        let said = Command::new("dmesg").output().unwrap();
        let wanted = [format!("comm=\"{comm}\""), "syscall=140".to_owned()];
        String::from_utf8_lossy(&said.stdout)
            .lines()
            .any(|line| wanted.iter().all(|word| line.contains(word)))
    };
    let quiet = named(&comm('q'), "SCMP_ACT_ERRNO", &[]);
    assert_eq!(outcomes(&quiet)[CALL], "1");
    for (letter, action, flags) in
        [('a', "SCMP_ACT_LOG", &[][..]), ('f', "SCMP_ACT_ERRNO", &["SECCOMP_FILTER_FLAG_LOG"])]
    {
        let bundle = named(&comm(letter), action, flags);
        // The kernel writes few lines at once: others that are killed meanwhile may have had them.
        let logged = (0..30).any(|_| {
            outcomes(&bundle);
            is_logged(&comm(letter)) || {
                // Until it writes again: the next line is written only for a new try.
                std::thread::sleep(Duration::from_millis(500));
                false
            }
        });
        assert!(logged, "{action} with {flags:?}");
    }
    assert!(!is_logged(&comm('q')));
}

/// Its silence was taken for that of a program that runs.
#[test]
fn who_may_not_execute_its_program_and_is_killed_for_it_has_not_run() {
    let killed = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["execve"], "action": "SCMP_ACT_KILL_PROCESS" }],
    });
    let mut bundle = Bundle::new("seccomp-killed").args(&["true"]);
    bundle.spec["linux"]["seccomp"] = killed.clone();
    bundle.run().fails(1, "the process ended before its program was executed");
    // One more process, too.
    bundle.spec["linux"]["seccomp"] = json!(null);
    bundle.spec["process"]["args"] = json!(["sleep", "1000"]);
    bundle.write();
    let dir = bundle.dir.to_str().unwrap();
    bundle.tinyrun(&["run", "-d", "-b", dir, &bundle.id]).says("");
    let record = bundle.dir.join("records").join(&bundle.id).join("config.json");
    let mut kept: serde_json::Value = tinyd_core::json::read(&fs::read(&record).unwrap()).unwrap();
    kept["linux"]["seccomp"] = killed;
    fs::write(&record, kept.to_string()).unwrap();
    let exec = |flags: &[&str]| bundle.tinyrun(&[&["exec"], flags, &[&bundle.id, "true"]].concat());
    exec(&[]).fails(255, "the process ended before its program was executed");
    exec(&["-d"]).fails(255, "the process ended before its program was executed");
}
