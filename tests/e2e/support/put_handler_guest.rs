//! Components in text form whose `put-handler` does what a test says.
//!
//! They export no handler of `wasi:http`, so a host has this way to call them or none.

use alldata_peer_server_http::{PeerServer, PeerServerBuilder, sinks::DiscardSink};

/// What a guest returns that stored the event: the address of this in its memory.
pub(crate) const CREATED: [u32; 8] = [201, 0, 0, 0, 0, 0, 0, 0];

/// Where a guest has what it returns, and where it has the text that this refers to.
const ANSWER: u32 = 16;
pub(crate) const TEXT: u32 = 256;

/// The type of `handle-put` and that of its result.
pub(crate) const HANDLE_PUT: &str = r#"(param "body" (list u8)) (result $answer)"#;
pub(crate) const RECORD: &str = r#"(record (field "status" u16)
    (field "header" (option (tuple string string))) (field "problem" string))"#;

/// A component in text form. `module` is what its core module has beside memory and allocator,
/// with `handle-put`.
fn guest(module: &str) -> String {
    guest_of_type(module, HANDLE_PUT, RECORD)
}

/// The same with other types. An exported function names its types by their exports, hence the
/// component in between.
pub(crate) fn guest_of_type(module: &str, function: &str, record: &str) -> String {
    let imported = function.replace("$answer", "$imported");
    let exported = function.replace("$answer", "$exported");
    format!(
        r#"(component
            (import "alldata:peer/put-sink@0.1.0" (instance))
            (core module $module
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                {module})
            (core instance $core (instantiate $module))
            (type $answer {record})
            (func $handle {function} (canon lift (core func $core "handle-put")
                (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            (component $names
                (type $answer {record})
                (import "answer" (type $imported (eq $answer)))
                (import "handle-put" (func {imported}))
                (export $exported "answer" (type $answer))
                (export "handle-put" (func 0) (func {exported})))
            (instance $handler (instantiate $names
                (with "answer" (type $answer)) (with "handle-put" (func $handle))))
            (export "alldata:peer/put-handler@0.1.0" (instance $handler)))"#
    )
}

/// A guest whose `handle-put` does this and then returns what is at [`ANSWER`].
pub(crate) fn guest_that(does: &str, returns: [u32; 8], text: &str) -> String {
    let escape = |bytes: &[u8]| -> String {
        let escaped = bytes.iter().map(|byte| format!("\\{byte:02x}"));
        escaped.collect()
    };
    let answer = escape(&returns.map(u32::to_le_bytes).concat());
    let text = escape(text.as_bytes());
    guest(&format!(
        r#"(global $calls (mut i32) (i32.const 0))
        (data (i32.const {ANSWER}) "{answer}")
        (data (i32.const {TEXT}) "{text}")
        (func (export "handle-put") (param $body i32) (param $bytes i32) (result i32)
            {does}
            (i32.const {ANSWER}))"#
    ))
}

/// A guest that answers with a status, a field whose name and value stand in `text` before and
/// after a `|`, and with all of that as the body.
pub(crate) fn guest_with_field(status: u32, text: &str) -> String {
    let number = |length: usize| u32::try_from(length).expect("is short");
    let name = number(text.find('|').expect("has a name"));
    let (value_at, length) = (TEXT + name + 1, number(text.len()));
    let value = length - name - 1;
    let answer = [status, 1, TEXT, name, value_at, value, TEXT, length];
    guest_that("", answer, text)
}

pub(crate) fn builder(guest: &str) -> PeerServerBuilder {
    let component = wat::parse_str(guest).unwrap_or_else(|error| panic!("{error}: {guest}"));
    let builder = PeerServer::builder().sink(DiscardSink);
    builder.component(component)
}
