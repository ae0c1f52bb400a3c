//! Documents that are, and that only look like it.

use serde_json::{Value, json};

use super::*;
use crate::config::{ImageConfig, chain_ids};

fn descriptor(media_type: &str, size: u64) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(b"x"), "size": size })
}

fn image() -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media::OCI_MANIFEST,
        "config": descriptor(media::OCI_CONFIG, 2),
        "layers": [descriptor(media::OCI_LAYER_GZIP, 3)],
        "annotations": null,
    })
}

fn parse(value: &Value) -> Result<Document> {
    Document::parse(value.to_string().as_bytes(), "")
}

#[test]
fn a_manifest_and_an_index_are_told_apart() {
    let Document::Manifest(manifest) = parse(&image()).unwrap() else { panic!("no manifest") };
    assert_eq!((manifest.config.size, manifest.layers[0].size), (2, 3));
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor(media::OCI_MANIFEST, 1)] });
    let Document::Index(index) = parse(&index).unwrap() else { panic!("no index") };
    assert_eq!(index.pick(&Platform::host()).unwrap().size, 1);
}

#[test]
fn what_is_ambiguous_too_large_or_foreign_is_refused() {
    let change = |edit: fn(&mut Value)| {
        let mut value = image();
        edit(&mut value);
        parse(&value).unwrap_err()
    };
    let both = change(|value| value["manifests"] = json!([]));
    assert!(both.message().contains("both layers and manifests"), "{both}");
    let neither = change(|value| *value = json!({ "schemaVersion": 2 }));
    assert!(neither.message().contains("neither"), "{neither}");
    let liar = change(|value| value["mediaType"] = json!(media::OCI_INDEX));
    assert!(liar.message().contains("says that it is"), "{liar}");
    let old = change(|value| value["schemaVersion"] = json!(1));
    assert_eq!(old.kind(), Kind::Unsupported);
    let negative = change(|value| value["config"]["size"] = json!(-1));
    assert!(negative.message().contains("cannot be read"), "{negative}");
    let digest = change(|value| value["layers"][0]["digest"] = json!("sha256:../../../etc/passwd"));
    assert!(digest.message().contains("64"), "{digest}");
    let config = change(|value| value["config"]["size"] = json!(CONFIG_MAX_BYTES + 1));
    assert!(config.message().contains("at most"), "{config}");
    let artifact =
        change(|value| value["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json"));
    assert!(artifact.message().contains("no image"), "{artifact}");
    let layers =
        change(|value| value["layers"] = Value::Array(vec![descriptor(media::OCI_LAYER, 1); LAYERS_MAX + 1]));
    assert!(layers.message().contains("129 layers"), "{layers}");
    let foreign = change(|value| {
        value["layers"][0]["mediaType"] = json!("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    });
    assert_eq!(foreign.kind(), Kind::Unsupported);
    let many = json!({ "schemaVersion": 2, "manifests": vec![descriptor(media::OCI_MANIFEST, 1); 4097] });
    assert!(parse(&many).unwrap_err().message().contains("4097 images: at most 4096"));
    let long = vec![b' '; usize::try_from(MANIFEST_MAX_BYTES).unwrap() + 1];
    assert!(Document::parse(&long, "").unwrap_err().message().contains("at most"));
}

#[test]
fn the_best_of_an_index_is_picked() {
    let of = |platform: &str, size| Descriptor {
        media_type: media::OCI_MANIFEST.into(),
        digest: Digest::of(b"x"),
        size,
        platform: Some(platform.parse().unwrap()),
        annotations: BTreeMap::new(),
    };
    let attestation = Descriptor {
        platform: Some(Platform {
            os: "unknown".into(),
            architecture: "unknown".into(),
            ..Platform::default()
        }),
        ..of("linux/amd64", 9)
    };
    let index = Index {
        schema_version: 2,
        media_type: String::new(),
        manifests: vec![
            attestation,
            of("linux/arm/v5", 5),
            of("linux/arm/v7", 7),
            of("linux/arm/v6", 6),
            of("linux/amd64", 1),
            of("linux/amd64", 2),
        ],
        annotations: BTreeMap::new(),
    };
    let pick = |platform: &str| index.pick(&platform.parse().unwrap()).map(|one| one.size);
    assert_eq!(pick("linux/arm").unwrap(), 7);
    assert_eq!(pick("linux/arm/v6").unwrap(), 6);
    assert_eq!(pick("amd64").unwrap(), 1);
    let error = pick("riscv64").unwrap_err();
    assert_eq!(error.field(), Some("--platform"));
    assert!(
        error.message().ends_with("linux/arm/v5, linux/arm/v7, linux/arm/v6, linux/amd64, linux/amd64"),
        "{error}"
    );
}

#[test]
fn a_configuration_with_gos_nulls_is_read() {
    let Document::Manifest(manifest) = parse(&image()).unwrap() else { panic!("no manifest") };
    let text = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": { "Cmd": ["sh"], "Entrypoint": null, "Env": null, "Labels": null, "Volumes": { "/data": {} },
                    "Healthcheck": { "Test": ["CMD-SHELL", "true"], "Interval": 5 } },
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(b"y")] },
        "history": null,
    })
    .to_string();
    let config = ImageConfig::parse(text.as_bytes(), &manifest).unwrap();
    assert_eq!(config.platform.to_string(), "linux/amd64");
    assert_eq!((config.config.cmd.len(), config.config.entrypoint.len()), (1, 0));
    assert!(config.config.volumes.contains_key("/data"));
    assert_eq!(config.config.healthcheck.unwrap().interval, 5);
    let none =
        ImageConfig::parse(br#"{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[]}}"#, &manifest);
    assert!(none.unwrap_err().message().contains("0 layers"));
}

#[test]
fn a_stack_of_layers_has_the_name_of_the_specification() {
    let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
    let both = Digest::of(format!("{a} {b}").as_bytes());
    assert_eq!(chain_ids(&[a.clone(), b]), [a, both]);
    assert!(chain_ids(&[]).is_empty());
}

#[test]
fn what_is_packed_shows_at_its_beginning() {
    assert_eq!(Compression::sniff(&[0x1f, 0x8b, 8, 0]), Compression::Gzip);
    assert_eq!(Compression::sniff(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
    assert_eq!(Compression::sniff(b"etc/"), Compression::None);
    assert_eq!(Compression::sniff(b""), Compression::None);
}
