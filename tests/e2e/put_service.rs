//! The server as a service in other HTTP servers, axum and hyper, and without any.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use alldata_peer_server_http::sinks::MemorySink;
use alldata_peer_server_http::{
    AccessLog, Authorizer, ClientAddress, Identity, Limits, PeerServer, PeerServerBuilder,
    PutService, PutSink as _, RequestHead, ResponseBody, TrustedProxies, Unauthorized,
};
use axum::Router;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, Limited, StreamBody};
use hyper::body::{Body, Frame};
use hyper::server::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use tower_service::Service as _;

use crate::put_service_calls::Written;
use crate::request_table::{self, Platform};
use crate::support::{
    Answer, Connection, DEADLINE, Gate, Post, both_components, chunked, handler_only, wait_until,
};

/// A server without a listener, on a runtime, and another HTTP server that calls its service.
struct Mounted {
    runtime: Runtime,
    peer: PeerServer,
    address: SocketAddr,
}

/// A mounted server with a sink that the test can read.
struct Trial {
    mounted: Mounted,
    sink: Arc<MemorySink>,
}

impl Mounted {
    /// Behind axum, at every path.
    fn axum(builder: PeerServerBuilder) -> Self {
        Self::start(builder, |listener, service| async move {
            let router: Router = Router::new().fallback_service(service);
            axum::serve(listener, router).await.expect("serves");
        })
    }

    /// Behind hyper alone, which names the client.
    fn hyper(builder: PeerServerBuilder) -> Self {
        Self::start(builder, |listener, service| async move {
            loop {
                let (stream, client) = listener.accept().await.expect("accepts");
                let service = service.clone();
                tokio::spawn(async move {
                    let call = hyper::service::service_fn(|mut request: Request<_>| {
                        request.extensions_mut().insert(ClientAddress(client));
                        hyper::service::Service::call(&service, request)
                    });
                    let serving =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), call);
                    // It fails where the test cuts it off.
                    let _ = serving.await;
                });
            }
        })
    }

    fn start<F>(
        builder: PeerServerBuilder,
        serve: impl FnOnce(TcpListener, PutService) -> F,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = Runtime::new().expect("starts a runtime");
        let peer = runtime.block_on(builder.build()).expect("starts");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("listens");
        let address = listener.local_addr().expect("has an address");
        runtime.spawn(serve(listener, peer.service()));
        Self {
            runtime,
            peer,
            address,
        }
    }

    fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    fn put(&self, key: &str, event: &str) -> Answer {
        Post::put(key, event).send_to(self.address)
    }
}

impl Trial {
    fn new(mount: fn(PeerServerBuilder) -> Mounted, builder: PeerServerBuilder) -> Self {
        let sink = Arc::new(MemorySink::new(64 << 20));
        let puts = Arc::clone(&sink);
        let mounted = mount(builder.on_put(move |key, event| {
            let sink = Arc::clone(&puts);
            async move { sink.put(key, event).await }
        }));
        Self { mounted, sink }
    }
}

impl Platform for Trial {
    fn connect(&self) -> Connection {
        self.mounted.connect()
    }

    fn stored(&self, key: &str) -> Option<String> {
        self.sink.get(key)
    }
}

#[test]
fn service_in_axum_router_answers_like_any_platform() {
    request_table::hold(&Trial::new(Mounted::axum, PeerServer::builder()));
}

#[test]
fn service_in_hyper_answers_like_any_platform() {
    request_table::hold(&Trial::new(Mounted::hyper, PeerServer::builder()));
}

#[test]
fn service_through_wasi_http_answers_like_any_platform() {
    let builder = PeerServer::builder().compiled_component(handler_only());
    request_table::hold(&Trial::new(Mounted::axum, builder));
}

#[test]
fn body_over_limit_is_413_and_client_reads_it() {
    let builder = PeerServer::builder().limits(Limits {
        max_body_bytes: 1000,
        ..Limits::default()
    });
    let trial = Trial::new(Mounted::axum, builder);
    let mut connection = trial.connect();
    let large = format!("\"{}\"", "x".repeat(1_000_000));
    let announced = Post::put("large", &large);
    let detail = connection.ask(&announced).detail(413);
    assert!(detail.contains("1000"), "{detail}");
    connection.ask(&Post::put("small", "1")).assert_created();
    let body = format!("{{\"key\":\"large\",\"event\":{large}}}");
    let answer = trial.connect().ask(&Post::chunks(&[body.as_bytes()]));
    answer.assert_problem(413);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(trial.stored("large"), None);
}

