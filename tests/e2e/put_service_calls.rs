//! The server as a service that is called without an HTTP server.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alldata_peer_server_http::{Identity, Limits, PeerServer, PeerServerBuilder};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use hyper::{HeaderMap, Request, Version};
use tokio::runtime::{Builder, Runtime};
use tower_service::Service as _;

use crate::support::Gate;

/// A runtime on this thread, whose log is that of the server.
fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.expect("starts a runtime")
}

/// A server that stores nothing.
async fn peer(builder: PeerServerBuilder) -> PeerServer {
    let builder = builder.on_put(|_, _| async { Ok(()) });
    builder.build().await.expect("starts")
}

/// RFC 9113, section 8.2.2, forbids the field.
#[test]
fn response_over_http_2_has_no_connection_field() {
    let limits = Limits {
        max_body_bytes: 10,
        ..Limits::default()
    };
    runtime().block_on(async {
        let peer = peer(PeerServer::builder().limits(limits)).await;
        for (version, closes) in [(Version::HTTP_11, true), (Version::HTTP_2, false)] {
            let data = Bytes::from_static(b"{\"key\":\"large\",\"event\":1}");
            let frames = stream::iter([Ok::<_, io::Error>(Frame::data(data))]);
            let request = Request::post("/_put").version(version);
            let request = request.body(StreamBody::new(frames)).expect("is valid");
            let response = peer.service().call(request).await;
            let response = response.expect("never fails");
            assert_eq!(response.status(), 413);
            assert_eq!(response.headers().contains_key("connection"), closes);
        }
    });
}

/// What is written to a log.
#[derive(Clone, Default)]
pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub(crate) fn text(&self) -> String {
        let written = self.0.lock().expect("is not poisoned").clone();
        String::from_utf8(written).expect("is text")
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("is not poisoned").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn identity_from_extension_is_in_the_log() {
    let written = Written::default();
    let log = tracing_subscriber::fmt().with_writer({
        let written = written.clone();
        move || written.clone()
    });
    let _log = tracing::subscriber::set_default(log.with_ansi(false).finish());
    runtime().block_on(async {
        let peer = peer(PeerServer::builder()).await;
        let request = Request::post("/_put").extension(Identity::new("alice"));
        let request = request.body(Full::new(Bytes::from("{"))).expect("is valid");
        let response = peer.service().call(request).await.expect("never fails");
        assert_eq!(response.status(), 400);
    });
    let log = written.text();
    assert!(
        log.contains("bad_request") && log.contains("alice"),
        "{log}"
    );
}

/// The trailer section ends the body, so the put goes on.
#[test]
fn drain_timeout_ends_request_with_trailers_with_504() {
    let builder = PeerServer::builder().limits(Limits {
        drain_timeout: Duration::from_millis(1),
        ..Limits::default()
    });
    let (builder, gate) = Gate::before(builder, |_, _| true);
    let runtime = Runtime::new().expect("starts a runtime");
    let peer = runtime.block_on(builder.build()).expect("starts");
    let trailers = Frame::trailers(HeaderMap::new());
    let data = Frame::data(Bytes::from_static(br#"{"key":"waits","event":1}"#));
    let frames = [data, trailers].map(Ok::<_, io::Error>);
    // Not known to have ended before it is asked for a third frame.
    let body = StreamBody::new(stream::iter(frames));
    let request = Request::post("/_put").body(body).expect("is valid");
    let responding = runtime.spawn(peer.service().call(request));
    gate.wait_for_put();
    runtime.block_on(peer.close());
    let response = runtime.block_on(responding);
    let response = response.expect("does not panic").expect("never fails");
    assert_eq!(response.status(), 504);
    gate.open();
    gate.assert_stored("waits");
}
