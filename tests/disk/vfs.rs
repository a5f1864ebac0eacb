//! A VFS between SQLite and the system, for the files of a [`Disk`].
//!
//! It asks the disk before each operation, and then calls the default VFS, except for syncs, which only the
//! disk records.
#![allow(
    unsafe_code,
    reason = "SQLite's interface for file systems is one of C"
)]

use std::cell::Cell;
use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::fs;
use std::mem::size_of;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rusqlite::ffi::{
    self, SQLITE_OK, sqlite3_file, sqlite3_filename, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs,
};

use crate::disk::Disk;
use crate::fault::Operation;
use crate::names::Number;

/// The errno of an input or output error.
const EIO: c_int = 5;

/// The memory that SQLite reserves for each file: this, followed by that of the default VFS.
#[repr(C)]
struct Shim {
    file: sqlite3_file,
    /// From a `Box`, freed by `close`.
    opened: *mut Opened,
}

struct Opened {
    disk: Arc<Disk>,
    name: String,
    number: Number,
    /// Whether the next sync includes the directory, as the default VFS does for journals.
    is_new: Cell<bool>,
}

/// The default VFS as it was before this one.
struct Real(*mut sqlite3_vfs);

// SAFETY: SQLite's own VFS is never changed and never freed, and any thread may call it.
unsafe impl Send for Real {}
// SAFETY: as above.
unsafe impl Sync for Real {}

static REAL: OnceLock<Real> = OnceLock::new();

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    // Without `xFetch`: access to mapped memory could not fail.
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

/// Makes this the VFS of every database that is opened from now on.
pub(crate) fn register() {
    REAL.get_or_init(|| {
        // SAFETY: SQLite initializes itself, and its default VFS lives as long as the process. The
        // copy is leaked, so it does too. What is not replaced in it takes no notice of which VFS
        // it is called for.
        unsafe {
            let real = ffi::sqlite3_vfs_find(std::ptr::null());
            let mut vfs = *real;
            vfs.szOsFile += c_int::try_from(size_of::<Shim>()).expect("is small");
            vfs.pNext = std::ptr::null_mut();
            vfs.zName = c"disk".as_ptr();
            vfs.xOpen = Some(open);
            vfs.xDelete = Some(delete);
            vfs.xAccess = Some(access);
            let code = ffi::sqlite3_vfs_register(Box::leak(Box::new(vfs)), 1);
            assert_eq!(code, SQLITE_OK);
            Real(real)
        }
    });
}

fn real_vfs() -> *mut sqlite3_vfs {
    REAL.get().expect("is registered").0
}

/// The default VFS's part of a file.
///
/// # Safety
///
/// `file` is one that SQLite reserved for this VFS.
unsafe fn real(file: *mut sqlite3_file) -> *mut sqlite3_file {
    // SAFETY: `szOsFile` asked for as much behind the shim as the default VFS needs, and the size
    // of the shim is a multiple of its alignment, that of a pointer.
    unsafe { file.cast::<Shim>().add(1).cast() }
}

/// # Safety
///
/// `file` was opened by this VFS for a disk, and not closed.
unsafe fn opened<'a>(file: *mut sqlite3_file) -> &'a Opened {
    // SAFETY: `open` set it to a box that only `close` frees, after which SQLite forgets the file.
    unsafe { &*(*file.cast::<Shim>()).opened }
}

/// Calls a method of the default VFS's part of a file.
macro_rules! forward {
    ($file:expr, $method:ident $(, $argument:expr)*) => {{
        let real = real($file);
        let method = (*(*real).pMethods).$method.expect("the default VFS has it");
        method(real $(, $argument)*)
    }};
}

/// Asks the disk, and calls the default VFS if that has nothing against it.
macro_rules! ask_and_forward {
    ($operation:ident, $file:expr, $method:ident $(, $argument:expr)*) => {{
        let opened = opened($file);
        match opened.disk.meet(Operation::$operation, &opened.name) {
            Ok(()) => forward!($file, $method $(, $argument)*),
            Err(code) => code,
        }
    }};
}

/// The disk that a file is on, if it is on one.
///
/// # Safety
///
/// `path` is null or a C string.
unsafe fn disk_of(path: *const c_char) -> Option<(Arc<Disk>, String)> {
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let path = unsafe { CStr::from_ptr(path) };
    Disk::of(Path::new(OsStr::from_bytes(path.to_bytes())))
}

unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    path: sqlite3_filename,
    file: *mut sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let real_vfs = real_vfs();
    // SAFETY: SQLite hands over a path or null, and `szOsFile` bytes for the file. A file that is
    // on no disk is the default VFS's alone, which needs less than that. SQLite closes no file
    // whose methods are null.
    unsafe {
        let open = (*real_vfs).xOpen.expect("the default VFS has it");
        let Some((disk, name)) = disk_of(path) else {
            return open(real_vfs, path, file, flags, out_flags);
        };
        (*file).pMethods = std::ptr::null();
        if let Err(code) = disk.meet(Operation::Open, &name) {
            return code;
        }
        let code = open(real_vfs, path, real(file), flags, out_flags);
        if code != SQLITE_OK {
            return code;
        }
        let journals =
            ffi::SQLITE_OPEN_WAL | ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL;
        let opened = Opened {
            number: disk.opened(&name),
            disk,
            name,
            is_new: Cell::new(flags & ffi::SQLITE_OPEN_CREATE != 0 && flags & journals != 0),
        };
        (*file.cast::<Shim>()).opened = Box::into_raw(Box::new(opened));
        (*file).pMethods = &raw const METHODS;
    }
    SQLITE_OK
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, path: *const c_char, sync: c_int) -> c_int {
    let real_vfs = real_vfs();
    // SAFETY: SQLite hands over a path.
    unsafe {
        if let Some((disk, name)) = disk_of(path)
            && let Err(code) = disk.delete(&name, sync & 1 != 0)
        {
            return code;
        }
        let delete = (*real_vfs).xDelete.expect("the default VFS has it");
        delete(real_vfs, path, 0)
    }
}

