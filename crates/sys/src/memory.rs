//! Memory that a process holds and does not need.

#![expect(unsafe_code, reason = "malloc_trim and madvise of the program's own pages")]

use std::ptr;

unsafe extern "C" {
    // The linker defines both: the first byte of the program's first segment, and the end of its code.
    static __executable_start: u8;
    static etext: u8;
}

const PAGE: usize = 4096;

/// Gives back what can be had again: free heap pages, and the pages of the program's code and constants, which the kernel keeps
/// in the page cache and maps anew when they are used. For a process that is about to wait for long.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the number of bytes to keep at the top; nothing that is in use moves.
    unsafe {
        libc::malloc_trim(0);
    }
    let start = (&raw const __executable_start).addr().next_multiple_of(PAGE);
    let end = (&raw const etext).addr() / PAGE * PAGE;
    let pages = ptr::with_exposed_provenance_mut::<libc::c_void>(start);
    // SAFETY: from the first segment's start to the end of the code there are only read-only mappings of the program's file, which
    // cannot be written while it is executed. No page of them has been changed: relocations are in the segments behind. So
    // a page that is dropped comes back with the same bytes.
    unsafe { libc::madvise(pages, end.saturating_sub(start), libc::MADV_DONTNEED) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_goes_on() {
        let kept = vec![7u8; 100_000];
        give_back();
        assert!(kept.iter().all(|byte| *byte == 7));
        assert_eq!(format!("{:?}", Some(1)), "Some(1)");
    }
}
