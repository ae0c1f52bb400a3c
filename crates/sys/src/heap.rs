//! The heap of a command that ends soon: what it gives back is not had again, but for what it took last. Taking is an addition then, and
//! giving back writes nothing; after a fork neither side writes to a page that both have, which the kernel would copy.
//!
//! A program has [`Heap`] for its allocator, and is served by the system's until [`begin`].

#![expect(unsafe_code, reason = "an allocator hands out memory")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    ptr::{self, NonNull},
    sync::atomic::{
        AtomicBool, AtomicPtr, AtomicUsize,
        Ordering::{AcqRel, Acquire, Relaxed, Release},
    },
};

const PAGE: usize = 4096;
/// As much as an arena has, in bytes, of addresses: what is used of them takes memory. The system serves who wants more.
const SIZE: usize = 1 << 20;

/// The allocator: the arena where it is open and has room, else the system's.
#[derive(Debug)]
pub struct Heap;

static ARENA: Arena = Arena::new();

/// From here on what is taken comes from an arena. For a command that ends soon, or says when that is over ([`end`]). Where the kernel has
/// no memory for it, nothing changes.
pub fn begin() {
    ARENA.begin();
}

/// After a fork, on both sides: what is taken from here on is in pages of one's own.
pub(crate) fn part() {
    ARENA.part();
}

/// What is taken from here on comes from the system, for as long as this process lives. What was taken before stays.
pub fn end() {
    ARENA.open.store(false, Relaxed);
}

// SAFETY: each method hands out what the arena or the system hands out, and gives it back to where it came from: the addresses tell which.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match ARENA.take(layout) {
            Some(taken) => taken.block.as_ptr(),
            // SAFETY: the caller's promise is the one that is asked for.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match ARENA.take(layout) {
            Some(taken) => {
                // What has never been had is zero, and need not be touched for that.
                // SAFETY: it is no more than the block's size, and the block is nobody else's.
                unsafe { taken.block.write_bytes(0, taken.used) };
                taken.block.as_ptr()
            }
            // SAFETY: as in `alloc`.
            None => unsafe { System.alloc_zeroed(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match ARENA.offset(block) {
            Some(at) => drop(ARENA.resize(at, layout.size(), 0)),
            // SAFETY: as in `alloc`; it is not the arena's, so that it is the system's.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(at) = ARENA.offset(block) else {
            // SAFETY: as in `dealloc`.
            return unsafe { System.realloc(block, layout, size) };
        };
        if ARENA.resize(at, layout.size(), size) || size <= layout.size() {
            return block;
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
        // SAFETY: the caller promises that the size is not zero.
        let new = unsafe { self.alloc(wanted) };
        if !new.is_null() {
            // SAFETY: the old block has that many bytes, the new one has more, and was free, so that they do not overlap.
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size()) };
            // Where the new one is the system's, the old one may be the last.
            ARENA.resize(at, layout.size(), 0);
        }
        new
    }
}

/// A block of an arena.
struct Taken {
    block: NonNull<u8>,
    /// How many of its bytes may have been somebody's before; those behind are zero.
    used: usize,
}

/// Memory that is handed out from its beginning to its end. Blocks are told by how far from the beginning they are.
struct Arena {
    /// Its beginning, at a page; null until there is one.
    base: AtomicPtr<u8>,
    /// How many bytes of it are taken.
    taken: AtomicUsize,
    /// How many of them have ever been.
    used: AtomicUsize,
    /// Whether more are handed out.
    open: AtomicBool,
}

impl Arena {
    const fn new() -> Arena {
        Arena {
            base: AtomicPtr::new(ptr::null_mut()),
            taken: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            open: AtomicBool::new(false),
        }
    }

    fn begin(&self) {
        if !self.base.load(Relaxed).is_null() {
            return;
        }
        let (rights, flags) = (
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        );
        // SAFETY: a new mapping of its own, at no address that is asked for.
        let base = unsafe { libc::mmap(ptr::null_mut(), SIZE, rights, flags, -1, 0) };
        // Where another thread has been quicker this one is never used.
        if base == libc::MAP_FAILED
            || self.base.compare_exchange(ptr::null_mut(), base.cast(), AcqRel, Relaxed).is_err()
        {
            return;
        }
        // Who sees it open sees where it is.
        self.open.store(true, Release);
    }

