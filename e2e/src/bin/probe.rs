//! Tries what a container must not do, with the bare system call, and prints `OK` or the error's number: `EPERM 1`.
//! Also a small server and client for the network tests. It runs inside containers, as `/bin/probe`.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
    time::Duration,
};

use rustix::{
    fs::{CWD, FileType, Mode},
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["serve", protocol, port, text] => serve(protocol, port, text),
        ["ask", "tcp", address] => ask_tcp(address),
        ["ask", "udp", address] => ask_udp(address),
        ["ping", address] => ping(address),
        ["burn"] => burn(),
        ["hog", bytes] => hog(bytes),
        ["fork", count] => fork(count),
        ["argv", args @ ..] => say(&format!("{args:?}")),
        ["fds"] => fds(),
        ["swap", dir, one, other] => swap(dir, one, other),
        words => attempt(words),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "probe: {error}");
            ExitCode::from(99)
        }
    }
}

fn say(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// One forbidden thing.
fn attempt(words: &[&str]) -> Result<(), Failure> {
    let outcome = match words {
        ["open", path] => File::open(path).map(drop).map_err(errno),
        ["read", path] => {
            File::open(path).and_then(|mut file| file.read(&mut [0; 64])).map(drop).map_err(errno)
        }
        ["write", path, text] => OpenOptions::new()
            .write(true)
            .open(path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(errno),
        ["create", path] => File::create(path).map(drop).map_err(errno),
        ["mkdir", path] => fs::create_dir(path).map_err(errno),
        ["mknod", path, major, minor] => {
            let device = rustix::fs::makedev(major.parse()?, minor.parse()?);
            rustix::fs::mknodat(CWD, *path, FileType::CharacterDevice, Mode::from(0o666), device)
        }
        ["mount", kind, target] => {
            rustix::mount::mount("none", *target, *kind, MountFlags::empty(), None::<&std::ffi::CStr>)
        }
        ["remount-rw", target] => rustix::mount::mount_remount(*target, MountFlags::empty(), c""),
        ["umount", target] => rustix::mount::unmount(*target, UnmountFlags::DETACH),
        ["fsopen", kind] => rustix::mount::fsopen(*kind, rustix::mount::FsOpenFlags::empty()).map(drop),
        ["init-module"] => rustix::system::init_module(b"not a module", c""),
        ["unshare-user"] => unshare(rustix::thread::UnshareFlags::NEWUSER),
        ["unshare-mount"] => unshare(rustix::thread::UnshareFlags::NEWNS),
        ["sethostname", name] => rustix::system::sethostname(name.as_bytes()),
        ["chroot", path] => rustix::process::chroot(*path),
        ["set-clock"] => rustix::time::clock_settime(
            rustix::time::ClockId::Realtime,
            rustix::time::Timespec { tv_sec: 1, tv_nsec: 0 },
        ),
        ["reboot"] => rustix::system::reboot(rustix::system::RebootCommand::CadOff),
        ["kill", pid] => {
            let pid = rustix::process::Pid::from_raw(pid.parse()?).ok_or("not a pid")?;
            rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        }
        ["raw-socket"] => rustix::net::socket(
            rustix::net::AddressFamily::INET,
            rustix::net::SocketType::RAW,
            Some(rustix::net::ipproto::ICMP),
        )
        .map(drop),
        ["connect-unix", path] => std::os::unix::net::UnixStream::connect(path).map(drop).map_err(errno),
        ["setuid", uid] => {
            let uid = rustix::process::Uid::from_raw(uid.parse()?);
            rustix::thread::set_thread_uid(uid)
        }
        other => return Err(format!("unknown words {other:?}").into()),
    };
    match outcome {
        Ok(()) => say("OK"),
        Err(errno) => say(&format!("{} {}", name(errno), errno.raw_os_error())),
    }
}

fn unshare(flags: rustix::thread::UnshareFlags) -> Result<(), Errno> {
    #[expect(
        deprecated,
        reason = "the safe spelling; this process has one thread and shares no descriptor table"
    )]
    rustix::thread::unshare(flags)
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn name(errno: Errno) -> &'static str {
    match errno {
        Errno::PERM => "EPERM",
        Errno::ACCESS => "EACCES",
        Errno::NOENT => "ENOENT",
        Errno::ROFS => "EROFS",
        Errno::NOSYS => "ENOSYS",
        Errno::SRCH => "ESRCH",
        Errno::INVAL => "EINVAL",
        Errno::NODEV => "ENODEV",
        Errno::NXIO => "ENXIO",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::AGAIN => "EAGAIN",
        _ => "errno",
    }
}

