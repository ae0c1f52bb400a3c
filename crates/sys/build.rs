//! Looks whether the C library that is going to be linked is one whose start is known (src/entry.rs).

use std::{env, fs, process::Command};

/// What the library says of itself (csu/version.c); `.` ends the number.
const KNOWN: &[u8] = b"stable release version 2.36.";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-check-cfg=cfg(known_libc)");
    let is = |name: &str, wanted: &str| {
        env::var(name).is_ok_and(|value| value.split(',').any(|one| one == wanted))
    };
    let is_static = is("CARGO_CFG_TARGET_ENV", "gnu") && is("CARGO_CFG_TARGET_FEATURE", "crt-static");
    let is_native = is("CARGO_CFG_TARGET_ARCH", "x86_64") && env::var("HOST") == env::var("TARGET");
    // At a fixed address the library itself, and not its relocation, chooses among its functions.
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let is_moved = !["relocation-model", "no-pie", "sysroot"].iter().any(|word| flags.contains(word));
    if is_static && is_native && is_moved && is_known() {
        println!("cargo::rustc-cfg=known_libc");
    }
}

/// Asks the compiler that links. The entry looks once more when it runs: a library that is exchanged may be older than this answer.
fn is_known() -> bool {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let Ok(told) = Command::new(linker).arg("-print-file-name=libc.a").output() else { return false };
    let path = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    println!("cargo::rerun-if-changed={path}");
    fs::read(path).is_ok_and(|archive| archive.windows(KNOWN.len()).any(|text| text == KNOWN))
}
