//! Makes tar archives for tests: also wrong ones, which no library writes.

/// An archive in the making.
#[derive(Default)]
pub(crate) struct Maker(pub(crate) Vec<u8>);

/// A header's fields before they are written.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) name: Vec<u8>,
    pub(crate) flag: u8,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) ids: (u64, u64),
    pub(crate) size: u64,
    pub(crate) mtime: u64,
    pub(crate) device: (u32, u32),
    /// A PAX header in front of it.
    pub(crate) pax: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Head {
    pub(crate) fn new(name: impl AsRef<[u8]>, flag: u8) -> Head {
        Head {
            name: name.as_ref().to_vec(),
            flag,
            link: Vec::new(),
            mode: if flag == b'5' { 0o755 } else { 0o644 },
            ids: (0, 0),
            size: 0,
            mtime: 1_000_000_000,
            device: (0, 0),
            pax: Vec::new(),
        }
    }

    pub(crate) fn link(mut self, link: impl AsRef<[u8]>) -> Head {
        self.link = link.as_ref().to_vec();
        self
    }

    pub(crate) fn mode(mut self, mode: u32) -> Head {
        self.mode = mode;
        self
    }

    pub(crate) fn ids(mut self, uid: u64, gid: u64) -> Head {
        self.ids = (uid, gid);
        self
    }

    pub(crate) fn device(mut self, major: u32, minor: u32) -> Head {
        self.device = (major, minor);
        self
    }

    pub(crate) fn size(mut self, size: u64) -> Head {
        self.size = size;
        self
    }

    pub(crate) fn pax(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Head {
        self.pax.push((key.as_ref().to_vec(), value.as_ref().to_vec()));
        self
    }

    /// The block itself, checksum and all.
    pub(crate) fn block(&self) -> [u8; 512] {
        let mut block = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.name[..self.name.len().min(100)]);
        put(100, format!("{:07o}\0", self.mode).as_bytes());
        put(108, &number(self.ids.0, 8));
        put(116, &number(self.ids.1, 8));
        put(124, &number(self.size, 12));
        put(136, &number(self.mtime, 12));
        put(156, &[self.flag]);
        put(157, &self.link[..self.link.len().min(100)]);
        put(257, b"ustar\x0000");
        put(329, format!("{:07o}\0", self.device.0).as_bytes());
        put(337, format!("{:07o}\0", self.device.1).as_bytes());
        seal(&mut block);
        block
    }
}

/// Octal, or in base 256 what has no room.
fn number(value: u64, width: usize) -> Vec<u8> {
    let text = format!("{value:0width$o}\0", width = width - 1);
    if text.len() == width {
        return text.into_bytes();
    }
    let mut bytes = vec![0; width];
    bytes[0] = 0x80;
    bytes[width - 8..].iter_mut().zip(value.to_be_bytes()).for_each(|(to, byte)| *to |= byte);
    bytes
}

/// Writes a block's checksum.
pub(crate) fn seal(block: &mut [u8; 512]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// One PAX record.
pub(crate) fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = [b" ", key, b"=", value, b"\n"].concat();
    let mut length = rest.len() + 1;
    while length != rest.len() + length.to_string().len() {
        length = rest.len() + length.to_string().len();
    }
    [length.to_string().as_bytes(), &rest].concat()
}

impl Maker {
    pub(crate) fn new() -> Maker {
        Maker::default()
    }

    /// A header as it is, with a PAX header in front of it where it has records, and bytes behind it.
    pub(crate) fn raw(mut self, head: &Head, contents: &[u8]) -> Maker {
        if !head.pax.is_empty() {
            let records: Vec<u8> = head.pax.iter().flat_map(|(key, value)| record(key, value)).collect();
            self = self.raw(&Head::new("pax", b'x').size(records.len() as u64), &records);
        }
        self.0.extend_from_slice(&head.block());
        self.bytes(contents)
    }

    /// Bytes, filled up to whole blocks.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Maker {
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn add(self, head: Head) -> Maker {
        self.raw(&head, b"")
    }

    pub(crate) fn dir(self, name: &str) -> Maker {
        self.add(Head::new(name, b'5'))
    }

    pub(crate) fn file(self, name: &str, contents: &[u8]) -> Maker {
        self.put(Head::new(name, b'0'), contents)
    }

    /// A header with the size of its contents.
    pub(crate) fn put(self, head: Head, contents: &[u8]) -> Maker {
        self.raw(&head.size(contents.len() as u64), contents)
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Maker {
        self.add(Head::new(name, b'2').link(target))
    }

    pub(crate) fn hard_link(self, name: &str, target: &str) -> Maker {
        self.add(Head::new(name, b'1').link(target))
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.extend_from_slice(&[0; 1024]);
        self.0
    }
}