/// Answers every connection or datagram with a text and the address that it came from.
fn serve(protocol: &str, port: &str, text: &str) -> Result<(), Failure> {
    let port: u16 = port.parse()?;
    if protocol == "udp" {
        let socket = UdpSocket::bind(("0.0.0.0", port))?;
        say("ready")?;
        loop {
            let (_, from) = socket.recv_from(&mut [0; 1500])?;
            socket.send_to(format!("{text} {from}").as_bytes(), from)?;
        }
    }
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    say("ready")?;
    loop {
        let (mut stream, from) = listener.accept()?;
        // A client that has gone is the client's business.
        let _ = stream.write_all(format!("{text} {from}").as_bytes());
    }
}

fn ask_tcp(address: &str) -> Result<(), Failure> {
    let mut stream = TcpStream::connect_timeout(&address.parse()?, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    say(&text)
}

fn ask_udp(address: &str) -> Result<(), Failure> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send_to(b"?", address)?;
    let mut bytes = [0; 1500];
    let count = socket.recv(&mut bytes)?;
    say(&String::from_utf8_lossy(&bytes[..count]))
}

/// One echo over a ping socket, which needs no capability.
fn ping(address: &str) -> Result<(), Failure> {
    use rustix::net::{AddressFamily, SocketType, ipproto, socket};
    let socket = UdpSocket::from(socket(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP))?);
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    // Type, code, checksum, identifier and sequence number; the kernel fills in what is its own.
    socket.send_to(&[8, 0, 0, 0, 0, 0, 0, 1], (address, 0))?;
    let mut answer = [0; 64];
    socket.recv(&mut answer)?;
    say(if answer[0] == 0 { "OK" } else { "another answer" })
}

/// Uses all the CPU time it gets.
fn burn() -> Result<(), Failure> {
    say("ready")?;
    let mut sum = 0_u64;
    loop {
        sum = std::hint::black_box(sum.wrapping_add(1));
    }
}

/// Takes memory, page by page, and keeps it.
fn hog(bytes: &str) -> Result<(), Failure> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for _ in 0..bytes.parse::<usize>()? >> 20 {
        kept.push(std::hint::black_box(vec![1; 1 << 20]));
    }
    say(&format!("has {} MiB", kept.len()))
}

/// Starts processes until it may not; prints how many there were.
fn fork(count: &str) -> Result<(), Failure> {
    let mut children = Vec::new();
    for made in 0..count.parse::<usize>()? {
        match std::process::Command::new("/bin/sleep").arg("100").spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                say(&format!("{made} {}", name(errno(error))))?;
                break;
            }
        }
    }
    for mut child in children {
        child.kill()?;
        child.wait()?;
    }
    Ok(())
}

/// Every open descriptor and what it is.
fn fds() -> Result<(), Failure> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        if let Ok(target) = fs::read_link(entry.path()) {
            say(&format!("{} {}", entry.file_name().display(), target.display()))?;
        }
    }
    Ok(())
}

/// Exchanges two names of a directory for ever.
fn swap(dir: &str, one: &str, other: &str) -> Result<(), Failure> {
    let dir = File::open(dir)?;
    say("ready")?;
    loop {
        rustix::fs::renameat_with(&dir, one, &dir, other, rustix::fs::RenameFlags::EXCHANGE)?;
    }
}
