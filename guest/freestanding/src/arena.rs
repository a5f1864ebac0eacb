//! A region of memory for the allocations of one call, which are all freed by its end.

use core::alloc::Layout;
use core::cell::{Cell, UnsafeCell};

/// A region of `N` bytes from which allocations are cut off one after the other. It is empty again once all of them
/// are freed; before that, only the room of the last one is used again.
///
/// It is for one thread.
#[repr(C, align(16))]
pub(crate) struct Arena<const N: usize> {
    bytes: UnsafeCell<[u8; N]>,
    /// The offset of the free rest.
    free: Cell<usize>,
    /// How many allocations are not freed.
    live: Cell<usize>,
}

impl<const N: usize> Arena<N> {
    pub(crate) const fn new() -> Self {
        Self {
            bytes: UnsafeCell::new([0; N]),
            free: Cell::new(0),
            live: Cell::new(0),
        }
    }

    /// An allocation; `None` if there is no room.
    pub(crate) fn allocate(&self, layout: Layout) -> Option<*mut u8> {
        let start = self.start();
        let address = start.addr().checked_add(self.free.get())?;
        let offset = address.checked_next_multiple_of(layout.align())? - start.addr();
        let end = offset.checked_add(layout.size()).filter(|end| *end <= N)?;
        self.free.set(end);
        self.live.set(self.live.get() + 1);
        Some(start.wrapping_add(offset))
    }

    /// Whether an allocation is from here.
    pub(crate) fn contains(&self, allocated: *mut u8) -> bool {
        allocated.addr().wrapping_sub(self.start().addr()) < N
    }

    /// Frees an allocation from here.
    pub(crate) fn free(&self, allocated: *mut u8, layout: Layout) {
        let live = self.live.get() - 1;
        self.live.set(live);
        let offset = allocated.addr() - self.start().addr();
        if live == 0 {
            self.free.set(0);
        } else if offset + layout.size() == self.free.get() {
            self.free.set(offset);
        }
    }

    /// Changes the size of an allocation from here where it is. Returns whether there is room.
    pub(crate) fn resize(&self, allocated: *mut u8, layout: Layout, size: usize) -> bool {
        let offset = allocated.addr() - self.start().addr();
        let is_last = offset + layout.size() == self.free.get();
        let end = offset.checked_add(size).filter(|end| *end <= N);
        match end {
            Some(end) if is_last => {
                self.free.set(end);
                true
            }
            _ => size <= layout.size(),
        }
    }

    fn start(&self) -> *mut u8 {
        self.bytes.get().cast()
    }
}

#[cfg(test)]
mod tests {
    use core::alloc::Layout;
    use core::ptr;

    use super::Arena;

    const BYTES: usize = 64;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("is valid")
    }

    #[test]
    fn allocations_are_aligned_and_apart() {
        let arena = Arena::<BYTES>::new();
        let mut end = arena.start().addr();
        for (size, align) in [(1, 1), (3, 8), (16, 16), (1, 1), (4, 4)] {
            let start = arena.allocate(layout(size, align)).expect("has room");
            assert!(start.addr().is_multiple_of(align) && start.addr() >= end);
            assert!(arena.contains(start));
            end = start.addr() + size;
        }
        assert!(end <= arena.start().addr() + BYTES);
        assert!(!arena.contains(arena.start().wrapping_add(BYTES)));
        assert!(!arena.contains(arena.start().wrapping_sub(1)));
    }

    #[test]
    fn too_large_allocation_has_no_room() {
        let arena = Arena::<BYTES>::new();
        assert_eq!(arena.allocate(layout(BYTES + 1, 1)), None);
        assert_eq!(arena.allocate(layout(isize::MAX as usize, 1)), None);
        arena.allocate(layout(1, 1)).expect("has room");
        assert_eq!(arena.allocate(layout(BYTES, 1)), None);
        assert!(arena.allocate(layout(BYTES - 1, 1)).is_some());
        assert_eq!(arena.allocate(layout(1, 1)), None);
    }

    #[test]
    fn memory_is_used_again_once_last_or_all_are_freed() {
        let arena = Arena::<BYTES>::new();
        let [first, second, third] = [8; 3].map(|size| {
            let allocated = arena.allocate(layout(size, 1));
            allocated.expect("has room")
        });
        arena.free(third, layout(8, 1));
        assert_eq!(arena.allocate(layout(4, 1)), Some(third));
        arena.free(first, layout(8, 1));
        assert_ne!(arena.allocate(layout(1, 1)), Some(first));
        for (allocated, size) in [(second, 8), (third, 4), (third.wrapping_add(4), 1)] {
            arena.free(allocated, layout(size, 1));
        }
        assert_eq!(arena.allocate(layout(BYTES, 1)), Some(first));
    }

    #[test]
    fn only_last_allocation_grows() {
        let arena = Arena::<BYTES>::new();
        let [first, second] = [8; 2].map(|size| {
            let allocated = arena.allocate(layout(size, 1));
            allocated.expect("has room")
        });
        assert!(!arena.resize(first, layout(8, 1), 9));
        assert!(arena.resize(first, layout(8, 1), 4));
        assert!(arena.resize(second, layout(8, 1), BYTES - 8));
        assert_eq!(arena.allocate(layout(1, 1)), None);
        assert!(!arena.resize(second, layout(BYTES - 8, 1), BYTES - 7));
        assert!(arena.resize(second, layout(BYTES - 8, 1), 1));
        assert!(ptr::eq(
            arena.allocate(layout(1, 1)).expect("has room"),
            second.wrapping_add(1)
        ));
    }
}
