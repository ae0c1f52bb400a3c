//! Every target on its corpus and on what is near it. `cargo fuzz` goes farther; this is what every run of the tests sees.

use std::{
    fs, panic,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{TARGETS, Target};

/// Longer ones are seldom worth their time.
const BYTES_MAX: usize = 16 << 10;

fn room() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % count.max(1)
    }

    fn place(&mut self, bytes: &[u8]) -> usize {
        self.below(bytes.len() + 1)
    }

    /// A few changes: bytes, words, parts of its own and of another one.
    fn mutation(&mut self, corpus: &[Vec<u8>], words: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = corpus[self.below(corpus.len())].clone();
        for _ in 0..=self.below(6) {
            let at = self.place(&bytes);
            let end = (at + self.below(32)).min(bytes.len());
            match self.below(7) {
                0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                1 if at < bytes.len() => bytes[at] = self.below(256) as u8,
                2 => drop(bytes.drain(at..end)),
                3 => {
                    let part = bytes[at..end].to_vec();
                    let to = self.place(&bytes);
                    bytes.splice(to..to, part);
                }
                4 if !words.is_empty() => {
                    let word = words[self.below(words.len())].clone();
                    let gone = if self.below(2) == 0 { at..at } else { at..end };
                    bytes.splice(gone, word);
                }
                5 => {
                    let other = &corpus[self.below(corpus.len())];
                    let from = self.place(other);
                    let to = (from + self.below(64)).min(other.len());
                    bytes.splice(at..end, other[from..to].to_vec());
                }
                _ => bytes.insert(at, self.below(256) as u8),
            }
        }
        bytes.truncate(BYTES_MAX);
        bytes
    }
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = room().join("corpus").join(name);
    let files = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 4, "{} has {} files", dir.display(), paths.len());
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

/// The words of the dictionary, as libFuzzer reads it.
fn words(name: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(room().join("words").join(name)).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.strip_prefix('"')?.strip_suffix('"'))
        .map(|word| word.replace("\\\"", "\"").into())
        .collect()
}

/// Runs one input; one that breaks a promise is kept, and told.
fn try_one(target: Target, name: &str, input: &[u8]) {
    if panic::catch_unwind(|| target(input)).is_ok() {
        return;
    }
    let path = std::env::temp_dir().join(format!("tinyd-fuzz-{name}-{}", std::process::id()));
    fs::write(&path, input).unwrap();
    panic!("{name} breaks a promise with {}: {:?}", path.display(), String::from_utf8_lossy(input));
}

/// On the corpus, and on as many inputs beside it as take a second or two.
fn keeps_its_promises(name: &str, mutations: usize) {
    let target = TARGETS.iter().find(|(known, _)| *known == name).expect("it is a target").1;
    let (corpus, words) = (corpus(name), words(name));
    for input in &corpus {
        try_one(target, name, input);
    }
    // Another walk each time; what it finds is kept in a file.
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    let mut random = Random(seed);
    for _ in 0..mutations {
        try_one(target, name, &random.mutation(&corpus, &words));
    }
}

#[test]
fn a_configuration_that_anybody_wrote() {
    keeps_its_promises("config", 10_000);
}

#[test]
fn a_profile_that_anybody_wrote() {
    keeps_its_promises("seccomp", 400);
}

#[test]
fn mounts_that_anybody_wrote() {
    keeps_its_promises("mounts", 20_000);
}

#[test]
fn a_cgroups_path_that_anybody_wrote() {
    keeps_its_promises("cgroup_path", 20_000);
}

#[test]
fn lists_of_devices_that_anybody_wrote() {
    keeps_its_promises("devices", 3000);
}