#[test]
fn body_that_does_not_arrive_in_time_is_408() {
    let builder = PeerServer::builder().limits(Limits {
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    });
    let trial = Trial::new(Mounted::axum, builder);
    let put = Post::put("late", "1").bytes();
    let mut connection = trial.connect();
    let answer = connection.send(&put[..put.len() - 1]).answer();
    answer.assert_problem(408);
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(trial.stored("late"), None);
}

/// A server behind axum whose sink holds back the puts of the key `waits`.
fn gated(builder: PeerServerBuilder) -> (Mounted, Gate) {
    let (builder, gate) = Gate::before(builder, |key, _| key == "waits");
    (Mounted::axum(builder), gate)
}

#[test]
fn puts_beyond_limit_are_503_until_others_end() {
    let (mounted, gate) = gated(PeerServer::builder().limits(Limits {
        max_concurrent_requests: 1,
        ..Limits::default()
    }));
    let mut first = mounted.connect();
    first.send(Post::put("waits", "1").bytes());
    gate.wait_for_put();
    let refused = mounted.put("other", "1");
    assert_eq!(refused.assert_problem(503)["stored"], "no");
    assert_eq!(refused.header("retry-after"), Some("1"));
    gate.open();
    first.answer().assert_created();
    mounted.put("other", "1").assert_created();
}

#[test]
fn put_completes_after_its_connection_is_lost() {
    for component in both_components() {
        let (mounted, gate) = gated(PeerServer::builder().compiled_component(component));
        let mut client = mounted.connect();
        client.send(Post::put("waits", "1").bytes());
        gate.wait_for_put();
        drop(client);
        gate.open();
        gate.assert_stored("waits");
    }
}

#[test]
fn close_awaits_requests_and_refuses_later_ones() {
    let (mounted, gate) = gated(PeerServer::builder());
    let mut first = mounted.connect();
    first.send(Post::put("waits", "1").bytes());
    gate.wait_for_put();
    mounted.runtime.block_on(async {
        let close = mounted.peer.close();
        tokio::pin!(close);
        assert!(futures_util::poll!(&mut close).is_pending());
        let refused = respond(&mounted.peer.service(), put_body("late")).await;
        assert_eq!(refused.status(), 503);
        gate.open();
        timeout(DEADLINE, close).await.expect("closes");
    });
    gate.assert_stored("waits");
    first.answer().assert_created();
    let service = mounted.peer.service();
    mounted.put("late", "1").assert_problem(503);
    drop(mounted.peer);
    let refused = respond(&service, put_body("late"));
    assert_eq!(mounted.runtime.block_on(refused).status(), 503);
    gate.assert_nothing_stored();
}

#[test]
fn drain_timeout_ends_requests_with_504() {
    let (mounted, gate) = gated(PeerServer::builder().limits(Limits {
        drain_timeout: Duration::from_millis(1),
        ..Limits::default()
    }));
    let mut client = mounted.connect();
    client.send(Post::put("waits", "1").bytes());
    gate.wait_for_put();
    mounted.runtime.block_on(mounted.peer.close());
    assert_eq!(client.answer().assert_problem(504)["stored"], "unknown");
    gate.open();
    gate.assert_stored("waits");
}

/// Nothing is put before the end of the body.
#[test]
fn aborted_request_without_its_body_is_not_stored_and_logged() {
    let written = Written::default();
    let log = AccessLog::to_writer(written.clone()).expect("starts");
    let builder = PeerServer::builder().on_put(|_, _| async { Ok(()) });
    let builder = builder.access_log(log).limits(Limits {
        drain_timeout: Duration::from_millis(1),
        ..Limits::default()
    });
    let runtime = Runtime::new().expect("starts a runtime");
    let peer = runtime.block_on(builder.build()).expect("starts");
    let (read, reading) = mpsc::channel();
    let body = stream::poll_fn(move |_| {
        let _ = read.send(());
        Poll::<Option<Result<Frame<Bytes>, Infallible>>>::Pending
    });
    let request = Request::post("/_put").body(StreamBody::new(body));
    let mut service = peer.service();
    let responding = runtime.spawn(service.call(request.expect("is valid")));
    reading.recv_timeout(DEADLINE).expect("reads the body");
    runtime.block_on(peer.close());
    let response = runtime.block_on(responding).expect("does not panic");
    let response = response.expect("never fails");
    assert_eq!(response.status(), 503);
    let body = runtime.block_on(response.into_body().collect());
    let body = body.expect("is there").to_bytes();
    let problem: serde_json::Value = serde_json::from_slice(&body).expect("is JSON");
    assert_eq!(problem["stored"], "no");
    wait_until("it is logged", || written.text().contains("\"status\":503"));
}

