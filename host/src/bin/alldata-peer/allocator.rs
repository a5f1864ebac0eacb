//! The memory allocators of the program: jemalloc for Rust code, and that of the C library for SQLite. Both
//! return memory to the system after a burst.

/// Returns memory to the system some seconds after it was freed, on threads of its own. It does not replace
/// the `malloc` of the C library, since a replacement hangs under `libfaketime`.
#[cfg(target_os = "linux")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The size in bytes from which the C library maps an allocation separately, and the most free bytes that
/// it keeps at the end of a heap. SQLite has two copies of an event while it stores it. By default glibc
/// raises both values to the size of the largest event that was freed, and keeps that much for each thread.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE_BYTES: std::ffi::c_int = 1024 * 1024;

/// Makes the C library return the memory of large allocations when they are freed. Must be called before
/// any thread is started.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "a function of the C library")]
pub(crate) fn return_large_allocations() {
    for parameter in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: `mallopt` accepts any value, and no other thread has started. If it rejects one, more
        // memory is kept.
        unsafe { libc::mallopt(parameter, LARGE_BYTES) };
    }
}

/// Other C libraries return the memory by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn return_large_allocations() {}
