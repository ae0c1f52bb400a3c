//! An OCI layout as a directory: what an archive of one has, as files. The daemon knows archives alone, since it may be far away; here the
//! one becomes the other.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::{self, Cursor, Read, Write},
    path::{Path, PathBuf},
};

use tinyd_core::{Error, Kind, Result};

const BLOCK: usize = 512;
/// The files at the top that say what is in a layout, or in Docker's archive.
const DOCUMENTS: [&str; 3] = ["oci-layout", "index.json", "manifest.json"];
/// How long a header's further words may be.
const WORDS_MAX: u64 = 1 << 20;

/// Makes a directory of the archive that comes in. Dropped before its end, it is taken away.
#[derive(Debug)]
pub(super) struct Unpacker {
    to: PathBuf,
    part: PathBuf,
    block: Vec<u8>,
    at: At,
    /// The size of the next file, when its header has no room for it.
    size: Option<u64>,
    is_whole: bool,
}

/// Where in the archive.
#[derive(Debug)]
enum At {
    Header,
    Words { words: Vec<u8>, left: u64 },
    File { file: File, left: u64 },
    Padding { left: u64 },
    End,
}

impl Unpacker {
    /// Begins beside the directory `to`, which is not there, or is empty.
    ///
    /// # Errors
    /// `InvalidArgument` of `--output`.
    pub(super) fn new(to: &Path) -> Result<Unpacker> {
        let told = |source: io::Error| Error::invalid("--output", format!("{}: {source}", to.display()));
        let Some(name) = to.file_name() else { return Err(told(io::ErrorKind::AlreadyExists.into())) };
        if fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) || to.is_file() {
            let rule =
                format!("{}: it is there: name a directory that is not, or an empty one", to.display());
            return Err(Error::invalid("--output", rule));
        }
        let part = to.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        fs::create_dir(&part).map_err(told)?;
        let (to, block) = (to.to_owned(), Vec::with_capacity(BLOCK));
        Ok(Unpacker { to, part, block, at: At::Header, size: None, is_whole: false })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `InvalidArgument` of `--output` when a file cannot be written, `Internal` when it is no archive of a layout.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let most = |left: u64| usize::try_from(left).unwrap_or(usize::MAX);
            let count = match &mut self.at {
                At::Header => {
                    let count = bytes.len().min(BLOCK - self.block.len());
                    self.block.extend_from_slice(&bytes[..count]);
                    count
                }
                At::Words { words, left } => {
                    let count = bytes.len().min(most(*left));
                    words.extend_from_slice(&bytes[..count]);
                    *left -= count as u64;
                    count
                }
                At::File { file, left } => {
                    let count = bytes.len().min(most(*left));
                    file.write_all(&bytes[..count]).map_err(|source| unwritten(&self.to, &source))?;
                    *left -= count as u64;
                    count
                }
                At::Padding { left } => {
                    let count = bytes.len().min(most(*left));
                    *left -= count as u64;
                    count
                }
                At::End => bytes.len(),
            };
            bytes = &bytes[count..];
            self.go_on()?;
        }
        Ok(())
    }

    /// Goes to what follows what has come to its end.
    fn go_on(&mut self) -> Result<()> {
        loop {
            let padding = |size: u64| At::Padding { left: size.next_multiple_of(BLOCK as u64) - size };
            match &mut self.at {
                At::Header if self.block.len() == BLOCK => {
                    let block = std::mem::take(&mut self.block);
                    self.at = self.header(&block)?;
                }
                At::Words { words, left: 0 } => {
                    let words = std::mem::take(words);
                    self.size = size_in(&words);
                    self.at = padding(words.len() as u64);
                }
                At::File { file, left: 0 } => {
                    let size = file.metadata().map_err(|source| unwritten(&self.to, &source))?.len();
                    self.at = padding(size);
                }
                At::Padding { left: 0 } => self.at = At::Header,
                At::Header | At::Words { .. } | At::File { .. } | At::Padding { .. } | At::End => {
                    return Ok(());
                }
            }
        }
    }

    fn header(&mut self, block: &[u8]) -> Result<At> {
        if block.iter().all(|byte| *byte == 0) {
            return Ok(At::End);
        }
        let text = |from: usize, to: usize| {
            let field = block[from..to].split(|byte| *byte == 0).next().unwrap_or_default();
            String::from_utf8_lossy(field).trim().to_owned()
        };
        let (name, size) = (text(0, 100), u64::from_str_radix(&text(124, 136), 8));
        let size = size.map_err(|_| odd(&name))?;
        match block[156] {
            b'x' if size <= WORDS_MAX => Ok(At::Words { words: Vec::new(), left: size }),
            b'5' => {
                let name = name.trim_end_matches('/');
                let path = self.part.join(checked(name)?);
                fs::create_dir(path).map_err(|source| unwritten(&self.to, &source))?;
                Ok(At::Header)
            }
            b'0' => {
                let path = self.part.join(checked(&name)?);
                let file = File::create(path).map_err(|source| unwritten(&self.to, &source))?;
                Ok(At::File { file, left: self.size.take().unwrap_or(size) })
            }
            _ => Err(odd(&name)),
        }
    }

    /// The archive has come to its end: the directory gets its name.
    ///
    /// # Errors
    /// `Internal` when the archive is not whole, `InvalidArgument` of `--output` when the directory cannot get its name.
    pub(super) fn finish(mut self) -> Result<()> {
        if !matches!(self.at, At::End) {
            return Err(Error::new(Kind::Internal, "the archive ended in the middle"));
        }
        fs::rename(&self.part, &self.to).map_err(|source| unwritten(&self.to, &source))?;
        self.is_whole = true;
        Ok(())
    }
}

