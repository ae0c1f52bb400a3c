//! libseccomp as an oracle: its program for a profile beside ours, on a model of the kernel's machine, over every number and every class
//! of arguments. Where they differ the test says why. `./test` installs libseccomp-dev; without it there is nothing to ask.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use tinyd_core::{oci, seccomp_profile::Profile};
use tinyd_sys::{creds::CAPABILITIES, seccomp::Insn};

use super::{
    arch::{Arch, X32_BIT},
    compile, default_profile,
    interpreter::{Call, Reading, returned, run},
    tests::caps,
};

const ENOSYS: u32 = 0x5_0026;
const KILL: u32 = 0x8000_0000;

/// Calls that Debian 12's libseccomp does not know, all or some of the architectures': there it leaves out what rules say of them. A
/// later one may know them.
const NEWER_THAN_LIBSECCOMP: [&str; 12] = [
    "getxattrat",
    "listmount",
    "listxattrat",
    "lsm_get_self_attr",
    "lsm_list_modules",
    "lsm_set_self_attr",
    "map_shadow_stack",
    "mseal",
    "removexattrat",
    "setxattrat",
    "statmount",
    "uretprobe",
];

/// The helper, compiled once.
fn helper() -> Option<&'static Path> {
    static HELPER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = HELPER.get_or_init(|| {
        if !Path::new("/usr/include/seccomp.h").exists() {
            return None;
        }
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/oracle/libseccomp.c");
        let program = std::env::current_exe().unwrap().with_file_name("tinyd-libseccomp");
        // Another run of the tests may be making it too.
        let own = program.with_extension(std::process::id().to_string());
        let made = Command::new("cc").arg("-o").arg(&own).arg(source).arg("-lseccomp").status().unwrap();
        assert!(made.success());
        std::fs::rename(&own, &program).unwrap();
        Some(program)
    });
    made.as_deref()
}

/// What libseccomp makes of a profile.
struct Theirs {
    insns: Vec<Insn>,
    /// Calls that it does not know, and on which architecture.
    unknown: Vec<(Arch, String)>,
}

fn theirs(helper: &Path, profile: &oci::Seccomp) -> Theirs {
    let mut text = format!("default {}\n", returned(&profile.default_action, profile.default_errno_ret));
    for arch in &profile.architectures {
        let name = arch.trim_start_matches("SCMP_ARCH_").to_lowercase();
        writeln!(text, "arch {name}").unwrap();
    }
    for rule in &profile.syscalls {
        let action = returned(&rule.action, rule.errno_ret);
        let args: String = rule
            .args
            .iter()
            .map(|arg| format!(" {} {} {} {}", arg.index, arg.op, arg.value, arg.value_two))
            .collect();
        for name in rule.names.iter() {
            writeln!(text, "rule {action} {name} {}{args}", rule.args.len()).unwrap();
        }
    }
    let mut child = Command::new(helper)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let said = child.wait_with_output().unwrap();
    let told = String::from_utf8(said.stderr).unwrap();
    assert!(said.status.success(), "{}: {told}", said.status);
    let archs = [("x86_64", Arch::X86_64), ("x86", Arch::X86), ("x32", Arch::X32)];
    let unknown = told.lines().map(|line| {
        let (arch, name) = line.split_once(' ').unwrap();
        let arch = archs.iter().find(|(word, _)| *word == arch).unwrap().1;
        (arch, name.to_owned())
    });
    let insn = |raw: &[u8]| Insn {
        code: u16::from_ne_bytes([raw[0], raw[1]]),
        jt: raw[2],
        jf: raw[3],
        k: u32::from_ne_bytes([raw[4], raw[5], raw[6], raw[7]]),
    };
    Theirs { insns: said.stdout.chunks(8).map(insn).collect(), unknown: unknown.collect() }
}

/// Why ours may say something else than libseccomp's about a call.
fn is_explained(
    profile: &oci::Seccomp,
    unknown: &BTreeSet<u32>,
    newest: u32,
    nr: u32,
    (ours, theirs): (u32, u32),
) -> bool {
    let default = returned(&profile.default_action, profile.default_errno_ret);
    // libseccomp has left the rule out.
    let is_newer = unknown.contains(&nr) && theirs == default;
    // Numbers above all that the profile names are new to it. runc puts the same test before libseccomp's program.
    let is_beyond = nr > newest && theirs == default && ours == ENOSYS;
    is_newer || is_beyond
}

fn is_like_libseccomp(profile: &oci::Seccomp) {
    let Some(helper) = helper() else { return };
    let ours = compile(profile).unwrap();
    let theirs = theirs(helper, profile);
    let has = |(arch, name): &&(Arch, String)| arch.number(name).is_some();
    let newer: BTreeSet<&str> = theirs.unknown.iter().filter(has).map(|(_, name)| name.as_str()).collect();
    let strangers: Vec<&&str> = newer.iter().filter(|name| !NEWER_THAN_LIBSECCOMP.contains(name)).collect();
    assert!(strangers.is_empty(), "libseccomp does not know {strangers:?}");
    for arch in [Arch::X86_64, Arch::X32, Arch::X86] {
        let reading = Reading::new(profile, arch);
        let unknown = theirs.unknown.iter().filter(|(of, _)| *of == arch);
        let unknown: BTreeSet<u32> = unknown.filter_map(|(_, name)| arch.number(name)).collect();
        let newest = reading.newest().unwrap();
        let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
        let edges = [1000, 0xffff, 0x3fff_ffff].map(|nr| nr | bit);
        for nr in (0..=600).map(|nr| nr | bit).chain(edges) {
            for args in reading.edges(nr) {
                let call = Call { arch: arch.audit(), nr, args };
                let both = (run(&ours.insns, &call), run(&theirs.insns, &call));
                assert!(
                    both.0 == both.1 || is_explained(profile, &unknown, newest, nr, both),
                    "{arch:?} {call:x?}: {both:x?}"
                );
            }
        }
    }
    outside_of_every_table(&ours.insns, &theirs.insns, profile);
}

