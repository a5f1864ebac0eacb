//! The npm package of `deploy/javascript`: built from the component, packed, installed as a user does, and run by
//! scripts on Node.js, Deno and Bun.
//!
//! Built below the installation of jco, which is pinned to the version of the package's own lock file.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::Connection;
use super::jco;
use super::lines::Lines;
use super::npm;
use super::process::{finish, run, target};

/// What the package is made of; the folder `lib` is there as well.
const FILES: [&str; 6] = [
    "LICENSE",
    "README.md",
    "build.mjs",
    "index.d.ts",
    "index.js",
    "package.json",
];

/// The other runtimes, of the versions in the lock file.
const RUNTIMES: [(&str, &str); 3] = [
    ("package.json", include_str!("../../runtimes/package.json")),
    (
        "package-lock.json",
        include_str!("../../runtimes/package-lock.json"),
    ),
    (".npmrc", include_str!("../../runtimes/.npmrc")),
];

/// The name of the packed package.
const PACKED: &str = "alldata-peer-server-http-0.1.0.tgz";

/// The time for jco and npm on a busy machine.
const BUILD_DEADLINE: Duration = Duration::from_secs(300);

/// A runtime other than Node.js.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    Deno,
    Bun,
}

impl Runtime {
    /// Why it can't be run here, if it can't.
    pub fn missing(self) -> Option<&'static str> {
        let is_there = self.program().is_some();
        (!is_there).then_some("npm has no program of it for this system")
    }

    /// The program, in the package that npm has chosen for this system.
    fn program(self) -> Option<PathBuf> {
        let (scope, program) = match self {
            Self::Deno => ("@deno", "deno"),
            Self::Bun => ("@oven", "bin/bun"),
        };
        let packages = runtimes().join("node_modules").join(scope);
        let packages = fs::read_dir(packages).ok()?.filter_map(Result::ok);
        let mut programs = packages.map(|package| package.path().join(program));
        programs.find(|program| {
            let mut command = Command::new(program);
            let version = command.arg("--version").stdout(Stdio::null());
            version.status().is_ok_and(|status| status.success())
        })
    }

    /// The command that runs a file.
    fn command(self, file: &Path) -> Command {
        let mut command = Command::new(self.program().expect("is there"));
        if self == Self::Deno {
            command.args(["run", "--no-prompt", "--allow-read"]);
            command.args(["--allow-net=127.0.0.1", "--node-modules-dir=manual"]);
            command.env("DENO_DIR", target().join("runtimes/deno-cache"));
            command.env("DENO_NO_UPDATE_CHECK", "1");
        }
        command.arg(file);
        command
    }
}

/// A script that uses the package. Its process is killed when this is dropped.
pub struct JavaScriptPeer {
    child: Child,
    output: Lines,
    log: Lines,
}

impl JavaScriptPeer {
    /// Runs a script, a module of Node's kind `module` or `commonjs`.
    pub fn run(kind: &str, script: &str) -> Self {
        let mut node = Command::new("node");
        node.arg(format!("--input-type={kind}"));
        node.args(["--eval", script]);
        Self::start(&mut node)
    }

    /// Runs a module on another runtime. `name` is that of its file, for no other module.
    pub fn run_on(runtime: Runtime, name: &str, script: &str) -> Self {
        let file = installed().join(name);
        fs::write(&file, script).expect("is written");
        Self::start(&mut runtime.command(&file))
    }

    fn start(command: &mut Command) -> Self {
        let command = command.current_dir(installed()).stdin(Stdio::null());
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let output = Lines::of(child.stdout.take().expect("is piped"));
        let log = Lines::of(child.stderr.take().expect("is piped"));
        Self { child, output, log }
    }

    /// The address in the next line of the output that is `NAME on ADDRESS`.
    pub fn address(&self, name: &str) -> SocketAddr {
        let name = format!("{name} on ");
        let line = self.output_line(&name);
        let address = line.strip_prefix(&name).map(str::parse);
        match address {
            Some(Ok(address)) => address,
            _ => panic!("no address: {line:?}"),
        }
    }

    /// Connects to the address of `listening on ADDRESS`, the next line of the output that is one.
    pub fn connect(&self) -> Connection {
        Connection::open(self.address("listening"))
    }

    /// Waits for a line on standard output that contains `text`.
    pub fn output_line(&self, text: &str) -> String {
        self.output.with(text)
    }

    /// Waits for a line on standard error that contains `text`.
    pub fn log_line(&self, text: &str) -> String {
        self.log.with(text)
    }
}

impl Drop for JavaScriptPeer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory that the package is installed in, by the first test that needs it.
fn installed() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let directory = jco::installed().join("javascript");
        // Another run of the tests may be building. The lock ends with the file.
        let lock = File::create(jco::installed().join("javascript.lock")).expect("is created");
        lock.lock().expect("locks");
        let files = files();
        let user = directory.join("user");
        let stamp = user.join("installed");
        let is_present = |(name, content): &(String, Vec<u8>)| {
            fs::read(directory.join(name)).ok().as_ref() == Some(content)
        };
        if !stamp.exists() || !files.iter().all(is_present) {
            build(&directory, &files);
            install(&directory, &user);
            fs::write(stamp, "").expect("is written");
        }
        user
    })
}

/// The directory that the other runtimes are installed in, by the first test that needs one.
fn runtimes() -> &'static Path {
    static INSTALLED: OnceLock<PathBuf> = OnceLock::new();
    INSTALLED.get_or_init(|| npm::install("runtimes", &RUNTIMES))
}

/// The files of the package, and the component as the program writes it.
fn files() -> Vec<(String, Vec<u8>)> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/javascript");
    let library = fs::read_dir(source.join("lib")).expect("is there");
    let library = library
        .map(|entry| entry.expect("is an entry").path())
        .filter(|path| path.is_file());
    let library = library.map(|path| {
        let name = path.file_name().expect("is named").to_string_lossy();
        format!("lib/{name}")
    });
    let names = FILES.map(str::to_owned).into_iter().chain(library);
    let mut files: Vec<_> = names
        .map(|name| {
            let content = fs::read(source.join(&name)).expect("reads");
            (name, content)
        })
        .collect();
    let wit = run(&["component", "--wit"]);
    files.push(("peer.wit".into(), wit.assert_ok().as_bytes().to_vec()));
    let directory = tempfile::tempdir().expect("makes a directory");
    let component = directory.path().join("peer.wasm");
    run(&["component", "-o", component.to_str().expect("is text")]).assert_ok();
    let component = fs::read(component).expect("reads");
    files.push(("peer.wasm".into(), component));
    files
}

fn build(directory: &Path, files: &[(String, Vec<u8>)]) {
    // It is not there before the first time.
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory.join("lib")).expect("makes a directory");
    for (name, content) in files {
        fs::write(directory.join(name), content).expect("is written");
    }
    npm(directory, &["run", "build"]);
    npm(directory, &["pack"]);
}

fn install(directory: &Path, user: &Path) {
    fs::create_dir(user).expect("makes a directory");
    fs::write(user.join("package.json"), "{\"private\":true}").expect("is written");
    let package = format!("{}/{PACKED}", directory.display());
    npm(
        user,
        &["install", "--offline", "--ignore-scripts", &package],
    );
}

fn npm(directory: &Path, arguments: &[&str]) {
    let mut npm = Command::new("npm");
    npm.args(arguments).args(["--no-audit", "--no-fund"]);
    let output = finish(npm.current_dir(directory), "", BUILD_DEADLINE);
    assert_eq!(output.code, Some(0), "npm {arguments:?}: {output:?}");
}
