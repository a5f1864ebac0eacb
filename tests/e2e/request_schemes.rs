//! The scheme of a request that a component of `wasi:http` is told, and how its responses are counted.

use std::fs;
use std::path::{Path, PathBuf};

use crate::certificates::Authority;
use crate::support::admin::scrape;
use crate::support::{Connection, Peer, Post};
use crate::tls_client::{TlsClient, tls_peer};

/// A component that responds with 200 to a request over HTTP, and with 201 to one over HTTPS.
const GUEST: &str = r#"(component
    (import "wasi:http/types@0.2.0" (instance $types
        (export "fields" (type $fields (sub resource)))
        (export "incoming-request" (type $request (sub resource)))
        (export "outgoing-response" (type $response (sub resource)))
        (export "response-outparam" (type $out (sub resource)))
        (type $a-scheme (variant (case "HTTP") (case "HTTPS") (case "other" string)))
        (export "scheme" (type $scheme (eq $a-scheme)))
        (type $a-dns (record
            (field "rcode" (option string)) (field "info-code" (option u16))))
        (export "DNS-error-payload" (type $dns (eq $a-dns)))
        (type $an-alert (record
            (field "alert-id" (option u8)) (field "alert-message" (option string))))
        (export "TLS-alert-received-payload" (type $alert (eq $an-alert)))
        (type $a-size (record
            (field "field-name" (option string)) (field "field-size" (option u32))))
        (export "field-size-payload" (type $size (eq $a-size)))
        (type $an-error (variant
            (case "DNS-timeout") (case "DNS-error" $dns) (case "destination-not-found")
            (case "destination-unavailable") (case "destination-IP-prohibited")
            (case "destination-IP-unroutable") (case "connection-refused") (case "connection-terminated")
            (case "connection-timeout") (case "connection-read-timeout") (case "connection-write-timeout")
            (case "connection-limit-reached") (case "TLS-protocol-error") (case "TLS-certificate-error")
            (case "TLS-alert-received" $alert) (case "HTTP-request-denied")
            (case "HTTP-request-length-required") (case "HTTP-request-body-size" (option u64))
            (case "HTTP-request-method-invalid") (case "HTTP-request-URI-invalid")
            (case "HTTP-request-URI-too-long") (case "HTTP-request-header-section-size" (option u32))
            (case "HTTP-request-header-size" (option $size))
            (case "HTTP-request-trailer-section-size" (option u32))
            (case "HTTP-request-trailer-size" $size) (case "HTTP-response-incomplete")
            (case "HTTP-response-header-section-size" (option u32))
            (case "HTTP-response-header-size" $size) (case "HTTP-response-body-size" (option u64))
            (case "HTTP-response-trailer-section-size" (option u32))
            (case "HTTP-response-trailer-size" $size)
            (case "HTTP-response-transfer-coding" (option string))
            (case "HTTP-response-content-coding" (option string)) (case "HTTP-response-timeout")
            (case "HTTP-upgrade-failed") (case "HTTP-protocol-error") (case "loop-detected")
            (case "configuration-error") (case "internal-error" (option string))))
        (export "error-code" (type $error (eq $an-error)))
        (export "[method]incoming-request.scheme"
            (func (param "self" (borrow $request)) (result (option $scheme))))
        (export "[constructor]fields" (func (result (own $fields))))
        (export "[constructor]outgoing-response"
            (func (param "headers" (own $fields)) (result (own $response))))
        (export "[method]outgoing-response.set-status-code"
            (func (param "self" (borrow $response)) (param "status-code" u16) (result (result))))
        (export "[static]response-outparam.set" (func
            (param "param" (own $out))
            (param "response" (result (own $response) (error $error)))))))
    (alias export $types "incoming-request" (type $request))
    (alias export $types "response-outparam" (type $out))
    (core module $memory-module
        (memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
    (core instance $memory (instantiate $memory-module))
    (core func $scheme (canon lower (func $types "[method]incoming-request.scheme")
        (memory (core memory $memory "memory")) (realloc (core func $memory "realloc"))))
    (core func $fields (canon lower (func $types "[constructor]fields")))
    (core func $response (canon lower (func $types "[constructor]outgoing-response")))
    (core func $status
        (canon lower (func $types "[method]outgoing-response.set-status-code")))
    (core func $set (canon lower (func $types "[static]response-outparam.set")
        (memory (core memory $memory "memory"))))
    (core module $module
        (import "memory" "memory" (memory 1))
        (import "host" "scheme" (func $scheme (param i32 i32)))
        (import "host" "fields" (func $fields (result i32)))
        (import "host" "response" (func $response (param i32) (result i32)))
        (import "host" "status" (func $status (param i32 i32) (result i32)))
        (import "host" "set"
            (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
        (func (export "handle") (param $request i32) (param $out i32) (local $made i32)
            (call $scheme (local.get $request) (i32.const 0))
            (local.set $made (call $response (call $fields)))
            (drop (call $status (local.get $made)
                (i32.add (i32.const 200) (i32.load8_u (i32.const 4)))))
            (call $set (local.get $out) (i32.const 0) (local.get $made) (i32.const 0)
                (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))))
    (core instance $core (instantiate $module
        (with "memory" (instance $memory))
        (with "host" (instance
            (export "scheme" (func $scheme))
            (export "fields" (func $fields))
            (export "response" (func $response))
            (export "status" (func $status))
            (export "set" (func $set))))))
    (func $handler (param "request" (own $request)) (param "response-out" (own $out))
        (canon lift (core func $core "handle")))
    (instance $handler (export "handle" (func $handler)))
    (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))"#;

fn guest_in(directory: &Path) -> PathBuf {
    let file = directory.join("scheme.wasm");
    fs::write(&file, wat::parse_str(GUEST).expect("is a component")).expect("writes");
    file
}

/// Sends two requests, and returns their status codes, with how many were counted as stored and as others.
fn outcomes(peer: &Peer, mut connection: Connection) -> ([u16; 2], [f64; 2]) {
    let post = Post::put("key1", "1");
    let get = Post::put("key1", "1").method("GET");
    let statuses = [post, get].map(|request| connection.ask(&request).status);
    let metrics = scrape(peer.admin());
    let counts = [("stored", "201"), ("other_status", "other")].map(|(outcome, status)| {
        let labels = format!("outcome=\"{outcome}\",status=\"{status}\"");
        metrics.value(&format!("alldata_peer_requests_total{{{labels}}}"))
    });
    (statuses, counts)
}

#[test]
fn request_over_tls_has_scheme_https_and_only_201_to_post_is_stored() {
    let authority = Authority::new("authority");
    let directory = tempfile::tempdir().expect("makes a directory");
    let guest = guest_in(directory.path());
    let arguments = ["--component", guest.to_str().expect("is text")];
    let peer = tls_peer(&authority).arguments(&arguments).admin().start();
    let connection = TlsClient::new(&authority).connect(peer.address());
    assert_eq!(outcomes(&peer, connection), ([201, 201], [1.0, 1.0]));
}

#[test]
fn request_without_tls_has_scheme_http_and_no_200_is_stored() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let guest = guest_in(directory.path());
    let arguments = ["--component", guest.to_str().expect("is text")];
    let peer = Peer::builder().arguments(&arguments).admin().start();
    let outcomes = outcomes(&peer, peer.connect());
    assert_eq!(outcomes, ([200, 200], [0.0, 2.0]));
}
