//! The images of the bench, written by hand: files that are as compressible as programs and texts are, the same in every run.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::Command,
};

use serde_json::json;
use tinyd_e2e::{Recipe, archive, sha256};

use crate::Failure;

/// An image: its name, how many layers, how many files in each, and how long those are on the average.
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    layers: usize,
    files: usize,
    file_bytes: usize,
}

/// About 300 MiB in five layers of 4500 files, and twenty layers of half a MiB.
pub(crate) const SHAPES: [Shape; 2] = [
    Shape { name: "big", layers: 5, files: 900, file_bytes: 68_000 },
    Shape { name: "small", layers: 20, files: 60, file_bytes: 9_000 },
];

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }
}

/// Writes an image as `docker save` would; the archive's path.
pub(crate) fn docker_archive(work: &Path, shape: &Shape) -> Result<String, Failure> {
    let mut random = Random(shape.layers as u64);
    let words: Vec<String> = (0..4096).map(|_| format!("{:x} ", random.next())).collect();
    let mut layers = Vec::new();
    for layer in 0..shape.layers {
        let dir = work.join(format!("{}-{layer}", shape.name));
        for at in 0..shape.files {
            let below = dir.join(format!("usr/lib/{layer}/{}", at % 40));
            fs::create_dir_all(&below)?;
            let len = shape.file_bytes / 2 + random.next() as usize % shape.file_bytes;
            fs::write(below.join(format!("file-{at}")), content(&mut random, &words, len, at))?;
        }
        layers.push(dir.display().to_string());
    }
    let dirs: Vec<&str> = layers.iter().map(String::as_str).collect();
    let name = format!("bench/{}:1", shape.name);
    let config = json!({ "Cmd": ["/bin/true"] });
    let path =
        archive(work, &format!("{}.tar", shape.name), &Recipe { names: &[&name], config, layers: &dirs });
    dirs.iter().try_for_each(fs::remove_dir_all)?;
    Ok(path)
}

/// One file in five is as it came from a compressor, the others are words.
fn content(random: &mut Random, words: &[String], len: usize, at: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        if at.is_multiple_of(5) {
            bytes.extend_from_slice(&random.next().to_le_bytes()[..3]);
        } else {
            bytes.extend_from_slice(words[random.next() as usize % words.len()].as_bytes());
        }
    }
    bytes
}

/// Writes an archive of many images that share a layer and differ in their configuration.
pub(crate) fn many(work: &Path, count: usize) -> Result<String, Failure> {
    let parts = work.join("many");
    fs::create_dir_all(parts.join("root/etc"))?;
    fs::write(parts.join("root/etc/many"), "shared\n")?;
    let tar = |args: &[&str]| -> Result<(), Failure> {
        let made = Command::new("tar").current_dir(&parts).args(args).status()?;
        if made.success() { Ok(()) } else { Err(format!("tar {args:?}: {made}").into()) }
    };
    tar(&["-C", "root", "-cf", "layer.tar", "."])?;
    let diff_id = format!("sha256:{}", sha256(&parts.join("layer.tar")));
    let mut list = Vec::new();
    let mut names = File::create(parts.join("names"))?;
    for at in 0..count {
        let config = json!({
            "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
            "os": "linux",
            "config": { "Labels": { "number": at.to_string() } },
            "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        });
        let file = format!("{at}.json");
        fs::write(parts.join(&file), config.to_string())?;
        writeln!(names, "{file}")?;
        list.push(
            json!({ "Config": file, "RepoTags": [format!("many/image-{at}:1")], "Layers": ["layer.tar"] }),
        );
    }
    fs::write(parts.join("manifest.json"), serde_json::Value::from(list).to_string())?;
    let path = work.join("many.tar").display().to_string();
    tar(&["-cf", &path, "manifest.json", "layer.tar", "-T", "names"])?;
    fs::remove_dir_all(&parts)?;
    Ok(path)
}
