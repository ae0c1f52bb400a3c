//! Processes: cloning, executing, waiting, signals, and the switches of prctl(2). What a process may use is in [`crate::resources`].
//!
//! A clone here is a fork: the child is a copy that goes on behind the call. It never gets a thread's worth of shared memory, and
//! it is only made from a process with one thread.

#![expect(unsafe_code, reason = "clone3, execve, close_range and friends have no safe wrapper")]

use std::{
    ffi::{CStr, CString},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions},
};

use crate::{Ask, Error, Result, heap};

/// `CLONE_INTO_CGROUP`; libc 0.2 defines it as 0.
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process. It ends in [`execve`] or [`exit_now`] and never returns to its caller's caller.
    Child,
    /// The process that called.
    Parent {
        /// The child, as the caller's PID namespace counts.
        pid: i32,
        /// The child.
        pidfd: OwnedFd,
    },
}

/// As [`clone3`]; the child is the caller's parent's, who reaps it.
///
/// # Errors
/// As [`clone3`]; EINVAL for the first process of a PID namespace.
pub fn clone_sibling(flags: u64) -> Result<Forked> {
    clone3(flags | libc::CLONE_PARENT as u64, None)
}

/// clone3(2) as a fork, with `CLONE_PIDFD` added to `flags`, and `CLONE_INTO_CGROUP` when there is a v2 cgroup directory.
///
/// # Errors
/// The kernel's refusal; and EDEADLK when the caller has more than one thread.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Forked> {
    require_one_thread()?;
    let mut pidfd: libc::c_int = -1;
    let mut args = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling ends with the signal that its maker ends with, and takes no other.
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `args` is a valid clone_args that lives through the call, with a pidfd pointer to a local. No CLONE_VM and no
    // stack: the child runs on a copy of this stack. One thread (checked above) means that no lock can be held by another
    // thread, so the child may go on as ordinary code.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(Error::last(format_args!("clone3({:#x})", args.flags))),
        0 => {
            heap::part();
            Ok(Forked::Child)
        }
        pid => {
            heap::part();
            // SAFETY: clone3 succeeded with CLONE_PIDFD, so it stored a new descriptor (close-on-exec) that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent { pid: i32::try_from(pid).unwrap_or(-1), pidfd })
        }
    }
}

/// fork(2), for a process that is under a system call filter already: filters that cannot look into clone3's arguments refuse it.
/// The child's number, or `None` in the child.
///
/// # Errors
/// The kernel's refusal.
pub fn fork() -> Result<Option<i32>> {
    // SAFETY: with one thread (the child of a `clone3` has no other, and this crate starts none) no lock can be held by
    // another one, so the child may go on as ordinary code.
    match unsafe { libc::fork() } {
        -1 => Err(Error::last("fork")),
        0 => Ok(None),
        pid => Ok(Some(pid)),
    }
}

/// A process that is not single-threaded must not fork: a lock held by another thread would stay locked in the child.
fn require_one_thread() -> Result<()> {
    // The link count of /proc/self/task is 2 plus the number of threads: one call where reading the directory takes four.
    let links = rustix::fs::stat(c"/proc/self/task").ask("stat(/proc/self/task)")?.st_nlink;
    if links == 3 {
        return Ok(());
    }
    Err(Error::new(
        format_args!("clone3 with {} threads", links.saturating_sub(2)),
        io::Error::from_raw_os_error(libc::EDEADLK),
    ))
}

/// Ends the process at once: nothing of the parent's that was copied into a child is run or flushed twice.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit takes any status and does not return.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Strings as execve(2) wants them, made before they are needed.
#[derive(Debug)]
pub struct Strings {
    pointers: Vec<*const libc::c_char>,
    _owned: Vec<CString>,
}

impl Strings {
    /// Takes the strings; the first of an argument list is `argv[0]`.
    #[must_use]
    pub fn new(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Strings { pointers, _owned: strings }
    }
}

/// execve(2). Comes back only with a failure.
#[must_use]
pub fn execve(path: &CStr, args: &Strings, env: &Strings) -> Error {
    // SAFETY: both arrays end in a null pointer and point to strings that `Strings` owns and does not move or change.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    Error::last(format_args!("execve({path:?})"))
}

