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
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") && is_static && is_known() {
        println!("cargo::rustc-cfg=known_libc");
    }
}

/// Asks the compiler that links, as the linker does.
fn is_known() -> bool {
    let Ok(told) = Command::new("cc").arg("-print-file-name=libc.a").output() else { return false };
    let path = String::from_utf8_lossy(&told.stdout).trim().to_owned();
    println!("cargo::rerun-if-changed={path}");
    fs::read(path).is_ok_and(|archive| archive.windows(KNOWN.len()).any(|text| text == KNOWN))
}
