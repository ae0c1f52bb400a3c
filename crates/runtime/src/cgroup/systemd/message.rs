//! What is said over D-Bus: values and messages, and their bytes. The encoding is zbus's; here is the small part of its types that
//! systemd's manager and its units need. Nothing is sent from here.

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
    ser::{SerializeSeq, SerializeStruct},
};
use tinyd_core::{Error, Kind, Result};
use zbus::wire::{
    Endian, NATIVE_ENDIAN,
    serialized::{Context, Data},
    to_bytes_for_signature,
};

/// The kinds of message.
pub(super) const CALL: u8 = 1;
pub(super) const REPLY: u8 = 2;
pub(super) const ERROR: u8 = 3;
pub(super) const SIGNAL: u8 = 4;

/// The signal that is waited for.
pub(super) const JOB_REMOVED: &str = "JobRemoved";

/// The beginning of every message, which says how long it is.
pub(super) const PRELUDE: usize = 16;
/// More than systemd ever says.
const BYTES_MAX: usize = 16 << 20;
const HEADER: &str = "(yyyyuua(yv))";

/// A value. What is read has lists for arrays, structures and variants alike: its reader knows which it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// `b`.
    Bool(bool),
    /// `y`.
    Byte(u8),
    /// `n`.
    I16(i16),
    /// `q`.
    U16(u16),
    /// `i`.
    I32(i32),
    /// `u`.
    U32(u32),
    /// `x`.
    I64(i64),
    /// `t`.
    U64(u64),
    /// `s`; and when read `o` and `g` too.
    Str(String),
    /// `o`.
    Path(String),
    /// `g`.
    Signature(String),
    /// An array, with the signature of its items.
    Array(String, Vec<Value>),
    /// A structure.
    List(Vec<Value>),
    /// `v`.
    Variant(Box<Value>),
}

impl Value {
    /// A text.
    pub(super) fn str(text: &str) -> Value {
        Value::Str(text.to_owned())
    }

    /// The type, as D-Bus spells it.
    pub(super) fn signature(&self) -> String {
        match self {
            Value::Bool(_) => "b".into(),
            Value::Byte(_) => "y".into(),
            Value::I16(_) => "n".into(),
            Value::U16(_) => "q".into(),
            Value::I32(_) => "i".into(),
            Value::U32(_) => "u".into(),
            Value::I64(_) => "x".into(),
            Value::U64(_) => "t".into(),
            Value::Str(_) => "s".into(),
            Value::Path(_) => "o".into(),
            Value::Signature(_) => "g".into(),
            Value::Array(item, _) => format!("a{item}"),
            Value::List(items) => format!("({})", signatures(items)),
            Value::Variant(_) => "v".into(),
        }
    }

    /// The text of a string, a path or a signature.
    pub(super) fn text(&self) -> Option<&str> {
        let (Value::Str(text) | Value::Path(text) | Value::Signature(text)) = self else { return None };
        Some(text)
    }

    /// The items of what is made of several.
    pub(super) fn items(&self) -> &[Value] {
        let (Value::List(items) | Value::Array(_, items)) = self else { return &[] };
        items
    }
}

fn signatures(values: &[Value]) -> String {
    values.iter().map(Value::signature).collect()
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Value::Bool(value) => to.serialize_bool(*value),
            Value::Byte(value) => to.serialize_u8(*value),
            Value::I16(value) => to.serialize_i16(*value),
            Value::U16(value) => to.serialize_u16(*value),
            Value::I32(value) => to.serialize_i32(*value),
            Value::U32(value) => to.serialize_u32(*value),
            Value::I64(value) => to.serialize_i64(*value),
            Value::U64(value) => to.serialize_u64(*value),
            Value::Str(text) | Value::Path(text) | Value::Signature(text) => to.serialize_str(text),
            Value::Array(_, items) => {
                let mut array = to.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| array.serialize_element(item))?;
                array.end()
            }
            Value::List(items) => {
                let mut list = to.serialize_struct("", items.len())?;
                items.iter().try_for_each(|item| list.serialize_field("", item))?;
                list.end()
            }
            Value::Variant(value) => {
                let mut variant = to.serialize_struct("", 2)?;
                variant.serialize_field("", &value.signature())?;
                variant.serialize_field("", &**value)?;
                variant.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Value, D::Error> {
        from.deserialize_any(Reader)
    }
}

