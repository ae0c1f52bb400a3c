//! Writing netlink messages: a head, a fixed part, attributes, nested attributes.

/// Length of `struct nlmsghdr`.
pub(super) const HEAD_BYTES: usize = 16;
/// `NLA_F_NESTED`: the attribute holds attributes.
const NESTED: u16 = 1 << 15;

/// Messages to be sent together, in this order, in one system call.
#[derive(Debug, Default)]
pub struct Messages {
    pub(super) bytes: Vec<u8>,
    pub(super) heads: Vec<Head>,
    too_long: bool,
}

/// Where a message begins and what to call it.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) offset: usize,
    pub(super) call: String,
}

impl Messages {
    /// None yet.
    #[must_use]
    pub fn new() -> Messages {
        Messages::default()
    }

    /// Adds a message. `call` names it in errors, as `RTM_NEWLINK(eth0)`; `kind` is its type, `flags` its `NLM_F_*` flags
    /// (`NLM_F_REQUEST` is always set); `fill` writes the fixed part and the attributes.
    pub fn add(&mut self, call: impl Into<String>, kind: u16, flags: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let offset = self.bytes.len();
        let flags = flags | libc::NLM_F_REQUEST as u16;
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        // Sequence number (the socket's business) and port (the kernel's).
        self.bytes.extend_from_slice(&[0; 8]);
        fill(&mut Body { bytes: &mut self.bytes, too_long: &mut self.too_long });
        match u32::try_from(self.bytes.len() - offset) {
            Ok(len) => self.bytes[offset..offset + 4].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => self.too_long = true,
        }
        pad(&mut self.bytes);
        self.heads.push(Head { offset, call: call.into() });
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// How many bytes they have together.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Adds flags to the last message.
    pub fn flag_last(&mut self, flags: u16) {
        if let Some(head) = self.heads.last() {
            let at = head.offset + 6;
            let old = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]);
            self.bytes[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
        }
    }

    /// Whether something did not fit into its length field. Sending such messages is refused.
    pub(super) fn too_long(&self) -> bool {
        self.too_long
    }

    /// Numbers the messages from `first` on, upwards.
    pub(super) fn number(&mut self, first: u32) {
        let mut sequence = first;
        for head in &self.heads {
            let at = head.offset + 8;
            self.bytes[at..at + 4].copy_from_slice(&sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
        }
    }
}

/// The inside of a message or of a nested attribute.
#[derive(Debug)]
pub struct Body<'a> {
    bytes: &'a mut Vec<u8>,
    too_long: &'a mut bool,
}

impl Body<'_> {
    /// Bytes of the fixed part, filled up to a multiple of four.
    pub fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        pad(self.bytes);
    }

    /// An attribute of bytes.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |body| body.bytes.extend_from_slice(value));
    }

    /// An attribute without a value.
    pub fn flag(&mut self, kind: u16) {
        self.bytes(kind, &[]);
    }

    /// An attribute of text, with the NUL that the kernel wants at its end.
    pub fn text(&mut self, kind: u16, value: &str) {
        self.attribute(kind, |body| {
            body.bytes.extend_from_slice(value.as_bytes());
            body.bytes.push(0);
        });
    }

    /// An attribute of one byte.
    pub fn u8(&mut self, kind: u16, value: u8) {
        self.bytes(kind, &[value]);
    }

    /// An attribute of two bytes, in the host's order.
    pub fn u16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// An attribute of four bytes, in the host's order.
    pub fn u32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_ne_bytes());
    }

    /// An attribute of two bytes, in the network's order.
    pub fn be16(&mut self, kind: u16, value: u16) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute of four bytes, in the network's order.
    pub fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }

    /// An attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        self.attribute(kind | NESTED, fill);
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Body<'_>)) {
        let offset = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(&mut Body { bytes: self.bytes, too_long: self.too_long });
        match u16::try_from(self.bytes.len() - offset) {
            Ok(len) => self.bytes[offset..offset + 2].copy_from_slice(&len.to_ne_bytes()),
            Err(_) => *self.too_long = true,
        }
        pad(self.bytes);
    }
}

/// Fills up to a multiple of four bytes. Messages begin at such a multiple, so the whole buffer's length is what counts.
fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::parse::{attributes, messages};

    #[test]
    fn what_is_written_reads_back() {
        let mut request = Messages::new();
        request.add("A", 16, 5, |body| {
            body.fixed(&[1, 2, 3, 4]);
            body.text(3, "eth0");
            body.nest(18, |body| {
                body.u8(1, 7);
                body.be16(2, 0x1234);
            });
        });
        request.add("B", 17, 0, |_| ());
        request.flag_last(4);
        request.number(41);
        let read: Vec<_> = messages(&request.bytes).collect();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].kind, read[0].flags, read[0].sequence), (16, 5, 41));
        assert_eq!((read[1].kind, read[1].flags, read[1].sequence), (17, 5, 42));
        let attrs: Vec<_> = attributes(&read[0].payload[4..]).collect();
        assert_eq!((attrs[0].kind, attrs[0].text()), (3, Some("eth0")));
        let inner: Vec<_> = attributes(attrs[1].value).collect();
        assert_eq!(attrs[1].kind, 18);
        assert_eq!((inner[0].kind, inner[0].value), (1, &[7][..]));
        assert_eq!((inner[1].kind, inner[1].value), (2, &[0x12, 0x34][..]));
    }

    #[test]
    fn an_attribute_that_does_not_fit_is_noticed() {
        let mut request = Messages::new();
        request.add("A", 16, 0, |body| body.bytes(1, &[0; 70_000]));
        assert!(request.too_long());
    }
}
