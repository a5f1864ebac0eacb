//! Components in text form that export `protocol`, with functions that a test defines.
//!
//! They do not export `wasi:http`, so `protocol` is their only entry point.

use alldata_peer_server_http::{PeerServer, PeerServerBuilder, sinks::DiscardSink};

/// The `response` that a guest's `decode` returns as its error: status 201, no header, no body.
pub const CREATED: [u32; 8] = [201, 0, 0, 0, 0, 0, 0, 0];

/// The address of the result of `decode`, and within it that of the response, for an error and for a put.
const DECODED: u32 = 16;
pub const RESPONSE: u32 = DECODED + 4;
pub const STORED: u32 = DECODED + 20;

/// The addresses of the result of `error-response`, and of the text that both results refer to.
const ERROR_RESPONSE: u32 = 128;
pub const TEXT: u32 = 256;

/// The types of both functions, and the types in those.
pub const DECODE: &str = r#"(param "body" (list u8)) (result (result $put (error $response)))"#;
pub const RESPOND: &str = r#"(param "error" $request) (result $response)"#;
pub const RESPONSE_TYPE: &str = r#"(record (field "status" u16)
    (field "header" (option (tuple string string))) (field "body" string))"#;
pub const PUT_TYPE: &str = r#"(record (field "key" string) (field "event" string)
    (field "stored" $response))"#;
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
    pub respond: &'a str,
    pub response: &'a str,
    pub put: &'a str,
    pub error: &'a str,
    pub request: &'a str,
}

impl Default for Types<'_> {
    fn default() -> Self {
        Self {
            decode: DECODE,
            respond: RESPOND,
            response: RESPONSE_TYPE,
            put: PUT_TYPE,
            error: ERROR_TYPE,
            request: REQUEST_ERROR_TYPE,
        }
    }
}

/// A component in text form with functions of these types. `module` is the contents of its core module beside
/// memory and allocator, with both functions. An exported function refers to types by their exports, hence the
/// nested component.
pub fn guest_of_types(module: &str, types: Types<'_>) -> String {
    let Types {
        decode,
        respond,
        response,
        put,
        error,
        request,
    } = types;
    let [imported, exported] = ["imported", "exported"].map(|suffix| {
        let [decode, respond] = [decode, respond].map(|text| renamed(text, suffix));
        (decode, respond)
    });
    format!(
        r#"(component
            (import "alldata:peer/put-sink@0.1.0" (instance))
            (core module $module
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
                {module})
            (core instance $core (instantiate $module))
            (type $response {response})
            (type $put {put})
            (type $error {error})
            (type $request {request})
            (func $decode {decode} (canon lift (core func $core "decode")
                (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            (func $respond {respond} (canon lift (core func $core "error-response")
                (memory (core memory $core "memory")) (realloc (core func $core "realloc"))))
            (component $names
                (type $response {response})
                (import "response" (type $response-imported (eq $response)))
                (type $put {put_imported})
                (import "put" (type $put-imported (eq $put)))
                (type $error {error})
                (import "error" (type $error-imported (eq $error)))
                (type $request {request_imported})
                (import "request" (type $request-imported (eq $request)))
                (import "decode" (func {decode_imported}))
                (import "error-response" (func {respond_imported}))
                (export $response-exported "response" (type $response))
                (type $put-of-exported {put_exported})
                (export $put-exported "put" (type $put-of-exported))
                (export $error-exported "put-error" (type $error))
                (type $request-of-exported {request_exported})
                (export $request-exported "request-error" (type $request-of-exported))
                (export "decode" (func 0) (func {decode_exported}))
                (export "error-response" (func 1) (func {respond_exported})))
            (instance $handler (instantiate $names
                (with "response" (type $response)) (with "put" (type $put)) (with "error" (type $error))
                (with "request" (type $request))
                (with "decode" (func $decode)) (with "error-response" (func $respond))))
            (export "alldata:peer/protocol@0.1.0" (instance $handler)))"#,
        put_imported = renamed(put, "imported"),
        put_exported = renamed(put, "exported"),
        decode_imported = imported.0,
        request_imported = renamed(request, "imported"),
        request_exported = renamed(request, "exported"),
        respond_imported = imported.1,
        decode_exported = exported.0,
        respond_exported = exported.1,
    )
}

/// A type with another name for each named type in it.
fn renamed(text: &str, suffix: &str) -> String {
    let names = ["$response", "$put", "$error", "$request"];
    let rename = |text: String, name: &str| text.replace(name, &format!("{name}-{suffix}"));
    names
        .iter()
        .fold(text.to_owned(), |text, name| rename(text, name))
}

/// A guest whose `decode` runs this code and then returns this response as its error.
pub fn guest_that(does: &str, response: [u32; 8], text: &str) -> String {
    let error = [&[1], &response[..]].concat();
    guest_that_returns(does, &error, "", response, text)
}

/// A guest whose `decode` runs this code and then returns a put of the event `1` under the key `k`, with the
/// status 299 for a stored event. Its `error-response` runs that code and then returns this response.
pub fn guest_that_puts(does: &str, respond_does: &str, response: [u32; 8], text: &str) -> String {
    let put = [0, TEXT - 2, 1, TEXT - 1, 1, 299, 0, 0, 0, 0, 0, 0, 0];
    guest_that_returns(does, &put, respond_does, response, text)
}

fn guest_that_returns(
    decode_does: &str,
    decoded: &[u32],
    respond_does: &str,
    responded: [u32; 8],
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
    let (decoded, responded) = (words(decoded), words(&responded));
    let text = escape(format!("k1{text}").as_bytes());
    let module = format!(
        r#"(global $calls (mut i32) (i32.const 0))
        (data (i32.const {DECODED}) "{decoded}")
        (data (i32.const {ERROR_RESPONSE}) "{responded}")
        (data (i32.const {before_text}) "{text}")
        (func (export "decode") (param $body i32) (param $bytes i32) (result i32)
            {decode_does}
            (i32.const {DECODED}))
        (func (export "error-response") (param $error i32) (param $case i32) (param $wide i64) (param $bytes i32)
            (result i32)
            (local $payload i32)
            (local.set $payload (i32.wrap_i64 (local.get $wide)))
            {respond_does}
            (i32.const {ERROR_RESPONSE}))"#,
        before_text = TEXT - 2,
    );
    guest_of_types(&module, Types::default())
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
