//! How JSON is read: every type by one reader, and text that is known to be text. `serde_json::from_slice` asks of each string anew
//! whether it is UTF-8, and a profile of system calls has four hundred; a second reader of the same types is a tenth of `tinyrun`.

use serde::{Deserialize, de::Error};

/// Reads a document.
///
/// # Errors
/// What is wrong, and where: line and column, or the byte at which it stops being UTF-8.
pub fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serde_json::from_str(text),
        Err(error) => {
            let message = format_args!("not UTF-8 from byte {} on", error.valid_up_to());
            Err(serde_json::Error::custom(message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_has_a_place() {
        assert_eq!(read::<Vec<u8>>(b"[1,2]").unwrap(), [1, 2]);
        assert!(read::<Vec<u8>>(b"[1,\n x]").unwrap_err().to_string().contains("line 2 column 2"));
        assert_eq!(read::<String>(b"\"a\xff\"").unwrap_err().to_string(), "not UTF-8 from byte 2 on");
    }
}
