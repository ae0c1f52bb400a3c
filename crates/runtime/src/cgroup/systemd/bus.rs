//! A connection to systemd's manager: the system's bus, a user's, or the socket of systemd's own where there is no bus. One thread, a
//! socket that blocks, and a time limit for all that is asked of one connection. What is asked is the business of the files beside this one.

#[cfg(test)]
mod tests;

use std::{
    io::{Read, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixStream},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tinyd_core::{Error, Kind, Result};

use super::message::{self, CALL, ERROR, JOB_REMOVED, Message, PRELUDE, REPLY, SIGNAL, Value};

/// How long everything may take that is asked of one connection: starting and stopping units is quick, unless systemd is not well.
const PATIENCE: Duration = Duration::from_secs(30);

const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS: &str = "org.freedesktop.DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A connection.
#[derive(Debug)]
pub(super) struct Bus {
    socket: UnixStream,
    /// Whether systemd itself is at the other end.
    direct: bool,
    serial: u32,
    deadline: Instant,
    /// Signals that came while an answer was waited for.
    signals: Vec<Message>,
}

/// What systemd answers.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It does not want to, and why: the error's name and what it says.
    Systemd(String, String),
    /// It could not be asked.
    Bus(Error),
}

impl Refusal {
    /// Whether it is systemd's error of this name.
    pub(super) fn is(&self, wanted: &str) -> bool {
        matches!(self, Refusal::Systemd(name, _) if name.strip_prefix(SYSTEMD).is_some_and(|name| name == wanted))
    }

    /// As an error of what was asked.
    pub(super) fn of(self, asked: &str) -> Error {
        match self {
            Refusal::Systemd(name, text) => {
                let kind = match name.as_str() {
                    "org.freedesktop.DBus.Error.AccessDenied"
                    | "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => Kind::PermissionDenied,
                    "org.freedesktop.DBus.Error.InvalidArgs"
                    | "org.freedesktop.DBus.Error.PropertyReadOnly"
                    | "org.freedesktop.DBus.Error.UnknownProperty" => Kind::InvalidArgument,
                    _ => Kind::Internal,
                };
                Error::new(kind, format!("{asked}: systemd: {text} ({name})"))
            }
            Refusal::Bus(error) => error.context(asked),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal::Bus(error)
    }
}

type Answer<T> = std::result::Result<T, Refusal>;

impl Bus {
    /// Connects to the manager of the system, or of the user.
    ///
    /// # Errors
    /// `Unavailable` when nobody answers.
    pub(super) fn connect(user: bool) -> Result<Bus> {
        let (address, private) = places(user);
        let bus = address.and_then(|address| Bus::open(&address));
        bus.or_else(|error| match Bus::authenticate(UnixStream::connect(&private), true) {
            Ok(bus) => Ok(bus),
            // The one that is told is the one that is usual.
            Err(_) => Err(error),
        })
    }

    /// Connects to the first of a list of addresses that answers.
    ///
    /// # Errors
    /// `Unavailable`, with the last one's reason.
    pub(super) fn open(addresses: &str) -> Result<Bus> {
        let mut last =
            Error::new(Kind::Unavailable, format!("{addresses:?} has no address of a unix socket"));
        for address in addresses.split(';') {
            let Some(socket) = socket_address(address) else { continue };
            let tried = socket.and_then(|socket| UnixStream::connect_addr(&socket));
            match Bus::authenticate(tried, false).and_then(Bus::greet) {
                Ok(bus) => return Ok(bus),
                Err(error) => last = error.context(format!("connect to systemd at {address}")),
            }
        }
        Err(last)
    }

