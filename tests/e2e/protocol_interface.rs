//! The interface `protocol` of the built-in component, called as an adapter calls it.

use alldata_peer_protocol::decode::decode;
use alldata_peer_protocol::outcome::{InvalidRequest, Outcome};
use alldata_peer_server_http::BUILT_IN_COMPONENT;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Engine, Store};

mod bindings {
    wasmtime::component::bindgen!({ path: "../wit", world: "peer" });
}

use bindings::Peer;
use bindings::alldata::peer::put_sink::{self, PutError};
use bindings::exports::alldata::peer::protocol::{Guest, RequestError, Response};

/// A host whose sink must not be called.
struct NoSink;

impl put_sink::Host for NoSink {
    fn put(&mut self, key: String, _event: String) -> Result<(), PutError> {
        panic!("{key} was put");
    }
}

/// An instance whose imports must not be called.
struct Instance {
    store: Store<NoSink>,
    peer: Peer,
}

impl Instance {
    fn new() -> Self {
        let engine = Engine::default();
        let component = Component::from_binary(&engine, BUILT_IN_COMPONENT).expect("compiles");
        let mut linker = Linker::new(&engine);
        put_sink::add_to_linker::<_, HasSelf<_>>(&mut linker, |sink: &mut NoSink| sink)
            .expect("is imported once");
        linker
            .define_unknown_imports_as_traps(&component)
            .expect("has names");
        let mut store = Store::new(&engine, NoSink);
        let peer = Peer::instantiate(&mut store, &component, &linker).expect("is a peer");
        Self { store, peer }
    }

    fn protocol(&mut self) -> (&Guest, &mut Store<NoSink>) {
        (self.peer.alldata_peer_protocol(), &mut self.store)
    }

    fn error_response(&mut self, error: &RequestError) -> Response {
        let (protocol, store) = self.protocol();
        let response = protocol.call_error_response(store, error);
        response.expect("does not trap")
    }

    fn same_event(&mut self, left: &str, right: &str) -> bool {
        let (protocol, store) = self.protocol();
        let same = protocol.call_same_event(store, left, right);
        same.expect("does not trap")
    }
}

/// The error with which an adapter gets the response to an outcome; `None` for those that other functions return, and for
/// those of connections and credentials, which only a host has.
fn request_error(outcome: &Outcome) -> Option<RequestError> {
    Some(match outcome {
        Outcome::Stored | Outcome::Malformed(_) | Outcome::Unauthorized { .. } => return None,
        Outcome::InvalidHost => RequestError::InvalidHost,
        Outcome::InvalidRequest(error) => match error {
            InvalidRequest::Syntax => RequestError::MalformedRequest,
            InvalidRequest::Target => RequestError::InvalidTarget,
            InvalidRequest::UriTooLong => RequestError::UriTooLong,
            InvalidRequest::HeaderFieldsTooLarge => RequestError::HeaderFieldsTooLarge,
            InvalidRequest::Version => RequestError::HttpVersionNotSupported,
            InvalidRequest::PlainHttp => return None,
        },
        Outcome::UnsupportedContentCoding(coding) => {
            RequestError::UnsupportedContentCoding(coding.clone())
        }
        Outcome::UnsupportedTransferCoding => RequestError::UnsupportedTransferCoding,
        Outcome::MethodNotAllowed => RequestError::MethodNotAllowed,
        Outcome::IncompleteBody => RequestError::IncompleteBody,
        Outcome::ContentTooLarge { limit } => RequestError::ContentTooLarge(*limit),
        Outcome::RequestTimeout => RequestError::RequestTimeout,
        Outcome::Conflict => RequestError::Put(PutError::Conflict),
        Outcome::Rejected(reason) => RequestError::Put(PutError::Rejected(reason.clone())),
        Outcome::Failed => RequestError::Put(PutError::Failed("is never sent".to_owned())),
        Outcome::Unavailable {
            retry_after_seconds,
        } => RequestError::Put(PutError::Unavailable(*retry_after_seconds)),
        Outcome::Unknown => RequestError::Put(PutError::Unknown),
    })
}

/// Every outcome for which there is an error.
fn outcomes() -> Vec<Outcome> {
    let requests = [
        InvalidRequest::Syntax,
        InvalidRequest::Target,
        InvalidRequest::UriTooLong,
        InvalidRequest::HeaderFieldsTooLarge,
        InvalidRequest::Version,
    ];
    let others = [
        Outcome::InvalidHost,
        Outcome::UnsupportedContentCoding("gzip".to_owned()),
        Outcome::UnsupportedTransferCoding,
        Outcome::MethodNotAllowed,
        Outcome::IncompleteBody,
        Outcome::ContentTooLarge { limit: None },
        Outcome::ContentTooLarge {
            limit: Some(u64::MAX),
        },
        Outcome::RequestTimeout,
        Outcome::Conflict,
        Outcome::Rejected("Not \"\u{1F600}\"\n.".to_owned()),
        Outcome::Failed,
        Outcome::Unavailable {
            retry_after_seconds: u32::MAX,
        },
        Outcome::Unknown,
    ];
    let requests = requests.map(Outcome::InvalidRequest);
    requests.into_iter().chain(others).collect()
}

