//! Entries of a tar stream: a header, the extended headers in front of it and the contents behind it are one thing. Decides nothing
//! about where an entry goes or whether it may.
//!
//! This is not the `tar` crate's: its reader ignores PAX records that are malformed and headers that are not used up, knows one of the
//! four forms of sparse files, and its API of independent entries leaves the one point that matters for safety (which size an entry
//! has, and so where the next header is) to the order of calls. Here it is one line.

use rustix::fs::Timespec;
use tinyd_core::{Error, Kind, Result};

use super::{
    header::{Dialect, Header, text},
    malformed,
    pax::{self, Pax},
    sparse::Map,
    stream::{BLOCK, Stream},
};

/// The largest PAX header: attributes of 64 KiB are in it. Go's limit too.
const PAX_MAX: u64 = 1 << 20;
/// The longest name of a GNU long name header, with its NUL.
const LONG_MAX: u64 = 4097;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    Directory,
    Symlink,
    /// Another name for an entry before it.
    HardLink,
    Character,
    Block,
    Fifo,
}

/// One entry, its contents still to be read.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: Type,
    /// As it was written.
    pub(crate) path: Vec<u8>,
    /// As it was written: of symbolic and hard links.
    pub(crate) link: Vec<u8>,
    /// The twelve bits.
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: Timespec,
    pub(crate) atime: Timespec,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: Option<Map>,
}

impl Entry {
    /// Whether its contents are not what is in the archive, one byte behind the other.
    pub(crate) const fn is_sparse(&self) -> bool {
        self.sparse.is_some()
    }
}

/// The stream as entries.
pub(crate) struct Archive<'a> {
    stream: Stream<'a>,
    /// Bytes of contents that are still to come, and what fills them up to whole blocks.
    left: u64,
    padding: u64,
}

impl<'a> Archive<'a> {
    pub(crate) fn new(source: &'a mut dyn std::io::Read, bytes_max: u64) -> Archive<'a> {
        Archive { stream: Stream::new(source, bytes_max), left: 0, padding: 0 }
    }

    /// The next entry; what is left of the one before is passed over. After the last, the stream is read to its end.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>> {
        self.stream.skip(self.left + self.padding)?;
        (self.left, self.padding) = (0, 0);
        let mut before = Before::default();
        loop {
            let at = self.stream.position();
            let Some(block) = self.header_block()? else {
                before.nothing_waits()?;
                self.stream.drain()?;
                return Ok(None);
            };
            let header =
                Header::parse(&block).map_err(|error| error.context(format_args!("header at byte {at}")))?;
            if !self.extended(&header, &mut before)? {
                return self.entry(header, before, &block).map(Some);
            }
        }
    }

    /// How many bytes of the entry's contents are still to come.
    pub(crate) const fn left(&self) -> u64 {
        self.left
    }

    /// The next piece of the contents, at least a byte; `None` after the last.
    pub(crate) fn piece(&mut self, max: u64) -> Result<Option<&[u8]>> {
        if self.left == 0 || max == 0 {
            return Ok(None);
        }
        let piece = self.stream.piece(self.left.min(max))?;
        self.left -= piece.len() as u64;
        Ok(Some(piece))
    }

