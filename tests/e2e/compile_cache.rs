//! The compile cache: its files, and the refusal of files that another user could have written or that are
//! damaged.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tempfile::TempDir;

use crate::support::{Output, Peer, PeerBuilder, handler_only_file, run};

/// The arguments of a server that has to fail before it listens.
const SERVE: [&str; 5] = ["serve", "--hostname", "127.0.0.1", "--port", "0"];

/// The number of positions in a file that are damaged, one after the other.
const DAMAGES: usize = 24;

#[test]
fn compiled_component_is_reused_by_next_start() {
    let directory = directory();
    // The directory is created with its parents, whatever its name.
    let kept = directory.path().join("not yet/k\u{e9}pt = 1");
    serve_and_put(keeping_in(&kept));
    let files = compiled(&kept);
    assert_eq!(files.len(), 1, "{files:?}");
    let mode = |path: &Path| fs::metadata(path).expect("is there").mode() & 0o777;
    assert_eq!((mode(&kept), mode(&only(&kept).0)), (0o700, 0o600));
    serve_and_put(keeping_in(&kept));
    assert!(compiled(&kept) == files, "it was compiled again");
    let other = handler_only_file().to_str().expect("is text");
    serve_and_put(keeping_in(&kept).arguments(&["--component", other]));
    assert_eq!(compiled(&kept).len(), 2);
}

#[test]
fn relative_directory_is_accepted() {
    let builder = Peer::builder().arguments(&["--compile-cache", "kept"]);
    let peer = builder.sink("memory:").start();
    peer.put("key1", "1").assert_created();
    assert_eq!(compiled(&peer.file("kept")).len(), 1);
}

#[test]
fn damaged_file_is_recompiled_and_logged() {
    let directory = directory();
    serve_and_put(keeping_in(directory.path()));
    let (path, whole) = only(directory.path());
    let half = &whole[..whole.len() / 2];
    let longer = [&whole[..], b"x"].concat();
    let mut damages = vec![Vec::new(), b"nonsense".to_vec(), half.to_vec(), longer];
    damages.push(vec![0; whole.len()]);
    for number in 0..DAMAGES {
        let mut damaged = whole.clone();
        damaged[number * whole.len() / DAMAGES] ^= 1 << (number % 8);
        damages.push(damaged);
    }
    for damage in damages {
        fs::write(&path, damage).expect("writes");
        let peer = serve_and_put(keeping_in(directory.path()));
        let line = peer.log_line("compiled again");
        assert!(line.contains(path.to_str().expect("is text")), "{line}");
        let (again, bytes) = only(directory.path());
        assert!(again == path && bytes == whole, "it is not replaced");
    }
    // The path of the file is taken by something that stays.
    fs::remove_file(&path).expect("removes");
    fs::create_dir(&path).expect("makes a directory");
    serve_and_put(keeping_in(directory.path()));
}

#[test]
fn file_of_another_component_is_not_loaded() {
    let directory = directory();
    serve_and_put(keeping_in(directory.path()));
    let (path, whole) = only(directory.path());
    fs::remove_file(&path).expect("removes");
    let other = handler_only_file().to_str().expect("is text");
    serve_and_put(keeping_in(directory.path()).arguments(&["--component", other]));
    let (of_other, _) = only(directory.path());
    fs::write(&of_other, &whole).expect("writes");
    let builder = keeping_in(directory.path()).arguments(&["--component", other]);
    serve_and_put(builder).log_line("compiled again");
}

#[test]
fn directory_writable_by_others_is_refused() {
    let directory = directory();
    let kept = directory.path().join("kept");
    serve_and_put(keeping_in(&kept));
    let (path, _) = only(&kept);
    for mode in [0o777, 0o770, 0o702, 0o720] {
        fs::set_permissions(&kept, Permissions::from_mode(mode)).expect("sets");
        assert_refused(&kept, &format!("{mode:o}"));
    }
    fs::set_permissions(&kept, Permissions::from_mode(0o755)).expect("sets");
    serve_and_put(keeping_in(&kept));
    // A directory in which others can replace a parent is refused too.
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("sets");
    assert_refused(&kept, "777");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).expect("sets");
    serve_and_put(keeping_in(&kept));
    // A damaged file is not run, and is replaced.
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("sets");
    serve_and_put(keeping_in(&kept)).log_line("compiled again");
    let mode = fs::metadata(&path).expect("is there").mode() & 0o777;
    assert_eq!(mode, 0o600);
    if geteuid().is_root() {
        chown(&path, Some(1), None).expect("gives it away");
        serve_and_put(keeping_in(&kept)).log_line("compiled again");
        chown(&kept, Some(1), None).expect("gives it away");
        assert_refused(&kept, "user 1");
    }
}

#[test]
fn uncreatable_directory_is_named() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "").expect("writes");
    for path in [file.join("below"), file, PathBuf::from("/dev/null/kept")] {
        assert_refused(&path, path.to_str().expect("is text"));
    }
}

#[test]
fn cache_is_off_by_default() {
    let directory = directory();
    let unset = of_user(directory.path()).no_compile_cache();
    serve_and_put(unset);
    let empty = of_user(directory.path()).own_env("ALLDATA_PEER_COMPILE_CACHE", "");
    serve_and_put(empty);
    let mut entries = fs::read_dir(directory.path()).expect("lists");
    assert!(entries.next().is_none(), "something is kept");
}

