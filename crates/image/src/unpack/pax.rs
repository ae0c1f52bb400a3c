//! The records of a PAX extended header: `LENGTH KEY=VALUE\n`. A record that is not exactly that is an error, since whoever reads it
//! otherwise sees another archive.

use rustix::fs::Timespec;
use tinyd_core::Result;

use super::malformed;

/// What the records say of the entry that follows. What is missing is as the header says.
#[derive(Debug, Default)]
pub(super) struct Pax {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Timespec>,
    pub(super) atime: Option<Timespec>,
    /// Extended attributes, by name, in the order of the records.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) sparse: SparseWords,
}

/// What GNU tar's `GNU.sparse.*` records say.
#[derive(Debug, Default)]
pub(super) struct SparseWords {
    /// `major` is there: the form 1.0, whose map is before the contents.
    pub(super) is_one: bool,
    /// The file's name in the forms 0.1 and 1.0, which have another one in `path`.
    pub(super) name: Option<Vec<u8>>,
    /// The file's size with its holes.
    pub(super) size: Option<u64>,
    /// Offset, length, offset, length, …: the forms 0.0 and 0.1.
    pub(super) map: Option<Vec<u64>>,
}

/// Reads all records; of two with one key the last counts.
pub(super) fn parse(mut bytes: &[u8]) -> Result<Pax> {
    let mut pax = Pax::default();
    while !bytes.is_empty() {
        let (key, value, rest) = record(bytes).ok_or_else(|| {
            let start = &bytes[..bytes.len().min(40)];
            malformed(format!("a PAX record is malformed: {:?}", String::from_utf8_lossy(start)))
        })?;
        pax.take(key, value)?;
        bytes = rest;
    }
    Ok(pax)
}

/// One record and what is behind it.
fn record(bytes: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = bytes.iter().take(8).position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&bytes[..space])?).ok()?;
    let record = bytes.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    let key = &record[..equals];
    (!key.is_empty() && !key.contains(&0)).then_some((key, &record[equals + 1..], &bytes[length..]))
}

impl Pax {
    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
            self.xattrs.retain(|(other, _)| other != name);
            self.xattrs.push((name.to_vec(), value.to_vec()));
            return Ok(());
        }
        let wrong = || {
            let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(value));
            malformed(format!("the PAX record {key:?} has the value {value:?}"))
        };
        let number = || decimal(value).map(Some).ok_or_else(wrong);
        let time = || time(value).map(Some).ok_or_else(wrong);
        let name = || (!value.contains(&0)).then(|| Some(value.to_vec())).ok_or_else(wrong);
        match key {
            // POSIX: an empty value takes an earlier record away; the header's own counts again.
            b"path" if value.is_empty() => self.path = None,
            b"linkpath" if value.is_empty() => self.link = None,
            b"path" => self.path = name()?,
            b"linkpath" => self.link = name()?,
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.mtime = time()?,
            b"atime" => self.atime = time()?,
            b"GNU.sparse.major" if value == b"0" => {}
            b"GNU.sparse.major" if value == b"1" => self.sparse.is_one = true,
            b"GNU.sparse.major" => return Err(wrong()),
            b"GNU.sparse.name" => self.sparse.name = name()?,
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.size = number()?,
            b"GNU.sparse.map" if value.is_empty() => self.sparse.map = Some(Vec::new()),
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
                self.sparse.map = Some(numbers.ok_or_else(wrong)?);
            }
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                let map = self.sparse.map.get_or_insert_default();
                if map.len() % 2 != usize::from(key.ends_with(b"numbytes")) {
                    return Err(wrong());
                }
                map.extend(number()?);
            }
            // Names of users, comments, character sets, other programs' own.
            _ => {}
        }
        Ok(())
    }
}

/// Decimal digits and nothing else.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with an optional sign and fraction. What is finer than nanoseconds is cut off.
fn time(text: &[u8]) -> Option<Timespec> {
    let (negative, text) = text.strip_prefix(b"-").map_or((false, text), |text| (true, text));
    let mut parts = text.splitn(2, |byte| *byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let nanos = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanos = nanos.fold(0_i64, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(match (negative, nanos) {
        (false, _) => Timespec { tv_sec: seconds, tv_nsec: nanos },
        (true, 0) => Timespec { tv_sec: -seconds, tv_nsec: 0 },
        (true, _) => Timespec { tv_sec: -seconds - 1, tv_nsec: 1_000_000_000 - nanos },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read() {
        let pax =
            parse(b"12 path=a/b\n11 size=12\n26 SCHILY.xattr.user.k=\0\n\n20 mtime=-1.5000000\n").unwrap();
        assert_eq!((pax.path.unwrap(), pax.size), (b"a/b".to_vec(), Some(12)));
        assert_eq!(pax.xattrs, [(b"user.k".to_vec(), b"\0\n".to_vec())]);
        assert_eq!(pax.mtime, Some(Timespec { tv_sec: -2, tv_nsec: 500_000_000 }));
    }

    #[test]
    fn a_malformed_record_is_an_error() {
        for bad in [
            &b"12 path=a/b"[..],
            b"13 path=a/b\n",
            b"11 path=a/b\n",
            b"-2 path=a/b\n",
            b"+12 path=a/b\n",
            b"0 \n",
            b"3 \n",
            b"5 =b\n",
            b"6 pat\n",
            b"12path=a/bb\n",
            b"99999999999999999999 path=a\n",
            b"10 path=\0\n",
            b"11 size=-1\n",
            b"11 size=1k\n",
            b"28 size=99999999999999999999\n",
            b"12 mtime=1.x\n",
            b"11 mtime=.\n",
            b"23 GNU.sparse.map=1,,2\n",
            b"24 GNU.sparse.numbytes=1\n",
            b"22 GNU.sparse.major=2\n",
        ] {
            assert!(parse(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn the_last_of_two_counts_and_an_empty_one_takes_away() {
        let pax = parse(b"10 path=a\n10 path=b\n14 linkpath=l\n13 linkpath=\n").unwrap();
        assert_eq!((pax.path, pax.link), (Some(b"b".to_vec()), None));
    }
}
