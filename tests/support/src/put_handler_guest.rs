//! Components in text form whose `put-handler` does what a test says.
//!
//! They export no handler of `wasi:http`, so a host has this way to call them or none.

use alldata_peer_server_http::{PeerServer, PeerServerBuilder, sinks::DiscardSink};

/// What a guest answers to a body of which nothing has to be put, as its `decode` returns that: an
/// error, with an `answer`.
pub const CREATED: [u32; 8] = [201, 0, 0, 0, 0, 0, 0, 0];

/// Where a guest has what `decode` returns, the answer in that where it is an error, and the answer
/// where it is a put.
const DECODED: u32 = 16;
pub const ANSWER: u32 = DECODED + 4;
pub const STORED: u32 = DECODED + 20;

/// Where it has the answer that `explain` returns, and the text that all of this refers to.
const EXPLAINED: u32 = 128;
pub const TEXT: u32 = 256;

/// The types of both functions, and what stands for them in those.
pub const DECODE: &str = r#"(param "body" (list u8)) (result (result $put (error $answer)))"#;
pub const EXPLAIN: &str = r#"(param "error" $error) (result $answer)"#;
pub const ANSWER_TYPE: &str = r#"(record (field "status" u16)
    (field "header" (option (tuple string string))) (field "problem" string))"#;
pub const PUT_TYPE: &str = r#"(record (field "key" string) (field "event" string)
    (field "stored" $answer))"#;
pub const ERROR_TYPE: &str = r#"(variant (case "conflict") (case "rejected" string)
    (case "unavailable" u32) (case "unknown") (case "failed" string))"#;

/// What the text form of a component is made of.
#[derive(Clone, Copy)]
pub struct Types<'a> {
    pub decode: &'a str,
    pub explain: &'a str,
    pub answer: &'a str,
    pub put: &'a str,
    pub error: &'a str,
}

impl Default for Types<'_> {
    fn default() -> Self {
        Self {
            decode: DECODE,
            explain: EXPLAIN,
            answer: ANSWER_TYPE,
            put: PUT_TYPE,
            error: ERROR_TYPE,
        }
    }
}

/// A component in text form with functions of these types. `module` is what its core module has
/// beside memory and allocator, with both functions. An exported function names its types by their
/// exports, hence the component in between.
pub fn guest_of_types(module: &str, types: Types<'_>) -> String {
    let Types {
        decode,
        explain,
        answer,
        put,
        error,
    } = types;
    let names = [("$answer", "answer"), ("$put", "put"), ("$error", "error")];
    let renamed = |text: &str, suffix: &str| {
        let rename = |text: String, (from, _): &(&str, &str)| {
            text.replace(from, &format!("{from}-{suffix}"))
        };
        names.iter().fold(text.to_owned(), rename)
    };
    let [imported, exported] = ["imported", "exported"].map(|suffix| {
        let [decode, explain] = [decode, explain].map(|text| renamed(text, suffix));
        (decode, explain)
    });
    format!(
        r#"(component
            (import "alldata:peer/put-sink@0.1.0" (instance))
            (core module $module
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                {module})
            (core instance $core (instantiate $module))
            (type $answer {answer})
            (type $put {put})
            (type $error {error})
            (func $decode {decode} (canon lift (core func $core "decode")
                (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            (func $explain {explain} (canon lift (core func $core "explain")
                (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            (component $names
                (type $answer {answer})
                (import "answer" (type $answer-imported (eq $answer)))
                (type $put {put_imported})
                (import "put" (type $put-imported (eq $put)))
                (type $error {error})
                (import "error" (type $error-imported (eq $error)))
                (import "decode" (func {decode_imported}))
                (import "explain" (func {explain_imported}))
                (export $answer-exported "answer" (type $answer))
                (type $put-of-exported {put_exported})
                (export $put-exported "put" (type $put-of-exported))
                (export $error-exported "put-error" (type $error))
                (export "decode" (func 0) (func {decode_exported}))
                (export "explain" (func 1) (func {explain_exported})))
            (instance $handler (instantiate $names
                (with "answer" (type $answer)) (with "put" (type $put)) (with "error" (type $error))
                (with "decode" (func $decode)) (with "explain" (func $explain))))
            (export "alldata:peer/put-handler@0.1.0" (instance $handler)))"#,
        put_imported = renamed(put, "imported"),
        put_exported = renamed(put, "exported"),
        decode_imported = imported.0,
        explain_imported = imported.1,
        decode_exported = exported.0,
        explain_exported = exported.1,
    )
}

/// A guest whose `decode` does this and then returns an error with this answer.
pub fn guest_that(does: &str, answers: [u32; 8], text: &str) -> String {
    let error = [&[1], &answers[..]].concat();
    guest_that_returns(does, &error, "", answers, text)
}

/// A guest whose `decode` does this and then returns a put of the event `1` under the key `k`, with
/// an answer that has the status 299. Its `explain` does that and then returns this answer.
pub fn guest_that_puts(does: &str, explain_does: &str, answers: [u32; 8], text: &str) -> String {
    let put = [0, TEXT - 2, 1, TEXT - 1, 1, 299, 0, 0, 0, 0, 0, 0, 0];
    guest_that_returns(does, &put, explain_does, answers, text)
}

fn guest_that_returns(
    decode_does: &str,
    decoded: &[u32],
    explain_does: &str,
    explained: [u32; 8],
    text: &str,
) -> String {
    let escape = |bytes: &[u8]| -> String {
        let escaped = bytes.iter().map(|byte| format!("\\{byte:02x}"));
        escaped.collect()
    };
    let words = |words: &[u32]| -> String {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        escape(&bytes)
    };
    let (decoded, explained) = (words(decoded), words(&explained));
    let text = escape(format!("k1{text}").as_bytes());
    let module = format!(
        r#"(global $calls (mut i32) (i32.const 0))
        (data (i32.const {DECODED}) "{decoded}")
        (data (i32.const {EXPLAINED}) "{explained}")
        (data (i32.const {before_text}) "{text}")
        (func (export "decode") (param $body i32) (param $bytes i32) (result i32)
            {decode_does}
            (i32.const {DECODED}))
        (func (export "explain") (param $case i32) (param $payload i32) (param $bytes i32) (result i32)
            {explain_does}
            (i32.const {EXPLAINED}))"#,
        before_text = TEXT - 2,
    );
    guest_of_types(&module, Types::default())
}

/// A guest that answers with a status, a field whose name and value stand in `text` before and
/// after a `|`, and with all of that as the body.
pub fn guest_with_field(status: u32, text: &str) -> String {
    let number = |length: usize| u32::try_from(length).expect("is short");
    let name = number(text.find('|').expect("has a name"));
    let (value_at, length) = (TEXT + name + 1, number(text.len()));
    let value = length - name - 1;
    let answer = [status, 1, TEXT, name, value_at, value, TEXT, length];
    guest_that("", answer, text)
}

pub fn builder(guest: &str) -> PeerServerBuilder {
    let component = wat::parse_str(guest).unwrap_or_else(|error| panic!("{error}: {guest}"));
    let builder = PeerServer::builder().sink(DiscardSink);
    builder.component(component)
}
