//! A layer's way from a packed archive to its place in the store: inflated, hashed and applied piece by piece as it is read. Nothing of
//! it is ever whole in memory, and no program is started for it.

use std::{
    io::{self, BufReader, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, Mode, OFlags, openat};
use tinyd_core::{Error, Kind, Result};

use crate::{
    digest::{Digest, Hasher},
    document::Compression,
    failed,
    store::{LayerRecord, Store, Unpacking},
    unpack::{self, Rules, Unpacked},
};

/// How far a packed archive may grow, times its size; and what is allowed whatever its size.
const GROWTH_MAX: u64 = 10;
const GROWTH_FREE_BYTES: u64 = 1 << 30;
/// How much is read at a time.
const PIECE_BYTES: usize = 128 << 10;
/// The binary logarithm of the most memory that a zstd frame may ask for: 64 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;

/// A layer whose files are there, and are what its image says.
#[derive(Debug)]
pub struct Applied {
    unpacking: Unpacking,
    unpacked: Unpacked,
    diff_id: Digest,
}

/// The rules for a layer that has `packed_bytes` on its way here: a small archive does not fill a large disk.
#[must_use]
pub fn rules(packed_bytes: u64) -> Rules {
    Rules {
        bytes_max: packed_bytes.saturating_mul(GROWTH_MAX).saturating_add(GROWTH_FREE_BYTES),
        ..Rules::default()
    }
}

/// Unpacks what `packed` reads beside its place in the store. It reads to the end, also behind the archive's.
///
/// # Errors
/// `InvalidArgument` when the archive is damaged, breaks a rule or is not that of `diff_id`; `Exhausted` at a limit or on a full disk; what
/// `packed` says. Nothing is left.
pub fn apply(
    store: &Store,
    packed: &mut dyn Read,
    compression: Compression,
    diff_id: &Digest,
    rules: &Rules,
) -> Result<Applied> {
    let unpacking = store.begin_layer()?;
    let dir = open_dir(&unpacking.files())?;
    let mut tar = Hashing { inner: inflater(packed, compression)?, hasher: Hasher::new(diff_id.algorithm()) };
    let unpacked = unpack::apply(&mut tar, dir.as_fd(), rules)?;
    let found = tar.hasher.finish();
    if found != *diff_id {
        let message = format!("a layer is not what the image's configuration says: {found}, not {diff_id}");
        return Err(Error::new(Kind::InvalidArgument, message));
    }
    Ok(Applied { unpacking, unpacked, diff_id: diff_id.clone() })
}

impl Applied {
    /// Makes it the layer of a stack, above `parent`. `lower` are where the files of those below it are, the nearest first.
    ///
    /// # Errors
    /// The call and the errno.
    pub fn settle(self, chain_id: &Digest, parent: Option<&Digest>, lower: &[PathBuf]) -> Result<Settled> {
        let own = open_dir(&self.unpacking.files())?;
        let lower = lower.iter().map(|files| open_dir(files)).collect::<Result<Vec<_>>>()?;
        let lower: Vec<_> = lower.iter().map(AsFd::as_fd).collect();
        unpack::settle(own.as_fd(), &lower, &self.unpacked.implied)?;
        let record = LayerRecord {
            chain_id: chain_id.clone(),
            diff_id: self.diff_id,
            parent: parent.cloned(),
            entries: self.unpacked.entries,
            bytes: self.unpacked.bytes,
            hides_all: self.unpacked.hides_all,
        };
        self.unpacking.describe(&record)?;
        Ok(Settled { unpacking: self.unpacking, record, notes: self.unpacked.notes })
    }
}

/// A layer that only lacks its name.
#[derive(Debug)]
pub struct Settled {
    unpacking: Unpacking,
    record: LayerRecord,
    /// What was left out, one line each.
    pub notes: Vec<String>,
}

impl Settled {
    /// Where its files are until then.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.unpacking.files()
    }

    /// Gives it its name; its files are on disk ([`Store::sync`]).
    ///
    /// # Errors
    /// The call and the errno.
    pub fn publish(self) -> Result<()> {
        self.unpacking.publish(&self.record.chain_id)
    }
}

fn open_dir(path: &Path) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(format_args!("open({path:?})"), errno))
}

/// Reads what `packed` is packed with from its beginning, which stays to be read.
///
/// # Errors
/// What `packed` says.
pub fn sniff<'a>(mut packed: impl Read + 'a) -> io::Result<(Compression, impl Read + 'a)> {
    let mut head = Vec::with_capacity(4);
    packed.by_ref().take(4).read_to_end(&mut head)?;
    Ok((Compression::sniff(&head), io::Cursor::new(head).chain(packed)))
}

/// Refuses what is packed in a way that is known and not read, by the beginning of it (at least six bytes).
///
/// # Errors
/// `Unsupported` with how it is packed, and with what to unpack it.
pub(crate) fn refuse_unreadable(head: &[u8]) -> Result<()> {
    let (name, program) = match head {
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => ("xz", "xz -dc"),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => ("bzip2", "bzip2 -dc"),
        _ => return Ok(()),
    };
    let message = format!(
        "the archive is packed with {name}: tar, and tar packed with gzip or zstd, are read; `{program} FILE |` unpacks it on the way"
    );
    Err(Error::new(Kind::Unsupported, message))
}