/// Numbers that no call has, and calls of architectures that are not listed.
fn outside_of_every_table(ours: &[Insn], theirs: &[Insn], profile: &oci::Seccomp) {
    let both = |arch: u32, nr: u32| {
        let call = Call { arch, nr, args: [0; 6] };
        (run(ours, &call), run(theirs, &call))
    };
    for arch in [Arch::Aarch64.audit(), Arch::Arm.audit(), 0, 0xc000_0016] {
        assert_eq!(both(arch, 0), (KILL, KILL), "{arch:x}");
    }
    let default = returned(&profile.default_action, profile.default_errno_ret);
    for nr in [-1_i32, -2, i32::MIN].map(i32::cast_unsigned) {
        // Numbers with the highest bits are x32's to x86_64.
        for (arch, word) in [(Arch::X86_64, "SCMP_ARCH_X32"), (Arch::X86, "SCMP_ARCH_X86")] {
            let (ours, theirs) = both(arch.audit(), nr);
            let expected = if profile.architectures.iter().any(|arch| arch == word) {
                // What is beyond the tables is new to the profile.
                (ENOSYS, default)
            } else if arch == Arch::X86_64 && nr == u32::MAX {
                // What a tracer writes to have a call skipped.
                (ENOSYS, default)
            } else {
                (KILL, KILL)
            };
            assert_eq!((ours, theirs), expected, "{arch:?} {nr:x}");
        }
    }
}

#[test]
fn the_default_profile_is_libseccomps() {
    is_like_libseccomp(&default_profile(&[]));
    is_like_libseccomp(&default_profile(&caps(&[
        "CAP_SYS_ADMIN",
        "CAP_SYS_PTRACE",
        "CAP_BPF",
        "CAP_SYS_NICE",
    ])));
}

/// Each capability has rules of its own, or none.
#[test]
fn the_default_profile_of_each_capability_is_libseccomps() {
    for cap in CAPABILITIES {
        is_like_libseccomp(&default_profile(&caps(&[cap])));
    }
    is_like_libseccomp(&default_profile(&caps(&CAPABILITIES)));
}

#[test]
fn without_its_second_architectures_too() {
    is_like_libseccomp(&oci::Seccomp { architectures: Vec::new(), ..default_profile(&[]) });
    let x32 = caps(&["SCMP_ARCH_X32"]);
    is_like_libseccomp(&oci::Seccomp { architectures: x32, ..default_profile(&[]) });
}

#[test]
fn a_profile_of_podman_is_libseccomps() {
    let Ok(text) = std::fs::read_to_string("/usr/share/containers/seccomp.json") else { return };
    let profile =
        Profile::parse(&text).unwrap().resolve(&caps(&["CAP_AUDIT_WRITE"]), "amd64", (6, 1)).unwrap();
    is_like_libseccomp(&profile);
}

/// Every comparison, as libseccomp understands it.
#[test]
fn every_comparison_is_libseccomps() {
    let arg =
        |index, op: &str, value, value_two| oci::SyscallArg { index, value, value_two, op: op.to_owned() };
    let allow = |name: &str, args: &[oci::SyscallArg]| oci::SyscallRule {
        names: [name].into_iter().collect(),
        action: "SCMP_ACT_ALLOW".to_owned(),
        args: args.to_vec(),
        ..oci::SyscallRule::default()
    };
    let value = 0x1_0000_0005;
    let mut syscalls: Vec<oci::SyscallRule> = Vec::new();
    let ops = ["SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT"];
    for (name, op) in ["mkdir", "rmdir", "chmod", "fchmod", "lseek", "dup2"].into_iter().zip(ops) {
        syscalls.push(allow(name, &[arg(1, op, value, 0)]));
    }
    syscalls.push(allow("ioctl", &[arg(1, "SCMP_CMP_MASKED_EQ", 0xff_0000_00ff, 0x1_0000_0005)]));
    syscalls.push(allow("fcntl", &[arg(0, "SCMP_CMP_GT", 2, 0), arg(1, "SCMP_CMP_EQ", value, 0)]));
    syscalls.push(allow("prctl", &[arg(0, "SCMP_CMP_EQ", 3, 0)]));
    syscalls.push(allow("prctl", &[arg(0, "SCMP_CMP_EQ", 4, 0), arg(2, "SCMP_CMP_NE", 0, 0)]));
    let profile = oci::Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        architectures: caps(&["SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
        syscalls,
        ..oci::Seccomp::default()
    };
    is_like_libseccomp(&profile);
}
