//! The allocator: an arena for small calls, and dlmalloc for what it has no room for.

#![expect(unsafe_code, reason = "an allocator is unsafe to implement")]

use core::alloc::{GlobalAlloc, Layout};
use core::ptr;

use dlmalloc::GlobalDlmalloc;

use crate::arena::Arena;

/// Enough for the body of a small event, its key and the response. A component frees what it has allocated by the end of
/// a call, so the arena is empty at the start of each, unless calls overlap. What is never freed stays in it.
const ARENA_BYTES: usize = 64 * 1024;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator(Arena::new());

struct Allocator(Arena<ARENA_BYTES>);

// SAFETY: a component has one thread.
unsafe impl Sync for Allocator {}

// SAFETY: an allocation is of one of the two allocators for as long as it lives, and the arena's do not overlap.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Self(arena) = self;
        // SAFETY: the layout is the caller's.
        let other = || unsafe { GlobalDlmalloc.alloc(layout) };
        arena.allocate(layout).unwrap_or_else(other)
    }

    unsafe fn dealloc(&self, allocated: *mut u8, layout: Layout) {
        let Self(arena) = self;
        if arena.contains(allocated) {
            arena.free(allocated, layout);
        } else {
            // SAFETY: it is not from the arena, and the layout is the caller's.
            unsafe { GlobalDlmalloc.dealloc(allocated, layout) }
        }
    }

    unsafe fn realloc(&self, allocated: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Self(arena) = self;
        if !arena.contains(allocated) {
            // SAFETY: it is not from the arena, and the layout and the size are the caller's.
            return unsafe { GlobalDlmalloc.realloc(allocated, layout, size) };
        }
        if arena.resize(allocated, layout, size) {
            return allocated;
        }
        // SAFETY: the caller's size is not zero, and does not overflow with this alignment. The allocations do not
        // overlap, and the smaller has `layout.size()` bytes, since what does not grow was resized.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(allocated, moved, layout.size());
                arena.free(allocated, layout);
            }
            moved
        }
    }
}
