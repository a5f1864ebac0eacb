//! The program as a server, in a directory of its own.

use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use super::lines::Lines;
use super::process::{COMPILE_CACHE, compile_cache, kill, program, program_path, run, wait};
use super::{Answer, Connection, DEADLINE, Post};

/// A builder of servers. The sink is the default one unless set.
pub struct PeerBuilder {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    /// Variables that are removed from the environment of the test.
    unset: Vec<&'static str>,
    directory: Option<TempDir>,
    /// The command that runs the program, if not the test itself.
    launcher: Vec<String>,
    log: Stdio,
    input: Stdio,
}

/// A running server, killed when dropped.
pub struct Peer {
    /// `None` after it was waited for.
    child: Option<Child>,
    stdout: Lines,
    stderr: Lines,
    directory: TempDir,
    address: SocketAddr,
    /// That of the listener for operators, if there is one.
    admin: Option<SocketAddr>,
    listening: String,
}

/// A port of the loopback interface that is taken, but has no listener.
pub struct Nobody {
    /// This socket has the port.
    near: TcpStream,
    _far: TcpStream,
}

impl Nobody {
    pub fn url(&self) -> String {
        let address = self.near.local_addr().expect("is connected");
        format!("http://{address}/_put")
    }
}

impl Peer {
    /// A server with the sink `sqlite:`.
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// An address without a server, which no other test uses meanwhile.
    pub fn nobody() -> Nobody {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let address = listener.local_addr().expect("is bound");
        let near = TcpStream::connect_timeout(&address, DEADLINE).expect("connects");
        let (far, _) = listener.accept().expect("is connected");
        Nobody { near, _far: far }
    }

    pub fn builder() -> PeerBuilder {
        PeerBuilder {
            arguments: ["serve", "--hostname", "127.0.0.1", "--port", "0"]
                .map(str::to_owned)
                .into(),
            environment: Vec::new(),
            unset: Vec::new(),
            directory: None,
            launcher: Vec::new(),
            log: Stdio::piped(),
            input: Stdio::null(),
        }
    }

    /// A server without arguments: its settings, and the directory of its compile cache, are in the
    /// environment.
    pub fn from_environment(variables: &[(&str, &str)]) -> PeerBuilder {
        let mut builder = Self::builder();
        builder.arguments = vec!["serve".to_owned()];
        let variables = variables.iter();
        builder.environment = variables
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        builder
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the listener for operators, which [`PeerBuilder::admin`] asks for.
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("listens for operators")
    }

    /// The line in which the server says where it listens.
    pub fn listening(&self) -> &str {
        &self.listening
    }

    pub fn url(&self) -> String {
        format!("http://{}/_put", self.address)
    }

    pub fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    /// Sends a request on a new connection.
    pub fn send(&self, post: &Post) -> Answer {
        post.send_to(self.address)
    }

    /// Puts on a new connection. The key is escaped as in a JSON string.
    pub fn put(&self, key: &str, event: &str) -> Answer {
        self.send(&Post::put(key, event))
    }

    /// A file in the directory of the server.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The store as an argument of `--store`.
    pub fn store(&self) -> String {
        format!("sqlite:{}", self.file("alldata.db").display())
    }

    /// All stored events of the server, as lines of JSON.
    pub fn stored(&self) -> String {
        run(&["export", "--store", &self.store()])
            .assert_ok()
            .to_owned()
    }

    /// The event under a key, as the program prints it.
    pub fn get(&self, key: &str) -> String {
        run(&["get", key, "--store", &self.store()])
            .assert_ok()
            .to_owned()
    }

    /// The event under a key, if there is one, as it was sent.
    pub fn kept(&self, key: &str) -> Option<String> {
        let output = run(&["get", "--store", &self.store(), "--", key]);
        let event = output.stdout.strip_suffix('\n').map(str::to_owned);
        event.filter(|_| output.code == Some(0))
    }

    /// The next line on standard output.
    pub fn stdout_line(&self) -> String {
        self.stdout.next(DEADLINE)
    }

    /// Waits for a line on standard error that contains `text`.
    pub fn log_line(&self, text: &str) -> String {
        self.stderr.with(text)
    }

    /// The remaining standard output of a server that has ended.
    pub fn rest_of_stdout(&self) -> Vec<String> {
        self.stdout.rest()
    }

    /// The remaining standard error of a server that has ended.
    pub fn rest_of_stderr(&self) -> Vec<String> {
        self.stderr.rest()
    }

