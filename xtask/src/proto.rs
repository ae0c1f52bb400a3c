//! From `proto/` to Rust: messages, clients, servers, and the description that reflection serves.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use prost::Message;

/// Where the generated code lives, from the repository's root.
pub(crate) const OUTPUT: &str = "crates/tinyd/src/pb";

const SOURCES: [&str; 7] = ["types", "containers", "images", "registries", "networks", "volumes", "system"];

/// Messages that carry secrets: how they are shown is written by hand, in `crates/tinyd/src/pb/secret.rs`.
const SECRET: [&str; 2] = [".tinyd.v1.RegistryLogin", ".tinyd.v1.RegistryPassword"];

/// What stands above the code: a reader who lands there learns where it comes from.
const HEADER: &str = "// Generated from proto/tinyd/v1 by `cargo xtask proto`; do not edit.\n\n";

/// Writes `tinyd.v1.rs` and `tinyd.v1.bin` into a directory.
pub(crate) fn write(repository: &Path, out: &Path) -> Result<()> {
    let files = SOURCES.map(|name| format!("tinyd/v1/{name}.proto"));
    let mut set = protox::compile(files, [repository.join("proto")]).context("compile proto/tinyd/v1")?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .skip_debug(SECRET)
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(set.clone())
        .context("generate Rust")?;
    let rust = out.join("tinyd.v1.rs");
    let code = fs::read_to_string(&rust).context("read what was generated")?;
    fs::write(&rust, format!("{HEADER}{code}")).context("write the Rust")?;
    format(repository, &rust)?;

    // Reflection needs names and types; comments and line numbers would triple its size.
    set.file.iter_mut().for_each(|file| file.source_code_info = None);
    fs::write(out.join("tinyd.v1.bin"), set.encode_to_vec()).context("write the description")
}

/// Formats as the repository does, so that `cargo fmt` finds nothing to change.
fn format(repository: &Path, file: &Path) -> Result<()> {
    let mut rustfmt = Command::new("rustfmt");
    rustfmt.args(["--edition", "2024", "--config-path"]).arg(repository.join("rustfmt.toml")).arg(file);
    ensure!(rustfmt.status().context("run rustfmt")?.success(), "rustfmt refused the generated code");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_what_the_contract_says() {
        let repository = crate::repository();
        let fresh = std::env::temp_dir().join(format!("tinyd-proto-{}", std::process::id()));
        fs::create_dir_all(&fresh).unwrap();
        write(&repository, &fresh).unwrap();
        for name in ["tinyd.v1.rs", "tinyd.v1.bin"] {
            let committed = fs::read(repository.join(OUTPUT).join(name)).unwrap();
            let same = committed == fs::read(fresh.join(name)).unwrap();
            assert!(same, "{OUTPUT}/{name} is stale: run `cargo xtask proto`");
        }
        fs::remove_dir_all(&fresh).unwrap();
    }

    #[test]
    fn everything_in_the_contract_is_commented() {
        let files = SOURCES.map(|name| format!("tinyd/v1/{name}.proto"));
        let set = protox::compile(files, [crate::repository().join("proto")]).unwrap();
        for file in set.file {
            for place in file.source_code_info.iter().flat_map(|info| &info.location) {
                // Paths of messages, fields, enums, values, services and methods (descriptor.proto's field numbers).
                let item = matches!(
                    place.path.as_slice(),
                    [4..=6, _] | [4, _, 2, _] | [5, _, 2, _] | [6, _, 2, _] | [4, _, 3, _]
                );
                let line = place.span.first().map_or(0, |line| line + 1);
                assert!(!item || place.leading_comments.is_some(), "{}:{line} has no comment", file.name());
            }
        }
    }
}
