//! Sends bytes on a new connection to the real program, and checks the responses.
//!
//! Checks only that the responses are possible. Which response is right would take a second parser of HTTP,
//! with bugs of its own.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::program::Program;
use crate::responses::{self, Response};

/// The most bytes of an input: as much as the system accepts for a server that does not read, including all
/// responses that so many bytes can cause.
const MAX_BYTES: usize = 16 * 1024;

/// This byte of an input is not sent, but pauses. UTF-8 never contains it; the other such bytes are sent.
const PAUSE: u8 = 0xFF;

/// The most pauses: more would only be slower.
const MAX_PAUSES: usize = 6;

/// The length of a pause, unless the server responds before: enough for it to read everything.
const PAUSE_TIME: Duration = Duration::from_millis(1);

/// The time in which the server has to respond to everything and to close the connection, after its client has
/// closed the sending side.
const DEADLINE: Duration = Duration::from_secs(60);

/// The number of inputs between two checks that the server is alive.
const INPUTS_BETWEEN_PUTS: u64 = 64;

/// The number of responses of a connection that count as coverage.
const MAX_COUNTED_RESPONSES: usize = 6;

/// The coverage of the server, which is not instrumented: one counter for each response and those before it.
/// libFuzzer finds them by the name of their section, and clears them for each input.
#[cfg(target_os = "linux")]
#[expect(
    unsafe_code,
    reason = "naming a section is unsafe; libFuzzer takes this one for counters"
)]
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static SEEN: [AtomicU8; 4096] = [const { AtomicU8::new(0) }; 4096];
#[cfg(not(target_os = "linux"))]
static SEEN: [AtomicU8; 4096] = [const { AtomicU8::new(0) }; 4096];

/// The preface of HTTP/2 (RFC 9113, section 3.4).
const HTTP_2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The program, and the number of its inputs so far.
static SERVER: OnceLock<Mutex<(Program, u64)>> = OnceLock::new();

/// The bytes that were received.
#[derive(Debug)]
struct Received {
    bytes: Vec<u8>,
    /// Whether the connection ended with a reset: the server closed it before it had read everything.
    is_reset: bool,
}

/// Sends an input to the program, and asserts that it returns only allowed responses.
///
/// # Panics
///
/// If it does not, or the server no longer accepts puts.
pub fn check(input: &[u8]) {
    if input.len() > MAX_BYTES {
        return;
    }
    let server = SERVER.get_or_init(|| Mutex::new((Program::start(), 0)));
    let mut server = server.lock().expect("a panic ends the process");
    let (program, inputs) = &mut *server;
    if *inputs % INPUTS_BETWEEN_PUTS == 0 {
        check_alive(program);
    }
    *inputs += 1;
    let parts: Vec<&[u8]> = input
        .splitn(MAX_PAUSES + 1, |byte| *byte == PAUSE)
        .collect();
    let received = exchange(program.address(), &parts);
    tell(&judge(&parts.concat(), &received));
}

/// Asserts that the server accepts a put, and still has an earlier event.
fn check_alive(program: &mut Program) {
    program.assert_runs();
    for (event, status) in [("{\"n\":1}", 201), ("{\"n\":2}", 409)] {
        let body = format!("{{\"key\":\"is the server alive?\",\"event\":{event}}}");
        let length = body.len();
        let put =
            format!("POST /_put HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
        let received = exchange(program.address(), &[put.as_bytes()]);
        let responses = judge(put.as_bytes(), &received);
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        assert_eq!(statuses, [status], "a put is not answered as it has to be");
    }
}

/// Sends the parts with a pause after each but the last, then closes the sending side, and reads to the end.
fn exchange(address: SocketAddr, parts: &[&[u8]]) -> Received {
    let mut stream = TcpStream::connect_timeout(&address, DEADLINE).expect("the server listens");
    stream.set_nodelay(true).expect("sets an option");
    let timeout = Some(DEADLINE);
    stream.set_write_timeout(timeout).expect("sets an option");
    let mut received = Received {
        bytes: Vec::new(),
        is_reset: false,
    };
    for (number, part) in parts.iter().enumerate() {
        // The server may have closed the connection already.
        if stream.write_all(part).is_err() {
            break;
        }
        if number + 1 < parts.len() && !received.wait(&mut stream, PAUSE_TIME) {
            break;
        }
    }
    let _ = stream.shutdown(Shutdown::Write);
    let deadline = Instant::now() + DEADLINE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "left hanging, with {received:?}");
        if !received.wait(&mut stream, left) {
            return received;
        }
    }
}

impl Received {
    /// Reads for this time, or less. Returns whether there may be more.
    ///
    /// # Panics
    ///
    /// If the connection ends in another way than a server ends one: that is a finding.
    fn wait(&mut self, stream: &mut TcpStream, time: Duration) -> bool {
        let time = Some(time);
        stream.set_read_timeout(time).expect("sets an option");
        let mut buffer = [0; 16 * 1024];
        match stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => self.bytes.extend_from_slice(&buffer[..length]),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                ErrorKind::ConnectionReset => {
                    self.is_reset = true;
                    return false;
                }
                _ => panic!("the connection ended with {error}"),
            },
        }
        true
    }
}

