//! The wire against Debian's dbus-daemon, with a manager on it that answers as it is told.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::cgroup::systemd::{Unit, properties::Property};

/// A bus of its own.
struct Daemon {
    child: Child,
    address: String,
}

impl Daemon {
    fn start() -> Daemon {
        let mut child = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("dbus-daemon is not installed");
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Daemon { child, address: address.trim().to_owned() }
    }

    /// systemd, which is called as in `script` and answers what it says there.
    fn manager(&self, script: Vec<Said>) -> std::thread::JoinHandle<Vec<Message>> {
        let mut bus = Bus::open(&self.address).unwrap();
        let stranger = Bus::open(&self.address).unwrap();
        let request = Call { to: BUS, path: "/org/freedesktop/DBus", interface: BUS, member: "RequestName" };
        bus.call(request, vec![Value::str(SYSTEMD), Value::U32(0)]).unwrap();
        std::thread::spawn(move || serve(bus, stranger, script))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // So that it takes its socket away.
        let child = Pid::from_child(&self.child);
        let _ = kill_process(child, Signal::TERM);
        let _ = self.child.wait();
    }
}

/// What the manager says to one call.
enum Said {
    /// An answer.
    Yes(Vec<Value>),
    /// An error.
    No(&'static str),
    /// An answer with a job, and its end.
    Job(&'static str),
}

fn serve(mut bus: Bus, mut stranger: Bus, script: Vec<Said>) -> Vec<Message> {
    let mut calls = Vec::new();
    for said in script {
        let call = loop {
            let message = bus.receive().unwrap();
            if message.kind == CALL {
                break message;
            }
        };
        let job = Value::Path("/org/freedesktop/systemd1/job/7".into());
        let answer = Message {
            kind: REPLY,
            serial: 100,
            answers: call.serial,
            destination: call.sender.clone(),
            ..Message::default()
        };
        let answer = match &said {
            Said::Yes(body) => Message { body: body.clone(), ..answer },
            Said::Job(_) => Message { body: vec![job.clone()], ..answer },
            Said::No(name) => {
                Message { kind: ERROR, error: (*name).to_owned(), body: vec![Value::str("no")], ..answer }
            }
        };
        bus.write(&answer.encode().unwrap()).unwrap();
        if let Said::Job(result) = said {
            let end = |job: Value, result: &str, destination: &str| Message {
                kind: SIGNAL,
                serial: 101,
                path: OBJECT.into(),
                interface: MANAGER.into(),
                member: "JobRemoved".into(),
                destination: destination.into(),
                body: vec![Value::U32(7), job, Value::str("a.scope"), Value::str(result)],
                ..Message::default()
            };
            // Whoever is on the bus can say it too.
            let lie = end(job.clone(), "a lie", &call.sender);
            stranger.write(&lie.encode().unwrap()).unwrap();
            // It has arrived when the bus has answered what was said after it.
            let id = Call { to: BUS, path: "/org/freedesktop/DBus", interface: BUS, member: "GetId" };
            stranger.call(id, Vec::new()).unwrap();
            let other = Value::Path("/org/freedesktop/systemd1/job/6".into());
            bus.write(&end(other, "of another job", "").encode().unwrap()).unwrap();
            bus.write(&end(job, result, "").encode().unwrap()).unwrap();
        }
        calls.push(call);
    }
    calls
}

fn unit() -> Unit {
    serde_json::from_str(r#"{"name":"a.scope","slice":"system.slice","user":false}"#).unwrap()
}

#[test]
fn a_unit_is_there_when_the_managers_own_signal_says_so() {
    let daemon = Daemon::start();
    let manager = daemon.manager(vec![Said::Yes(Vec::new()), Said::Job("done")]);
    let mut bus = Bus::open(&daemon.address).unwrap();
    let all = [Property::new("TasksMax", Value::U64(7)), Property::new("Delegate", Value::Bool(true))];
    assert_eq!(unit().start_with(&mut bus, &all).unwrap(), "done");
    let calls = manager.join().unwrap();
    assert_eq!(
        calls.iter().map(|call| call.member.as_str()).collect::<Vec<_>>(),
        ["Subscribe", "StartTransientUnit"]
    );
    let [name, mode, properties, others] = calls[1].body.as_slice() else { panic!("{:?}", calls[1]) };
    assert_eq!((name.text(), mode.text(), others.items().len()), (Some("a.scope"), Some("replace"), 0));
    let second =
        Value::List(vec![Value::str("Delegate"), Value::List(vec![Value::str("b"), Value::Bool(true)])]);
    assert_eq!(properties.items()[1], second);
}

#[test]
fn one_that_has_failed_earlier_makes_room() {
    let daemon = Daemon::start();
    let exists = Said::No("org.freedesktop.systemd1.UnitExists");
    let manager =
        daemon.manager(vec![Said::Yes(Vec::new()), exists, Said::Yes(Vec::new()), Said::Job("failed")]);
    let mut bus = Bus::open(&daemon.address).unwrap();
    assert_eq!(unit().start_with(&mut bus, &[]).unwrap(), "failed");
    assert_eq!(manager.join().unwrap()[2].member, "ResetFailedUnit");
}

#[test]
fn stopping_what_is_gone_is_done() {
    let daemon = Daemon::start();
    let gone = Said::No("org.freedesktop.systemd1.NoSuchUnit");
    let manager =
        daemon.manager(vec![Said::Yes(Vec::new()), gone, Said::No("org.freedesktop.systemd1.NoSuchUnit")]);
    unit().stop_over(&mut Bus::open(&daemon.address).unwrap()).unwrap();
    manager.join().unwrap();
}

#[test]
fn a_refusal_is_told_with_its_reason() {
    let daemon = Daemon::start();
    let manager =
        daemon.manager(vec![Said::Yes(Vec::new()), Said::No("org.freedesktop.DBus.Error.AccessDenied")]);
    let refusal = unit().start_with(&mut Bus::open(&daemon.address).unwrap(), &[]).unwrap_err();
    let error = refusal.of("start");
    assert_eq!(error.kind(), Kind::PermissionDenied);
    assert_eq!(error.to_string(), "start: systemd: no (org.freedesktop.DBus.Error.AccessDenied)");
    manager.join().unwrap();
}

#[test]
fn a_manager_asked_directly_has_heard_the_conversations_end_before_it_is_called() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let manager = std::thread::spawn(move || {
        let mut lines = BufReader::new(theirs.try_clone().unwrap()).lines().map(|line| line.unwrap());
        assert_eq!(lines.next().unwrap(), "\0AUTH EXTERNAL");
        (&theirs).write_all(b"DATA\r\n").unwrap();
        // As long as it has not said OK nobody calls it, so nothing can be behind BEGIN.
        assert_eq!([lines.next().unwrap(), lines.next().unwrap()], ["DATA", "BEGIN"]);
        (&theirs).write_all(b"OK 7\r\n").unwrap();
    });
    let bus = Bus::authenticate(Ok(ours), true);
    manager.join().unwrap();
    assert!(bus.unwrap().direct);
}

#[test]
fn where_nobody_listens_it_is_unavailable() {
    for address in
        ["unix:path=/nonexistent/bus", "tcp:host=localhost,port=1", "", "unix:abstract=tinyd-nobody"]
    {
        assert_eq!(Bus::open(address).unwrap_err().kind(), Kind::Unavailable, "{address}");
    }
}

#[test]
fn addresses_are_read() {
    let path = |address: &str| {
        let socket = socket_address(address)?.ok()?;
        socket.as_pathname().map(|path| path.display().to_string())
    };
    assert_eq!(path("unix:path=/run/a%20b/bus,guid=7").as_deref(), Some("/run/a b/bus"));
    assert_eq!(path("unix:guid=7,path=/x").as_deref(), Some("/x"));
    assert_eq!(socket_address("unix:abstract=x").unwrap().unwrap().as_abstract_name(), Some(b"x".as_slice()));
    assert!(socket_address("tcp:host=x").is_none());
    assert_eq!(unescape("100%"), "100%");
}
