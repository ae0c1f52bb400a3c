//! System call numbers, written by `generate-table`: do not edit.
//!
//! No pointers: names are one text, so that the table needs no relocation and its pages stay shared.

/// Names, sorted, one a line.
pub(super) const NAMES: &str = "\
    _llseek\n_newselect\n_sysctl\naccept\naccept4\naccess\nacct\nadd_key\nadjtimex\nafs_syscall\nalarm\n\
    arch_prctl\narm_fadvise64_64\narm_sync_file_range\nbdflush\nbind\nbpf\nbreak\nbrk\ncachestat\n\
    capget\ncapset\nchdir\nchmod\nchown\nchown32\nchroot\nclock_adjtime\nclock_adjtime64\nclock_getres\n\
    clock_getres_time64\nclock_gettime\nclock_gettime64\nclock_nanosleep\nclock_nanosleep_time64\n\
    clock_settime\nclock_settime64\nclone\nclone3\nclose\nclose_range\nconnect\ncopy_file_range\ncreat\n\
    create_module\ndelete_module\ndup\ndup2\ndup3\nepoll_create\nepoll_create1\nepoll_ctl\n\
    epoll_ctl_old\nepoll_pwait\nepoll_pwait2\nepoll_wait\nepoll_wait_old\neventfd\neventfd2\nexecve\n\
    execveat\nexit\nexit_group\nfaccessat\nfaccessat2\nfadvise64\nfadvise64_64\nfallocate\n\
    fanotify_init\nfanotify_mark\nfchdir\nfchmod\nfchmodat\nfchmodat2\nfchown\nfchown32\nfchownat\n\
    fcntl\nfcntl64\nfdatasync\nfgetxattr\nfile_getattr\nfile_setattr\nfinit_module\nflistxattr\nflock\n\
    fork\nfremovexattr\nfsconfig\nfsetxattr\nfsmount\nfsopen\nfspick\nfstat\nfstat64\nfstatat64\n\
    fstatfs\nfstatfs64\nfsync\nftime\nftruncate\nftruncate64\nfutex\nfutex_requeue\nfutex_time64\n\
    futex_wait\nfutex_waitv\nfutex_wake\nfutimesat\nget_kernel_syms\nget_mempolicy\nget_robust_list\n\
    get_thread_area\ngetcpu\ngetcwd\ngetdents\ngetdents64\ngetegid\ngetegid32\ngeteuid\ngeteuid32\n\
    getgid\ngetgid32\ngetgroups\ngetgroups32\ngetitimer\ngetpeername\ngetpgid\ngetpgrp\ngetpid\n\
    getpmsg\ngetppid\ngetpriority\ngetrandom\ngetresgid\ngetresgid32\ngetresuid\ngetresuid32\n\
    getrlimit\ngetrusage\ngetsid\ngetsockname\ngetsockopt\ngettid\ngettimeofday\ngetuid\ngetuid32\n\
    getxattr\ngetxattrat\ngtty\nidle\ninit_module\ninotify_add_watch\ninotify_init\ninotify_init1\n\
    inotify_rm_watch\nio_cancel\nio_destroy\nio_getevents\nio_pgetevents\nio_pgetevents_time64\n\
    io_setup\nio_submit\nio_uring_enter\nio_uring_register\nio_uring_setup\nioctl\nioperm\niopl\n\
    ioprio_get\nioprio_set\nipc\nkcmp\nkexec_file_load\nkexec_load\nkeyctl\nkill\nlandlock_add_rule\n\
    landlock_create_ruleset\nlandlock_restrict_self\nlchown\nlchown32\nlgetxattr\nlink\nlinkat\nlisten\n\
    listmount\nlistxattr\nlistxattrat\nllistxattr\nlock\nlookup_dcookie\nlremovexattr\nlseek\n\
    lsetxattr\nlsm_get_self_attr\nlsm_list_modules\nlsm_set_self_attr\nlstat\nlstat64\nmadvise\n\
    map_shadow_stack\nmbind\nmembarrier\nmemfd_create\nmemfd_secret\nmigrate_pages\nmincore\nmkdir\n\
    mkdirat\nmknod\nmknodat\nmlock\nmlock2\nmlockall\nmmap\nmmap2\nmodify_ldt\nmount\nmount_setattr\n\
    move_mount\nmove_pages\nmprotect\nmpx\nmq_getsetattr\nmq_notify\nmq_open\nmq_timedreceive\n\
    mq_timedreceive_time64\nmq_timedsend\nmq_timedsend_time64\nmq_unlink\nmremap\nmseal\nmsgctl\n\
    msgget\nmsgrcv\nmsgsnd\nmsync\nmunlock\nmunlockall\nmunmap\nname_to_handle_at\nnanosleep\n\
    newfstatat\nnfsservctl\nnice\noldfstat\noldlstat\noldolduname\noldstat\nolduname\nopen\n\
    open_by_handle_at\nopen_tree\nopen_tree_attr\nopenat\nopenat2\npause\npciconfig_iobase\n\
    pciconfig_read\npciconfig_write\nperf_event_open\npersonality\npidfd_getfd\npidfd_open\n\
    pidfd_send_signal\npipe\npipe2\npivot_root\npkey_alloc\npkey_free\npkey_mprotect\npoll\nppoll\n\
    ppoll_time64\nprctl\npread64\npreadv\npreadv2\nprlimit64\nprocess_madvise\nprocess_mrelease\n\
    process_vm_readv\nprocess_vm_writev\nprof\nprofil\npselect6\npselect6_time64\nptrace\nputpmsg\n\
    pwrite64\npwritev\npwritev2\nquery_module\nquotactl\nquotactl_fd\nread\nreadahead\nreaddir\n\
    readlink\nreadlinkat\nreadv\nreboot\nrecv\nrecvfrom\nrecvmmsg\nrecvmmsg_time64\nrecvmsg\n\
    remap_file_pages\nremovexattr\nremovexattrat\nrename\nrenameat\nrenameat2\nrequest_key\n\
    restart_syscall\nrmdir\nrseq\nrt_sigaction\nrt_sigpending\nrt_sigprocmask\nrt_sigqueueinfo\n\
    rt_sigreturn\nrt_sigsuspend\nrt_sigtimedwait\nrt_sigtimedwait_time64\nrt_tgsigqueueinfo\n\
    sched_get_priority_max\nsched_get_priority_min\nsched_getaffinity\nsched_getattr\nsched_getparam\n\
    sched_getscheduler\nsched_rr_get_interval\nsched_rr_get_interval_time64\nsched_setaffinity\n\
    sched_setattr\nsched_setparam\nsched_setscheduler\nsched_yield\nseccomp\nsecurity\nselect\nsemctl\n\
    semget\nsemop\nsemtimedop\nsemtimedop_time64\nsend\nsendfile\nsendfile64\nsendmmsg\nsendmsg\n\
    sendto\nset_mempolicy\nset_mempolicy_home_node\nset_robust_list\nset_thread_area\nset_tid_address\n\
    setdomainname\nsetfsgid\nsetfsgid32\nsetfsuid\nsetfsuid32\nsetgid\nsetgid32\nsetgroups\n\
    setgroups32\nsethostname\nsetitimer\nsetns\nsetpgid\nsetpriority\nsetregid\nsetregid32\nsetresgid\n\
    setresgid32\nsetresuid\nsetresuid32\nsetreuid\nsetreuid32\nsetrlimit\nsetsid\nsetsockopt\n\
    settimeofday\nsetuid\nsetuid32\nsetxattr\nsetxattrat\nsgetmask\nshmat\nshmctl\nshmdt\nshmget\n\
    shutdown\nsigaction\nsigaltstack\nsignal\nsignalfd\nsignalfd4\nsigpending\nsigprocmask\nsigreturn\n\
    sigsuspend\nsocket\nsocketcall\nsocketpair\nsplice\nssetmask\nstat\nstat64\nstatfs\nstatfs64\n\
    statmount\nstatx\nstime\nstty\nswapoff\nswapon\nsymlink\nsymlinkat\nsync\nsync_file_range\n\
    sync_file_range2\nsyncfs\nsysfs\nsysinfo\nsyslog\ntee\ntgkill\ntime\ntimer_create\ntimer_delete\n\
    timer_getoverrun\ntimer_gettime\ntimer_gettime64\ntimer_settime\ntimer_settime64\ntimerfd_create\n\
    timerfd_gettime\ntimerfd_gettime64\ntimerfd_settime\ntimerfd_settime64\ntimes\ntkill\ntruncate\n\
    truncate64\ntuxcall\nugetrlimit\nulimit\numask\numount\numount2\nuname\nunlink\nunlinkat\nunshare\n\
    uretprobe\nuselib\nuserfaultfd\nustat\nutime\nutimensat\nutimensat_time64\nutimes\nvfork\nvhangup\n\
    vm86\nvm86old\nvmsplice\nvserver\nwait4\nwaitid\nwaitpid\nwrite\nwritev";

