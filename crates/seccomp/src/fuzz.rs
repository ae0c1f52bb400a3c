//! Any profile: it is refused for a reason, or becomes a program that the kernel takes and that says what the profile says.

use std::sync::OnceLock;

use tinyd_core::{
    Kind,
    draw::Draw,
    oci,
    seccomp_profile::{Action, Op, Profile},
};
use tinyd_sys::seccomp::{self as kernel, FLAG_TSYNC, INSNS_MAX, Insn};

use super::{
    FLAGS,
    arch::{Arch, FOREIGN, WORDS, X32_BIT, names},
    compile,
    interpreter::{Call, Reading, run},
};

const ARCHS: [Arch; 5] = [Arch::X86_64, Arch::X86, Arch::X32, Arch::Aarch64, Arch::Arm];

/// A profile as JSON (the specification's, or Docker's format), or one that the bytes decide.
///
/// # Panics
/// When a promise is broken.
pub fn seccomp(bytes: &[u8]) {
    let profile = if bytes.starts_with(b"{") {
        let Some(profile) = read(bytes) else { return };
        profile
    } else {
        drawn(&mut Draw::new(bytes))
    };
    keeps_its_promises(&profile);
}

fn read(bytes: &[u8]) -> Option<oci::Seccomp> {
    let text = std::str::from_utf8(bytes).ok()?;
    if text.contains("archMap") {
        let caps = ["CAP_SYS_ADMIN".to_owned(), "CAP_AUDIT_WRITE".to_owned()];
        return Profile::parse(text).ok()?.resolve(&caps, "amd64", (6, 1)).ok();
    }
    serde_json::from_str(text).ok()
}

fn keeps_its_promises(profile: &oci::Seccomp) {
    let filter = match compile(profile) {
        Ok(filter) => filter,
        Err(error) => {
            assert_eq!(error.kind(), Kind::InvalidArgument, "{error}");
            let field = error.field().unwrap_or_default();
            assert!(field.starts_with("linux.seccomp."), "{error}");
            let too_long = error.message().contains(&INSNS_MAX.to_string());
            assert!(too_long || !is_one(profile), "{error}: {profile:?}");
            return;
        }
    };
    assert!(is_one(profile), "{profile:?} is compiled");
    assert_eq!(filter.flags, flags(profile), "{profile:?}");
    follows_the_kernels_rules(&filter.insns);
    the_kernel_takes(&filter.insns);
    means_the_same(profile, &filter.insns);
}

/// Whether every word of a profile is one and every number in its range, read as plainly as can be.
fn is_one(profile: &oci::Seccomp) -> bool {
    let action = |word: &str| Action::WORDS.iter().any(|(known, _)| *known == word);
    let is_foreign = |word: &str| FOREIGN.iter().any(|name| *word == format!("SCMP_ARCH_{name}"));
    let arch = |word: &String| WORDS.iter().any(|(known, _)| known == word) || is_foreign(word);
    let errno =
        |action: &str, number: Option<u32>| number.is_none_or(|number| number < 4096 && returns(action));
    let rule = |rule: &oci::SyscallRule| {
        let own = rule.names.iter().any(|name| name == "write" || name == "sendmsg");
        let arg =
            |arg: &oci::SyscallArg| arg.index < 6 && Op::WORDS.iter().any(|(known, _)| *known == arg.op);
        let asks = rule.action == "SCMP_ACT_NOTIFY";
        action(&rule.action)
            && errno(&rule.action, rule.errno_ret)
            && !rule.names.is_empty()
            && !(asks && own)
            && rule.args.iter().all(arg)
    };
    action(&profile.default_action)
        && profile.default_action != "SCMP_ACT_NOTIFY"
        && errno(&profile.default_action, profile.default_errno_ret)
        && profile.architectures.iter().all(arch)
        && profile.flags.iter().all(|word| FLAGS.iter().any(|(known, _)| known == word))
        && profile.syscalls.iter().all(rule)
}

