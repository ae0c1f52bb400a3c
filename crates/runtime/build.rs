//! Has the program begin where it makes itself safe, and makes the release binary small and dense: strips it, packs its relocations, and puts
//! together what a container's way executes. Cargo does not hand `strip` of the profile on to a package that has an override of its own
//! (`opt-level = "z"` in the workspace's manifest), and symbols are a sixth of the file.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
        // crates/sys/src/entry.rs.
        println!("cargo::rustc-link-arg-bins=-Wl,--entry=tinyd_entry");
    }
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
        println!("cargo::rerun-if-changed=order.ld");
        if std::env::var("CARGO_CFG_TARGET_ARCH").is_ok_and(|arch| arch == "x86_64") {
            // `cargo xtask order`. The linker's own script is extended by it, not replaced (ld(1), INSERT; lld knows that too, mold and
            // gold do not). The compiler hands it on as it is, whatever is in the path.
            println!("cargo::rustc-link-arg-bins=-T{}/order.ld", env!("CARGO_MANIFEST_DIR"));
        }
        // The relative relocations of a static program that is loaded anywhere, packed: 3 KB instead of 124 KB. glibc unpacks them
        // since 2.36, binutils writes them since 2.38 (Debian 12 has both).
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}