    /// SASL's EXTERNAL without a name: who we are the kernel tells, and in a user namespace we do not know our own number.
    fn authenticate(socket: std::io::Result<UnixStream>, direct: bool) -> Result<Bus> {
        let socket = socket.map_err(unavailable)?;
        let deadline = Instant::now() + PATIENCE;
        let mut bus = Bus { socket, direct, serial: 0, deadline, signals: Vec::new() };
        bus.write(b"\0AUTH EXTERNAL\r\n")?;
        let mut line = bus.read_line()?;
        let asked = line.starts_with("DATA");
        if asked {
            // With what ends the conversation, as systemd's own programs have it: were that last line to arrive with the first message,
            // a manager that is asked directly would read both at once, and look at the message only when another one comes.
            bus.write(b"DATA\r\nBEGIN\r\n")?;
            line = bus.read_line()?;
        }
        if !line.starts_with("OK") {
            let message = format!("the bus does not let us in: {}", line.trim_end());
            return Err(Error::new(Kind::PermissionDenied, message));
        }
        if !asked {
            bus.write(b"BEGIN\r\n")?;
        }
        Ok(bus)
    }

    fn greet(mut self) -> Result<Bus> {
        let hello = Call { to: BUS, path: "/org/freedesktop/DBus", interface: BUS, member: "Hello" };
        self.call(hello, Vec::new()).map_err(|refusal| refusal.of("Hello"))?;
        Ok(self)
    }

