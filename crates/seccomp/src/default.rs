//! Docker's default profile (moby/profiles, seccomp/default.json of 2025), in a form of our own: lists of names by the capability that
//! brings them.
//!
//! What is not named fails with EPERM, or with ENOSYS where the kernel is newer than the profile. Refused without a capability:
//! mounts, modules, namespaces by clone and unshare, bpf, perf, kexec, reboot, clocks, raw I/O, file handles. Refused always: io_uring,
//! userfaultfd, keyrings, and sockets of families that nobody needs but exploits (AF_ALG, AF_VSOCK and their like).
//! clone3 hides its flags from any filter, so it "does not exist" and programs fall back to clone.

use tinyd_core::oci;

/// Allowed always.
const ALLOWED: &str = "\
    _llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown \
    chown32 clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 \
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old \
    eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate \
    fanotify_mark fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr \
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate \
    ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake futimesat get_robust_list \
    get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid geteuid32 getgid getgid32 \
    getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid \
    getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday \
    getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel \
    io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set \
    ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link \
    linkat listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise \
    map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 \
    mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 \
    mq_timedsend mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall \
    munmap name_to_handle_at nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe \
    pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2 prlimit64 \
    process_mrelease process_vm_readv process_vm_writev pselect6 pselect6_time64 ptrace pwrite64 pwritev \
    pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg \
    remap_file_pages removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir \
    rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity \
    sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 \
    sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield seccomp select semctl semget \
    semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list \
    set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
    setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 \
    setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt \
    shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice stat \
    stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
    timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 \
    timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate \
    truncate64 ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork \
    vmsplice wait4 waitid waitpid write writev \
";

/// Allowed always, on one architecture.
#[cfg(target_arch = "x86_64")]
const ALLOWED_HERE: &str = "arch_prctl modify_ldt";
/// Allowed always, on one architecture.
#[cfg(target_arch = "aarch64")]
const ALLOWED_HERE: &str =
    "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2";

/// Allowed with a capability.
const WITH: [(&str, &str); 14] = [
    (
        "CAP_SYS_ADMIN",
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    ("CAP_BPF", "bpf"),
    ("CAP_DAC_READ_SEARCH", "open_by_handle_at"),
    ("CAP_PERFMON", "perf_event_open"),
    ("CAP_SYSLOG", "syslog"),
    ("CAP_SYS_BOOT", "reboot"),
    ("CAP_SYS_CHROOT", "chroot"),
    ("CAP_SYS_MODULE", "delete_module finit_module init_module"),
    ("CAP_SYS_NICE", "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    ("CAP_SYS_PACCT", "acct"),
    ("CAP_SYS_PTRACE", "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    ("CAP_SYS_RAWIO", "ioperm iopl"),
    ("CAP_SYS_TIME", "clock_settime clock_settime64 settimeofday stime"),
    ("CAP_SYS_TTY_CONFIG", "vhangup"),
];

/// The flags of clone that make namespaces: NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

/// What personality(2) may set: Linux, Linux with 32 bits, each without randomised addresses, and asking.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Socket families below this one are allowed all.
const FAMILIES_BELOW: u64 = 12;
/// Of the others, these. Not in it: DECNET, ECONET, ATMSVC, IRDA, WANPIPE, ISDN, CAIF, ALG, VSOCK.
const FAMILIES: [u64; 24] =
    [13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44];
/// The last one, AF_MCTP.
const FAMILY_LAST: u64 = 45;

/// The default profile for a process with these capabilities (`CAP_…`) in its bounding set.
#[must_use]
pub fn default_profile(caps: &[String]) -> oci::Seccomp {
    let has = |cap: &str| caps.iter().any(|have| have == cap);
    let mut syscalls = vec![allow(ALLOWED), allow(ALLOWED_HERE)];
    syscalls.push(allow_if("socket", 0, "SCMP_CMP_LT", FAMILIES_BELOW));
    let families = FAMILIES.into_iter().chain([FAMILY_LAST]);
    syscalls.extend(families.map(|family| allow_if("socket", 0, "SCMP_CMP_EQ", family)));
    syscalls.extend(PERSONALITIES.map(|persona| allow_if("personality", 0, "SCMP_CMP_EQ", persona)));
    syscalls.extend(WITH.iter().filter(|(cap, _)| has(cap)).map(|(_, names)| allow(names)));
    if !has("CAP_SYS_ADMIN") {
        syscalls.push(allow_if("clone", 0, "SCMP_CMP_MASKED_EQ", NAMESPACE_FLAGS));
        let errno_ret = Some(libc::ENOSYS as u32);
        syscalls.push(oci::SyscallRule { action: "SCMP_ACT_ERRNO".to_owned(), errno_ret, ..allow("clone3") });
    }
    oci::Seccomp {
        default_action: "SCMP_ACT_ERRNO".to_owned(),
        default_errno_ret: Some(libc::EPERM as u32),
        architectures: architectures(),
        syscalls,
        ..oci::Seccomp::default()
    }
}

fn architectures() -> Vec<String> {
    let here: &[&str] = if cfg!(target_arch = "x86_64") {
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]
    } else {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    };
    here.iter().map(|name| (*name).to_owned()).collect()
}

fn allow(names: &str) -> oci::SyscallRule {
    oci::SyscallRule {
        names: names.split_ascii_whitespace().collect(),
        action: "SCMP_ACT_ALLOW".to_owned(),
        ..oci::SyscallRule::default()
    }
}

fn allow_if(name: &str, index: u32, op: &str, value: u64) -> oci::SyscallRule {
    let arg = oci::SyscallArg { index, value, value_two: 0, op: op.to_owned() };
    oci::SyscallRule { args: vec![arg], ..allow(name) }
}