    fn part(&self) {
        if !self.open.load(Relaxed) {
            return;
        }
        // What was given back lies in pages that both sides have, too.
        let fresh = self.used.load(Relaxed).next_multiple_of(PAGE);
        self.taken.fetch_max(fresh, AcqRel);
    }

    /// A block, unless the arena is not open or has no room for it.
    fn take(&self, layout: Layout) -> Option<Taken> {
        // The beginning is at a page, and no more than that.
        if !self.open.load(Acquire) || layout.align() > PAGE {
            return None;
        }
        let base = self.base.load(Relaxed);
        let mut taken = self.taken.load(Acquire);
        loop {
            let at = taken.checked_next_multiple_of(layout.align())?;
            let after = at.checked_add(layout.size()).filter(|&after| after <= SIZE)?;
            match self.taken.compare_exchange_weak(taken, after, AcqRel, Acquire) {
                Ok(_) => {
                    let used = self.used.fetch_max(after, AcqRel).saturating_sub(at).min(layout.size());
                    return NonNull::new(base.wrapping_add(at)).map(|block| Taken { block, used });
                }
                Err(now) => taken = now,
            }
        }
    }

    /// How far from the beginning a block is; none of a block that is not the arena's.
    fn offset(&self, block: *mut u8) -> Option<usize> {
        let base = self.base.load(Relaxed).addr();
        let at = block.addr().wrapping_sub(base);
        (base != 0 && at < SIZE).then_some(at)
    }

