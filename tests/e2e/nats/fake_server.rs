//! A fake nats-server: the part of the protocol that clients need for requests. Each test defines its version
//! and its responses.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

/// A time that does not matter.
const TIME: &str = "2026-11-26T00:00:00Z";

/// The messages that respond to a request.
type Answer = dyn Fn(&Request) -> Vec<Message> + Send + Sync;

/// A message of a client that asks for a response.
pub(super) struct Request<'a> {
    pub(super) subject: &'a str,
    pub(super) reply_to: &'a str,
    pub(super) payload: &'a [u8],
}

/// A server that ends with the test.
pub(super) struct FakeServer {
    address: SocketAddr,
}

/// A message that responds to a request.
pub(super) struct Message {
    /// The subject, if it is not the reply subject of the request: such as that of an earlier request.
    pub(super) subject: Option<String>,
    pub(super) reply_to: String,
    /// Header lines.
    pub(super) headers: String,
    pub(super) payload: String,
}

struct Shared {
    info: String,
    answer: Box<Answer>,
}

impl FakeServer {
    /// A server that reports this version and responds to nothing.
    pub(super) fn of_version(version: &str) -> Self {
        Self::start(version, |_| None)
    }

    /// A server that responds with a JSON text, if there is one for the subject.
    pub(super) fn start(
        version: &str,
        answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(version, move |request| {
            let answer = answer(request.subject);
            answer.map(Message::json).into_iter().collect()
        })
    }

    pub(super) fn start_with(
        version: &str,
        answer: impl Fn(&Request) -> Vec<Message> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let address = listener.local_addr().expect("is bound");
        let info = json!({
            "server_id": format!("fake{}", address.port()), "server_name": "fake", "version": version,
            "headers": true, "jetstream": true, "max_payload": 1 << 20, "proto": 1, "client_id": 1,
        });
        let shared = Arc::new(Shared {
            info: info.to_string(),
            answer: Box::new(answer),
        });
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                // Clients may close their connections at any time.
                thread::spawn(move || drop(shared.serve(stream)));
            }
        });
        Self { address }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Shared {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        write!(stream, "INFO {}\r\n", self.info)?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut subscriptions: Vec<(String, String)> = Vec::new();
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["PING"] => stream.write_all(b"PONG\r\n")?,
                ["SUB", subject, number] => {
                    let prefix = subject.trim_end_matches('*').to_owned();
                    subscriptions.push((prefix, number.to_owned()));
                }
                ["PUB" | "HPUB", subject, ref rest @ ..] => {
                    let bytes: usize = rest.last().and_then(|size| size.parse().ok()).unwrap_or(0);
                    let mut payload = vec![0; bytes + 2];
                    lines.read_exact(&mut payload)?;
                    let find = |subject: &str| {
                        let mut all = subscriptions.iter();
                        all.find(|(prefix, _)| subject.starts_with(prefix))
                    };
                    if let [reply_to, ..] = *rest
                        && let Some(asking) = find(reply_to)
                    {
                        let payload = payload.trim_ascii_end();
                        for message in (self.answer)(&Request {
                            subject,
                            reply_to,
                            payload,
                        }) {
                            let earlier = message.subject.as_deref().and_then(find);
                            let (_, number) = earlier.unwrap_or(asking);
                            stream.write_all(message.bytes(reply_to, number).as_bytes())?;
                        }
                    }
                }
                _ => {}
            }
            line.clear();
        }
        Ok(())
    }
}

impl Message {
    /// A JSON text without headers.
    pub(super) fn json(payload: String) -> Self {
        Self {
            subject: None,
            reply_to: String::new(),
            headers: String::new(),
            payload,
        }
    }

    fn bytes(&self, asked_for: &str, subscription: &str) -> String {
        let Self {
            reply_to,
            headers,
            payload,
            ..
        } = self;
        let subject = self.subject.as_deref().unwrap_or(asked_for);
        let (sent, bytes) = (format!("{headers}{payload}"), headers.len() + payload.len());
        let start = format!("{subject} {subscription} {reply_to}");
        match headers.len() {
            0 => format!("MSG {start} {bytes}\r\n{sent}\r\n"),
            header_bytes => format!("HMSG {start} {header_bytes} {bytes}\r\n{sent}\r\n"),
        }
    }
}

/// The information about a stream with the settings that a peer gives it.
pub(super) fn stream_info(name: &str, created: &str, messages: u64, metadata: &Value) -> Value {
    json!({
        "config": {
            "name": name, "subjects": ["alldata.*"], "retention": "limits", "storage": "file", "num_replicas": 1,
            "discard": "new", "discard_new_per_subject": true, "max_msgs_per_subject": 1, "deny_delete": true,
            "deny_purge": true, "metadata": metadata,
        },
        "created": created,
        "state": {
            "messages": messages, "bytes": 0, "first_seq": 1, "first_ts": TIME, "last_seq": messages,
            "last_ts": TIME, "consumer_count": 0,
        },
    })
}