pub(crate) fn inflater<'a>(packed: &'a mut dyn Read, compression: Compression) -> Result<Box<dyn Read + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(packed),
        // An archive may be several gzip members, one behind the other (pigz, estargz).
        Compression::Gzip => {
            Box::new(flate2::bufread::MultiGzDecoder::new(BufReader::with_capacity(PIECE_BYTES, packed)))
        }
        Compression::Zstd => {
            let tell = |source| failed(format_args!("begin to inflate zstd"), source);
            let mut decoder = zstd::stream::read::Decoder::new(packed).map_err(tell)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(tell)?;
            Box::new(decoder)
        }
    })
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.hasher.update(&into[..count]);
        Ok(count)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, io::Write, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::{config::chain_ids, store::tests::Scratch};

    /// An archive with one file.
    pub(crate) fn archive(path: &str, text: &[u8]) -> Vec<u8> {
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

    pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_layer_is_the_same_however_it_was_packed() {
        let scratch = Scratch::new("packed");
        let tar = archive("a", b"hello");
        let diff_id = Digest::of(&tar);
        let (first, second) = tar.split_at(600);
        let members = [gzip(first), gzip(second)].concat();
        let zstd = zstd::encode_all(tar.as_slice(), 3).unwrap();
        for (packed, compression) in [
            (&tar, Compression::None),
            (&gzip(&tar), Compression::Gzip),
            (&members, Compression::Gzip),
            (&zstd, Compression::Zstd),
        ] {
            assert_eq!(Compression::sniff(packed), compression);
            let applied =
                apply(&scratch.store, &mut packed.as_slice(), compression, &diff_id, &rules(9)).unwrap();
            assert_eq!(fs::read(applied.unpacking.files().join("a")).unwrap(), b"hello");
        }
    }

    #[test]
    fn a_stack_takes_its_directories_looks_from_below() {
        let scratch = Scratch::new("stack");
        let store = &scratch.store;
        let archives = [archive("d/low", b"1"), archive("d/high", b"2")];
        let diff_ids: Vec<Digest> = archives.iter().map(|tar| Digest::of(tar)).collect();
        let chain = chain_ids(&diff_ids);
        let unpack = |at: usize| {
            apply(store, &mut archives[at].as_slice(), Compression::None, &diff_ids[at], &rules(9)).unwrap()
        };
        let (low, high) = (unpack(0), unpack(1));
        fs::set_permissions(low.unpacking.files().join("d"), fs::Permissions::from_mode(0o1770)).unwrap();
        let low = low.settle(&chain[0], None, &[]).unwrap();
        let high = high.settle(&chain[1], chain.first(), &[low.files()]).unwrap();
        low.publish().unwrap();
        high.publish().unwrap();
        let mode = fs::metadata(store.layer_files(&chain[1]).join("d")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1770);
        let record = store.layer(&chain[1]).unwrap().unwrap();
        assert_eq!((record.parent.as_ref(), record.bytes), (Some(&chain[0]), 1));
    }

    #[test]
    fn what_is_damaged_other_or_grows_too_much_leaves_nothing() {
        let scratch = Scratch::new("damaged");
        let tar = archive("a", b"hello");
        let packed = gzip(&tar);
        let bomb = Rules { bytes_max: 1024, ..Rules::default() };
        for (packed, diff_id, rules, rule) in [
            (&packed[..packed.len() - 9], Digest::of(&tar), rules(9), "read the layer"),
            (packed.as_slice(), Digest::of(b"other"), rules(9), "not what the image's configuration says"),
            (packed.as_slice(), Digest::of(&tar), bomb, "1024"),
        ] {
            let error =
                apply(&scratch.store, &mut &*packed, Compression::Gzip, &diff_id, &rules).unwrap_err();
            assert!(error.message().contains(rule), "{error}");
            assert!(scratch.store.all_layers().unwrap().is_empty());
        }
    }

    #[test]
    fn a_zstd_archive_says_how_much_memory_it_wants_and_does_not_get_more() {
        let packed = |window_log: u32| {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(window_log).unwrap();
            let tar = archive("a", b"hello");
            std::io::Write::write_all(&mut encoder, &tar).unwrap();
            // Before the end: else the window shrinks to what there is.
            std::io::Write::flush(&mut encoder).unwrap();
            (encoder.finish().unwrap(), Digest::of(&tar))
        };
        let scratch = Scratch::new("window");
        let applied = |window_log: u32| {
            let (packed, diff_id) = packed(window_log);
            apply(&scratch.store, &mut &*packed, Compression::Zstd, &diff_id, &rules(9)).map(drop)
        };
        applied(ZSTD_WINDOW_LOG_MAX).unwrap();
        let error = applied(ZSTD_WINDOW_LOG_MAX + 1).unwrap_err();
        assert!(error.message().contains("too much memory"), "{error}");
    }
}