impl Drop for Unpacker {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_dir_all(&self.part);
        }
    }
}

fn unwritten(to: &Path, source: &io::Error) -> Error {
    Error::invalid("--output", format!("{}: {source}", to.display()))
}

fn odd(name: &str) -> Error {
    Error::new(Kind::Internal, format!("{name:?} is nothing that a layout has"))
}

/// The name of something that a layout has: nobody on the other side says where else on this machine a file is written.
fn checked(name: &str) -> Result<&str> {
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_known = match name.split('/').collect::<Vec<_>>().as_slice() {
        [top] => DOCUMENTS.contains(top) || *top == "blobs",
        ["blobs", algorithm] => plain(algorithm),
        ["blobs", algorithm, hex] => plain(algorithm) && plain(hex),
        _ => false,
    };
    if is_known { Ok(name) } else { Err(odd(name)) }
}

/// `size` among a header's further words (`LENGTH KEY=VALUE`).
fn size_in(words: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(words);
    text.lines().find_map(|line| line.split_once(' ')?.1.strip_prefix("size=")?.parse().ok())
}

/// A directory as the archive that it would be.
pub(super) struct Packer {
    parts: VecDeque<Part>,
    current: Box<dyn Read + Send>,
    left: u64,
}

/// A file of the archive.
struct Part {
    name: String,
    path: PathBuf,
    size: u64,
}

/// Reads a directory that is an OCI layout, or Docker's archive unpacked; and how long its archive is.
///
/// # Errors
/// `InvalidArgument` of `--input` when it is none, or cannot be read.
pub(super) fn pack(dir: &Path) -> Result<(Packer, u64)> {
    let told = |source: io::Error| Error::invalid("--input", format!("{}: {source}", dir.display()));
    let mut parts = VecDeque::new();
    files(dir, "", 0, &mut parts).map_err(told)?;
    if !parts.iter().any(|part| matches!(part.name.as_str(), "index.json" | "manifest.json")) {
        let rule = format!(
            "{}: it is a directory without an index.json: an OCI layout, or an archive, is needed",
            dir.display()
        );
        return Err(Error::invalid("--input", rule));
    }
    let length = |part: &Part| BLOCK as u64 + part.size.next_multiple_of(BLOCK as u64);
    let total = parts.iter().map(length).sum::<u64>() + 2 * BLOCK as u64;
    Ok((Packer { parts, current: Box::new(io::empty()), left: 0 }, total))
}

/// The files below a directory, by name. Links are not followed.
fn files(dir: &Path, prefix: &str, depth: u32, parts: &mut VecDeque<Part>) -> io::Result<()> {
    let mut entries = fs::read_dir(dir)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (name, kind) = (format!("{prefix}{name}"), entry.file_type()?);
        if kind.is_dir() && depth < 2 {
            files(&entry.path(), &format!("{name}/"), depth + 1, parts)?;
        } else if kind.is_file() && name.len() <= 100 {
            parts.push_back(Part { name, path: entry.path(), size: entry.metadata()?.len() });
        }
    }
    Ok(())
}