/// execveat(2) of an open file. Comes back only with a failure.
#[must_use]
pub fn execve_fd(file: BorrowedFd<'_>, args: &Strings, env: &Strings) -> Error {
    // SAFETY: the arrays as in `execve`; the empty path with AT_EMPTY_PATH means the descriptor itself, which is open.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    Error::last("execveat(fd)")
}

/// Closes every descriptor from `first` on.
///
/// # Errors
/// ENOSYS before Linux 5.9.
pub fn close_from(first: u32) -> Result<()> {
    close_range(first, u32::MAX)
}

/// Closes every descriptor but those below `first` and `keep`. For a child on its way to another program: what else it holds is a copy of its
/// parent's, must not be used or dropped any more, and would otherwise be there until the program is executed, for
/// `/proc/self/fd` to lead through.
///
/// # Errors
/// ENOSYS before Linux 5.9.
pub fn close_all_but(first: u32, keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.sort_unstable();
    let mut first = first;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = first.max(fd + 1);
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: closing descriptors is memory-safe; the caller says that nobody uses those any more.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check(done, format_args!("close_range({first}, {last})"))
}

/// Makes every descriptor from `first` on close-on-exec.
///
/// # Errors
/// EINVAL before Linux 5.11.
pub fn cloexec_from(first: u32) -> Result<()> {
    // SAFETY: only sets a flag on descriptors.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check(done, format_args!("close_range({first}, ~0, CLOEXEC)"))
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this status.
    Exited(u8),
    /// This signal ended it.
    Signalled(i32),
}

impl Ended {
    /// The status as shells count: 128+n for signal n.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Ended::Exited(code) => code,
            Ended::Signalled(number) => 128u8.wrapping_add(u8::try_from(number).unwrap_or(0)),
        }
    }
}

/// Waits for a child to end, and reaps it.
///
/// # Errors
/// ECHILD when it is not the caller's child.
pub fn wait(child: BorrowedFd<'_>) -> Result<Ended> {
    loop {
        match rustix::process::waitid(WaitId::PidFd(child), WaitIdOptions::EXITED) {
            Ok(Some(status)) => return Ok(ended(status.exit_status(), status.terminating_signal())),
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::new("waitid(pidfd)", error)),
        }
    }
}

/// Reaps any child of the caller that has ended; `None` when none has. Never blocks.
#[must_use]
pub fn take_ended() -> Option<(i32, Ended)> {
    match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => {
            let ended = ended(status.exit_status(), status.terminating_signal());
            Some((pid.as_raw_nonzero().get(), ended))
        }
        // ECHILD, or nobody has ended yet; an interruption is not possible without waiting.
        Ok(None) | Err(_) => None,
    }
}

/// Reaps children of the caller that have ended, as long as it is not `keep`'s turn. Never blocks.
pub fn reap_all_but(keep: i32) {
    loop {
        // SAFETY: a siginfo_t is integers and pointers that are only looked at through its accessors; all zeroes is one.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: `info` is a local that the call fills.
        let done = unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) };
        // SAFETY: waitid fills in the fields of SIGCHLD, or leaves the zero.
        let pid = unsafe { info.si_pid() };
        if done != 0 || pid == 0 || pid == keep {
            return;
        }
        let Some(one) = Pid::from_raw(pid) else { return };
        let _ = rustix::process::waitid(WaitId::Pid(one), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }
}

fn ended(exit_status: Option<i32>, signal: Option<i32>) -> Ended {
    match (exit_status, signal) {
        (Some(code), _) => Ended::Exited(u8::try_from(code & 0xff).unwrap_or(0)),
        (None, signal) => Ended::Signalled(signal.unwrap_or(libc::SIGKILL)),
    }
}

/// A descriptor for a process.
///
/// # Errors
/// ESRCH when there is none.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    let pid = Pid::from_raw(pid).ok_or_else(|| esrch("pidfd_open"))?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).ask(format_args!("pidfd_open({pid})"))
}

fn esrch(call: &str) -> Error {
    Error::new(call, io::Error::from_raw_os_error(libc::ESRCH))
}

/// Sends signal `number`, 1 to 64, to the process that a pidfd stands for.
///
/// # Errors
/// ESRCH when it has been reaped, EINVAL for a number that is no signal.
pub fn pidfd_signal(process: BorrowedFd<'_>, number: i32) -> Result<()> {
    // SAFETY: a null siginfo means "as kill(2)"; the descriptor is open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            number,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(done, format_args!("pidfd_send_signal({number})"))
}

