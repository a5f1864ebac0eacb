//! The memory allocators of the program: jemalloc for what is written in Rust, and the C library's for
//! SQLite. Both return memory to the system after a burst.

/// Returns memory to the system some seconds after it was freed, on threads of its own. It does not
/// replace the C library's `malloc`, where it hangs under `libfaketime`.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// From how many bytes on the C library maps an allocation of its own, and how many free bytes it keeps
/// at the end of a heap. SQLite has two copies of an event while it stores it. glibc would raise both
/// values with the largest event that was ever freed, and keep that much for each thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BYTES: std::ffi::c_int = 1024 * 1024;

/// Has the C library return the memory of large allocations when they are freed. To be called before
/// anything starts a thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of the C library")]
pub(crate) fn return_large_allocations() {
    for parameter in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: `mallopt` takes any value, and no other thread has started. Where it refuses one, more
        // memory is kept.
        unsafe { libc::mallopt(parameter, LARGE_BYTES) };
    }
}

/// Other C libraries return it by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn return_large_allocations() {}