impl Packer {
    /// The next file, or the archive's end.
    fn go_on(&mut self) -> io::Result<bool> {
        let Some(part) = self.parts.pop_front() else {
            return Ok(false);
        };
        let head = header(&part.name, part.size);
        let padding = part.size.next_multiple_of(BLOCK as u64) - part.size;
        let mut body: Box<dyn Read + Send> =
            Box::new(File::open(&part.path)?.take(part.size).chain(io::repeat(0).take(padding)));
        if self.parts.is_empty() {
            body = Box::new(body.chain(io::repeat(0).take(2 * BLOCK as u64)));
        }
        self.left = BLOCK as u64 + part.size + padding;
        self.current = Box::new(Cursor::new(head).chain(body));
        Ok(true)
    }
}

impl Read for Packer {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.current.read(into)?;
            if count > 0 || into.is_empty() {
                self.left = self.left.saturating_sub(count as u64);
                return Ok(count);
            }
            if self.left > 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter"));
            }
            if !self.go_on()? {
                return Ok(0);
            }
        }
    }
}

/// A file's header: POSIX ustar; a size without room there as GNU tar writes it.
fn header(name: &str, size: u64) -> Vec<u8> {
    let mut block = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, b"0000644\0");
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    match size >> 33 {
        0 => put(124, format!("{size:011o}\0").as_bytes()),
        _ => {
            put(124, &[0x80, 0, 0, 0]);
            put(128, &size.to_be_bytes());
        }
    }
    put(136, b"00000000000\0");
    put(148, b"        ");
    put(156, b"0");
    put(257, b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("tinyd-layout-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("from/blobs/sha256")).unwrap();
        dir
    }

    #[test]
    fn a_directory_becomes_an_archive_and_a_directory_again() {
        let dir = scratch("round");
        for (name, text) in [("index.json", "{}"), ("oci-layout", "x"), ("blobs/sha256/ab", "0123456789")] {
            fs::write(dir.join("from").join(name), text.repeat(100)).unwrap();
        }
        let (mut packer, total) = pack(&dir.join("from")).unwrap();
        let mut tar = Vec::new();
        packer.read_to_end(&mut tar).unwrap();
        assert_eq!(tar.len() as u64, total);
        // The daemon's archives have directories of their own.
        let mut dirs = Vec::new();
        for name in ["blobs/", "blobs/sha256/"] {
            let mut block = header(name, 0);
            block[156] = b'5';
            dirs.extend(block);
        }
        let tar = [dirs, tar].concat();
        for step in [1, 511, 512, 700, tar.len()] {
            let to = dir.join(format!("to{step}"));
            let mut unpacker = Unpacker::new(&to).unwrap();
            tar.chunks(step).for_each(|piece| unpacker.take(piece).unwrap());
            unpacker.finish().unwrap();
            assert_eq!(fs::read_to_string(to.join("blobs/sha256/ab")).unwrap(), "0123456789".repeat(100));
        }
        assert!(Unpacker::new(&dir.join("to1")).unwrap_err().message().contains("it is there"));
        let mut cut = Unpacker::new(&dir.join("cut")).unwrap();
        cut.take(&tar[..2000]).unwrap();
        assert!(cut.finish().is_err() && !dir.join("cut").exists());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 6, "nothing half is left");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn nothing_is_written_anywhere_else() {
        for name in ["../x", "/etc/passwd", "blobs/../../x", "blobs/sha256/../x", "x", "blobs/a/b/c", ""] {
            assert!(checked(name).is_err(), "{name}");
        }
        assert_eq!(size_in(b"20 size=9000000000\n"), Some(9_000_000_000));
        assert_eq!(&header("a", 1 << 33)[124..136], [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
    }

    #[test]
    fn a_directory_of_something_else_is_told() {
        let dir = scratch("else");
        let error = pack(&dir.join("from")).err().unwrap();
        assert!(error.message().contains("without an index.json"), "{error}");
        fs::remove_dir_all(dir).unwrap();
    }
}