#[test]
fn many_starts_at_once_share_a_directory() {
    let directory = directory();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| serve_and_put(keeping_in(directory.path())));
        }
    });
    assert_eq!(compiled(directory.path()).len(), 1);
}

#[test]
fn component_is_compiled_ahead_for_serve() {
    let directory = directory();
    let (kept, written) = (directory.path().join("kept"), directory.path().join("out"));
    let (kept_name, written) = (kept.display().to_string(), written.display().to_string());
    run(&["component", "--precompile", &kept_name]).assert_ok();
    let (built_in, _) = only(&kept);
    let before = compiled(&kept);
    serve_and_put(keeping_in(&kept));
    assert!(compiled(&kept) == before, "it was compiled again");
    fs::remove_file(built_in).expect("removes");
    // One component in a file, and one that is written at the same time.
    let other = handler_only_file().to_str().expect("is text");
    run(&["component", "--precompile", &kept_name, other]).assert_ok();
    let sink = ["component", "--sink", "directory", "-o", &written];
    run(&[&sink[..], &["--precompile", &kept_name]].concat()).assert_ok();
    let before = compiled(&kept);
    assert_eq!(before.len(), 2);
    serve_and_put(keeping_in(&kept).arguments(&["--component", other]));
    assert!(compiled(&kept) == before, "it was compiled again");
    // A component that can't be compiled or stored is an error.
    fs::write(&written, "This is no component.").expect("writes");
    let output = run(&["component", "--precompile", &kept_name, &written]);
    assert!(
        output.assert_failed(1).contains("not a WebAssembly"),
        "{output:?}"
    );
    let output = run(&["component", "--precompile", &written]);
    assert!(output.assert_failed(1).contains(&written), "{output:?}");
}

#[test]
fn compilation_of_large_component_is_logged_before_and_after() {
    let directory = directory();
    let file = directory.path().join("large.wasm");
    // A custom section of `bytes` bytes, which is not compiled.
    let mut bytes = alldata_peer_server_http::BUILT_IN_COMPONENT.to_vec();
    let (section, length) = (1_u8, 2 * 1024 * 1024_usize);
    bytes.push(0);
    bytes.extend(leb128(length + usize::from(section) + 1));
    bytes.push(section);
    bytes.push(b'x');
    bytes.resize(bytes.len() + length, 0);
    fs::write(&file, &bytes).expect("writes");
    let file = file.to_str().expect("is text");
    let builder = keeping_in(directory.path()).arguments(&["--component", file]);
    let peer = serve_and_put(builder);
    let line = peer.log_line("compiling");
    assert!(line.contains(&bytes.len().to_string()), "{line}");
    peer.log_line("compiled the component in");
}

fn leb128(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(0x80 | u8::try_from(number & 0x7f).expect("has 7 bits"));
        number >>= 7;
    }
    bytes.push(u8::try_from(number).expect("has 7 bits"));
    bytes
}

fn keeping_in(directory: &Path) -> PeerBuilder {
    let directory = directory.to_str().expect("is text");
    Peer::builder().arguments(&["--compile-cache", directory])
}

/// A server with this directory as its compile cache.
fn of_user(caches: &Path) -> PeerBuilder {
    let caches = caches.to_str().expect("is text");
    let builder = Peer::builder().own_env("XDG_CACHE_HOME", caches);
    builder.own_env("HOME", caches)
}

fn serve_and_put(builder: PeerBuilder) -> Peer {
    let peer = builder.sink("memory:").start();
    peer.put("key1", "1").assert_created();
    peer.put("key1", "2").assert_problem(409);
    peer
}

/// Asserts that a server does not start with this directory, and that the error names it and the reason.
#[track_caller]
fn assert_refused(directory: &Path, reason: &str) {
    let path = directory.to_str().expect("is text");
    let with = ["--sink", "memory:"];
    let flag = run(&[&SERVE[..], &with, &["--compile-cache", path]].concat());
    let variables = [("ALLDATA_PEER_COMPILE_CACHE", path)];
    let variable = Output::with_environment(&[&SERVE[..], &with].concat(), &variables);
    for output in [flag, variable] {
        let sentence = output.assert_failed(1);
        assert!(sentence.contains(path), "{sentence}");
        assert!(sentence.contains(reason), "{sentence}");
    }
}

/// The files of a directory, each by its path and its inode, which differs after the file is written again.
fn compiled(directory: &Path) -> BTreeMap<PathBuf, u64> {
    let entries = fs::read_dir(directory).expect("lists");
    let files = entries.map(|entry| entry.expect("lists").path());
    let is_compiled = |path: &PathBuf| path.extension().is_some_and(|end| end != "wasm");
    let files = files.filter(is_compiled);
    let number = |path: &Path| fs::metadata(path).expect("is there").ino();
    files.map(|path| (path.clone(), number(&path))).collect()
}

/// The path and the bytes of the only cached file.
fn only(directory: &Path) -> (PathBuf, Vec<u8>) {
    let files = compiled(directory);
    assert_eq!(files.len(), 1, "{files:?}");
    let path = files.into_keys().next().expect("is there");
    let bytes = fs::read(&path).expect("reads");
    (path, bytes)
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("makes a directory")
}
