//! A host: a network and a mount namespace of its own, in which commands run and sockets are opened.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    os::fd::AsFd,
    process::{Child, Command, Stdio},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Background, Output, Terminal, image::helper};

/// One host. It ends, and its links and mounts with it, when this is dropped and no process is left in it.
#[derive(Debug)]
pub struct Host {
    holder: Child,
}

impl Host {
    /// A host with a loopback link and a copy of the machine's mounts.
    ///
    /// # Panics
    /// When the machine does not let us (root is needed).
    #[must_use]
    pub fn new() -> Host {
        let mut holder = Command::new(helper("e2e-ns"))
            .arg("hold")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start e2e-ns hold");
        let mut line = String::new();
        let said = BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line);
        assert!(said.is_ok() && line == "ready\n", "e2e-ns hold did not make a host: is this root?");
        Host { holder }
    }

    /// The process that keeps the namespaces alive.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }

    /// A command that will run in here.
    #[must_use]
    pub fn command(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(helper("e2e-ns"));
        command.arg("enter").arg(self.pid().to_string()).args(argv);
        command
    }

    /// A command that will run in here as leader of a session whose terminal is its standard input.
    #[must_use]
    pub fn command_on_terminal(&self, argv: &[&str]) -> Command {
        let mut command = Command::new(helper("e2e-ns"));
        command.arg("enter-terminal").arg(self.pid().to_string()).args(argv);
        command
    }

    /// Runs a shell line in here, to its end.
    #[must_use]
    pub fn sh(&self, line: &str) -> Output {
        Output::of(self.command(&["sh", "-c", line]), line, b"")
    }

    /// Starts a command in here and lets it run.
    #[must_use]
    pub fn spawn(&self, argv: &[&str]) -> Background {
        Background::start(self.command(argv), &argv.join(" "))
    }

    /// Starts a command in here on a terminal.
    #[must_use]
    pub fn terminal(&self, argv: &[&str]) -> Terminal {
        Terminal::start(self.command_on_terminal(argv))
    }

    /// Calls `body` on a thread in this network, for sockets.
    ///
    /// # Panics
    /// When `body` does.
    pub fn in_network<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        let network = File::open(format!("/proc/{}/ns/net", self.pid())).expect("open the host's network");
        let outcome = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("enter the host's network");
                body()
            });
            thread.join()
        });
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Lays a cable to another host: `address` (with its prefix length) here, `other_address` there.
    ///
    /// # Panics
    /// When the links cannot be made.
    pub fn connect(&self, other: &Host, address: &str, other_address: &str) {
        let name = format!("cable{}", other.pid());
        let made = self.sh(&format!(
            "ip link add {name} type veth peer name cable0 netns {} && ip addr add {address} dev {name} && ip link set {name} up",
            other.pid()
        ));
        assert!(made.ok(), "lay a cable: {}", made.stderr);
        let made = other.sh(&format!("ip addr add {other_address} dev cable0 && ip link set cable0 up"));
        assert!(made.ok(), "lay a cable: {}", made.stderr);
    }

    /// A line per mount, as the kernel tells it.
    #[must_use]
    pub fn mounts(&self) -> Vec<String> {
        let table =
            std::fs::read_to_string(format!("/proc/{}/mountinfo", self.pid())).expect("read mountinfo");
        table.lines().map(str::to_owned).collect()
    }

    /// Names of the network links.
    #[must_use]
    pub fn links(&self) -> Vec<String> {
        // The socket layer answers for the reading thread's network, so the thread has to be in it.
        let table = self.in_network(|| {
            std::fs::read_to_string("/proc/thread-self/net/dev").expect("read the table of links")
        });
        table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect()
    }
}

impl Default for Host {
    fn default() -> Self {
        Host::new()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
