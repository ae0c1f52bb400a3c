//! Archives as the tools write them, and as they should not be.

use serde_json::json;

use super::*;
use crate::{
    assemble::assemble,
    document::media,
    layer::tests::{archive, gzip},
    progress::nobody,
    store::{Store, tests::Scratch},
};

/// An archive of these files, links and directories (`->` before a link's target).
fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut all = Vec::new();
    for (path, bytes) in entries {
        let mut one = match bytes.strip_prefix(b"->") {
            Some(link) => {
                let mut block = archive(path, b"");
                block[156] = b'2';
                block[157..157 + link.len()].copy_from_slice(link);
                block[148..156].fill(b' ');
                let sum: u32 = block[..512].iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                block
            }
            None => archive(path, bytes),
        };
        one.truncate(one.len() - 1024);
        all.extend(one);
    }
    all.resize(all.len() + 1024, 0);
    all
}

/// A layer, its configuration, and where they are in a layout.
struct Parts {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Parts {
    fn new() -> Parts {
        let plain = archive("hello", b"world");
        let diff_ids = [Digest::of(&plain)];
        let config = json!({ "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": diff_ids } });
        let config = config.to_string().into_bytes();
        let layer = gzip(&plain);
        let point = |media_type: &str, bytes: &[u8]| json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() });
        let layers = [point(media::OCI_LAYER_GZIP, &layer)];
        let manifest =
            json!({ "schemaVersion": 2, "config": point(media::OCI_CONFIG, &config), "layers": layers });
        Parts { layer, config, manifest: manifest.to_string().into_bytes() }
    }

    fn layout(&self, index: &[u8]) -> Vec<u8> {
        let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
        tar(&[
            ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
            ("index.json", index),
            (&blob(&self.layer), &self.layer),
            (&blob(&self.config), &self.config),
            (&blob(&self.manifest), &self.manifest),
        ])
    }

    fn index(&self, name: &str) -> Vec<u8> {
        let annotations = json!({ "org.opencontainers.image.ref.name": name });
        let digest = Digest::of(&self.manifest);
        let one = json!({ "mediaType": media::OCI_MANIFEST, "digest": digest, "size": self.manifest.len(), "annotations": annotations });
        json!({ "schemaVersion": 2, "manifests": [one] }).to_string().into_bytes()
    }
}

fn read(store: &Store, tar: &[u8]) -> Result<Vec<Loaded>> {
    load(&store.lease(), &mut &*tar, &"linux/amd64".parse().unwrap())
}

#[test]
fn a_layout_keeps_its_digests_and_names_packed_or_not() {
    let (scratch, parts) = (Scratch::new("layout"), Parts::new());
    for tar in
        [parts.layout(&parts.index("ghcr.io/a/b:1")), gzip(&parts.layout(&parts.index("ghcr.io/a/b:1")))]
    {
        let loaded = read(&scratch.store, &tar).unwrap();
        let names = vec!["ghcr.io/a/b:1".parse().unwrap()];
        assert_eq!(loaded, [Loaded { manifest: Digest::of(&parts.manifest), index: None, names }]);
    }
    assert_eq!(
        assemble(&scratch.store.lease(), &Digest::of(&parts.manifest), &nobody).unwrap().chain.len(),
        1
    );
    // A tag alone is no name.
    assert!(read(&scratch.store, &parts.layout(&parts.index("latest"))).unwrap()[0].names.is_empty());
}

#[test]
fn an_archive_of_dockers_has_files_and_links() {
    let (scratch, parts) = (Scratch::new("docker"), Parts::new());
    let list = json!([
        { "Config": "c.json", "RepoTags": ["redis:7", "redis:latest"], "Layers": ["one/layer.tar"] },
        { "Config": "c.json", "RepoTags": null, "Layers": ["two/layer.tar"] },
    ]);
    let tar = tar(&[
        ("two/layer.tar", b"->../one/layer.tar"),
        ("one/layer.tar", &parts.layer),
        ("c.json", &parts.config),
        ("manifest.json", list.to_string().as_bytes()),
    ]);
    let loaded = read(&scratch.store, &tar).unwrap();
    assert_eq!((loaded.len(), loaded[0].names.len(), loaded[1].names.len()), (2, 2, 0));
    assert_eq!(loaded[0].manifest, loaded[1].manifest);
    let made = assemble(&scratch.store.lease(), &loaded[0].manifest, &nobody).unwrap();
    assert_eq!(made.id, Digest::of(&parts.config));
    assert!(scratch.store.layer_files(&made.chain[0]).join("hello").exists());
}

#[test]
fn what_is_no_archive_of_images_says_why() {
    let (scratch, parts) = (Scratch::new("bad-archive"), Parts::new());
    let listed = |list: &serde_json::Value, more: &[(&str, &[u8])]| {
        let list = list.to_string();
        let mut entries: Vec<(&str, &[u8])> = vec![("manifest.json", list.as_bytes())];
        entries.extend(more);
        tar(&entries)
    };
    let liar = format!("blobs/sha256/{}", "0".repeat(64));
    let no_layer = json!([{ "Config": "c.json", "Layers": ["gone"] }]);
    let circle = json!([{ "Config": "a", "Layers": [] }]);
    let bad_name = json!([{ "Config": "c.json", "RepoTags": ["Bad Name"], "Layers": [] }]);
    let whole = parts.layout(&parts.index("a/b:1"));
    for (tar, rule) in [
        (tar(&[("etc/passwd", b"root")]), "neither an index.json nor a manifest.json"),
        (b"not a tar archive, and long enough to be taken for a header".repeat(20), "header at byte 0"),
        (tar(&[(&liar, b"x"), ("index.json", b"{}")]), "its digest is"),
        (tar(&[("index.json", br#"{"schemaVersion":2,"manifests":[]}"#)]), "there is no image"),
        (tar(&[("index.json", &parts.index("a/b:1"))]), "has no content"),
        (listed(&no_layer, &[("c.json", &parts.config)]), "\"gone\" and does not have it"),
        (listed(&circle, &[("a", b"->b"), ("b", b"->a")]), "does not have it"),
        (listed(&circle, &[("a", b"->../../etc/passwd")]), "leads out of the archive"),
        (listed(&bad_name, &[("c.json", &parts.config)]), "not an image's name"),
        (whole[..whole.len() - 1024 - 300].to_vec(), "ends in the middle"),
    ] {
        let error = read(&scratch.store, &tar).unwrap_err();
        assert!(error.to_string().contains(rule), "{rule}: {error}");
    }
}
