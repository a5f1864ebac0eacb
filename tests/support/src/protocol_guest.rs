//! Components in text form that export `protocol`, with functions that a test defines.
//!
//! They do not export `wasi:http`, so `protocol` is their only entry point.

use alldata_peer_server_http::{PeerServer, PeerServerBuilder, sinks::DiscardSink};

/// The `response` that a guest's `decode` returns as its error: status 201, no header, no body.
pub const CREATED: [u32; 8] = [201, 0, 0, 0, 0, 0, 0, 0];

/// The address of the result of `decode`, and those of its parts: the response for an error, and key and event of a put.
const DECODED: u32 = 16;
pub const RESPONSE: u32 = DECODED + 4;
pub const KEY: u32 = DECODED + 4;
pub const EVENT: u32 = DECODED + 12;

/// The addresses of the results of the other functions, and of the text that all results refer to.
const STORED_RESPONSE: u32 = 80;
const ERROR_RESPONSE: u32 = 128;
pub const TEXT: u32 = 256;

/// The address of the key of a put, which is one byte long.
pub const KEY_TEXT: u32 = TEXT - 1;

/// The types of the functions, and the types in those.
pub const DECODE: &str = r#"(param "body" (list u8)) (result (result $put (error $response)))"#;
pub const STORED: &str = "(result $response)";
pub const RESPOND: &str = r#"(param "error" $request) (result $response)"#;
pub const RESPONSE_TYPE: &str = r#"(record (field "status" u16)
    (field "header" (option (tuple string string))) (field "body" string))"#;
pub const RANGE_TYPE: &str = r#"(record (field "offset" u32) (field "length" u32))"#;
pub const PUT_TYPE: &str = r#"(record (field "key" string) (field "event" $range))"#;
pub const ERROR_TYPE: &str = r#"(variant (case "conflict") (case "rejected" string)
    (case "unavailable" u32) (case "unknown") (case "failed" string))"#;
pub const REQUEST_ERROR_TYPE: &str = r#"(variant (case "malformed-request")
    (case "invalid-target") (case "invalid-host") (case "incomplete-body")
    (case "method-not-allowed") (case "request-timeout") (case "content-too-large" (option u64))
    (case "uri-too-long") (case "unsupported-content-coding" string)
    (case "header-fields-too-large") (case "unsupported-transfer-coding")
    (case "http-version-not-supported") (case "put" $error))"#;

/// The parts of a component in text form.
#[derive(Clone, Copy)]
pub struct Types<'a> {
    pub decode: &'a str,
    pub stored: &'a str,
    pub respond: &'a str,
    pub response: &'a str,
    pub range: &'a str,
    pub put: &'a str,
    pub error: &'a str,
    pub request: &'a str,
}

impl Default for Types<'_> {
    fn default() -> Self {
        Self {
            decode: DECODE,
            stored: STORED,
            respond: RESPOND,
            response: RESPONSE_TYPE,
            range: RANGE_TYPE,
            put: PUT_TYPE,
            error: ERROR_TYPE,
            request: REQUEST_ERROR_TYPE,
        }
    }
}

