//! The listener for operators beside a sink whose health check hangs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex};

use alldata_peer_server_http::admin::{AdminOptions, AdminServer};
use alldata_peer_server_http::{PeerServer, PutError, PutSink};
use tokio::runtime::Builder;

use crate::support::admin::get;
use crate::support::{Connection, Embedded, wait_until};

/// How many queries the listener answers at a time.
const MAX_QUERIES: usize = 8;

/// The calls of a health check, which hang until this is dropped.
struct HangingHealth(Arc<Calls>);

#[derive(Default)]
struct Calls {
    state: Mutex<State>,
    released: Condvar,
}

#[derive(Default)]
struct State {
    is_released: bool,
    running: usize,
    most_running: usize,
}

/// A sink with that health check.
struct HangingSink(Arc<Calls>);

impl PutSink for HangingSink {
    async fn put(&self, _key: String, _event: String) -> Result<(), PutError> {
        Ok(())
    }

    fn health(&self) -> Result<(), String> {
        let mut state = self.0.state.lock().expect("no panic");
        state.running += 1;
        state.most_running = state.most_running.max(state.running);
        let waited = self
            .0
            .released
            .wait_while(state, |state| !state.is_released);
        waited.expect("no panic").running -= 1;
        Ok(())
    }
}

impl HangingHealth {
    fn running(&self) -> usize {
        self.0.state.lock().expect("no panic").running
    }

    fn release(&self) {
        self.0.state.lock().expect("no panic").is_released = true;
        self.0.released.notify_all();
    }
}

impl Drop for HangingHealth {
    fn drop(&mut self) {
        self.release();
    }
}

/// A server with that sink, on a runtime with this many threads for blocking work; and its listener for operators.
fn start(blocking_threads: usize) -> (Embedded, AdminServer, HangingHealth) {
    let calls = Arc::new(Calls::default());
    let builder = PeerServer::builder().sink(HangingSink(Arc::clone(&calls)));
    let builder = builder.hostname("127.0.0.1").port(0);
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.max_blocking_threads(blocking_threads).enable_all();
    let runtime = runtime.build().expect("starts a runtime");
    let server = runtime.block_on(builder.listen()).expect("listens");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listening = AdminServer::listen(address, server.monitor(), AdminOptions::default());
    let admin = runtime.block_on(listening).expect("listens");
    let server = Embedded { runtime, server };
    (server, admin, HangingHealth(calls))
}

fn query(address: SocketAddr) -> Connection {
    let mut connection = Connection::open(address);
    connection.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    connection
}

#[test]
fn liveness_and_page_need_no_thread_for_blocking_work() {
    let (_server, admin, health) = start(1);
    let mut hanging = query(admin.local_addr());
    wait_until("the query hangs", || health.running() == 1);
    for path in ["/livez", "/", "/page.js"] {
        assert_eq!(get(admin.local_addr(), path).status, 200, "{path}");
    }
    health.release();
    assert_eq!(hanging.answer().status, 200);
}

#[test]
fn hanging_queries_use_a_bounded_number_of_threads() {
    let (_server, admin, health) = start(64);
    let mut hanging: Vec<Connection> = (0..20).map(|_| query(admin.local_addr())).collect();
    wait_until("queries hang", || health.running() >= MAX_QUERIES);
    // Later connections are served after those with the queries.
    for _ in 0..20 {
        assert_eq!(get(admin.local_addr(), "/livez").status, 200);
    }
    health.release();
    for connection in &mut hanging {
        assert_eq!(connection.answer().status, 200);
    }
    let most = health.0.state.lock().expect("no panic").most_running;
    assert_eq!(most, MAX_QUERIES);
}