/// How long a killed process is waited for. One that the kernel does not let go (uninterruptible sleep) is left to whoever reaps next.
const END_MAX: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Sends SIGKILL and reaps. For undoing: a process that is gone already is what was wanted.
pub fn kill_and_reap(child: BorrowedFd<'_>) {
    let _ = rustix::process::pidfd_send_signal(child, Signal::KILL);
    let mut ended = [PollFd::new(&child, PollFlags::IN)];
    if rustix::io::retry_on_intr(|| poll(&mut ended, Some(&END_MAX))) != Ok(0) {
        let _ = wait(child);
    }
}

/// Sends signal `number` to a process by number; only for children that the caller has not reaped, whose number is theirs.
///
/// # Errors
/// ESRCH when there is none.
pub fn kill(pid: i32, number: i32) -> Result<()> {
    // SAFETY: kill takes any two integers.
    let done = unsafe { libc::kill(pid, number) };
    check(done.into(), format_args!("kill({pid}, {number})"))
}

/// `PR_SET_DUMPABLE 0`: nobody in the container may trace this process or look into its /proc entry.
///
/// # Errors
/// None that the kernel documents.
pub fn set_not_dumpable() -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0, "prctl(PR_SET_DUMPABLE, 0)")
}

/// `PR_SET_NO_NEW_PRIVS`.
///
/// # Errors
/// None that the kernel documents.
pub fn set_no_new_privs() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, "prctl(PR_SET_NO_NEW_PRIVS, 1)")
}

/// Has the kernel send SIGKILL to the caller when its parent ends. A change of identity clears it, so it is set last.
///
/// # Errors
/// None that the kernel documents.
pub fn die_with_parent() -> Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, "prctl(PR_SET_PDEATHSIG, SIGKILL)")
}

/// Names the calling thread, at most 15 bytes.
///
/// # Errors
/// None that the kernel documents.
pub fn set_name(name: &CStr) -> Result<()> {
    rustix::thread::set_name(name).ask(format_args!("prctl(PR_SET_NAME, {name:?})"))
}

fn prctl(option: libc::c_int, value: libc::c_ulong, call: &str) -> Result<()> {
    // SAFETY: the options used here take one integer; unused arguments are zero as the kernel demands.
    let done =
        unsafe { libc::prctl(option, value, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong) };
    check(done.into(), call)
}

/// Blocked signals and handlers back to what a new program expects: none blocked, all default.
///
/// By system calls of its own: a C library keeps the signals that it uses itself (32, 33) from those who ask it.
pub fn reset_signals() {
    // The kernel's sigaction: handler, flags, restorer and mask, a word each, or less. Zeroes are SIG_DFL with none of the rest.
    const DEFAULT: [u64; 4] = [0; 4];
    let none = 0_u64;
    for number in 1..=64 {
        // SAFETY: the structure is read, lives through the call and is at least as long as the kernel's; the old one is not asked for.
        // SIG_DFL runs no code of ours. KILL and STOP are refused with EINVAL.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                DEFAULT.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    // SAFETY: the set is read, lives through the call and is of the size that is said; the old one is not asked for.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const none,
            ptr::null_mut::<u64>(),
            size_of::<u64>(),
        )
    };
}

/// From here on a write to a pipe that nobody reads ends this process by SIGPIPE, which is ignored until then.
pub fn end_at_broken_pipe() {
    // SAFETY: the number is that of a signal that can be set; SIG_DFL runs no code of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Blocks every signal that can be blocked, for a process that takes them with [`next_signal`].
pub fn block_signals() {
    let mut set = empty_set();
    // SAFETY: `set` is an initialised sigset_t.
    unsafe { libc::sigfillset(&raw mut set) };
    set_mask(&set);
}

fn set_mask(set: &libc::sigset_t) {
    // SAFETY: `set` is initialised; the old mask is not asked for.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, set, ptr::null_mut()) };
}

fn empty_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises what it is given.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: initialised one line above.
    unsafe { set.assume_init() }
}

