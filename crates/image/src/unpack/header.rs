//! One header block of a tar archive: its fields, strictly. A number that is no number, a wrong checksum, a negative size are errors.
//! What a header means together with those before it is `archive.rs`'s.

use tinyd_core::Result;

use super::{malformed, stream::BLOCK};

/// Which of the three dialects a header is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Before 1988: no magic, no prefix.
    V7,
    /// POSIX.1-1988 and PAX: long names are split into prefix and name.
    Posix,
    /// GNU: other fields where POSIX has the prefix.
    Gnu,
}

/// The fields that matter. Names are as they were written.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) dialect: Dialect,
    pub(super) flag: u8,
    pub(super) name: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    /// Seconds since 1970, before it negative.
    pub(super) mtime: i64,
    /// Major and minor number, read for device nodes only: others have anything there.
    pub(super) device: (u32, u32),
}

impl Header {
    /// Reads a block that is not all zeros.
    pub(super) fn parse(block: &[u8; BLOCK]) -> Result<Header> {
        check_sum(block)?;
        let dialect = match &block[257..263] {
            b"ustar\0" => Dialect::Posix,
            b"ustar " => Dialect::Gnu,
            _ => Dialect::V7,
        };
        let mut name = text(&block[..100]).to_vec();
        let prefix = text(&block[345..500]);
        if dialect == Dialect::Posix && !prefix.is_empty() {
            name = [prefix, b"/", &name].concat();
        }
        let flag = block[156];
        let device = match flag {
            b'3' | b'4' => (small(&block[329..337], "device")?, small(&block[337..345], "device")?),
            _ => (0, 0),
        };
        Ok(Header {
            dialect,
            flag,
            name,
            link: text(&block[157..257]).to_vec(),
            mode: small(&block[100..108], "mode")?,
            uid: positive(&block[108..116], "uid")?,
            gid: positive(&block[116..124], "gid")?,
            size: positive(&block[124..136], "size")?,
            mtime: number(&block[136..148], "mtime")?,
            device,
        })
    }
}

/// The sum of all bytes with the field itself as spaces. Old programs summed signed bytes.
fn check_sum(block: &[u8; BLOCK]) -> Result<()> {
    let told = number(&block[148..156], "checksum")?;
    let bytes =
        || block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    if told == unsigned || told == signed {
        return Ok(());
    }
    Err(malformed(format!("the header's checksum is {told}, its bytes give {unsigned}")))
}

/// A field up to its first NUL.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A number that cannot be negative.
pub(super) fn positive(field: &[u8], what: &str) -> Result<u64> {
    let value = number(field, what)?;
    u64::try_from(value).map_err(|_| malformed(format!("the {what} is negative: {value}")))
}

fn small(field: &[u8], what: &str) -> Result<u32> {
    let value = positive(field, what)?;
    u32::try_from(value).map_err(|_| malformed(format!("the {what} is too large: {value}")))
}

/// Octal digits, or with the first bit set GNU's two's complement in base 256. Nothing at all is zero.
fn number(field: &[u8], what: &str) -> Result<i64> {
    if field[0] & 0x80 != 0 {
        return base_256(field).ok_or_else(|| malformed(format!("the {what} is too large: {field:02x?}")));
    }
    octal(field)
        .ok_or_else(|| malformed(format!("the {what} is not a number: {:?}", String::from_utf8_lossy(field))))
}

fn octal(field: &[u8]) -> Option<i64> {
    let field = field.trim_ascii_start();
    let digits = field.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if field[digits..].iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return None;
    }
    field[..digits].iter().try_fold(0_i64, |value, byte| match byte {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(i64::from(byte - b'0')),
        _ => None,
    })
}

fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first =
        if negative { i128::from((field[0] | 0x80).cast_signed()) } else { i128::from(field[0] & 0x7f) };
    // At most twelve bytes: far from what 128 bits hold.
    let value = field[1..].iter().fold(first, |value, byte| (value << 8) | i128::from(*byte));
    i64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        for (field, value) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o7777_7777)),
            (b"0000648\0", None),
            (b"-0000001", None),
            (b"0x00644\0", None),
            (b"12\x003456\0", None),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", Some(i64::MAX)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
        ] {
            assert_eq!(number(field, "size").ok(), value, "{field:02x?}");
        }
    }

    #[test]
    fn a_negative_size_is_refused() {
        let error = positive(b"\xff\xff\xff\xff\xff\xff\xfe\x00", "size").unwrap_err();
        assert!(error.message().contains("negative"), "{error}");
    }

    #[test]
    fn a_flipped_bit_is_found() {
        let mut block = [0_u8; BLOCK];
        block[..4].copy_from_slice(b"name");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        assert_eq!(Header::parse(&block).unwrap().name, b"name");
        block[0] ^= 1;
        assert!(Header::parse(&block).unwrap_err().message().contains("checksum"));
    }
}