    /// Makes the block that was taken last longer or shorter, in its place; whether it is that one and there is room.
    fn resize(&self, at: usize, from: usize, to: usize) -> bool {
        let has_room = to <= from || (self.open.load(Relaxed) && at.saturating_add(to) <= SIZE);
        let is_last = has_room && self.taken.compare_exchange(at + from, at + to, AcqRel, Relaxed).is_ok();
        if is_last {
            self.used.fetch_max(at + to, AcqRel);
        }
        is_last
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    fn opened() -> Arena {
        let arena = Arena::new();
        arena.begin();
        arena
    }

    #[test]
    fn blocks_lie_one_behind_the_other_where_they_may() {
        let arena = opened();
        let at = |taken: Option<Taken>| arena.offset(taken.unwrap().block.as_ptr()).unwrap();
        assert_eq!(at(arena.take(of(3, 1))), 0);
        assert_eq!(at(arena.take(of(8, 8))), 8);
        assert_eq!(at(arena.take(of(1, PAGE))), PAGE);
        assert!(arena.take(of(1, 2 * PAGE)).is_none());
    }

    #[test]
    fn the_last_one_gives_back_and_grows_and_no_other_does() {
        let arena = opened();
        let (first, last) = (arena.take(of(10, 1)).unwrap(), arena.take(of(10, 1)).unwrap());
        let at = |taken: &Taken| arena.offset(taken.block.as_ptr()).unwrap();
        assert!(!arena.resize(at(&first), 10, 20) && !arena.resize(at(&first), 10, 0));
        assert!(arena.resize(at(&last), 10, 20) && arena.resize(at(&last), 20, 5));
        assert!(arena.resize(at(&last), 5, 0) && arena.resize(at(&first), 10, 0));
        assert_eq!(arena.taken.load(Relaxed), 0);
    }

    #[test]
    fn only_what_has_been_somebodys_is_to_be_zeroed() {
        let arena = opened();
        let used = |size| arena.take(of(size, 1)).unwrap().used;
        assert_eq!(used(10), 0);
        assert!(arena.resize(0, 10, 30) && arena.resize(0, 30, 10));
        assert_eq!((used(15), used(10), used(10)), (15, 5, 0));
    }

    #[test]
    fn what_has_no_room_is_the_systems() {
        let arena = opened();
        assert!(arena.take(of(SIZE + 1, 1)).is_none() && arena.take(of(isize::MAX as usize, 1)).is_none());
        let all = arena.take(of(SIZE, 1)).unwrap();
        assert!(arena.take(of(1, 1)).is_none());
        let at = arena.offset(all.block.as_ptr()).unwrap();
        assert!(!arena.resize(at, SIZE, SIZE + 1) && !arena.resize(at, SIZE, usize::MAX));
        assert!(arena.resize(at, SIZE, 1) && arena.take(of(1, 1)).is_some());
    }

    #[test]
    fn it_hands_out_nothing_before_its_beginning_and_after_its_end() {
        let closed = Arena::new();
        assert!(closed.take(of(1, 1)).is_none() && closed.offset(ptr::null_mut()).is_none());
        let arena = opened();
        let block = arena.take(of(8, 8)).unwrap();
        arena.open.store(false, Relaxed);
        assert!(arena.take(of(1, 1)).is_none() && !arena.resize(0, 8, 9));
        assert_eq!(arena.offset(block.block.as_ptr()), Some(0));
    }

    #[test]
    fn each_side_of_a_fork_goes_on_in_a_page_of_its_own() {
        let arena = opened();
        let block = arena.take(of(2, 1)).unwrap();
        // A page that was used is one that both sides have, whether it is taken or not.
        assert!(arena.resize(arena.offset(block.block.as_ptr()).unwrap(), 2, 0));
        arena.part();
        assert_eq!(arena.offset(arena.take(of(1, 1)).unwrap().block.as_ptr()), Some(PAGE));
        arena.take(of(SIZE - PAGE - 1, 1)).unwrap();
        arena.part();
        assert!(arena.take(of(1, 1)).is_none());
        Arena::new().part();
    }

    #[test]
    fn no_two_threads_have_the_same_block() {
        let arena = opened();
        let take =
            || (0..1000).filter_map(|_| arena.take(of(16, 8))).map(|taken| taken.block.addr()).collect();
        let taken: Vec<Vec<_>> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let blocks: BTreeSet<_> = taken.into_iter().flatten().collect();
        assert_eq!(blocks.len(), 4000);
    }

    /// What a program's collections call: the arena, the system, and the way from one to the other. No other test of this program begins.
    #[test]
    fn what_was_taken_keeps_its_bytes_on_the_way_to_the_system() {
        begin();
        let alloc = |layout| {
            // SAFETY: no layout here has no bytes.
            unsafe { Heap.alloc(layout) }
        };
        let dealloc = |block, layout| {
            // SAFETY: each block is given back once, with the layout that it was taken or last resized with.
            unsafe { Heap.dealloc(block, layout) }
        };
        let realloc = |block, layout, size| {
            // SAFETY: as above, and no size is zero.
            unsafe { Heap.realloc(block, layout, size) }
        };
        let bytes = |block: *mut u8| {
            // SAFETY: each block that is looked at has 16 bytes or more, all written.
            unsafe { *block.cast::<[u8; 16]>() }
        };
        let fill = |block: *mut u8, with: u8| {
            // SAFETY: as above.
            unsafe { block.write_bytes(with, 16) }
        };
        let dirty = alloc(of(16, 8));
        assert!(ARENA.offset(dirty).is_some());
        fill(dirty, 7);
        dealloc(dirty, of(16, 8));
        // SAFETY: as for `alloc`.
        let clean = unsafe { Heap.alloc_zeroed(of(16, 8)) };
        assert_eq!((clean, bytes(clean)), (dirty, [0; 16]));
        fill(clean, 3);
        let other = alloc(of(1, 1));
        let moved = realloc(clean, of(16, 8), 64);
        assert!(moved != clean && ARENA.offset(moved).is_some() && bytes(moved) == [3; 16]);
        assert_eq!(realloc(moved, of(64, 8), 128), moved);
        assert_eq!(realloc(moved, of(128, 8), 16), moved);
        end();
        let last = realloc(moved, of(16, 8), 2 * SIZE);
        assert!(ARENA.offset(last).is_none() && bytes(last) == [3; 16]);
        dealloc(last, of(2 * SIZE, 8));
        dealloc(other, of(1, 1));
        assert!(ARENA.offset(alloc(of(8, 8))).is_none());
    }
}
