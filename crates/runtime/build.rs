//! Has the program begin where it makes itself safe, and makes the release binary small: strips it and packs its relocations. Cargo does
//! not hand `strip` of the profile on to a package that has an override of its own (`opt-level = "s"` in the workspace's manifest), and
//! symbols are a sixth of the file.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        // crates/sys/src/entry.rs.
        println!("cargo::rustc-link-arg-bins=-Wl,--entry=tinyd_entry");
    }
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
        // The relative relocations of a static program that is loaded anywhere, packed: 3 KB instead of 124 KB. glibc unpacks them
        // since 2.36, binutils writes them since 2.38 (Debian 12 has both).
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
