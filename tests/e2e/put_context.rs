//! The context of a put, which a sink of the library may ask for.

use std::sync::mpsc::{self, Receiver, Sender};

use alldata_peer_server_http::sink::{BoxSink, PutContext};
use alldata_peer_server_http::{
    Authorizer, Identity, PeerServer, PeerServerBuilder, PutError, PutSink, RequestHead,
    Unauthorized,
};

use crate::support::{DEADLINE, Embedded, Post, handler_only};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A sink that sends keys and contexts to the test. A put without a context has none.
struct Capturing {
    needs_context: bool,
    puts: Sender<(String, Option<PutContext>)>,
}

impl Capturing {
    fn send(&self, key: String, context: Option<PutContext>) -> Result<(), PutError> {
        let is_refused = key == "refused";
        self.puts.send((key, context)).expect("the test receives");
        match is_refused {
            true => Err(PutError::Conflict),
            false => Ok(()),
        }
    }
}

impl PutSink for Capturing {
    async fn put(&self, key: String, _event: String) -> Result<(), PutError> {
        self.send(key, None)
    }

    fn needs_context(&self) -> bool {
        self.needs_context
    }

    async fn put_with_context(
        &self,
        key: String,
        _event: String,
        context: PutContext,
    ) -> Result<(), PutError> {
        self.send(key, Some(context))
    }
}

/// Every client is called so.
struct Everybody;

impl Authorizer for Everybody {
    fn authorize(&self, _: &RequestHead<'_>) -> Result<Identity, Unauthorized> {
        Ok(Identity::new("alice"))
    }
}

fn builders() -> [PeerServerBuilder; 2] {
    let wasi_http = PeerServer::builder().compiled_component(handler_only());
    [PeerServer::builder(), wasi_http]
}

fn sink(needs_context: bool) -> (BoxSink, Receiver<(String, Option<PutContext>)>) {
    let (puts, received) = mpsc::channel();
    let sink = Capturing {
        needs_context,
        puts,
    };
    (sink.boxed(), received)
}

#[test]
fn sink_gets_context_that_it_asks_for() {
    for builder in builders() {
        let (sink, puts) = sink(true);
        let server = Embedded::start(builder.sink(sink).authorizer(Everybody));
        let mut connection = server.connect();
        let traceparent = format!("traceparent: 00-{TRACE_ID}-00f067aa0ba902b7-01");
        let post = Post::put("key1", "1")
            .target("/_put?from=test")
            .header("X-Tenant: one")
            .header("X-Tenant: two")
            .header("Authorization: Bearer secret")
            .header(&traceparent);
        connection.ask(&post).assert_created();
        let refused = connection.ask(&Post::put("refused", "1"));
        let (key, context) = puts.recv_timeout(DEADLINE).expect("is put");
        let context = context.expect("has a context");
        assert_eq!(key, "key1");
        assert_eq!(context.request_id.to_string(), TRACE_ID);
        let peer = context.peer.expect("is TCP");
        assert!(peer.ip().is_loopback() && peer.port() != 0);
        assert_eq!(context.client.as_ref().map(Identity::name), Some("alice"));
        assert_eq!(context.uri, "/_put?from=test");
        let tenants = context.headers.get_all("x-tenant").iter();
        assert_eq!(tenants.collect::<Vec<_>>(), ["one", "two"]);
        assert_eq!(context.headers.get("authorization"), None);
        let debug = format!("{context:?}");
        assert!(
            debug.contains("x-tenant") && !debug.contains("two"),
            "{debug}"
        );

        let (key, context) = puts.recv_timeout(DEADLINE).expect("is put");
        let context = context.expect("has a context");
        assert_eq!(key, "refused");
        // That of the request before is not reused.
        assert_eq!(context.headers.get("x-tenant"), None);
        refused.assert_problem(409);
        let id = refused.request_id.expect("has an id");
        assert_eq!(context.request_id.to_string(), id);
        server.close();
    }
}

#[test]
fn credentials_are_in_context_without_authorizer() {
    for builder in builders() {
        let (sink, puts) = sink(true);
        let server = Embedded::start(builder.sink(sink));
        let post = Post::put("key1", "1").header("Authorization: Bearer secret");
        server.send(&post).assert_created();
        let (_, context) = puts.recv_timeout(DEADLINE).expect("is put");
        let context = context.expect("has a context");
        assert_eq!(context.headers["authorization"], "Bearer secret");
        assert_eq!(context.client, None);
        server.close();
    }
}

#[test]
fn sink_that_does_not_ask_gets_no_context() {
    for builder in builders() {
        let (sink, puts) = sink(false);
        let server = Embedded::start(builder.sink(sink));
        server.put("key1", "1").assert_created();
        let (key, context) = puts.recv_timeout(DEADLINE).expect("is put");
        assert!(key == "key1" && context.is_none());
        server.close();
    }
}