/// Takes whatever comes.
struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u8<E>(self, value: u8) -> std::result::Result<Value, E> {
        Ok(Value::Byte(value))
    }

    fn visit_i16<E>(self, value: i16) -> std::result::Result<Value, E> {
        Ok(Value::I16(value))
    }

    fn visit_u16<E>(self, value: u16) -> std::result::Result<Value, E> {
        Ok(Value::U16(value))
    }

    fn visit_i32<E>(self, value: i32) -> std::result::Result<Value, E> {
        Ok(Value::I32(value))
    }

    fn visit_u32<E>(self, value: u32) -> std::result::Result<Value, E> {
        Ok(Value::U32(value))
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(Value::I64(value))
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(Value::U64(value))
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Value, E> {
        Ok(Value::str(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> std::result::Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = from.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }
}

/// A message, read or to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// [`CALL`] and its like.
    pub kind: u8,
    /// Its number.
    pub serial: u32,
    /// The number of the call that it answers.
    pub answers: u32,
    /// The object.
    pub path: String,
    /// The object's interface.
    pub interface: String,
    /// The method or signal.
    pub member: String,
    /// What went wrong.
    pub error: String,
    /// Who it is for; empty when there is nobody else.
    pub destination: String,
    /// Who sent it, as the bus says.
    pub sender: String,
    /// What it says.
    pub body: Vec<Value>,
}

impl Message {
    /// Its bytes.
    ///
    /// # Errors
    /// `Internal` for what cannot be encoded.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        let signature = signatures(&self.body);
        let body = encode(&format!("({signature})"), &Value::List(self.body.clone()), self.body.is_empty())?;
        let length = u32::try_from(body.len()).map_err(|error| garbled(&error.to_string()))?;
        let texts = [
            (1, Value::Path(self.path.clone())),
            (2, Value::Str(self.interface.clone())),
            (3, Value::Str(self.member.clone())),
            (4, Value::Str(self.error.clone())),
            (6, Value::Str(self.destination.clone())),
            (8, Value::Signature(signature)),
        ];
        let texts = texts.into_iter().filter(|(_, value)| value.text().is_some_and(|text| !text.is_empty()));
        let answers = (self.answers > 0).then_some((5, Value::U32(self.answers)));
        let fields = texts
            .chain(answers)
            .map(|(code, value)| Value::List(vec![Value::Byte(code), Value::Variant(Box::new(value))]));
        let header = Value::List(vec![
            Value::Byte(if NATIVE_ENDIAN == Endian::Little { b'l' } else { b'B' }),
            Value::Byte(self.kind),
            Value::Byte(0),
            Value::Byte(1),
            Value::U32(length),
            Value::U32(self.serial),
            Value::Array("(yv)".into(), fields.collect()),
        ]);
        let mut bytes = encode(HEADER, &header, false)?;
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend(body);
        Ok(bytes)
    }

    /// Reads a message's bytes, all of them.
    ///
    /// # Errors
    /// `Internal` for what is no message.
    pub(super) fn decode(bytes: &[u8]) -> Result<Message> {
        let length = length(bytes)?;
        let header_length = length.header.min(bytes.len());
        let (header, body) = bytes.split_at(header_length);
        let header = decode(HEADER, header, length.endian)?;
        let [_, Value::Byte(kind), _, _, _, Value::U32(serial), fields] = header.items() else {
            return Err(garbled("no header"));
        };
        let mut message = Message { kind: *kind, serial: *serial, ..Message::default() };
        let mut signature = "";
        for field in fields.items() {
            let [Value::Byte(code), variant] = field.items() else { continue };
            let [_, value] = variant.items() else { continue };
            let text = || value.text().unwrap_or_default().to_owned();
            match (code, value) {
                (1, _) => message.path = text(),
                (2, _) => message.interface = text(),
                (3, _) => message.member = text(),
                (4, _) => message.error = text(),
                (5, Value::U32(serial)) => message.answers = *serial,
                (6, _) => message.destination = text(),
                (7, _) => message.sender = text(),
                (8, value) => signature = value.text().unwrap_or_default(),
                // Descriptors, and what later versions add.
                _ => {}
            }
        }
        // Of a signal that nobody waits for no more is read: it may have values of any type.
        if !signature.is_empty() && (message.kind != SIGNAL || message.member == JOB_REMOVED) {
            message.body = decode(&format!("({signature})"), body, length.endian)?.items().to_vec();
        }
        Ok(message)
    }
}