/// Blocks every signal that can be blocked, and gives a descriptor that they are read from with [`read_signal`].
///
/// # Errors
/// EMFILE, ENFILE, ENOMEM.
pub fn signal_fd() -> Result<OwnedFd> {
    block_signals();
    let mut set = empty_set();
    // SAFETY: `set` is an initialised sigset_t.
    unsafe { libc::sigfillset(&raw mut set) };
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    if fd == -1 {
        return Err(Error::last("signalfd"));
    }
    // SAFETY: the kernel has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next signal of a [`signal_fd`]; `None` when none waits.
#[must_use]
pub fn read_signal(signals: BorrowedFd<'_>) -> Option<i32> {
    // A signalfd_siginfo is 128 bytes and begins with the number.
    let mut info = [0u8; 128];
    let len = rustix::io::read(signals, &mut info).ok()?;
    let number = info.first_chunk::<4>().filter(|_| len == info.len())?;
    i32::try_from(u32::from_ne_bytes(*number)).ok()
}

/// Takes the next blocked signal; waits for one.
#[must_use]
pub fn next_signal() -> i32 {
    let mut set = empty_set();
    // SAFETY: `set` is an initialised sigset_t.
    unsafe { libc::sigfillset(&raw mut set) };
    loop {
        // SAFETY: `set` is initialised; no siginfo is asked for.
        let number = unsafe { libc::sigwaitinfo(&raw const set, ptr::null_mut()) };
        if number > 0 {
            return number;
        }
    }
}

/// Whether the file that this process executes cannot be written by anyone who reaches it through /proc/PID/exe: a sealed
/// memory file, or a file on a read-only mount.
///
/// # Errors
/// When it cannot be opened.
pub fn own_image_is_unwritable() -> Result<bool> {
    let exe = rustix::fs::open(
        c"/proc/self/exe",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .ask("open(/proc/self/exe)")?;
    let sealed = rustix::fs::fcntl_get_seals(exe.as_fd())
        .is_ok_and(|seals| seals.contains(rustix::fs::SealFlags::WRITE));
    let mount = rustix::fs::fstatvfs(&exe).ask("fstatvfs(/proc/self/exe)")?;
    Ok(sealed || mount.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

/// How many arenas the C library's allocator has at most: each thread has its own otherwise, and keeps what it once took. Only
/// glibc has arenas.
pub fn limit_arenas(arenas: i32) {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes integers; it may be called at any time, and a refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, arenas);
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = arenas;
}

/// The kernel's answer of a call that returns 0 or -1.
pub(crate) fn check(done: libc::c_long, call: impl std::fmt::Display) -> Result<()> {
    if done == -1 { Err(Error::last(call)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // A test runs beside the harness's own thread.
        let error = clone3(0, None).unwrap_err();
        assert_eq!(error.errno(), Some(libc::EDEADLK), "{error}");
    }

    #[test]
    fn clone_into_cgroup_is_the_kernels_bit() {
        assert_eq!(CLONE_INTO_CGROUP, 1 << 33);
    }

    #[test]
    fn all_signals_are_reset_those_of_the_c_library_too() {
        const NAME: &str = "process::tests::all_signals_are_reset_those_of_the_c_library_too";
        if std::env::var_os("TINYD_SYS_TEST_CHILD").is_none() {
            // Handlers belong to the whole process: this is done in one of its own.
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let status = child.args(["--exact", NAME]).env("TINYD_SYS_TEST_CHILD", "1").status().unwrap();
            assert!(status.success());
            return;
        }
        let ignore = [libc::SIG_IGN as u64, 0, 0, 0];
        for number in [libc::SIGUSR1, 32, 33, 64] {
            // SAFETY: as in `reset_signals`; SIG_IGN runs no code either.
            let done = unsafe {
                libc::syscall(libc::SYS_rt_sigaction, number, ignore.as_ptr(), ptr::null::<u64>(), 8)
            };
            assert_eq!(done, 0);
        }
        block_signals();
        reset_signals();
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        for name in ["SigBlk", "SigIgn", "SigCgt"] {
            assert!(status.contains(&format!("{name}:\t{:016}\n", 0)), "{status}");
        }
    }

    #[test]
    fn a_signal_counts_from_128() {
        assert_eq!(Ended::Signalled(9).code(), 137);
        assert_eq!(Ended::Exited(3).code(), 3);
    }
}
