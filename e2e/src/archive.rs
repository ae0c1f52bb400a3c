//! Archives of images, made by hand with tar: what `docker save` has written for ten years, layers of the test's own.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

/// What an image is made of.
#[derive(Debug)]
pub struct Recipe<'a> {
    /// What the archive calls it.
    pub names: &'a [&'a str],
    /// What a container of it is like: Docker's `Config`.
    pub config: Value,
    /// The directories that its layers are, the lowest first, with whiteouts as archives have them.
    pub layers: &'a [&'a str],
}

/// Writes an archive of an image below `dir`; its path.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn archive(dir: &Path, file: &str, recipe: &Recipe<'_>) -> String {
    archive_for(if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }, dir, file, recipe)
}

/// The same of an image for an architecture, in Go's words.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn archive_for(architecture: &str, dir: &Path, file: &str, recipe: &Recipe<'_>) -> String {
    let parts = dir.join(format!("{file}.parts"));
    fs::create_dir_all(&parts).expect("make a directory");
    let mut names = Vec::new();
    let mut diff_ids = Vec::new();
    for (at, layer) in recipe.layers.iter().enumerate() {
        let name = format!("{at}.tar");
        let tar = parts.join(&name);
        run(Command::new("tar").arg("-C").arg(layer).arg("-cf").arg(&tar).args([
            "--numeric-owner",
            "--sort=name",
            "--xattrs",
            "--xattrs-include=security.*",
            ".",
        ]));
        diff_ids.push(format!("sha256:{}", sha256(&tar)));
        names.push(name);
    }
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "created": "2026-01-02T03:04:05Z",
        "config": recipe.config,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "history": names.iter().map(|name| json!({ "created_by": format!("COPY {name} /") })).collect::<Vec<_>>(),
    });
    let list = json!([{ "Config": "config.json", "RepoTags": recipe.names, "Layers": names }]);
    fs::write(parts.join("config.json"), config.to_string()).expect("write the configuration");
    fs::write(parts.join("manifest.json"), list.to_string()).expect("write the list");
    let path = dir.join(file);
    let words = ["manifest.json", "config.json"].into_iter().chain(names.iter().map(String::as_str));
    run(Command::new("tar").arg("-C").arg(&parts).arg("-cf").arg(&path).args(words));
    fs::remove_dir_all(&parts).expect("remove the parts");
    path.display().to_string()
}

/// The digest of a file, in hexadecimal.
///
/// # Panics
/// When it cannot be read.
#[must_use]
pub fn sha256(path: &Path) -> String {
    let out = Command::new("sha256sum").arg(path).output().expect("run sha256sum");
    assert!(out.status.success(), "sha256sum {}", path.display());
    String::from_utf8_lossy(&out.stdout).split_whitespace().next().expect("a digest").to_owned()
}

fn run(command: &mut Command) {
    let out = command.output().expect("run tar");
    assert!(out.status.success(), "{command:?}: {}", String::from_utf8_lossy(&out.stderr));
}