    /// A block that is a header; `None` at the end, which is two blocks of zeros or where the stream ends.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let is_empty = |block: &[u8; BLOCK]| block.iter().all(|byte| *byte == 0);
        match self.stream.block()? {
            None => Ok(None),
            Some(block) if !is_empty(&block) => Ok(Some(block)),
            Some(_) => match self.stream.block()? {
                Some(second) if !is_empty(&second) => Err(malformed(format!(
                    "an empty block before byte {} is not followed by another",
                    self.stream.position()
                ))),
                Some(_) | None => Ok(None),
            },
        }
    }

    /// Takes a header that is about the next one. Whether it was one.
    fn extended(&mut self, header: &Header, before: &mut Before) -> Result<bool> {
        let (kind, limit) = match header.flag {
            b'x' => ("PAX header", PAX_MAX),
            b'g' => ("global PAX header", PAX_MAX),
            b'L' => ("GNU long name", LONG_MAX),
            b'K' => ("GNU long link", LONG_MAX),
            _ => return Ok(false),
        };
        if header.size > limit {
            return Err(malformed(format!("a {kind} has {} bytes, at most {limit} are read", header.size)));
        }
        let bytes = self.stream.bytes(header.size)?;
        self.stream.skip(padding(header.size))?;
        let is_second = match header.flag {
            b'x' => before.pax.replace(pax::parse(&bytes)?).is_some(),
            // Docker, containerd, podman and umoci use nothing of it: git writes a commit there.
            b'g' => {
                pax::parse(&bytes)?;
                false
            }
            b'L' => before.name.replace(text(&bytes).to_vec()).is_some(),
            _ => before.link.replace(text(&bytes).to_vec()).is_some(),
        };
        if is_second {
            return Err(malformed(format!("an entry has more than one {kind}")));
        }
        Ok(true)
    }

    fn entry(&mut self, header: Header, before: Before, block: &[u8; BLOCK]) -> Result<Entry> {
        let Before { pax, name, link } = before;
        let pax = pax.unwrap_or_default();
        if (name.is_some() && pax.path.is_some()) || (link.is_some() && pax.link.is_some()) {
            return Err(malformed("an entry has its name both in a PAX header and as a GNU long name"));
        }
        let path = pax.sparse.name.clone().or(pax.path.clone()).or(name).unwrap_or(header.name);
        let tell = |error: Error| error.context(format_args!("entry {:?}", String::from_utf8_lossy(&path)));
        let kind = kind_of(header.flag, header.dialect, &path).map_err(tell)?;
        // The one size: how far the contents go, and so where the next header is.
        let size = pax.size.unwrap_or(header.size);
        if kind != Type::File && size != 0 {
            return Err(tell(malformed(format!("it is no file and has {size} bytes of contents"))));
        }
        if i64::try_from(size).is_err() {
            return Err(tell(malformed(format!("its size is {size}"))));
        }
        (self.left, self.padding) = (size, padding(size));
        let sparse = self.sparse(kind, header.flag, block, &pax).map_err(tell)?;
        let mtime = pax.mtime.unwrap_or(Timespec { tv_sec: header.mtime, tv_nsec: 0 });
        Ok(Entry {
            kind,
            link: pax.link.or(link).unwrap_or(header.link),
            mode: header.mode & 0o7777,
            uid: pax.uid.unwrap_or(header.uid),
            gid: pax.gid.unwrap_or(header.gid),
            mtime,
            atime: pax.atime.unwrap_or(mtime),
            device: header.device,
            xattrs: pax.xattrs,
            sparse,
            path,
        })
    }

    fn sparse(&mut self, kind: Type, flag: u8, block: &[u8; BLOCK], pax: &Pax) -> Result<Option<Map>> {
        if flag == b'S' {
            return Map::of_header(block, self.left, &mut self.stream).map(Some);
        }
        if kind != Type::File {
            return Ok(None);
        }
        Map::of_words(&pax.sparse, &mut self.left, &mut self.stream)
    }
}

/// What came before a header and is about it.
#[derive(Default)]
struct Before {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Before {
    fn nothing_waits(&self) -> Result<()> {
        if self.pax.is_some() || self.name.is_some() || self.link.is_some() {
            return Err(malformed("the archive ends after an extended header that is about nothing"));
        }
        Ok(())
    }
}

/// How many bytes fill `size` up to whole blocks.
const fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn kind_of(flag: u8, dialect: Dialect, path: &[u8]) -> Result<Type> {
    let is_slashed = path.ends_with(b"/");
    Ok(match flag {
        // Before there was a type for directories their names had a slash.
        b'\0' if is_slashed => Type::Directory,
        b'\0' | b'0' | b'7' if !is_slashed => Type::File,
        b'S' if !is_slashed && dialect == Dialect::Gnu => Type::File,
        b'\0' | b'0' | b'7' | b'S' => return Err(malformed("it is a file, and its name ends with a slash")),
        b'1' => Type::HardLink,
        b'2' => Type::Symlink,
        b'3' => Type::Character,
        b'4' => Type::Block,
        b'5' => Type::Directory,
        b'6' => Type::Fifo,
        other => {
            let message = format!("entries of the type {:?} are not known", char::from(other));
            return Err(Error::new(Kind::Unsupported, message));
        }
    })
}