unsafe extern "C" fn access(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let real_vfs = real_vfs();
    // SAFETY: SQLite hands over a path, and where to write the answer.
    unsafe {
        if let Some((disk, name)) = disk_of(path)
            && let Err(code) = disk.meet(Operation::Access, &name)
        {
            return code;
        }
        let access = (*real_vfs).xAccess.expect("the default VFS has it");
        access(real_vfs, path, flags, out)
    }
}

// SAFETY of all that follow: SQLite calls them for files that `open` gave these methods, with the
// arguments that its documentation promises, and they hand them on as they are.

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: see above; SQLite closes a file once, and does not use it afterwards.
    unsafe {
        drop(Box::from_raw((*file.cast::<Shim>()).opened));
        forward!(file, xClose)
    }
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    buffer: *mut c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: see above.
    unsafe { ask_and_forward!(Read, file, xRead, buffer, length, offset) }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    buffer: *const c_void,
    length: c_int,
    offset: sqlite3_int64,
) -> c_int {
    // SAFETY: see above; `buffer` has `length` bytes, of which no more are written.
    unsafe {
        let opened = opened(file);
        let bytes = std::slice::from_raw_parts(buffer.cast(), unsigned(length.into()));
        let written = (opened.disk).write(&opened.name, opened.number, unsigned(offset), bytes);
        if written.length > 0 {
            let length = c_int::try_from(written.length).expect("is no more than was given");
            let code = forward!(file, xWrite, buffer, length, offset);
            assert_eq!(code, SQLITE_OK, "the disk under the tests fails");
            opened.disk.written(&opened.name, opened.number);
        }
        written.code
    }
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, length: sqlite3_int64) -> c_int {
    // SAFETY: see above.
    unsafe {
        let opened = opened(file);
        match (opened.disk).truncate(&opened.name, opened.number, unsigned(length)) {
            Ok(()) => forward!(file, xTruncate, length),
            Err(code) => code,
        }
    }
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    // SAFETY: see above.
    let opened = unsafe { opened(file) };
    match (opened.disk).sync(&opened.name, opened.number, opened.is_new.get()) {
        Ok(()) => {
            opened.is_new.set(false);
            SQLITE_OK
        }
        Err(code) => code,
    }
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut sqlite3_int64) -> c_int {
    // SAFETY: see above.
    unsafe { ask_and_forward!(Size, file, xFileSize, size) }
}

unsafe extern "C" fn lock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: see above.
    unsafe { ask_and_forward!(Lock, file, xLock, level) }
}

unsafe extern "C" fn unlock(file: *mut sqlite3_file, level: c_int) -> c_int {
    // SAFETY: see above.
    unsafe { forward!(file, xUnlock, level) }
}

unsafe extern "C" fn check_reserved_lock(file: *mut sqlite3_file, out: *mut c_int) -> c_int {
    // SAFETY: see above.
    unsafe { ask_and_forward!(Lock, file, xCheckReservedLock, out) }
}

unsafe extern "C" fn file_control(
    file: *mut sqlite3_file,
    operation: c_int,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: see above.
    unsafe { forward!(file, xFileControl, operation, argument) }
}

unsafe extern "C" fn sector_size(file: *mut sqlite3_file) -> c_int {
    // SAFETY: see above.
    unsafe { forward!(file, xSectorSize) }
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: see above.
    unsafe { forward!(file, xDeviceCharacteristics) }
}

unsafe extern "C" fn shm_map(
    file: *mut sqlite3_file,
    page: c_int,
    page_bytes: c_int,
    is_extended: c_int,
    out: *mut *mut c_void,
) -> c_int {
    // SAFETY: see above.
    unsafe { ask_and_forward!(ShmMap, file, xShmMap, page, page_bytes, is_extended, out) }
}

unsafe extern "C" fn shm_lock(
    file: *mut sqlite3_file,
    offset: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    // SAFETY: see above.
    unsafe {
        match flags & ffi::SQLITE_SHM_LOCK != 0 {
            true => ask_and_forward!(ShmLock, file, xShmLock, offset, count, flags),
            // Unlocking never fails: SQLite ignores the result.
            false => forward!(file, xShmLock, offset, count, flags),
        }
    }
}

unsafe extern "C" fn shm_barrier(file: *mut sqlite3_file) {
    // SAFETY: see above.
    unsafe { forward!(file, xShmBarrier) }
}

unsafe extern "C" fn shm_unmap(file: *mut sqlite3_file, is_deleted: c_int) -> c_int {
    // SAFETY: see above.
    unsafe { forward!(file, xShmUnmap, is_deleted) }
}

fn unsigned(number: sqlite3_int64) -> usize {
    usize::try_from(number).expect("is no less than 0")
}

unsafe extern "C" {
    safe fn __errno_location() -> *mut c_int;
}

/// Stands in for the system's own, so that a disk sees what is synced past SQLite. A file that is
/// on no disk is a test's, and has not to survive anything.
///
/// # Safety
///
/// None is needed: the number of a file that is not open is on no disk.
#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(file: c_int) -> c_int {
    let path = fs::read_link(format!("/proc/self/fd/{file}"));
    let disk = path.ok().and_then(|path| Disk::of(&path));
    match disk.map(|(disk, name)| disk.sync_past_sqlite(&name)) {
        Some(Err(_)) => {
            // SAFETY: it is this thread's own.
            unsafe { *__errno_location() = EIO };
            -1
        }
        _ => 0,
    }
}