/// The host makes its own error responses natively, and they must be those of the component.
#[test]
fn error_response_equals_the_hosts_for_every_outcome() {
    let mut instance = Instance::new();
    for outcome in outcomes() {
        let error = request_error(&outcome).expect("is an error");
        let guest = instance.error_response(&error);
        let native = outcome.response();
        assert_eq!(guest.status, native.status, "{outcome:?}");
        assert_eq!(guest.body, native.body(), "{outcome:?}");
        let header = native.header.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(guest.header, header, "{outcome:?}");
    }
}

#[test]
fn content_coding_in_error_response_is_bounded_and_printable() {
    let coding = format!("a\"b\r\n\u{e9}{}", "x".repeat(1 << 20));
    let error = RequestError::UnsupportedContentCoding(coding);
    let response = Instance::new().error_response(&error);
    assert_eq!(response.status, 415);
    assert!(response.body.contains("coding a?b????xx"), "{response:?}");
    assert!(response.body.len() < 256, "{response:?}");
}

#[test]
fn decode_returns_put_or_error_response() {
    let mut instance = Instance::new();
    let (protocol, store) = instance.protocol();
    let body = r#" {"event" : ["é", 2.50] ,"key":"\u006b"} "#;
    let put = protocol.call_decode(&mut *store, body.as_bytes());
    let put = put.expect("does not trap").expect("is a put");
    let (start, length) = (put.event.offset as usize, put.event.length as usize);
    let event = &body[start..start + length];
    assert_eq!((&*put.key, event), ("k", r#"["é", 2.50]"#));
    let error = protocol.call_decode(store, b"{}").expect("does not trap");
    let error = error.expect_err("is no put");
    assert_eq!((error.status, error.header), (400, None));
    assert!(error.body.contains("\"stored\":\"no\""), "{}", error.body);
}

/// The component compares the bytes of a string by instructions that other processors do not have.
#[test]
fn decode_equals_native_for_any_byte_or_character_anywhere_in_string() {
    const STRING_BYTES: usize = 200;
    let mut instance = Instance::new();
    let (protocol, store) = instance.protocol();
    let mut decode_both = |string: [&[u8]; 3]| {
        let body = [br#"{"key":"k","event":""#, &*string.concat(), br#""}"#].concat();
        let native = decode(&body).map(|put| put.event.as_bytes());
        let native = native.map_err(|error| Outcome::Malformed(error).response().body());
        let range = protocol.call_decode(&mut *store, &body);
        let range = range.expect("does not trap").map(|put| put.event);
        let event = range.map(|range| &body[range.offset as usize..][..range.length as usize]);
        let event = event.map_err(|response| response.body);
        assert_eq!(event, native, "{}", body.escape_ascii());
    };
    for place in 0..STRING_BYTES {
        let (before, after) = ("x".repeat(place), "x".repeat(STRING_BYTES - place));
        let (before, after) = (before.as_bytes(), after.as_bytes());
        // With bytes that differ from ASCII characters in their highest bit only.
        for character in '\0'..='\u{ff}' {
            let mut buffer = [0; 4];
            let character = character.encode_utf8(&mut buffer).as_bytes();
            decode_both([before, character, after]);
        }
        for byte in 0x80..=0xff {
            decode_both([before, &[byte], after]);
            decode_both([before, &[byte], b""]);
        }
    }
}

#[test]
fn stored_response_is_201_without_body() {
    let mut instance = Instance::new();
    let (protocol, store) = instance.protocol();
    let response = protocol.call_stored_response(store);
    let response = response.expect("does not trap");
    assert_eq!((response.status, &*response.body), (201, ""));
    assert_eq!(response.header, None);
}

#[test]
fn same_event_compares_values_exactly() {
    let mut instance = Instance::new();
    for (left, right, same) in [
        (
            r#"{"a":1,"b":[true]}"#,
            r#" {"b":[ true ],"\u0061":1.0}"#,
            true,
        ),
        ("12345678901234567890", "12345678901234567891", false),
        ("{", "{", true),
        ("{", "{ ", false),
        ("", "", true),
    ] {
        assert_eq!(
            instance.same_event(left, right),
            same,
            "{left:?} and {right:?}"
        );
    }
    let deep = |value: &str| ["[".repeat(100_000), value.to_owned(), "]".repeat(100_000)].concat();
    assert!(instance.same_event(&deep("1"), &deep("1.0")));
    assert!(!instance.same_event(&deep("1"), &deep("2")));
}
