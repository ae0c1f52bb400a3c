//! Where `tinyrun` begins when it makes or enters a container: before the C library, so that executing itself once more costs little.
//!
//! A container whose root is the host's root could write the runtime's file through /proc/PID/exe while the runtime is inside
//! (CVE-2019-5736). So the runtime executes itself again from a read-only mount of its own file that is attached nowhere. A static program
//! of glibc took 0.4 to 0.6 ms more from start to end than one without a C library on two virtual machines (its own relocations, and CPUID,
//! which the host answers); what is below needs none of that, and has done its part after four system calls.
//!
//! The linker's `-e` makes it the entry (crates/runtime/build.rs). It promises nothing: wherever a call is refused it goes on to `_start`,
//! and the runtime looks at its own file before it touches a container, in any case (`seal.rs` there).

#![expect(unsafe_code, reason = "there is no Rust before the program is relocated")]

// What the kernel gives (System V ABI for AMD64, 3.4.1): at rsp argc, then argv and a zero, envp and a zero; in rdx what `_start` wants to
// find there. Nothing is relocated yet, so that no address is used but relative ones, and no function is called.
//
// Words are compared four bytes at a time: the arguments lie one after the other, and behind the last one are the environment, the name
// of the file and eight zero bytes (execve(2), fs/exec.c), so that this never reads beyond the stack.
core::arch::global_asm!(
    r#"
    .pushsection .text.tinyd_entry, "ax", @progbits
    .globl tinyd_entry
    .type tinyd_entry, @function
tinyd_entry:
    mov r12, rsp
    mov r14, rdx
    mov rax, [r12]
    cmp rax, 2
    jb 9f
    lea r13, [r12 + 8*rax + 16]     # envp
    lea rbx, [r12 + 16]             # argv + 1

1:  # Is one of the arguments a verb that has to do with a container's processes? (`run` may be something else: that costs nothing else.)
    mov rsi, [rbx]
    test rsi, rsi
    jz 9f
    add rbx, 8
    mov eax, [rsi]
    cmp eax, 0x006e7572             # "run\0"
    je 3f
    cmp eax, 0x63657865             # "exec"
    je 2f
    cmp eax, 0x61657263             # "crea"
    jne 1b
    cmp word ptr [rsi + 4], 0x6574  # "te"
    jne 1b
    add rsi, 2
2:  cmp byte ptr [rsi + 4], 0
    jne 1b

3:  # statfs("/proc/self/exe", rsp): is the file out of reach already?
    sub rsp, 128
    mov eax, {statfs}
    lea rdi, [rip + 10f]
    mov rsi, rsp
    syscall
    test rax, rax
    jnz 8f
    test byte ptr [rsp + {f_flags}], {rdonly}
    jnz 6f
    # open_tree(AT_FDCWD, "/proc/self/exe", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
    mov eax, {open_tree}
    mov edi, {cwd}
    lea rsi, [rip + 10f]
    mov edx, {clone}
    syscall
    test eax, eax
    js 8f
    mov r15d, eax
    # mount_setattr(fd, "", AT_EMPTY_PATH, &mount_attr {{ .attr_set = MOUNT_ATTR_RDONLY }}, 32)
    xor eax, eax
    mov [rsp + 8], rax
    mov [rsp + 16], rax
    mov [rsp + 24], rax
    mov eax, {attr_rdonly}
    mov [rsp], rax
    mov eax, {mount_setattr}
    mov edi, r15d
    lea rsi, [rip + 11f]
    mov edx, {empty_path}
    mov r10, rsp
    mov r8d, 32
    syscall
    test rax, rax
    jnz 7f
    # execveat(fd, "", argv, envp, AT_EMPTY_PATH): the next life finds itself out of reach.
    mov eax, {execveat}
    mov edi, r15d
    lea rsi, [rip + 11f]
    lea rdx, [r12 + 8]
    mov r10, r13
    mov r8d, {empty_path}
    syscall
    jmp 7f
6:  # This is the life in which it will be done. What is written on the way to `main`, and the stack down to where a configuration is read, is
    # had at once and not by a page fault each: madvise(_, _, MADV_POPULATE_WRITE) of all that can be written of the file's image, which
    # with lld begins at the page after the text (`etext` and `_end`, end(3)), and of a part of the stack. Where it does not, or before Linux
    # 5.14, that is refused, and nothing is lost.
    mov eax, {madvise}
    lea rdi, [rip + etext + 4095]
    and rdi, -4096
    lea rsi, [rip + _end + 4095]
    and rsi, -4096
    sub rsi, rdi
    mov edx, {populate_write}
    syscall
    mov eax, {madvise}
    mov rdi, r12
    and rdi, -4096
    sub rdi, {stack}
    mov esi, {stack}
    mov edx, {populate_write}
    syscall
    jmp 8f
7:  # It was refused: close(fd).
    mov eax, {close}
    mov edi, r15d
    syscall
8:  mov rsp, r12
9:  mov rdx, r14
    jmp _start

10: .asciz "/proc/self/exe"
11: .byte 0
    .size tinyd_entry, . - tinyd_entry
    .popsection
    "#,
    statfs = const libc::SYS_statfs,
    // The libc crate keeps the field, which follows this one, to itself (struct statfs, asm-generic/statfs.h).
    f_flags = const std::mem::offset_of!(libc::statfs, f_frsize) + 8,
    rdonly = const libc::ST_RDONLY,
    open_tree = const libc::SYS_open_tree,
    cwd = const libc::AT_FDCWD,
    clone = const libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC,
    attr_rdonly = const libc::MOUNT_ATTR_RDONLY,
    mount_setattr = const libc::SYS_mount_setattr,
    empty_path = const libc::AT_EMPTY_PATH,
    execveat = const libc::SYS_execveat,
    close = const libc::SYS_close,
    madvise = const libc::SYS_madvise,
    populate_write = const libc::MADV_POPULATE_WRITE,
    // Bytes; the kernel gives a new program 128 KiB before the stack has to grow (setup_arg_pages, fs/exec.c).
    stack = const 13 * 4096,
);
