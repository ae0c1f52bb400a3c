//! Writing tar headers: POSIX ustar, with a PAX header in front where a field has no room or no place. The same entry is always the
//! same bytes.

use std::io::{self, Write};

use rustix::fs::Timespec;

const BLOCK: usize = 512;

/// What a header says.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    pub(crate) name: &'a [u8],
    /// The type as ustar has it.
    pub(crate) flag: u8,
    pub(crate) link: &'a [u8],
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    pub(crate) mtime: Timespec,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Writes a header, and before it what it has no room for.
pub(crate) fn head(out: &mut dyn Write, head: &Head<'_>) -> io::Result<()> {
    let records = records(head);
    if !records.is_empty() {
        let name = [b"PaxHeaders/", &head.name[..head.name.len().min(80)]].concat();
        let pax = Head {
            name: &name,
            flag: b'x',
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            size: records.len() as u64,
            mtime: Timespec { tv_sec: 0, tv_nsec: 0 },
            device: (0, 0),
            xattrs: Vec::new(),
        };
        out.write_all(&block(&pax))?;
        out.write_all(&records)?;
        pad(out, records.len() as u64)?;
    }
    out.write_all(&block(head))
}

/// Fills contents of `size` bytes up to whole blocks.
pub(crate) fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let rest = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    out.write_all(&[0; BLOCK][..(BLOCK - rest) % BLOCK])
}

/// The end marker.
pub(crate) fn end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])?;
    out.flush()
}

fn records(head: &Head<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    if head.name.len() > 100 {
        record(&mut all, b"path", head.name);
    }
    if head.link.len() > 100 {
        record(&mut all, b"linkpath", head.link);
    }
    for (key, value, digits) in
        [(&b"uid"[..], u64::from(head.uid), 7), (b"gid", u64::from(head.gid), 7), (b"size", head.size, 11)]
    {
        if value >> (3 * digits) != 0 {
            record(&mut all, key, value.to_string().as_bytes());
        }
    }
    let Timespec { tv_sec: seconds, tv_nsec: nanos } = head.mtime;
    if nanos != 0 || seconds < 0 || seconds >> 33 != 0 {
        // Before 1970 the fraction counts upwards from the second, in the text downwards from zero.
        let text = match (seconds < 0, nanos) {
            (true, 1..) => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
            _ => format!("{seconds}.{nanos:09}"),
        };
        record(&mut all, b"mtime", text.as_bytes());
    }
    for (name, value) in &head.xattrs {
        record(&mut all, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    all
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits.
fn record(all: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    for part in [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"] {
        all.extend_from_slice(part);
    }
}

fn block(head: &Head<'_>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
    // A value without room is in the PAX header; here it is zero.
    let octal = |value: u64, digits: usize| {
        let value = if value >> (3 * digits) == 0 { value } else { 0 };
        format!("{value:0digits$o}\0").into_bytes()
    };
    put(0, &head.name[..head.name.len().min(100)]);
    put(100, &octal(u64::from(head.mode), 7));
    put(108, &octal(head.uid.into(), 7));
    put(116, &octal(head.gid.into(), 7));
    put(124, &octal(head.size, 11));
    put(136, &octal(u64::try_from(head.mtime.tv_sec).unwrap_or(0), 11));
    put(148, b"        ");
    put(156, &[head.flag]);
    put(157, &head.link[..head.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, &octal(head.device.0.into(), 7));
    put(337, &octal(head.device.1.into(), 7));
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}