/// Whether an action has a number to return.
fn returns(action: &str) -> bool {
    action == "SCMP_ACT_ERRNO" || action == "SCMP_ACT_TRACE"
}

fn flags(profile: &oci::Seccomp) -> u32 {
    let has = |word: &str| u32::from(profile.flags.iter().any(|flag| flag == word));
    let asks = u32::from(profile.syscalls.iter().any(|rule| rule.action == "SCMP_ACT_NOTIFY"));
    let tsync = has("SECCOMP_FILTER_FLAG_TSYNC");
    let spec = has("SECCOMP_FILTER_FLAG_SPEC_ALLOW") | u32::from(profile.flags.is_empty());
    let killable = has("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV") & asks;
    tsync | has("SECCOMP_FILTER_FLAG_LOG") << 1 | spec << 2 | asks << 3 | (tsync & asks) << 4 | killable << 5
}

/// The kernel's `bpf_check_classic` and `seccomp_check_filter`, for the instructions that are ever written.
fn follows_the_kernels_rules(program: &[Insn]) {
    assert!((1..=INSNS_MAX).contains(&program.len()), "{} instructions", program.len());
    for (at, insn) in program.iter().enumerate() {
        let inside = |skip: u32| at as u64 + 1 + u64::from(skip) < program.len() as u64;
        match insn.code {
            // A load of one of the 16 words of `struct seccomp_data`.
            0x20 => assert!(insn.k < 64 && insn.k.is_multiple_of(4), "{at}: load of {}", insn.k),
            0x54 | 0x06 => {}
            0x05 => assert!(inside(insn.k), "{at}: jump by {}", insn.k),
            0x15 | 0x25 | 0x35 => {
                assert!(inside(insn.jt.into()) && inside(insn.jf.into()), "{at}: {insn:?}");
            }
            other => panic!("{at}: instruction {other:#x}"),
        }
    }
    assert_eq!(program.last().map(|last| last.code), Some(0x06), "it does not end in a return");
}

/// Asks the kernel itself, and keeps nothing. All threads are asked to take the filter; one of them has a filter that the asking
/// one has not, so the kernel refuses, but only after it has read and accepted the program.
fn the_kernel_takes(program: &[Insn]) {
    static OTHER: OnceLock<()> = OnceLock::new();
    OTHER.get_or_init(|| {
        let (ready, is_ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let allow_all = [Insn { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 }];
            let filtered =
                rustix::thread::set_no_new_privs(true).is_ok() && kernel::install(&allow_all, 0).is_ok();
            // Whoever waits is told; whoever does not has ended.
            let _ = ready.send(filtered);
            loop {
                std::thread::park();
            }
        });
        assert_eq!(is_ready.recv(), Ok(true), "the other thread has its filter");
    });
    // For callers that are not root.
    let _ = rustix::thread::set_no_new_privs(true);
    let error = kernel::install(program, FLAG_TSYNC).expect_err("one thread cannot follow");
    assert_eq!(error.errno(), Some(libc::ESRCH), "{error}: {program:?}");
}

