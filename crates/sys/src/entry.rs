//! Where `tinyrun` begins when it makes or enters a container: before the C library, while nothing of its memory has been written.
//!
//! A container whose root is the host's root could write the runtime's file through /proc/PID/exe while the runtime is inside
//! (CVE-2019-5736). So the runtime maps itself anew from a read-only mount of its own file that is attached nowhere, and has the kernel
//! take that one for the file that it executes (prctl(2), PR_SET_MM_MAP, Linux 3.18 with CONFIG_CHECKPOINT_RESTORE; what is required is that nothing
//! of the old one is mapped any more). Where it may not, it executes itself once more from there. A static program of glibc took 0.4 to 0.6 ms
//! more from start to end than one without a C library on two virtual machines (its own relocations, and CPUID, which the host answers):
//! what is below needs none of that.
//!
//! The linker's `-e` makes it the entry (crates/runtime/build.rs). It promises nothing: wherever a call is refused it goes on to `_start`,
//! and the runtime looks at its own file before it touches a container, in any case (`seal.rs` there).

#![expect(unsafe_code, reason = "there is no Rust before the program is relocated")]

use std::mem::offset_of;

// What `_start` and `__libc_start_main` of glibc 2.36 do (sysdeps/x86_64/start.S, csu/libc-start.c), in their order, but for one thing: they do not ask the
// processor what it is (`init_cpu_features`, sysdeps/x86/cpu-features.c). That executes CPUID 43 times on AMD and 68 times on Intel, of which a virtual machine's
// host answers each in one to thirty microseconds, to choose among ways of copying memory. Left at zero it says that of each there is the plainest, which every
// x86-64 has, and only the size has to be said from which a copy goes past the caches: 0 would be wrong, and this is what it is for a cache
// of a megabyte. What is there for debuggers, for destructors at the end, for functions before the constructors' and for
// programs with more rights than their caller is left out: `main` does its part of that (start.rs). Which library is linked build.rs looks at; any other one starts itself.
#[cfg(known_libc)]
macro_rules! onward {
    () => {
        r#"
    # Is it that one still? What this was built with may be older than what it is linked with. The function reads nothing that has to be relocated.
    and rsp, -16
    call gnu_get_libc_version
    cmp dword ptr [rax], 0x36332e32 # "2.36"
    jne 8f
    cmp byte ptr [rax + 4], 0
    jne 8f
    xor ebp, ebp
    mov rax, [r12]
    lea rbx, [r12 + 8]              # argv
    lea r13, [r12 + 8*rax + 16]     # envp
    mov [rip + __environ], r13
    mov [rip + __libc_stack_end], r12
    mov rdi, r13
2:  mov rax, [rdi]
    add rdi, 8
    test rax, rax
    jnz 2b
    call _dl_aux_init
    # The kernel tells it since Linux 5.14. Before, the library would ask the processor.
    cmp qword ptr [rip + _dl_minsigstacksize], 0
    jne 2f
    mov qword ptr [rip + _dl_minsigstacksize], 0x1000
2:  mov rdi, r13
    call __tunables_init
    mov qword ptr [rip + __x86_shared_non_temporal_threshold], 0xc0000
    call _dl_relocate_static_pie
    call __libc_setup_tls
    # The stack's and the pointers' guards: sixteen bytes of the kernel's, the lowest of the first one zero.
    mov rax, [rip + _dl_random]
    mov rdx, [rax]
    xor dl, dl
    mov fs:[0x28], rdx
    mov rdx, [rax + 8]
    mov fs:[0x30], rdx
    mov edi, 1
    call __libc_early_init
    mov edi, [r12]
    mov rsi, rbx
    mov rdx, r13
    call __libc_init_first
    call _init
    lea r14, [rip + __init_array_start]
    lea r15, [rip + __init_array_end]
3:  cmp r14, r15
    jae 4f
    mov edi, [r12]
    mov rsi, rbx
    mov rdx, r13
    call [r14]
    add r14, 8
    jmp 3b
4:  mov edi, [r12]
    mov rsi, rbx
    mov rdx, r13
    call main
    mov edi, eax
    call exit
    ud2
8:  mov rsp, r12
"#
    };
}

