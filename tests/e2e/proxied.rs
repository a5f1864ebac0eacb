//! The server behind nginx, which reads a whole request before it passes it on, and sends all of it before it
//! reads the response.
//!
//! nginx listens on a Unix socket in a directory: it can't choose a free port and report it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::{DEADLINE, Peer, can_make, wait_until};

/// The path of nginx on Debian, which is in the search path of root only.
const NGINX: [&str; 2] = ["nginx", "/usr/sbin/nginx"];

/// The number of bodies; an earlier version lost more than half of the responses.
const BODIES: usize = 10;

struct Nginx {
    process: Child,
    directory: TempDir,
}

impl Nginx {
    /// nginx before a peer; `None` if it is missing.
    fn before(peer: &Peer, version: &str) -> Option<Self> {
        let nginx = NGINX.into_iter().find(|nginx| {
            let mut command = Command::new(nginx);
            command.arg("-v").stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        })?;
        let directory = TempDir::new().expect("makes a directory");
        let path = directory.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|of| format!("{of}_temp_path {path}/{of};"))
            .concat();
        let configuration = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error;
            events {{}}
            http {{
                access_log off; client_max_body_size 0; {temporary}
                upstream peer {{ server {}; keepalive 4; }}
                server {{
                    listen unix:{path}/socket;
                    location / {{
                        proxy_pass http://peer; proxy_http_version {version};
                        proxy_set_header Connection \"\";
                    }}
                }}
            }}",
            peer.address()
        );
        let file = directory.path().join("nginx.conf");
        fs::write(&file, configuration).expect("writes");
        let process = Command::new(nginx)
            .arg("-c")
            .arg(&file)
            .stderr(Stdio::null())
            .spawn();
        let process = process.expect("starts");
        let nginx = Self { process, directory };
        wait_until("nginx listens", || {
            UnixStream::connect(nginx.socket()).is_ok()
        });
        Some(nginx)
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Sends the whole request, and then reads the response.
fn answer_to(socket: &Path, body: &[u8]) -> String {
    let mut stream = UnixStream::connect(socket).expect("connects");
    stream
        .set_read_timeout(Some(DEADLINE))
        .expect("sets an option");
    stream
        .set_write_timeout(Some(DEADLINE))
        .expect("sets an option");
    let bytes = body.len();
    let head = format!(
        "POST /_put HTTP/1.1\r\nHost: peer\r\nConnection: close\r\nContent-Length: {bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sends");
    stream.write_all(body).expect("sends");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("reads");
    answer
}

#[test]
fn body_over_limit_is_413_through_nginx() {
    let peer = Peer::builder().sink("discard:").start();
    for version in ["1.0", "1.1"] {
        let Some(nginx) = Nginx::before(&peer, version) else {
            can_make("a body over the limit through nginx", Some("it is missing"));
            return;
        };
        let put = answer_to(&nginx.socket(), b"{\"key\":\"k\",\"event\":1}");
        assert!(put.starts_with("HTTP/1.1 201 "), "{put}");
        for number in 0..BODIES {
            let body = vec![b' '; (17 << 20) + number * (2 << 20)];
            let answer = answer_to(&nginx.socket(), &body);
            assert!(answer.starts_with("HTTP/1.1 413 "), "{version}: {answer}");
        }
    }
}