/// On every architecture: the numbers that are named and their neighbours, with arguments at and beside every value.
fn means_the_same(profile: &oci::Seccomp, program: &[Insn]) {
    let listed: Vec<Arch> = ARCHS.into_iter().filter(|arch| is_listed(profile, *arch)).collect();
    for arch in ARCHS {
        let bit = if arch == Arch::X32 { X32_BIT } else { 0 };
        if !listed.contains(&arch) {
            let call = Call { arch: arch.audit(), nr: bit, args: [0; 6] };
            assert_eq!(run(program, &call), 0x8000_0000, "{arch:?} is not in {profile:?}");
            continue;
        }
        let reading = Reading::new(profile, arch);
        let mut numbers = vec![bit, bit + 1, bit + 600, bit | 0x3fff_ffff, bit + 0xf_0002];
        for rule in &profile.syscalls {
            let named = rule.names.iter().filter_map(|name| arch.number(name));
            numbers.extend(named.flat_map(|nr| [nr.max(1) - 1, nr, nr + 1]));
        }
        if arch == Arch::X86_64 && !listed.contains(&Arch::X32) {
            numbers.push(u32::MAX);
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.retain(|nr| arch != Arch::X32 || *nr >= X32_BIT);
        for nr in numbers {
            for args in reading.edges(nr) {
                let call = Call { arch: arch.audit(), nr, args };
                let expected = reading.says(nr, &args);
                assert_eq!(run(program, &call), expected, "{arch:?} {call:x?} of {profile:?}");
            }
        }
    }
    let nobodys = Call { arch: 0x1234, nr: 0, args: [0; 6] };
    assert_eq!(run(program, &nobodys), 0x8000_0000);
}

fn is_listed(profile: &oci::Seccomp, arch: Arch) -> bool {
    let word_of =
        |known: &(&str, Arch)| known.1 == arch && profile.architectures.iter().any(|word| word == known.0);
    arch == Arch::NATIVE || WORDS.iter().any(word_of)
}

/// A profile that is one, but for a rare word that is none.
fn drawn(draw: &mut Draw<'_>) -> oci::Seccomp {
    let default_action = action(draw);
    let default_errno_ret = errno(draw, &default_action);
    let some = draw.below(4);
    let architectures = (0..some)
        .map(|_| match draw.byte() {
            255 => "SCMP_ARCH_?".to_owned(),
            250..255 => "SCMP_ARCH_S390X".to_owned(),
            other => WORDS[usize::from(other) % WORDS.len()].0.to_owned(),
        })
        .collect();
    let some = draw.below(8).saturating_sub(4);
    let flags = (0..some).map(|_| draw.one_of(&FLAGS).0.to_owned()).collect();
    let names = names();
    let mut syscalls = Vec::new();
    while !draw.is_empty() && syscalls.len() < 24 {
        syscalls.push(rule(draw, &names));
    }
    oci::Seccomp { default_action, default_errno_ret, architectures, flags, syscalls, ..Default::default() }
}

fn rule(draw: &mut Draw<'_>, table: &[&str]) -> oci::SyscallRule {
    let some = if draw.rarely(16) { draw.below(256) } else { 1 + draw.below(6) };
    // Calls that arguments are asked of come up often, so that rules meet at the same call.
    let often = ["clone", "socket", "personality", "ioctl"];
    let start = draw.below(table.len());
    let names = (0..some)
        .map(|at| match draw.byte() {
            255 => "no_such_call".to_owned(),
            few @ 160..255 => often[usize::from(few) % often.len()].to_owned(),
            step => table[(start + at * usize::from(step % 8) + usize::from(step)) % table.len()].to_owned(),
        })
        .collect();
    let some = draw.below(8).saturating_sub(4);
    let args = (0..some)
        .map(|_| oci::SyscallArg {
            index: u32::from(draw.byte()) % if draw.rarely(64) { 8 } else { 6 },
            value: draw.number(),
            value_two: draw.number(),
            op: draw.one_of(&Op::WORDS).0.to_owned(),
        })
        .collect();
    let action = action(draw);
    let errno_ret = errno(draw, &action);
    oci::SyscallRule { names, action, errno_ret, args }
}

fn action(draw: &mut Draw<'_>) -> String {
    match draw.byte() {
        255 => "ALLOW".to_owned(),
        other => Action::WORDS[usize::from(other) % Action::WORDS.len()].0.to_owned(),
    }
}

/// Hardly ever where the action has none.
fn errno(draw: &mut Draw<'_>, action: &str) -> Option<u32> {
    match draw.byte() {
        0..=127 => None,
        other if other < 254 && !returns(action) => None,
        255 => Some(draw.number() as u32),
        other => Some(u32::from(other) << 3),
    }
}
