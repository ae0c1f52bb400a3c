//! A daemon that is killed in the middle of a pull: what has a name is whole, and the next one goes on.

#![expect(clippy::disallowed_methods, reason = "who is killed is a process of its own: this program again")]

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use tinyd_image::{
    config::chain_ids,
    digest::Digest,
    registry::{Client, PullOptions},
    store::Store,
};

use crate::{
    Here, files,
    made::{Made, noise},
    name, reference, registry,
};

/// What the child is to pull.
const REFERENCE: &str = "TINYD_KILLED_REFERENCE";
/// Where the child's registry and store are.
const DIR: &str = "TINYD_KILLED_DIR";

/// Pulls, when it is told what: the program that is killed.
#[tokio::test]
async fn child() {
    let (Ok(reference), Ok(dir)) = (env::var(REFERENCE), env::var(DIR)) else { return };
    let here = Here::at(Path::new(&dir));
    here.pull(&reference).await.unwrap();
    // Its directory is the parent's.
    std::mem::forget(here);
}

fn disk_usage(dir: &Path) -> u64 {
    let below = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    let size = |path: &Path| match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => disk_usage(path),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    below(dir).map(|path| size(&path)).sum()
}

#[tokio::test]
async fn what_has_a_name_is_whole_whenever_the_daemon_is_killed() {
    const BYTES: usize = 600_000;
    let made = Made::new(50, 3, BYTES);
    // Packed and unpacked, each layer is there twice in the end.
    let total = 6 * BYTES as u64;
    for tenth in 0..=10 {
        let (here, server) = registry(&made, |_| None);
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "killed::child"])
            .env(REFERENCE, reference(&server))
            .env(DIR, here.dir())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while disk_usage(&here.root()) < total * tenth / 10 && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_micros(200));
        }
        let _ = child.kill();
        child.wait().unwrap();
        check(&here.reopened());
        let client = Client::new(here.reopened(), here.config());
        let pulled = client.pull(&name(&reference(&server)), &PullOptions::default()).await.unwrap();
        let chain = chain_ids(&pulled.config.rootfs.diff_ids);
        for (at, chain_id) in chain.iter().enumerate() {
            let file = here.store.layer_files(chain_id).join(format!("file-{at}"));
            assert!(fs::read(file).unwrap() == noise(50_000 + at as u64, BYTES), "{tenth}");
            here.store.verify_blob(&Digest::of(&made.layers[at])).unwrap();
        }
        assert_eq!(
            (files(&here.root().join("ingest")).len(), files(&here.root().join("layers")).len()),
            (0, 3)
        );
    }
}

/// Everything that has a name is what its name says.
fn check(store: &Store) {
    for digest in store.all_blobs().unwrap() {
        store.verify_blob(&digest).unwrap();
    }
    for layer in store.all_layers().unwrap() {
        assert_eq!(files(&store.layer_files(&layer.chain_id)).len() as u64, layer.entries);
    }
}