/// As the library does it.
#[cfg(not(known_libc))]
macro_rules! onward {
    () => {
        ""
    };
}

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
    # The file as it is there: open("/proc/self/fd/N", O_RDONLY | O_CLOEXEC). N is written from its last digit on.
    lea rdi, [rsp + 63]
    mov byte ptr [rdi], 0
    mov eax, r15d
    mov ecx, 10
2:  xor edx, edx
    div ecx
    add dl, '0'
    dec rdi
    mov [rdi], dl
    test eax, eax
    jnz 2b
    mov rax, [rip + 12f + 6]
    mov [rdi - 8], rax
    mov rax, [rip + 12f]
    mov [rdi - 14], rax
    sub rdi, 14
    mov eax, {open}
    mov esi, {cloexec}
    xor edx, edx
    syscall
    test eax, eax
    js 5f
    mov r8d, eax
    # Each segment once more, in its place: mmap(place, length, its rights, MAP_PRIVATE | MAP_FIXED, file, offset). The bytes are the same.
    lea rbp, [rip + __ehdr_start]
    mov rbx, [rbp + {e_phoff}]
    add rbx, rbp
    movzx eax, word ptr [rbp + {e_phnum}]
    mov [rsp], rax
3:  cmp dword ptr [rbx + {p_type}], {load}
    jne 4f
    cmp qword ptr [rbx + {p_filesz}], 0
    je 4f
    mov rdi, [rbx + {p_vaddr}]
    add rdi, rbp
    mov r9, rdi
    and r9d, 4095
    sub rdi, r9
    mov rsi, [rbx + {p_filesz}]
    add rsi, r9
    neg r9
    add r9, [rbx + {p_offset}]
    # PF_X, PF_W, PF_R are the bits of PROT_EXEC, PROT_WRITE, PROT_READ from the other end.
    mov eax, [rbx + {p_flags}]
    mov edx, eax
    and edx, {write}
    mov ecx, eax
    shr ecx, 2
    and ecx, {read}
    or edx, ecx
    and eax, {pf_x}
    shl eax, 2
    or edx, eax
    mov r10d, {in_place}
    mov eax, {mmap}
    syscall
    cmp rax, rdi
    jne 14f
    # Behind what a writable one has in the file are zeroes, to the end of the page.
    test edx, {write}
    jz 4f
    add rdi, rsi
    mov ecx, edi
    neg ecx
    and ecx, 4095
    xor eax, eax
    rep stosb
4:  add rbx, {phdr}
    dec qword ptr [rsp]
    jnz 3b
    # struct prctl_mm_map (linux/prctl.h): start_code, end_code, start_data, end_data; start_brk and brk, where the heap begins that there is
    # not yet; start_stack, arg_start; arg_end and env_start, env_end; no new auxv; exe_fd.
    mov [rsp], rbp
    lea rax, [rip + etext]
    mov [rsp + 8], rax
    mov [rsp + 16], rax
    lea rax, [rip + edata]
    mov [rsp + 24], rax
    mov eax, {brk}
    xor edi, edi
    syscall
    mov [rsp + 32], rax
    mov [rsp + 40], rax
    mov [rsp + 48], r12
    mov rax, [r12 + 8]
    mov [rsp + 56], rax
    # Behind the environment is the auxiliary vector. The name of the file that is there lies behind the strings of the environment.
    mov rdi, r13
2:  mov rax, [rdi]
    add rdi, 8
    test rax, rax
    jnz 2b