#[test]
fn field_of_trusted_proxy_tells_the_client() {
    for (trusted, expected) in [(None, "10.0.0.1"), (Some("10.0.0.0/8"), "192.0.2.1")] {
        let written = Written::default();
        let log = AccessLog::to_writer(written.clone()).expect("starts");
        let trusted = trusted.iter().map(|text| text.parse().expect("is one"));
        let proxies = TrustedProxies {
            proxies: trusted.collect(),
            ..TrustedProxies::default()
        };
        let builder = PeerServer::builder().on_put(|_, _| async { Ok(()) });
        let builder = builder.access_log(log).trusted_proxies(proxies);
        Runtime::new().expect("starts a runtime").block_on(async {
            let peer = builder.build().await.expect("starts");
            let client = ClientAddress("10.0.0.1:7".parse().expect("is one"));
            let request = Request::post("/_put").extension(client);
            let request = request.header("x-forwarded-for", "192.0.2.1");
            let request = request.body(put_body("key1")).expect("is valid");
            let response = peer.service().call(request).await.expect("never fails");
            assert_eq!(response.status(), 201);
            peer.close().await;
        });
        let address = format!("\"address\":\"{expected}\"");
        assert!(written.text().contains(&address), "{}", written.text());
    }
}

/// Names loopback clients by their address, if it is known.
struct ByAddress;

impl Authorizer for ByAddress {
    fn authorize(&self, request: &RequestHead<'_>) -> Result<Identity, Unauthorized> {
        let client = request.peer.ok_or(Unauthorized::NoCredentials)?;
        Ok(Identity::new(client.to_string()))
    }
}

#[test]
fn authorizer_sees_address_from_extension() {
    let builder = || PeerServer::builder().authorizer(ByAddress);
    let known = Trial::new(Mounted::hyper, builder());
    known.mounted.put("key1", "1").assert_created();
    let unknown = Trial::new(Mounted::axum, builder());
    unknown.mounted.put("key1", "1").assert_problem(401);
    assert_eq!(unknown.stored("key1"), None);
}

fn put_body(key: &str) -> Full<Bytes> {
    Full::new(Bytes::from(format!("{{\"key\":\"{key}\",\"event\":1}}")))
}

/// Calls the service without an HTTP server.
async fn respond<B>(service: &PutService, body: B) -> Response<ResponseBody>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let request = Request::post("/_put").body(body).expect("is valid");
    let mut service = service.clone();
    let response: Result<_, Infallible> = service.call(request).await;
    response.expect("never fails")
}

#[test]
fn body_that_ends_with_error_is_never_put() {
    let trial = Trial::new(Mounted::axum, PeerServer::builder());
    let service = trial.mounted.peer.service();
    trial.mounted.runtime.block_on(async {
        let whole = Bytes::from_static(b"{\"key\":\"cut\",\"event\":1}");
        let frames = [
            Ok(Frame::data(whole)),
            Err(io::Error::other("the client is gone")),
        ];
        let cut = respond(&service, StreamBody::new(stream::iter(frames))).await;
        assert_eq!(cut.status(), 400);
        let body = cut.into_body().collect().await.expect("has a body");
        let problem = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        assert!(problem.contains("\"stored\":\"no\""), "{problem}");
        let limited = respond(&service, Limited::new(put_body("cut"), 10)).await;
        assert_eq!(limited.status(), 413);
        let whole = respond(&service, Limited::new(put_body("whole"), 100)).await;
        assert_eq!(whole.status(), 201);
    });
    assert_eq!(trial.stored("cut"), None);
    assert_eq!(trial.stored("whole").as_deref(), Some("1"));
}

#[test]
fn unknown_transfer_coding_is_501() {
    let trial = Trial::new(Mounted::hyper, PeerServer::builder());
    let body = chunked(&[b"{\"key\":\"coded\",\"event\":1}"]);
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x, chunked\r\n\r\n";
    let mut connection = trial.connect();
    let answer = connection.send([&head[..], &body].concat()).answer();
    answer.assert_problem(501);
    assert_eq!(connection.rest(), b"");
    assert_eq!(trial.stored("coded"), None);
}