/// A component in text form with functions of these types. `module` is the contents of its core module beside
/// memory and allocator, with the functions.
pub fn guest_of_types(module: &str, types: Types<'_>) -> String {
    let Types {
        decode,
        stored,
        respond,
        response,
        range,
        put,
        error,
        request,
    } = types;
    let names = component_of_names(types);
    format!(
        r#"(component
            (import "alldata:peer/put-sink@0.1.0" (instance))
            (core module $module
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                {module})
            (core instance $core (instantiate $module))
            (type $response {response})
            (type $range {range})
            (type $put {put})
            (type $error {error})
            (type $request {request})
            (func $decode {decode} (canon lift (core func $core "decode")
                (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            (func $stored {stored} (canon lift (core func $core "stored-response")
                (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            (func $respond {respond} (canon lift (core func $core "error-response")
                (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            {names}
            (instance $handler (instantiate $names
                (with "response" (type $response)) (with "byte-range" (type $range)) (with "put" (type $put))
                (with "error" (type $error)) (with "request" (type $request))
                (with "decode" (func $decode)) (with "stored-response" (func $stored))
                (with "error-response" (func $respond))))
            (export "alldata:peer/protocol@0.1.0" (instance $handler)))"#
    )
}

/// The nested component that exports the functions, since an exported function refers to types by their exports.
fn component_of_names(types: Types<'_>) -> String {
    let Types {
        response,
        range,
        error,
        ..
    } = types;
    let renamed = |suffix| {
        let texts = [
            types.put,
            types.request,
            types.decode,
            types.stored,
            types.respond,
        ];
        texts.map(|text| renamed(text, suffix))
    };
    let [put, request, decode, stored, respond] = renamed("imported");
    let imports = format!(
        r#"(type $response {response})
        (import "response" (type $response-imported (eq $response)))
        (type $range {range})
        (import "byte-range" (type $range-imported (eq $range)))
        (type $put {put})
        (import "put" (type $put-imported (eq $put)))
        (type $error {error})
        (import "error" (type $error-imported (eq $error)))
        (type $request {request})
        (import "request" (type $request-imported (eq $request)))
        (import "decode" (func {decode}))
        (import "stored-response" (func {stored}))
        (import "error-response" (func {respond}))"#
    );
    let [put, request, decode, stored, respond] = renamed("exported");
    let exports = format!(
        r#"(export $response-exported "response" (type $response))
        (export $range-exported "byte-range" (type $range))
        (type $put-of-exported {put})
        (export $put-exported "put" (type $put-of-exported))
        (export $error-exported "put-error" (type $error))
        (type $request-of-exported {request})
        (export $request-exported "request-error" (type $request-of-exported))
        (export "decode" (func 0) (func {decode}))
        (export "stored-response" (func 1) (func {stored}))
        (export "error-response" (func 2) (func {respond}))"#
    );
    format!("(component $names {imports} {exports})")
}

/// A type with another name for each named type in it.
fn renamed(text: &str, suffix: &str) -> String {
    let names = ["$response", "$range", "$put", "$error", "$request"];
    let rename = |text: String, name: &str| text.replace(name, &format!("{name}-{suffix}"));
    names
        .iter()
        .fold(text.to_owned(), |text, name| rename(text, name))
}

/// The functions of a guest: the code that each runs, and the words of what it then returns.
struct Guest<'a> {
    decode: (&'a str, &'a [u32]),
    stored: (&'a str, [u32; 8]),
    respond: (&'a str, [u32; 8]),
    text: &'a str,
}

/// The words of a put, but for the offset of its event.
const PUT: [u32; 5] = [0, KEY_TEXT, 1, 0, 1];

/// Has the event of a put be the last byte but one of the body, such as of `{"key":"key1","event":1}`.
fn sets_event() -> String {
    format!("(i32.store (i32.const {EVENT}) (i32.sub (local.get $bytes) (i32.const 2)))")
}

/// A guest whose `decode` runs this code and then returns this response as its error.
pub fn guest_that(does: &str, response: [u32; 8], text: &str) -> String {
    let error = [&[1], &response[..]].concat();
    let guest = Guest {
        decode: (does, &error),
        stored: ("", CREATED),
        respond: ("", response),
        text,
    };
    guest.component()
}

/// A guest whose `decode` runs this code and then returns a put of the last byte but one of the body under the key `k`,
/// with the status 299 for a stored event. Its `error-response` runs that code and then returns this response.
pub fn guest_that_puts(does: &str, respond_does: &str, response: [u32; 8], text: &str) -> String {
    let guest = Guest {
        decode: (&(sets_event() + does), &PUT),
        stored: ("", [299, 0, 0, 0, 0, 0, 0, 0]),
        respond: (respond_does, response),
        text,
    };
    guest.component()
}

/// As that guest. Its `stored-response` runs the second code and then returns this response.
pub fn guest_that_responds(
    does: &str,
    stored_does: &str,
    response: [u32; 8],
    text: &str,
) -> String {
    let guest = Guest {
        decode: (&(sets_event() + does), &PUT),
        stored: (stored_does, response),
        respond: ("", CREATED),
        text,
    };
    guest.component()
}

impl Guest<'_> {
    fn component(&self) -> String {
        let Self {
            decode: (decode_does, decoded),
            stored: (stored_does, stored),
            respond: (respond_does, responded),
            text,
        } = self;
        let (decoded, stored, responded) = (words(decoded), words(stored), words(responded));
        let text = escape(format!("k{text}").as_bytes());
        let module = format!(
            r#"(global $calls (mut i32) (i32.const 0))
            (data (i32.const {DECODED}) "{decoded}")
            (data (i32.const {STORED_RESPONSE}) "{stored}")
            (data (i32.const {ERROR_RESPONSE}) "{responded}")
            (data (i32.const {KEY_TEXT}) "{text}")
            (func (export "decode") (param $body i32) (param $bytes i32) (result i32)
                {decode_does}
                (i32.const {DECODED}))
            (func (export "stored-response") (result i32)
                {stored_does}
                (i32.const {STORED_RESPONSE}))
            (func (export "error-response") (param $error i32) (param $case i32) (param $wide i64)
                (param $bytes i32) (result i32)
                (local $payload i32)
                (local.set $payload (i32.wrap_i64 (local.get $wide)))
                {respond_does}
                (i32.const {ERROR_RESPONSE}))"#
        );
        guest_of_types(&module, Types::default())
    }
}

/// The bytes of these words, in the text form of a module.
fn words(words: &[u32]) -> String {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    escape(&bytes)
}

fn escape(bytes: &[u8]) -> String {
    let escaped = bytes.iter().map(|byte| format!("\\{byte:02x}"));
    escaped.collect()
}

/// A guest that responds with a status, with a header field whose name and value are the parts of `text`
/// before and after a `|`, and with all of `text` as the body.
pub fn guest_with_field(status: u32, text: &str) -> String {
    let number = |length: usize| u32::try_from(length).expect("is short");
    let name = number(text.find('|').expect("has a name"));
    let (value_at, length) = (TEXT + name + 1, number(text.len()));
    let value = length - name - 1;
    let response = [status, 1, TEXT, name, value_at, value, TEXT, length];
    guest_that("", response, text)
}

pub fn builder(guest: &str) -> PeerServerBuilder {
    let component = wat::parse_str(guest).unwrap_or_else(|error| panic!("{error}: {guest}"));
    let builder = PeerServer::builder().sink(DiscardSink);
    builder.component(component)
}
