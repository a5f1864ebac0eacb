//! Connections to nobody: where no one listens on a port, the system may choose that same port for the
//! client's end, and connects it with itself.
//!
//! Then a client reads its own request in the place of an answer. Only ports that the system chooses for
//! clients are of that kind.

use hyper::http::Extensions;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connected, HttpInfo};

/// Whether a request failed since its connection was one with itself.
pub(crate) fn is_cause_of(error: &legacy::Error) -> bool {
    error.connect_info().is_some_and(has_one_end)
}

fn has_one_end(connection: &Connected) -> bool {
    let mut extras = Extensions::new();
    connection.get_extras(&mut extras);
    let ends: Option<&HttpInfo> = extras.get();
    ends.is_some_and(|ends| ends.local_addr() == ends.remote_addr())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use crate::sinks::{HttpPutError, HttpSink};

    /// More connections than there are ports of which Linux takes the next one for each.
    const CONNECTIONS: usize = 35_000;

    #[tokio::test]
    async fn port_without_a_listener_never_answers() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let address = listener.local_addr().expect("is bound");
        // Its port is one that the system chooses for clients, and that no server gets meanwhile.
        let client = TcpStream::connect(address).expect("connects");
        let port = client.local_addr().expect("is connected").port();
        let sink = HttpSink::new(&format!("http://127.0.0.1:{port}/")).expect("is a URL");
        for _ in 0..CONNECTIONS {
            let put = sink.try_put("key1", "1").await;
            let is_refused = matches!(put, Err(HttpPutError::NotConnected { .. }));
            assert!(is_refused, "{put:?}");
        }
    }
}
