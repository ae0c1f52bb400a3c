//! Archives that nobody thought of: whatever they hold, nothing outside of the directory changes and nothing panics.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use tinyd_image::unpack::Rules;

use crate::{
    Scratch,
    facts::{Facts, facts},
    maker::{Head, Maker},
};

/// Names that meet each other: few parts, few depths, and the ways out.
fn name() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c"]),
        1 => prop::sample::select(vec![".", "..", "", ".wh.a", ".wh.b", ".wh..wh..opq", ".wh..", ".wh..wh.aufs", "sentinel"]),
    ];
    prop::collection::vec(part, 1..4).prop_map(|parts| parts.join("/"))
}

fn entry() -> impl Strategy<Value = (Head, Vec<u8>)> {
    let flag = prop::sample::select(b"000112255363S7g".to_vec());
    let target = prop_oneof![
        name(),
        Just("../sentinel".to_owned()),
        Just(outside().to_str().unwrap().to_owned()),
        Just("..".to_owned())
    ];
    (
        name(),
        flag,
        target,
        prop::bits::u32::between(0, 12),
        0..3_u64,
        prop::collection::vec(any::<u8>(), 0..40),
    )
        .prop_map(|(name, flag, target, mode, id, contents)| {
            let has_contents = matches!(flag, b'0' | b'7');
            let head = Head::new(name, flag).link(target).mode(mode).ids(id, id).device(1, 3);
            (head, if has_contents { contents } else { Vec::new() })
        })
}

fn archive() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(entry(), 1..12).prop_map(|entries| {
        entries.into_iter().fold(Maker::new(), |tar, (head, contents)| tar.put(head, &contents)).end()
    })
}

/// A directory that is not below where archives are applied: not the host's root, which the day this fails would be written to.
fn outside() -> PathBuf {
    std::env::temp_dir().join(format!(
        "tinyd-outside-{}-{:?}",
        std::process::id(),
        std::thread::current().id()
    ))
}

/// What is beside the directory that archives are applied to.
fn beside(scratch: &Scratch) -> Facts {
    if !scratch.path("sentinel").exists() {
        fs::create_dir_all(scratch.path("sentinel/a")).unwrap();
        fs::write(scratch.path("sentinel/b"), b"not yours").unwrap();
    }
    facts(&scratch.path("sentinel"))
}

fn try_it(tar: &[u8]) {
    let scratch = Scratch::new();
    let before = beside(&scratch);
    fs::create_dir_all(outside()).unwrap();
    let rules = Rules { bytes_max: 1 << 22, ..Rules::default() };
    let _ = scratch.apply_by("into", tar, &rules);
    assert_eq!(before, beside(&scratch));
    // It goes only when it is empty.
    fs::remove_dir(outside()).unwrap();
    let mut names: Vec<_> =
        fs::read_dir(scratch.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["into", "sentinel"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_archives_change_nothing_outside(tar in archive()) {
        try_it(&tar);
    }

    #[test]
    fn changed_bytes_change_nothing_outside(
        mut tar in archive(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), any::<bool>()), 1..6),
    ) {
        for (at, byte, repair) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
            if repair {
                // With a right checksum the change is looked at.
                let start = at / 512 * 512;
                let block: &mut [u8; 512] = (&mut tar[start..start + 512]).try_into().unwrap();
                crate::maker::seal(block);
            }
        }
        try_it(&tar);
    }
}