/// Stands for a call that an architecture has not.
pub(super) const NONE: u16 = 0xffff;

/// Numbers in the order of [`NAMES`]: x86_64, x86, x32, aarch64, arm; x32's without its bit.
#[rustfmt::skip]
pub(super) const NUMBERS: [[u16; 5]; 477] = [
    [NONE, 140, NONE, NONE, 140], // _llseek
    [NONE, 142, NONE, NONE, 142], // _newselect
    [156, 149, NONE, NONE, 149], // _sysctl
    [43, NONE, 43, 202, 285], // accept
    [288, 364, 288, 242, 366], // accept4
    [21, 33, 21, NONE, 33], // access
    [163, 51, 163, 89, 51], // acct
    [248, 286, 248, 217, 309], // add_key
    [159, 124, 159, 171, 124], // adjtimex
    [183, 137, 183, NONE, NONE], // afs_syscall
    [37, 27, 37, NONE, NONE], // alarm
    [158, 384, 158, NONE, NONE], // arch_prctl
    [NONE, NONE, NONE, NONE, 270], // arm_fadvise64_64
    [NONE, NONE, NONE, NONE, 341], // arm_sync_file_range
    [NONE, 134, NONE, NONE, 134], // bdflush
    [49, 361, 49, 200, 282], // bind
    [321, 357, 321, 280, 386], // bpf
    [NONE, 17, NONE, NONE, NONE], // break
    [12, 45, 12, 214, 45], // brk
    [451, 451, 451, 451, 451], // cachestat
    [125, 184, 125, 90, 184], // capget
    [126, 185, 126, 91, 185], // capset
    [80, 12, 80, 49, 12], // chdir
    [90, 15, 90, NONE, 15], // chmod
    [92, 182, 92, NONE, 182], // chown
    [NONE, 212, NONE, NONE, 212], // chown32
    [161, 61, 161, 51, 61], // chroot
    [305, 343, 305, 266, 372], // clock_adjtime
    [NONE, 405, NONE, NONE, 405], // clock_adjtime64
    [229, 266, 229, 114, 264], // clock_getres
    [NONE, 406, NONE, NONE, 406], // clock_getres_time64
    [228, 265, 228, 113, 263], // clock_gettime
    [NONE, 403, NONE, NONE, 403], // clock_gettime64
    [230, 267, 230, 115, 265], // clock_nanosleep
    [NONE, 407, NONE, NONE, 407], // clock_nanosleep_time64
    [227, 264, 227, 112, 262], // clock_settime
    [NONE, 404, NONE, NONE, 404], // clock_settime64
    [56, 120, 56, 220, 120], // clone
    [435, 435, 435, 435, 435], // clone3
    [3, 6, 3, 57, 6], // close
    [436, 436, 436, 436, 436], // close_range
    [42, 362, 42, 203, 283], // connect
    [326, 377, 326, 285, 391], // copy_file_range
    [85, 8, 85, NONE, 8], // creat
    [174, 127, NONE, NONE, NONE], // create_module
    [176, 129, 176, 106, 129], // delete_module
    [32, 41, 32, 23, 41], // dup
    [33, 63, 33, NONE, 63], // dup2
    [292, 330, 292, 24, 358], // dup3
    [213, 254, 213, NONE, 250], // epoll_create
    [291, 329, 291, 20, 357], // epoll_create1
    [233, 255, 233, 21, 251], // epoll_ctl
    [214, NONE, NONE, NONE, NONE], // epoll_ctl_old
    [281, 319, 281, 22, 346], // epoll_pwait
    [441, 441, 441, 441, 441], // epoll_pwait2
    [232, 256, 232, NONE, 252], // epoll_wait
    [215, NONE, NONE, NONE, NONE], // epoll_wait_old
    [284, 323, 284, NONE, 351], // eventfd
    [290, 328, 290, 19, 356], // eventfd2
    [59, 11, 520, 221, 11], // execve
    [322, 358, 545, 281, 387], // execveat
    [60, 1, 60, 93, 1], // exit
    [231, 252, 231, 94, 248], // exit_group
    [269, 307, 269, 48, 334], // faccessat
    [439, 439, 439, 439, 439], // faccessat2
    [221, 250, 221, 223, NONE], // fadvise64
    [NONE, 272, NONE, NONE, NONE], // fadvise64_64
    [285, 324, 285, 47, 352], // fallocate
    [300, 338, 300, 262, 367], // fanotify_init
    [301, 339, 301, 263, 368], // fanotify_mark
    [81, 133, 81, 50, 133], // fchdir
    [91, 94, 91, 52, 94], // fchmod
    [268, 306, 268, 53, 333], // fchmodat
    [452, 452, 452, 452, 452], // fchmodat2
    [93, 95, 93, 55, 95], // fchown
    [NONE, 207, NONE, NONE, 207], // fchown32
    [260, 298, 260, 54, 325], // fchownat
    [72, 55, 72, 25, 55], // fcntl
    [NONE, 221, NONE, NONE, 221], // fcntl64
    [75, 148, 75, 83, 148], // fdatasync
    [193, 231, 193, 10, 231], // fgetxattr
    [468, 468, 468, 468, 468], // file_getattr
    [469, 469, 469, 469, 469], // file_setattr
    [313, 350, 313, 273, 379], // finit_module
    [196, 234, 196, 13, 234], // flistxattr
    [73, 143, 73, 32, 143], // flock
    [57, 2, 57, NONE, 2], // fork
    [199, 237, 199, 16, 237], // fremovexattr
    [431, 431, 431, 431, 431], // fsconfig
    [190, 228, 190, 7, 228], // fsetxattr
    [432, 432, 432, 432, 432], // fsmount
    [430, 430, 430, 430, 430], // fsopen
    [433, 433, 433, 433, 433], // fspick
    [5, 108, 5, 80, 108], // fstat
    [NONE, 197, NONE, NONE, 197], // fstat64
    [NONE, 300, NONE, NONE, 327], // fstatat64
    [138, 100, 138, 44, 100], // fstatfs
    [NONE, 269, NONE, NONE, 267], // fstatfs64
    [74, 118, 74, 82, 118], // fsync
    [NONE, 35, NONE, NONE, NONE], // ftime
    [77, 93, 77, 46, 93], // ftruncate
    [NONE, 194, NONE, NONE, 194], // ftruncate64
    [202, 240, 202, 98, 240], // futex
    [456, 456, 456, 456, 456], // futex_requeue
    [NONE, 422, NONE, NONE, 422], // futex_time64
    [455, 455, 455, 455, 455], // futex_wait
    [449, 449, 449, 449, 449], // futex_waitv
    [454, 454, 454, 454, 454], // futex_wake
    [261, 299, 261, NONE, 326], // futimesat
    [177, 130, NONE, NONE, NONE], // get_kernel_syms
    [239, 275, 239, 236, 320], // get_mempolicy
    [274, 312, 531, 100, 339], // get_robust_list
    [211, 244, NONE, NONE, NONE], // get_thread_area
    [309, 318, 309, 168, 345], // getcpu
    [79, 183, 79, 17, 183], // getcwd
    [78, 141, 78, NONE, 141], // getdents
    [217, 220, 217, 61, 217], // getdents64
    [108, 50, 108, 177, 50], // getegid
    [NONE, 202, NONE, NONE, 202], // getegid32
    [107, 49, 107, 175, 49], // geteuid
    [NONE, 201, NONE, NONE, 201], // geteuid32
    [104, 47, 104, 176, 47], // getgid
    [NONE, 200, NONE, NONE, 200], // getgid32
    [115, 80, 115, 158, 80], // getgroups
    [NONE, 205, NONE, NONE, 205], // getgroups32
    [36, 105, 36, 102, 105], // getitimer
    [52, 368, 52, 205, 287], // getpeername
    [121, 132, 121, 155, 132], // getpgid
    [111, 65, 111, NONE, 65], // getpgrp
    [39, 20, 39, 172, 20], // getpid
    [181, 188, 181, NONE, NONE], // getpmsg
    [110, 64, 110, 173, 64], // getppid
    [140, 96, 140, 141, 96], // getpriority
    [318, 355, 318, 278, 384], // getrandom
    [120, 171, 120, 150, 171], // getresgid
    [NONE, 211, NONE, NONE, 211], // getresgid32
    [118, 165, 118, 148, 165], // getresuid
    [NONE, 209, NONE, NONE, 209], // getresuid32
    [97, 76, 97, 163, NONE], // getrlimit
    [98, 77, 98, 165, 77], // getrusage
    [124, 147, 124, 156, 147], // getsid
    [51, 367, 51, 204, 286], // getsockname
    [55, 365, 542, 209, 295], // getsockopt
    [186, 224, 186, 178, 224], // gettid
    [96, 78, 96, 169, 78], // gettimeofday
    [102, 24, 102, 174, 24], // getuid
    [NONE, 199, NONE, NONE, 199], // getuid32
    [191, 229, 191, 8, 229], // getxattr
    [464, 464, 464, 464, 464], // getxattrat
    [NONE, 32, NONE, NONE, NONE], // gtty
    [NONE, 112, NONE, NONE, NONE], // idle
    [175, 128, 175, 105, 128], // init_module
    [254, 292, 254, 27, 317], // inotify_add_watch
    [253, 291, 253, NONE, 316], // inotify_init
    [294, 332, 294, 26, 360], // inotify_init1
    [255, 293, 255, 28, 318], // inotify_rm_watch
    [210, 249, 210, 3, 247], // io_cancel
    [207, 246, 207, 1, 244], // io_destroy
    [208, 247, 208, 4, 245], // io_getevents
    [333, 385, 333, 292, 399], // io_pgetevents
    [NONE, 416, NONE, NONE, 416], // io_pgetevents_time64
    [206, 245, 543, 0, 243], // io_setup
    [209, 248, 544, 2, 246], // io_submit
    [426, 426, 426, 426, 426], // io_uring_enter
    [427, 427, 427, 427, 427], // io_uring_register
    [425, 425, 425, 425, 425], // io_uring_setup
    [16, 54, 514, 29, 54], // ioctl
    [173, 101, 173, NONE, NONE], // ioperm
    [172, 110, 172, NONE, NONE], // iopl
    [252, 290, 252, 31, 315], // ioprio_get
    [251, 289, 251, 30, 314], // ioprio_set
    [NONE, 117, NONE, NONE, NONE], // ipc
    [312, 349, 312, 272, 378], // kcmp
    [320, NONE, 320, 294, 401], // kexec_file_load
    [246, 283, 528, 104, 347], // kexec_load
    [250, 288, 250, 219, 311], // keyctl
    [62, 37, 62, 129, 37], // kill
    [445, 445, 445, 445, 445], // landlock_add_rule
    [444, 444, 444, 444, 444], // landlock_create_ruleset
    [446, 446, 446, 446, 446], // landlock_restrict_self
    [94, 16, 94, NONE, 16], // lchown
    [NONE, 198, NONE, NONE, 198], // lchown32
    [192, 230, 192, 9, 230], // lgetxattr
    [86, 9, 86, NONE, 9], // link
    [265, 303, 265, 37, 330], // linkat
    [50, 363, 50, 201, 284], // listen
    [458, 458, 458, 458, 458], // listmount
    [194, 232, 194, 11, 232], // listxattr
    [465, 465, 465, 465, 465], // listxattrat
    [195, 233, 195, 12, 233], // llistxattr
    [NONE, 53, NONE, NONE, NONE], // lock
    [212, 253, 212, 18, 249], // lookup_dcookie
    [198, 236, 198, 15, 236], // lremovexattr
    [8, 19, 8, 62, 19], // lseek
    [189, 227, 189, 6, 227], // lsetxattr
    [459, 459, 459, 459, 459], // lsm_get_self_attr
    [461, 461, 461, 461, 461], // lsm_list_modules
    [460, 460, 460, 460, 460], // lsm_set_self_attr
    [6, 107, 6, NONE, 107], // lstat
    [NONE, 196, NONE, NONE, 196], // lstat64
    [28, 219, 28, 233, 220], // madvise
    [453, 453, 453, 453, 453], // map_shadow_stack
    [237, 274, 237, 235, 319], // mbind
    [324, 375, 324, 283, 389], // membarrier
    [319, 356, 319, 279, 385], // memfd_create
    [447, 447, 447, 447, NONE], // memfd_secret
    [256, 294, 256, 238, 400], // migrate_pages
    [27, 218, 27, 232, 219], // mincore
    [83, 39, 83, NONE, 39], // mkdir
    [258, 296, 258, 34, 323], // mkdirat
    [133, 14, 133, NONE, 14], // mknod
    [259, 297, 259, 33, 324], // mknodat
    [149, 150, 149, 228, 150], // mlock
    [325, 376, 325, 284, 390], // mlock2
    [151, 152, 151, 230, 152], // mlockall
    [9, 90, 9, 222, NONE], // mmap
    [NONE, 192, NONE, NONE, 192], // mmap2
    [154, 123, 154, NONE, NONE], // modify_ldt
    [165, 21, 165, 40, 21], // mount
    [442, 442, 442, 442, 442], // mount_setattr
    [429, 429, 429, 429, 429], // move_mount
    [279, 317, 533, 239, 344], // move_pages
    [10, 125, 10, 226, 125], // mprotect
    [NONE, 56, NONE, NONE, NONE], // mpx
    [245, 282, 245, 185, 279], // mq_getsetattr
    [244, 281, 527, 184, 278], // mq_notify
    [240, 277, 240, 180, 274], // mq_open
    [243, 280, 243, 183, 277], // mq_timedreceive
    [NONE, 419, NONE, NONE, 419], // mq_timedreceive_time64
    [242, 279, 242, 182, 276], // mq_timedsend
    [NONE, 418, NONE, NONE, 418], // mq_timedsend_time64
    [241, 278, 241, 181, 275], // mq_unlink
    [25, 163, 25, 216, 163], // mremap
    [462, 462, 462, 462, 462], // mseal
    [71, 402, 71, 187, 304], // msgctl
    [68, 399, 68, 186, 303], // msgget
    [70, 401, 70, 188, 302], // msgrcv
    [69, 400, 69, 189, 301], // msgsnd
    [26, 144, 26, 227, 144], // msync
    [150, 151, 150, 229, 151], // munlock
    [152, 153, 152, 231, 153], // munlockall
    [11, 91, 11, 215, 91], // munmap
    [303, 341, 303, 264, 370], // name_to_handle_at
    [35, 162, 35, 101, 162], // nanosleep
    [262, NONE, 262, 79, NONE], // newfstatat
    [180, 169, NONE, 42, 169], // nfsservctl
    [NONE, 34, NONE, NONE, 34], // nice
    [NONE, 28, NONE, NONE, NONE], // oldfstat
    [NONE, 84, NONE, NONE, NONE], // oldlstat
    [NONE, 59, NONE, NONE, NONE], // oldolduname
    [NONE, 18, NONE, NONE, NONE], // oldstat
    [NONE, 109, NONE, NONE, NONE], // olduname
    [2, 5, 2, NONE, 5], // open
    [304, 342, 304, 265, 371], // open_by_handle_at
    [428, 428, 428, 428, 428], // open_tree
    [467, 467, 467, 467, 467], // open_tree_attr
    [257, 295, 257, 56, 322], // openat
    [437, 437, 437, 437, 437], // openat2
    [34, 29, 34, NONE, 29], // pause
    [NONE, NONE, NONE, NONE, 271], // pciconfig_iobase
    [NONE, NONE, NONE, NONE, 272], // pciconfig_read
    [NONE, NONE, NONE, NONE, 273], // pciconfig_write
    [298, 336, 298, 241, 364], // perf_event_open
    [135, 136, 135, 92, 136], // personality
    [438, 438, 438, 438, 438], // pidfd_getfd
    [434, 434, 434, 434, 434], // pidfd_open
    [424, 424, 424, 424, 424], // pidfd_send_signal
    [22, 42, 22, NONE, 42], // pipe
    [293, 331, 293, 59, 359], // pipe2
    [155, 217, 155, 41, 218], // pivot_root
    [330, 381, 330, 289, 395], // pkey_alloc
    [331, 382, 331, 290, 396], // pkey_free
    [329, 380, 329, 288, 394], // pkey_mprotect
    [7, 168, 7, NONE, 168], // poll
    [271, 309, 271, 73, 336], // ppoll
    [NONE, 414, NONE, NONE, 414], // ppoll_time64
    [157, 172, 157, 167, 172], // prctl
    [17, 180, 17, 67, 180], // pread64
    [295, 333, 534, 69, 361], // preadv
    [327, 378, 546, 286, 392], // preadv2
    [302, 340, 302, 261, 369], // prlimit64
    [440, 440, 440, 440, 440], // process_madvise
    [448, 448, 448, 448, 448], // process_mrelease
    [310, 347, 539, 270, 376], // process_vm_readv
    [311, 348, 540, 271, 377], // process_vm_writev
    [NONE, 44, NONE, NONE, NONE], // prof
    [NONE, 98, NONE, NONE, NONE], // profil
    [270, 308, 270, 72, 335], // pselect6
    [NONE, 413, NONE, NONE, 413], // pselect6_time64
    [101, 26, 521, 117, 26], // ptrace
    [182, 189, 182, NONE, NONE], // putpmsg
    [18, 181, 18, 68, 181], // pwrite64
    [296, 334, 535, 70, 362], // pwritev
    [328, 379, 547, 287, 393], // pwritev2
    [178, 167, NONE, NONE, NONE], // query_module
    [179, 131, 179, 60, 131], // quotactl
    [443, 443, 443, 443, 443], // quotactl_fd
    [0, 3, 0, 63, 3], // read
    [187, 225, 187, 213, 225], // readahead
    [NONE, 89, NONE, NONE, NONE], // readdir
    [89, 85, 89, NONE, 85], // readlink
    [267, 305, 267, 78, 332], // readlinkat
    [19, 145, 515, 65, 145], // readv
    [169, 88, 169, 142, 88], // reboot
    [NONE, NONE, NONE, NONE, 291], // recv
    [45, 371, 517, 207, 292], // recvfrom
    [299, 337, 537, 243, 365], // recvmmsg
    [NONE, 417, NONE, NONE, 417], // recvmmsg_time64
    [47, 372, 519, 212, 297], // recvmsg
    [216, 257, 216, 234, 253], // remap_file_pages
    [197, 235, 197, 14, 235], // removexattr
    [466, 466, 466, 466, 466], // removexattrat
    [82, 38, 82, NONE, 38], // rename
    [264, 302, 264, 38, 329], // renameat
    [316, 353, 316, 276, 382], // renameat2
    [249, 287, 249, 218, 310], // request_key
    [219, 0, 219, 128, 0], // restart_syscall
    [84, 40, 84, NONE, 40], // rmdir
    [334, 386, 334, 293, 398], // rseq
    [13, 174, 512, 134, 174], // rt_sigaction
    [127, 176, 522, 136, 176], // rt_sigpending
    [14, 175, 14, 135, 175], // rt_sigprocmask
    [129, 178, 524, 138, 178], // rt_sigqueueinfo
    [15, 173, 513, 139, 173], // rt_sigreturn
    [130, 179, 130, 133, 179], // rt_sigsuspend
    [128, 177, 523, 137, 177], // rt_sigtimedwait
    [NONE, 421, NONE, NONE, 421], // rt_sigtimedwait_time64
    [297, 335, 536, 240, 363], // rt_tgsigqueueinfo
    [146, 159, 146, 125, 159], // sched_get_priority_max
    [147, 160, 147, 126, 160], // sched_get_priority_min
    [204, 242, 204, 123, 242], // sched_getaffinity
    [315, 352, 315, 275, 381], // sched_getattr
    [143, 155, 143, 121, 155], // sched_getparam
    [145, 157, 145, 120, 157], // sched_getscheduler
    [148, 161, 148, 127, 161], // sched_rr_get_interval
    [NONE, 423, NONE, NONE, 423], // sched_rr_get_interval_time64
    [203, 241, 203, 122, 241], // sched_setaffinity
    [314, 351, 314, 274, 380], // sched_setattr
    [142, 154, 142, 118, 154], // sched_setparam
    [144, 156, 144, 119, 156], // sched_setscheduler
    [24, 158, 24, 124, 158], // sched_yield
    [317, 354, 317, 277, 383], // seccomp
    [185, NONE, 185, NONE, NONE], // security
    [23, 82, 23, NONE, NONE], // select
    [66, 394, 66, 191, 300], // semctl
    [64, 393, 64, 190, 299], // semget
    [65, NONE, 65, 193, 298], // semop
    [220, NONE, 220, 192, 312], // semtimedop
    [NONE, 420, NONE, NONE, 420], // semtimedop_time64
    [NONE, NONE, NONE, NONE, 289], // send
    [40, 187, 40, 71, 187], // sendfile
    [NONE, 239, NONE, NONE, 239], // sendfile64
    [307, 345, 538, 269, 374], // sendmmsg
    [46, 370, 518, 211, 296], // sendmsg
    [44, 369, 44, 206, 290], // sendto
    [238, 276, 238, 237, 321], // set_mempolicy
    [450, 450, 450, 450, 450], // set_mempolicy_home_node
    [273, 311, 530, 99, 338], // set_robust_list
    [205, 243, NONE, NONE, NONE], // set_thread_area
    [218, 258, 218, 96, 256], // set_tid_address
    [171, 121, 171, 162, 121], // setdomainname
    [123, 139, 123, 152, 139], // setfsgid
    [NONE, 216, NONE, NONE, 216], // setfsgid32
    [122, 138, 122, 151, 138], // setfsuid
    [NONE, 215, NONE, NONE, 215], // setfsuid32
    [106, 46, 106, 144, 46], // setgid
    [NONE, 214, NONE, NONE, 214], // setgid32
    [116, 81, 116, 159, 81], // setgroups
    [NONE, 206, NONE, NONE, 206], // setgroups32
    [170, 74, 170, 161, 74], // sethostname
    [38, 104, 38, 103, 104], // setitimer
    [308, 346, 308, 268, 375], // setns
    [109, 57, 109, 154, 57], // setpgid
    [141, 97, 141, 140, 97], // setpriority
    [114, 71, 114, 143, 71], // setregid
    [NONE, 204, NONE, NONE, 204], // setregid32
    [119, 170, 119, 149, 170], // setresgid
    [NONE, 210, NONE, NONE, 210], // setresgid32
    [117, 164, 117, 147, 164], // setresuid
    [NONE, 208, NONE, NONE, 208], // setresuid32
    [113, 70, 113, 145, 70], // setreuid
    [NONE, 203, NONE, NONE, 203], // setreuid32
    [160, 75, 160, 164, 75], // setrlimit
    [112, 66, 112, 157, 66], // setsid
    [54, 366, 541, 208, 294], // setsockopt
    [164, 79, 164, 170, 79], // settimeofday
    [105, 23, 105, 146, 23], // setuid
    [NONE, 213, NONE, NONE, 213], // setuid32
    [188, 226, 188, 5, 226], // setxattr
    [463, 463, 463, 463, 463], // setxattrat
    [NONE, 68, NONE, NONE, NONE], // sgetmask
    [30, 397, 30, 196, 305], // shmat
    [31, 396, 31, 195, 308], // shmctl
    [67, 398, 67, 197, 306], // shmdt
    [29, 395, 29, 194, 307], // shmget
    [48, 373, 48, 210, 293], // shutdown
    [NONE, 67, NONE, NONE, 67], // sigaction
    [131, 186, 525, 132, 186], // sigaltstack
    [NONE, 48, NONE, NONE, NONE], // signal
    [282, 321, 282, NONE, 349], // signalfd
    [289, 327, 289, 74, 355], // signalfd4
    [NONE, 73, NONE, NONE, 73], // sigpending
    [NONE, 126, NONE, NONE, 126], // sigprocmask
    [NONE, 119, NONE, NONE, 119], // sigreturn
    [NONE, 72, NONE, NONE, 72], // sigsuspend
    [41, 359, 41, 198, 281], // socket
    [NONE, 102, NONE, NONE, NONE], // socketcall
    [53, 360, 53, 199, 288], // socketpair
    [275, 313, 275, 76, 340], // splice
    [NONE, 69, NONE, NONE, NONE], // ssetmask
    [4, 106, 4, NONE, 106], // stat
    [NONE, 195, NONE, NONE, 195], // stat64
    [137, 99, 137, 43, 99], // statfs
    [NONE, 268, NONE, NONE, 266], // statfs64
    [457, 457, 457, 457, 457], // statmount
    [332, 383, 332, 291, 397], // statx
    [NONE, 25, NONE, NONE, NONE], // stime
    [NONE, 31, NONE, NONE, NONE], // stty
    [168, 115, 168, 225, 115], // swapoff
    [167, 87, 167, 224, 87], // swapon
    [88, 83, 88, NONE, 83], // symlink
    [266, 304, 266, 36, 331], // symlinkat
    [162, 36, 162, 81, 36], // sync
    [277, 314, 277, 84, NONE], // sync_file_range
    [NONE, NONE, NONE, NONE, 341], // sync_file_range2
    [306, 344, 306, 267, 373], // syncfs
    [139, 135, 139, NONE, 135], // sysfs
    [99, 116, 99, 179, 116], // sysinfo
    [103, 103, 103, 116, 103], // syslog
    [276, 315, 276, 77, 342], // tee
    [234, 270, 234, 131, 268], // tgkill
    [201, 13, 201, NONE, NONE], // time
    [222, 259, 526, 107, 257], // timer_create
    [226, 263, 226, 111, 261], // timer_delete
    [225, 262, 225, 109, 260], // timer_getoverrun
    [224, 261, 224, 108, 259], // timer_gettime
    [NONE, 408, NONE, NONE, 408], // timer_gettime64
    [223, 260, 223, 110, 258], // timer_settime
    [NONE, 409, NONE, NONE, 409], // timer_settime64
    [283, 322, 283, 85, 350], // timerfd_create
    [287, 326, 287, 87, 354], // timerfd_gettime
    [NONE, 410, NONE, NONE, 410], // timerfd_gettime64
    [286, 325, 286, 86, 353], // timerfd_settime
    [NONE, 411, NONE, NONE, 411], // timerfd_settime64
    [100, 43, 100, 153, 43], // times
    [200, 238, 200, 130, 238], // tkill
    [76, 92, 76, 45, 92], // truncate
    [NONE, 193, NONE, NONE, 193], // truncate64
    [184, NONE, 184, NONE, NONE], // tuxcall
    [NONE, 191, NONE, NONE, 191], // ugetrlimit
    [NONE, 58, NONE, NONE, NONE], // ulimit
    [95, 60, 95, 166, 60], // umask
    [NONE, 22, NONE, NONE, NONE], // umount
    [166, 52, 166, 39, 52], // umount2
    [63, 122, 63, 160, 122], // uname
    [87, 10, 87, NONE, 10], // unlink
    [263, 301, 263, 35, 328], // unlinkat
    [272, 310, 272, 97, 337], // unshare
    [335, NONE, 335, NONE, NONE], // uretprobe
    [134, 86, NONE, NONE, 86], // uselib
    [323, 374, 323, 282, 388], // userfaultfd
    [136, 62, 136, NONE, 62], // ustat
    [132, 30, 132, NONE, NONE], // utime
    [280, 320, 280, 88, 348], // utimensat
    [NONE, 412, NONE, NONE, 412], // utimensat_time64
    [235, 271, 235, NONE, 269], // utimes
    [58, 190, 58, NONE, 190], // vfork
    [153, 111, 153, 58, 111], // vhangup
    [NONE, 166, NONE, NONE, NONE], // vm86
    [NONE, 113, NONE, NONE, NONE], // vm86old
    [278, 316, 532, 75, 343], // vmsplice
    [236, 273, NONE, NONE, 313], // vserver
    [61, 114, 61, 260, 114], // wait4
    [247, 284, 529, 95, 280], // waitid
    [NONE, 7, NONE, NONE, NONE], // waitpid
    [1, 4, 1, 64, 4], // write
    [20, 146, 516, 66, 146], // writev
];