    pub fn id(&self) -> u32 {
        self.child.as_ref().expect("is running").id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.id(), signal);
    }

    /// Waits for the end of the server.
    pub fn wait(&mut self) -> ExitStatus {
        wait(self.child.take().expect("is running"))
    }

    /// Ends the server and returns a builder with its directory, for another one.
    pub fn end(mut self, signal: Signal) -> (ExitStatus, PeerBuilder) {
        self.signal(signal);
        let status = self.wait();
        let empty = tempfile::tempdir().expect("makes a directory");
        let directory = std::mem::replace(&mut self.directory, empty);
        let mut builder = Self::builder();
        builder.directory = Some(directory);
        (status, builder)
    }
}

impl PeerBuilder {
    /// Runs the server in this directory.
    pub fn directory(mut self, directory: TempDir) -> Self {
        self.directory = Some(directory);
        self
    }

    pub fn sink(self, url: &str) -> Self {
        self.arguments(&["--sink", url])
    }

    /// Has the server listen for operators.
    pub fn admin(self) -> Self {
        self.arguments(&["--admin-listen", "127.0.0.1:0"])
    }

    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Passes this as standard input, such as a socket for a launcher.
    pub fn input(mut self, input: impl Into<Stdio>) -> Self {
        self.input = input.into();
        self
    }

    /// The arguments in place of those so far.
    pub fn only(mut self, arguments: &[&str]) -> Self {
        self.arguments.clear();
        self.arguments(arguments)
    }

    /// Adds to the environment of the program itself.
    pub fn own_env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the program without a compile cache, which is its default.
    pub fn no_compile_cache(mut self) -> Self {
        self.unset.push(COMPILE_CACHE);
        self
    }

    /// Runs the server by another program, which executes it: that is given the command line.
    pub fn launched_by(mut self, launcher: &[&str]) -> Self {
        self.launcher = launcher.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// Redirects the log to a device.
    pub fn log_to(mut self, path: &str) -> Self {
        let device = OpenOptions::new().write(true).open(path);
        self.log = device.expect("opens").into();
        self
    }

    fn command(&self) -> Command {
        let Some((launcher, words)) = self.launcher.split_first() else {
            return program();
        };
        let mut command = Command::new(launcher);
        command
            .args(words)
            .arg(program_path())
            .envs([compile_cache()]);
        command
    }

    /// Starts the server and waits until it listens.
    pub fn start(self) -> Peer {
        let is_other = |argument: &String| argument == "ndjson:-" || argument == "-";
        let writes_other = self.arguments.iter().any(is_other);
        let mut peer = self.start_for_operators();
        let line = match writes_other {
            true => peer.log_line("listening on"),
            false => peer.stdout.next(DEADLINE),
        };
        let addresses = line.strip_prefix("listening on ").unwrap_or_default();
        let first = addresses.split(", ").next().unwrap_or_default();
        // Without a TCP address there is none to connect to.
        if !first.starts_with("unix:") {
            let rest = first.strip_prefix("https://");
            let address = rest.or_else(|| first.strip_prefix("http://"));
            let address = address.and_then(|address| address.parse().ok());
            peer.address = address.unwrap_or_else(|| panic!("not an address: {line:?}"));
        }
        peer.listening = line;
        peer
    }

    /// Starts the server, and only waits until it listens for operators, if it does.
    pub fn start_for_operators(self) -> Peer {
        let mut command = self.command();
        let directory = self
            .directory
            .unwrap_or_else(|| tempfile::tempdir().expect("makes a directory"));
        for name in self.unset {
            command.env_remove(name);
        }
        let mut child = command
            .args(&self.arguments)
            .envs(self.environment)
            .current_dir(directory.path())
            .stdin(self.input)
            .stdout(Stdio::piped())
            .stderr(self.log)
            .spawn()
            .expect("starts");
        let stdout = Lines::of(child.stdout.take().expect("is piped"));
        let stderr = match child.stderr.take() {
            Some(stderr) => Lines::of(stderr),
            None => Lines::of(std::io::empty()),
        };
        let mut peer = Peer {
            child: Some(child),
            stdout,
            stderr,
            directory,
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            admin: None,
            listening: String::new(),
        };
        if self
            .arguments
            .iter()
            .any(|argument| argument == "--admin-listen")
        {
            let line = peer.log_line("listening for operators");
            let (_, address) = line.split_once("://").expect("names it");
            peer.admin = Some(address.trim().parse().expect("is an address"));
        }
        peer
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
