//! Strips the release binary. Cargo does not hand `strip` of the profile on to a package that has an override of its own
//! (`opt-level = "s"` in the workspace's manifest), and symbols are a sixth of the file.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
    }
}
