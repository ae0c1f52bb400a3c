//! Reading netlink messages. Whatever the bytes are, nothing here panics: what does not parse ends the iteration.

use super::message::HEAD_BYTES;

/// Length of an attribute's head.
const ATTRIBUTE_HEAD_BYTES: usize = 4;
/// The bits of an attribute's type that are its type.
const TYPE_MASK: u16 = 0x3fff;

/// A message of a dump: its type and what follows its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its type.
    pub kind: u16,
    /// The fixed part and the attributes.
    pub payload: Vec<u8>,
}

impl Reply {
    /// The attributes after a fixed part of `fixed_bytes`.
    pub fn attributes(&self, fixed_bytes: usize) -> impl Iterator<Item = Attribute<'_>> {
        attributes(self.payload.get(fixed_bytes..).unwrap_or_default())
    }
}

/// An attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its type, without the flag bits.
    pub kind: u16,
    /// Its bytes.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as text, without the NUL at its end.
    #[must_use]
    pub fn text(self) -> Option<&'a str> {
        let text = self.value.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(text).ok()
    }

    /// The value as a number in the host's order.
    #[must_use]
    pub fn u32(self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_ne_bytes)
    }

    /// The value as a number in the network's order.
    #[must_use]
    pub fn be32(self) -> Option<u32> {
        self.value.try_into().ok().map(u32::from_be_bytes)
    }

    /// The attributes inside.
    pub fn inner(self) -> impl Iterator<Item = Attribute<'a>> {
        attributes(self.value)
    }
}

/// The attributes in `bytes`.
pub fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    std::iter::from_fn(move || {
        let len = usize::from(u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = bytes.get(ATTRIBUTE_HEAD_BYTES..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Attribute { kind, value })
    })
}

/// A message as received.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(super) payload: &'a [u8],
}

/// The messages in `bytes`.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let len = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
        let flags = u16::from_ne_bytes(bytes.get(6..8)?.try_into().ok()?);
        let sequence = u32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
        let payload = bytes.get(HEAD_BYTES..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(Message { kind, flags, sequence, payload })
    })
}

/// What an `NLMSG_ERROR` (or the end of a dump) says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// 0, or the errno.
    pub(super) errno: i32,
    /// The kernel's own words.
    pub(super) words: Option<String>,
}

/// Where the kernel's words are in an acknowledgement: `NLMSGERR_ATTR_MSG`.
const WORDS: u16 = 1;

impl Verdict {
    /// Reads an `NLMSG_ERROR`: errno, the head of the request (with all of it unless the message is capped), attributes.
    pub(super) fn of_error(message: Message<'_>) -> Option<Verdict> {
        let code = i32::from_ne_bytes(message.payload.get(..4)?.try_into().ok()?);
        let request_len = u32::from_ne_bytes(message.payload.get(4..8)?.try_into().ok()?) as usize;
        let capped = message.flags & libc::NLM_F_CAPPED as u16 != 0;
        let skip = 4 + if capped { HEAD_BYTES } else { request_len.next_multiple_of(4) };
        Some(Verdict { errno: -code, words: words(message.payload.get(skip..).unwrap_or_default()) })
    }

    /// Reads an `NLMSG_DONE`: errno, attributes.
    pub(super) fn of_done(message: Message<'_>) -> Verdict {
        let code =
            message.payload.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
        Verdict { errno: -code.min(0), words: words(message.payload.get(4..).unwrap_or_default()) }
    }
}

fn words(attrs: &[u8]) -> Option<String> {
    attributes(attrs).find(|attr| attr.kind == WORDS).and_then(Attribute::text).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_acknowledgement_has_the_kernels_words_whether_capped_or_not() {
        let words = [&[9, 0, 1, 0][..], b"why\x21\0", &[0; 3]].concat();
        let request = [20_u32.to_ne_bytes().to_vec(), vec![0; 12], vec![7; 4]].concat();
        for (flags, echoed) in [(libc::NLM_F_CAPPED as u16, &request[..16]), (0, &request[..])] {
            let payload = [&(-17_i32).to_ne_bytes()[..], echoed, &words].concat();
            let message = Message { kind: 2, flags, sequence: 1, payload: &payload };
            let verdict = Verdict::of_error(message).unwrap();
            assert_eq!(verdict, Verdict { errno: 17, words: Some("why!".into()) });
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic_or_go_on_for_ever(bytes: Vec<u8>) {
            prop_assert!(attributes(&bytes).count() <= bytes.len());
            for message in messages(&bytes) {
                let _ = Verdict::of_error(message);
                let _ = Verdict::of_done(message);
                let _ = attributes(message.payload).map(Attribute::text).count();
            }
        }
    }
}
