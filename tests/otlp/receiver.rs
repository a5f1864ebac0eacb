//! A receiver of traces: it decodes what the program exports.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use alldata_peer_test_support::{Exchange, Peer, PeerBuilder, ScriptedPeer};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use rustix::process::Signal;

/// The token of the receiver.
pub(crate) const COLLECTOR_TOKEN: &str = "token-of-the-collector";

/// A receiver that accepts all.
pub(crate) struct Receiver(ScriptedPeer);

/// What was exported.
pub(crate) struct Exported {
    pub(crate) spans: Vec<Span>,
    pub(crate) resource: BTreeMap<String, String>,
    /// The log of the server.
    pub(crate) log: Vec<String>,
    /// All bytes of the requests.
    bytes: Vec<u8>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let script = |exchange: &mut Exchange| exchange.read_body().answer("200 OK", "", "");
        Self(ScriptedPeer::start(script))
    }

    /// A server that exports to this receiver.
    pub(crate) fn peer(&self) -> PeerBuilder {
        let endpoint = format!("http://{}", self.0.address());
        Peer::builder()
            .own_env("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint)
            .own_env(
                "OTEL_EXPORTER_OTLP_HEADERS",
                &format!("authorization=Bearer%20{COLLECTOR_TOKEN}"),
            )
    }

    /// Ends the server, which exports its last spans then.
    #[track_caller]
    pub(crate) fn end(self, mut peer: Peer) -> Exported {
        peer.signal(Signal::TERM);
        assert_eq!(peer.wait().code(), Some(0));
        let mut exported = Exported {
            spans: Vec::new(),
            resource: BTreeMap::new(),
            bytes: Vec::new(),
            log: peer.rest_of_stderr(),
        };
        for request in self.0.into_requests() {
            exported.add(request);
        }
        exported
    }
}

impl Exported {
    fn add(&mut self, request: Exchange) {
        assert!(
            request.head.starts_with("POST /v1/traces HTTP/1.1\r\n"),
            "{}",
            request.head
        );
        let token = format!("Bearer {COLLECTOR_TOKEN}");
        assert_eq!(request.header("authorization"), Some(&*token));
        assert_eq!(
            request.header("content-type"),
            Some("application/x-protobuf")
        );
        let decoded = ExportTraceServiceRequest::decode(&*request.body).expect("is a message");
        self.bytes.extend(request.body);
        for of_resource in decoded.resource_spans {
            let resource = of_resource.resource.expect("is described");
            self.resource = texts(&resource.attributes);
            for of_scope in of_resource.scope_spans {
                self.spans.extend(of_scope.spans);
            }
        }
    }

    /// The only span of this name.
    #[track_caller]
    pub(crate) fn span(&self, name: &str) -> &Span {
        let mut spans = self.spans.iter().filter(|span| span.name == name);
        let span = spans.next();
        let span = span.unwrap_or_else(|| panic!("no span {name}: {:#?}", self.spans));
        assert!(spans.next().is_none(), "several spans {name}");
        span
    }

    /// Whether any byte sequence of the requests is this text.
    pub(crate) fn contains(&self, text: &str) -> bool {
        let mut windows = self.bytes.windows(text.len());
        windows.any(|window| window == text.as_bytes())
    }
}

/// The texts and numbers of attributes.
pub(crate) fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Value| match value {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    };
    let attributes = attributes.iter().map(|attribute| {
        let value = attribute.value.as_ref().and_then(|it| it.value.as_ref());
        (attribute.key.clone(), text(value.expect("has a value")))
    });
    attributes.collect()
}

/// The text of an id.
pub(crate) fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writes to memory");
        text
    })
}