/// Asserts that only responses were received, and no more than there can have been requests.
fn judge(sent: &[u8], received: &Received) -> Vec<Response> {
    let (responses, cut_off) = responses::read(&received.bytes);
    assert!(
        cut_off.is_empty() || received.is_reset,
        "cut off: {received:?}"
    );
    let count = |words: &[u8]| count(sent, words);
    let of_status = |status| {
        responses
            .iter()
            .filter(|response| response.status == status)
            .count()
    };
    assert!(
        of_status(201) <= count(b"POST "),
        "more puts than were sent"
    );
    let interim = of_status(100);
    let sent_lower = sent.to_ascii_lowercase();
    assert!(
        interim <= self::count(&sent_lower, b"100-continue"),
        "was not expected"
    );
    // The last one may refuse an invalid request.
    let requests = count(b" HTTP/1.");
    assert!(
        responses.len() - interim <= requests + 1,
        "more responses than requests"
    );
    // Invalid bytes after a request of HTTP/1.0 may be refused in that version too.
    let is_old = responses.iter().any(|response| response.minor_version == 0);
    assert!(
        !is_old || count(b" HTTP/1.0") > 0,
        "an response of HTTP/1.0"
    );
    let last = responses.iter().position(Response::is_last);
    assert!(
        last.is_none_or(|last| last + 1 == responses.len()),
        "one after the last"
    );
    let is_answered = interim < responses.len() || received.is_reset;
    assert!(
        is_answered || !has_whole_head(sent),
        "no response: {received:?}"
    );
    responses
}

fn count(bytes: &[u8], words: &[u8]) -> usize {
    bytes
        .windows(words.len())
        .filter(|window| window == &words)
        .count()
}

/// Whether the first request has arrived up to its body, so that it must be answered.
fn has_whole_head(sent: &[u8]) -> bool {
    let start = sent.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let head = &sent[start.unwrap_or(sent.len())..];
    // The preface of HTTP/2 has one more line, before which it is refused.
    let is_begun = HTTP_2_PREFACE.starts_with(head) && head != HTTP_2_PREFACE;
    !is_begun && count(head, b"\n\r\n") + count(head, b"\n\n") > 0
}

/// Counts the responses as coverage.
fn tell(responses: &[Response]) {
    let mut hasher = DefaultHasher::new();
    for response in responses.iter().take(MAX_COUNTED_RESPONSES) {
        // Otherwise every position in the body would be a response of its own.
        let detail = response
            .detail
            .replace(|char: char| char.is_ascii_digit(), "");
        (response.status, response.is_last(), detail).hash(&mut hasher);
        let counter = hasher.finish() % SEEN.len() as u64;
        SEEN[counter as usize].fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{Ipv4Addr, TcpListener};
    use std::panic::catch_unwind;
    use std::thread;

    use super::{exchange, judge};

    const PUT: &[u8] = b"POST / HTTP/1.1\r\n\r\n";

    const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\ndate: now\r\n\r\n";

    const CLOSING: &[u8] =
        b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\nconnection: close\r\ndate: now\r\n\r\n";

    const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

    /// The number of responses of a server that responds with `script`.
    fn responses(sent: &[u8], script: &[&[u8]]) -> thread::Result<usize> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let address = listener.local_addr().expect("is bound");
        let script = script.concat();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("is connected");
            stream.read_to_end(&mut Vec::new()).expect("reads");
            stream.write_all(&script).expect("sends");
        });
        let parts: Vec<&[u8]> = sent.chunks(10).collect();
        let received = exchange(address, &parts);
        server.join().expect("did not panic");
        catch_unwind(|| judge(sent, &received).len())
    }

    #[test]
    fn correct_server_passes() {
        let twice = [PUT, PUT].concat();
        let expecting = b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\n\r\n";
        for (sent, script, expected) in [
            (PUT, [CREATED].as_slice(), 1),
            (&twice, &[CREATED, CREATED], 2),
            (&twice, &[CREATED, CLOSING], 2),
            (expecting, &[CONTINUE, CREATED], 2),
            (b"\r\nPOST / HTTP/1.1\r\n", &[], 0),
            (b"PRI * HTTP/2.0\r\n\r\n", &[], 0),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r", &[], 0),
        ] {
            let responses = responses(sent, script);
            assert_eq!(responses.expect("is right"), expected);
        }
    }

    #[test]
    fn faulty_server_is_found() {
        let twice = [PUT, PUT].concat();
        let old = CREATED.to_vec();
        let old = String::from_utf8(old)
            .expect("is text")
            .replace("1.1", "1.0");
        for (sent, script) in [
            (PUT, [].as_slice()),
            (b"\r\n\r\nPOST / HTTP/1.1\n\n", &[]),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[]),
            (PUT, &[b"garbage".as_slice()]),
            (PUT, &[&CREATED[..30]]),
            (PUT, &[CREATED, b"\r\n"]),
            (PUT, &[CREATED, CREATED]),
            (PUT, &[CONTINUE, CREATED]),
            (PUT, &[old.as_bytes()]),
            (b"post / HTTP/1.1\r\n\r\n", &[CREATED]),
            (&twice, &[CLOSING, CREATED]),
        ] {
            responses(sent, script).expect_err("is found");
        }
    }
}
