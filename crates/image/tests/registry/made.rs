//! An image as a registry has it, made in memory.

use std::io::Write as _;

use serde_json::json;
use tinyd_image::digest::Digest;

use crate::server::{Asked, Reply, not_found};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

impl Made {
    /// With these layers of one file each; each file has so many bytes that do not get smaller.
    pub(crate) fn new(seed: u64, layers: usize, bytes: usize) -> Made {
        Made::of(seed, layers, bytes, "amd64")
    }

    pub(crate) fn of(seed: u64, layers: usize, bytes: usize, architecture: &str) -> Made {
        let tars: Vec<_> = (0..layers)
            .map(|at| tar(&format!("file-{at}"), &noise(seed * 1000 + at as u64, bytes)))
            .collect();
        let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
        let config = json!({ "os": "linux", "architecture": architecture,
            "config": { "Cmd": ["/file-0"] }, "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = config.to_string().into_bytes();
        let layers: Vec<_> = tars.iter().map(|tar| gzip(tar)).collect();
        Made { manifest: manifest(&config, &layers), config, layers }
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Answers as a registry that has this image as `a:latest`.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let path = asked.path.split('?').next().unwrap();
        if path == "/v2/a/manifests/latest" || path == format!("/v2/a/manifests/{}", self.digest()) {
            return Reply::new(200, self.manifest.clone())
                .with("Content-Type", OCI_MANIFEST)
                .with("Docker-Content-Digest", self.digest());
        }
        let all = self.layers.iter().chain([&self.config]);
        match all.into_iter().find(|blob| path == format!("/v2/a/blobs/{}", Digest::of(blob))) {
            Some(blob) => part(asked, blob),
            None => not_found(),
        }
    }
}

/// A blob, or the part of it that is asked for.
pub(crate) fn part(asked: &Asked, blob: &[u8]) -> Reply {
    match asked.range() {
        None => Reply::new(200, blob),
        Some(from) => Reply::new(206, &blob[from..])
            .with("Content-Range", format!("bytes {from}-{}/{}", blob.len() - 1, blob.len())),
    }
}

/// Whether a layer is asked for.
pub(crate) fn is_layer(asked: &Asked, made: &Made, at: usize) -> bool {
    asked.path.contains(&format!("blobs/{}", Digest::of(&made.layers[at])))
}

pub(crate) fn manifest(config: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| {
            json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": Digest::of(layer).to_string(), "size": layer.len() })
        })
        .collect();
    json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "layers": layers,
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(config).to_string(), "size": config.len() } })
    .to_string()
    .into_bytes()
}

/// Bytes that no packer makes smaller (xorshift64*).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| next()).collect();
    bytes.truncate(length);
    bytes
}

fn tar(path: &str, text: &[u8]) -> Vec<u8> {
    let mut header = [0_u8; 512];
    header[..path.len()].copy_from_slice(path.as_bytes());
    header[100..108].copy_from_slice(b"0000644\0");
    header[108..116].copy_from_slice(b"0000000\0");
    header[116..124].copy_from_slice(b"0000000\0");
    header[124..136].copy_from_slice(format!("{:011o}\0", text.len()).as_bytes());
    header[136..148].copy_from_slice(b"00000000000\0");
    header[148..156].fill(b' ');
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut tar = header.to_vec();
    tar.extend_from_slice(text);
    tar.resize(tar.len().next_multiple_of(512) + 1024, 0);
    tar
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