/// How long a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Length {
    endian: Endian,
    /// Header and padding, in bytes.
    header: usize,
    /// All of it, in bytes.
    pub all: usize,
}

/// Reads a message's length from its [`PRELUDE`].
///
/// # Errors
/// `Internal` for what is no message.
pub(super) fn length(bytes: &[u8]) -> Result<Length> {
    let endian = match bytes.first() {
        Some(b'l') => Endian::Little,
        Some(b'B') => Endian::Big,
        _ => return Err(garbled("no order of bytes")),
    };
    let word = |at: usize| {
        let bytes: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        let word =
            if endian == Endian::Little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) };
        usize::try_from(word).ok().filter(|length| *length <= BYTES_MAX)
    };
    let (Some(body), Some(fields)) = (word(4), word(12)) else { return Err(garbled("no length")) };
    let header = (PRELUDE + fields).next_multiple_of(8);
    Ok(Length { endian, header, all: header + body })
}

fn encode(signature: &str, value: &Value, empty: bool) -> Result<Vec<u8>> {
    if empty {
        return Ok(Vec::new());
    }
    let bytes = to_bytes_for_signature(Context::new(NATIVE_ENDIAN, 0), signature, value);
    let bytes =
        bytes.map_err(|error| Error::new(Kind::Internal, format!("write a D-Bus message: {error}")))?;
    Ok(bytes.bytes().to_vec())
}

fn decode(signature: &str, bytes: &[u8], endian: Endian) -> Result<Value> {
    let data = Data::new(bytes, Context::new(endian, 0));
    let read = data.deserialize_for_signature::<_, Value>(signature);
    read.map(|(value, _)| value).map_err(|error| garbled(&error.to_string()))
}

fn garbled(why: &str) -> Error {
    Error::new(Kind::Internal, format!("read a D-Bus message: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Message {
        let property =
            |name: &str, value| Value::List(vec![Value::str(name), Value::Variant(Box::new(value))]);
        Message {
            kind: CALL,
            serial: 7,
            path: "/org/freedesktop/systemd1".into(),
            interface: "org.freedesktop.systemd1.Manager".into(),
            member: "SetUnitProperties".into(),
            destination: "org.freedesktop.systemd1".into(),
            body: vec![
                Value::str("web.scope"),
                Value::Bool(true),
                Value::Array(
                    "(sv)".into(),
                    vec![
                        property("MemoryMax", Value::U64(u64::MAX)),
                        property("AllowedCPUs", Value::Array("y".into(), vec![Value::Byte(3)])),
                        property("Nice", Value::I32(-5)),
                    ],
                ),
            ],
            ..Message::default()
        }
    }

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let bytes = call().encode().unwrap();
        assert_eq!(length(&bytes[..PRELUDE]).unwrap().all, bytes.len());
        let read = Message::decode(&bytes).unwrap();
        assert_eq!((read.kind, read.serial, read.member.as_str()), (CALL, 7, "SetUnitProperties"));
        assert_eq!(read.body[0], Value::str("web.scope"));
        let properties = read.body[2].items();
        assert_eq!(properties[0].items()[1].items(), [Value::str("t"), Value::U64(u64::MAX)]);
        assert_eq!(properties[2].items()[1].items(), [Value::str("i"), Value::I32(-5)]);
    }

    #[test]
    fn an_answer_without_a_body() {
        let answer = Message { kind: REPLY, serial: 2, answers: 9, ..Message::default() };
        assert_eq!(Message::decode(&answer.encode().unwrap()).unwrap(), answer);
    }

    #[test]
    fn what_is_cut_short_or_no_message_is_an_error() {
        let bytes = call().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(Message::decode(&bytes[..end]).is_err(), "{end}");
        }
        assert!(length(&[b'l'; PRELUDE]).is_err());
    }
}