2:  mov rax, [rdi]
    mov rcx, [rdi + 8]
    add rdi, 16
    test rax, rax
    jz 14f
    cmp rax, {execfn}
    jne 2b
    mov rax, [r13]
    test rax, rax
    cmovz rax, rcx
    mov [rsp + 64], rax
    mov [rsp + 72], rax
    mov [rsp + 80], rcx
    xor eax, eax
    mov [rsp + 88], rax
    mov [rsp + 96], eax
    mov [rsp + 100], r8d
    mov ebx, r8d
    mov eax, {prctl}
    mov edi, {set_mm}
    mov esi, {set_mm_map}
    mov rdx, rsp
    mov r10d, 104
    xor r8d, r8d
    syscall
    mov rbp, rax
    mov eax, {close}
    mov edi, ebx
    syscall
    test rbp, rbp
    jnz 5f
    mov eax, {close}
    mov edi, r15d
    syscall
    jmp 6f
14: # It was refused: close(file).
    mov eax, {close}
    mov edi, r8d
    syscall
5:  # execveat(fd, "", argv, envp, AT_EMPTY_PATH): the next life finds itself out of reach.
    mov eax, {execveat}
    mov edi, r15d
    lea rsi, [rip + 11f]
    lea rdx, [r12 + 8]
    mov r10, r13
    mov r8d, {empty_path}
    syscall
    jmp 7f
6:  # Here it will be done. What is written on the way to `main`, and the stack down to where a configuration is read, is
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
    "#,
    onward!(),
    r#"
9:  mov rdx, r14
    jmp _start

10: .asciz "/proc/self/exe"
11: .byte 0
12: .ascii "/proc/self/fd/"
    .size tinyd_entry, . - tinyd_entry
    .popsection
    "#,
    statfs = const libc::SYS_statfs,
    // The libc crate keeps the field, which follows this one, to itself (struct statfs, asm-generic/statfs.h).
    f_flags = const offset_of!(libc::statfs, f_frsize) + 8,
    rdonly = const libc::ST_RDONLY,
    open_tree = const libc::SYS_open_tree,
    cwd = const libc::AT_FDCWD,
    clone = const libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC,
    attr_rdonly = const libc::MOUNT_ATTR_RDONLY,
    mount_setattr = const libc::SYS_mount_setattr,
    empty_path = const libc::AT_EMPTY_PATH,
    open = const libc::SYS_open,
    cloexec = const libc::O_RDONLY | libc::O_CLOEXEC,
    e_phoff = const offset_of!(libc::Elf64_Ehdr, e_phoff),
    e_phnum = const offset_of!(libc::Elf64_Ehdr, e_phnum),
    phdr = const size_of::<libc::Elf64_Phdr>(),
    p_type = const offset_of!(libc::Elf64_Phdr, p_type),
    p_flags = const offset_of!(libc::Elf64_Phdr, p_flags),
    p_offset = const offset_of!(libc::Elf64_Phdr, p_offset),
    p_vaddr = const offset_of!(libc::Elf64_Phdr, p_vaddr),
    p_filesz = const offset_of!(libc::Elf64_Phdr, p_filesz),
    load = const libc::PT_LOAD,
    pf_x = const libc::PF_X,
    read = const libc::PROT_READ,
    write = const libc::PROT_WRITE,
    in_place = const libc::MAP_PRIVATE | libc::MAP_FIXED,
    mmap = const libc::SYS_mmap,
    brk = const libc::SYS_brk,
    execfn = const libc::AT_EXECFN,
    prctl = const libc::SYS_prctl,
    set_mm = const libc::PR_SET_MM,
    set_mm_map = const libc::PR_SET_MM_MAP,
    execveat = const libc::SYS_execveat,
    close = const libc::SYS_close,
    madvise = const libc::SYS_madvise,
    populate_write = const libc::MADV_POPULATE_WRITE,
    // Bytes; the kernel gives a new program 128 KiB before the stack has to grow (setup_arg_pages, fs/exec.c).
    stack = const 13 * 4096,
);

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    #[test]
    fn the_start_that_is_known_is_debian_12s() {
        // SAFETY: it takes nothing (gnu_get_libc_version(3)).
        let version = unsafe { libc::gnu_get_libc_version() };
        // SAFETY: it is a string that lives for ever.
        let version = unsafe { CStr::from_ptr(version) };
        assert_eq!(cfg!(known_libc), cfg!(target_feature = "crt-static") && version == c"2.36");
    }
}