    /// Reads a line of the conversation before the first message.
    fn read_line(&mut self) -> Result<String> {
        const LINE_MAX: usize = 1024;
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") && line.len() < LINE_MAX {
            let mut byte = [0];
            self.read(&mut byte)?;
            line.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    /// Calls a method of the manager; the answer's values.
    ///
    /// # Errors
    /// systemd's own, or the connection's.
    pub(super) fn manager(&mut self, member: &'static str, body: Vec<Value>) -> Answer<Message> {
        self.call(Call { to: SYSTEMD, path: OBJECT, interface: MANAGER, member }, body)
    }

    /// A property of the manager that is a text.
    ///
    /// # Errors
    /// systemd's own, or the connection's.
    pub(super) fn property(&mut self, name: &str) -> Answer<String> {
        let get = Call { to: SYSTEMD, path: OBJECT, interface: PROPERTIES, member: "Get" };
        let answer = self.call(get, vec![Value::str(MANAGER), Value::str(name)])?;
        let text = answer.body.first().and_then(|variant| variant.items().get(1)?.text().map(str::to_owned));
        text.ok_or_else(|| Error::new(Kind::Internal, format!("systemd's {name} is no text")).into())
    }

    /// Asks to hear of the ends of a unit's jobs.
    ///
    /// # Errors
    /// systemd's own, or the connection's.
    pub(super) fn listen(&mut self, unit: &str) -> Answer<()> {
        if self.direct {
            // Whoever talks to it directly is told of everything.
            return Ok(());
        }
        let add = Call { to: BUS, path: "/org/freedesktop/DBus", interface: BUS, member: "AddMatch" };
        let rule = format!(
            "type='signal',sender='{SYSTEMD}',path='{OBJECT}',interface='{MANAGER}',member='{JOB_REMOVED}',arg2='{unit}'"
        );
        self.call(add, vec![Value::Str(rule)])?;
        self.manager("Subscribe", Vec::new()).map(drop)
    }

    /// Waits for the end of the job that an answer of the manager's names; its result, `done` when all went well. One has to
    /// [`Bus::listen`] before the job is asked for.
    ///
    /// # Errors
    /// The connection's.
    pub(super) fn job_result(&mut self, answer: &Message) -> Result<String> {
        let job = answer.body.first().and_then(Value::text).unwrap_or_default().to_owned();
        loop {
            // Anybody on the bus may send us a signal; the bus says who it was.
            let of_job = |signal: &Message| {
                signal.member == JOB_REMOVED
                    && signal.sender == answer.sender
                    && signal.body.get(1).and_then(Value::text) == Some(job.as_str())
            };
            if let Some(signal) = self.signals.iter().find(|signal| of_job(signal)) {
                return Ok(signal.body.get(3).and_then(Value::text).unwrap_or_default().to_owned());
            }
            self.signals.clear();
            let message = self.receive()?;
            self.keep(message);
        }
    }

    fn call(&mut self, call: Call<'_>, body: Vec<Value>) -> Answer<Message> {
        self.serial += 1;
        let message = Message {
            kind: CALL,
            serial: self.serial,
            path: call.path.to_owned(),
            interface: call.interface.to_owned(),
            member: call.member.to_owned(),
            destination: if self.direct { String::new() } else { call.to.to_owned() },
            body,
            ..Message::default()
        };
        self.write(&message.encode()?)?;
        loop {
            let answer = self.receive()?;
            match answer.kind {
                REPLY if answer.answers == self.serial => return Ok(answer),
                ERROR if answer.answers == self.serial => {
                    let text = answer.body.first().and_then(Value::text).unwrap_or_default().to_owned();
                    return Err(Refusal::Systemd(answer.error, text));
                }
                _ => self.keep(answer),
            }
        }
    }

    fn keep(&mut self, message: Message) {
        if message.kind == SIGNAL {
            self.signals.push(message);
        }
    }

    fn receive(&mut self) -> Result<Message> {
        let mut bytes = vec![0; PRELUDE];
        self.read(&mut bytes)?;
        let length = message::length(&bytes)?;
        bytes.resize(length.all, 0);
        self.read(&mut bytes[PRELUDE..])?;
        Message::decode(&bytes)
    }

    fn read(&mut self, mut into: &mut [u8]) -> Result<()> {
        while !into.is_empty() {
            let left = self.deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).map_err(unavailable)?;
            match self.socket.read(into) {
                Ok(0) => return Err(unavailable(std::io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => into = &mut into[count..],
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    return Err(Error::new(
                        Kind::Unavailable,
                        format!("systemd does not answer in {PATIENCE:?}"),
                    ));
                }
                Err(error) => return Err(unavailable(error)),
            }
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.socket.set_write_timeout(Some(PATIENCE)).map_err(unavailable)?;
        self.socket.write_all(bytes).map_err(unavailable)
    }
}

/// A method of somebody's.
#[derive(Clone, Copy)]
struct Call<'a> {
    to: &'static str,
    path: &'static str,
    interface: &'static str,
    member: &'a str,
}

fn unavailable(error: std::io::Error) -> Error {
    Error::new(Kind::Unavailable, format!("talk to systemd over D-Bus: {error}"))
}

/// Where the bus is, and systemd's own socket.
fn places(user: bool) -> (Result<String>, PathBuf) {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    if !user {
        let usual = || "unix:path=/run/dbus/system_bus_socket".to_owned();
        return (Ok(named("DBUS_SYSTEM_BUS_ADDRESS").unwrap_or_else(usual)), "/run/systemd/private".into());
    }
    let run = named("XDG_RUNTIME_DIR")
        .unwrap_or_else(|| format!("/run/user/{}", rustix::process::getuid().as_raw()));
    let usual = || format!("unix:path={run}/bus");
    (Ok(named("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(usual)), Path::new(&run).join("systemd/private"))
}

/// The socket of an address such as `unix:path=/run/dbus/system_bus_socket,guid=…`; none for one of another kind.
fn socket_address(address: &str) -> Option<std::io::Result<SocketAddr>> {
    let pairs = address.trim().strip_prefix("unix:")?.split(',');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.find_map(|(key, value)| match key {
        "path" => Some(SocketAddr::from_pathname(PathBuf::from(std::ffi::OsString::from(unescape(value))))),
        "abstract" => Some(SocketAddr::from_abstract_name(unescape(value))),
        _ => None,
    })
}

/// An address's `%2f`.
fn unescape(value: &str) -> String {
    let mut parts = value.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => {
                bytes.push(b'%');
                bytes.extend(part.as_bytes());
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
