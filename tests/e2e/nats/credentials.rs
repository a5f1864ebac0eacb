//! Credentials and TLS: accepted, refused with the reason, and never printed.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::{Single, can_start};
use crate::support::{Output, Peer, can_make, run, serve};

/// The secret that no message may contain.
const SECRET: &str = "s3cr3t";

fn url(nats: &Single, login: &str, parameters: &str) -> String {
    let hosts = nats.cluster.hosts();
    format!("nats://{login}{hosts}/events?replicas=1{parameters}")
}

#[track_caller]
fn assert_accepted(url: &str) {
    let peer = Peer::builder().sink(url).start();
    peer.put("key", "1").assert_created();
    let output = run(&["get", "key", "--store", url]);
    assert_eq!(output.assert_ok(), "1\n");
}

#[track_caller]
fn assert_kept_out(url: &str) {
    let outputs = [run(&serve(url)), run(&["verify", "--store", url])];
    for output in outputs {
        let error = output.assert_failed(1);
        assert!(
            error.contains("cannot reach the stream nats://127.0.0.1:"),
            "{error}"
        );
        assert!(error.contains("authorization violation"), "{error}");
        assert!(!error.contains(SECRET), "{error}");
    }
}

#[test]
fn user_needs_the_password() {
    if !can_start("users of NATS") {
        return;
    }
    let nats = Single::with(&format!(
        "authorization {{ user: \"a@b\", password: \"{SECRET}/x\" }}"
    ));
    assert_accepted(&url(&nats, &format!("a%40b:{SECRET}%2Fx@"), ""));
    for login in [
        "",
        &format!("a%40b:{SECRET}@"),
        &format!("{SECRET}@"),
        &format!("b:{SECRET}%2Fx@"),
    ] {
        assert_kept_out(&url(&nats, login, ""));
    }
}

#[test]
fn token_is_accepted() {
    if !can_start("tokens of NATS") {
        return;
    }
    let nats = Single::with(&format!("authorization {{ token: \"{SECRET}\" }}"));
    assert_accepted(&url(&nats, &format!("{SECRET}@"), ""));
    assert_kept_out(&url(&nats, &format!("{SECRET}x@"), ""));
}

#[test]
fn nkey_is_accepted() {
    if !can_start("NKeys of NATS") {
        return;
    }
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = |name: &str, key: &nkeys::KeyPair| {
        let path = directory.path().join(name);
        fs::write(&path, key.seed().expect("has a seed")).expect("writes");
        format!("&nkey={}", path.display())
    };
    let (key, other) = (nkeys::KeyPair::new_user(), nkeys::KeyPair::new_user());
    let users = format!(
        "authorization {{ users: [ {{ nkey: {} }} ] }}",
        key.public_key()
    );
    let nats = Single::with(&users);
    assert_accepted(&url(&nats, "", &file("right", &key)));
    assert_kept_out(&url(&nats, "", &file("wrong", &other)));
    for parameter in ["nkey", "credentials"] {
        let nowhere = directory.path().join("nowhere");
        let url = url(&nats, "", &format!("&{parameter}={}", nowhere.display()));
        let output = run(&serve(&url));
        assert!(output.assert_failed(1).contains("nowhere"), "{output:?}");
    }
    let nonsense = directory.path().join("nonsense");
    fs::write(&nonsense, SECRET).expect("writes");
    let output = run(&serve(&url(
        &nats,
        "",
        &format!("&credentials={}", nonsense.display()),
    )));
    let error = output.assert_failed(1);
    assert!(
        error.contains("nonsense") && !error.contains(SECRET),
        "{error}"
    );
}

#[test]
fn tls_with_client_certificate_is_accepted() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let reason = certify(directory.path())
        .is_none()
        .then_some("there is no openssl");
    if !can_start("TLS of NATS") || !can_make("TLS of NATS", reason) {
        return;
    }
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let nats = Single::with(&format!(
        "tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{certificate}\", verify: true }}"
    ));
    let trusting = format!("&tls=true&tls_ca={certificate}");
    assert_accepted(&url(
        &nats,
        "",
        &format!("{trusting}&tls_cert={certificate}&tls_key={key}"),
    ));
    for parameters in ["", &trusting] {
        let output = run(&serve(&url(&nats, "", parameters)));
        let error = output.assert_failed(1);
        assert!(error.contains("cannot reach the stream"), "{error}");
    }
}

#[test]
fn server_without_tls_is_refused() {
    if !can_start("NATS without TLS") {
        return;
    }
    let nats = Single::start();
    let output = run(&serve(&url(&nats, "", "&tls=true")));
    let error = output.assert_failed(1);
    assert!(error.contains("cannot reach the stream"), "{error}");
}

#[test]
fn invalid_file_is_reported_with_its_parameter() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).expect("writes");
        path.display().to_string()
    };
    let nothing = file("nothing", SECRET);
    let nowhere = directory.path().join("nowhere").display().to_string();
    let certificate = file("certificate", "-----BEGIN CERTIFICATE-----");
    for (parameter, before, reason) in [
        ("tls_ca", String::new(), "no certificate in PEM"),
        (
            "tls_cert",
            format!("tls_key={nothing}&"),
            "no certificate in PEM",
        ),
        (
            "tls_key",
            format!("tls_cert={certificate}&"),
            "no private key in PEM",
        ),
        ("credentials", String::new(), "no JWT with its seed"),
        ("nkey", String::new(), "no seed of a user"),
    ] {
        for (path, reason) in [(&nothing, reason), (&nowhere, "No such file")] {
            let url = format!("nats://127.0.0.1:1/e?{before}{parameter}={path}");
            let output = run(&serve(&url));
            let error = output.assert_failed(1);
            let named = format!("cannot use {path}, which is given as {parameter}: ");
            assert!(error.contains(&named) && error.contains(reason), "{error}");
            assert!(!error.contains(SECRET), "{error}");
        }
    }
}

/// Asserts that the peer and a command are refused, and that both messages contain `text`.
#[track_caller]
fn assert_reported(url: &str, reported: &str) {
    for output in [run(&serve(url)), run(&["verify", "--store", url])] {
        let error = output.assert_failed(1);
        assert!(error.contains(reported), "{error}");
    }
}

#[test]
fn refused_credentials_are_named() {
    if !can_start("logins of NATS that are not let in") {
        return;
    }
    let directory = tempfile::tempdir().expect("makes a directory");
    let seed = directory.path().join("seed");
    let key = nkeys::KeyPair::new_user();
    fs::write(&seed, key.seed().expect("has a seed")).expect("writes");
    let nats = Single::with(&format!("authorization {{ user: u, password: {SECRET} }}"));
    let nkey = format!("&nkey={}", seed.display());
    assert_reported(&url(&nats, "", ""), "the URL has no credentials");
    assert_reported(
        &url(&nats, "u:x@", ""),
        "the credentials are USER:PASSWORD@",
    );
    assert_reported(&url(&nats, "x@", ""), "the credentials are TOKEN@");
    let reported = format!("the credentials are nkey={}", seed.display());
    assert_reported(&url(&nats, "", &nkey), &reported);
}

#[test]
fn missing_tls_of_a_server_is_reported_with_the_parameter() {
    if !can_start("NATS without TLS, for each parameter") {
        return;
    }
    let nats = Single::start();
    let host = nats.cluster.hosts();
    for parameter in ["tls", "tls_first"] {
        let reported = format!("{parameter}=true is given, but {host} has no TLS");
        assert_reported(&url(&nats, "", &format!("&{parameter}=true")), &reported);
    }
}

#[test]
fn required_tls_of_a_server_is_reported_with_the_parameter() {
    let directory = tempfile::tempdir().expect("makes a directory");
    let other = tempfile::tempdir().expect("makes a directory");
    let made = certify(directory.path()).and_then(|()| certify(other.path()));
    let reason = made.is_none().then_some("there is no openssl");
    if !can_start("TLS parameters of NATS") || !can_make("TLS parameters of NATS", reason) {
        return;
    }
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (certificate, key) = (file("certificate.pem"), file("key.pem"));
    let foreign = other.path().join("certificate.pem").display().to_string();
    let files = format!("cert_file: \"{certificate}\", key_file: \"{key}\"");
    let nats = Single::with(&format!("tls {{ {files} }}"));
    assert_accepted(&url(&nats, "", &format!("&tls_ca={certificate}")));
    let reported = format!("signed by one of tls_ca={foreign}");
    assert_reported(&url(&nats, "", &format!("&tls_ca={foreign}")), &reported);
    assert_reported(
        &url(&nats, "", "&tls=true"),
        "an authority of the system, or of tls_ca",
    );
    let first = format!("&tls_first=true&tls_ca={certificate}");
    assert_reported(&url(&nats, "", &first), "use tls=true");
    let nats = Single::with(&format!("tls {{ {files}, handshake_first: true }}"));
    assert_accepted(&url(&nats, "", &first));
    let late = format!("&tls=true&tls_ca={certificate}");
    assert_reported(&url(&nats, "", &late), "(tls_first=true)");
    let nats = Single::with(&format!(
        "tls {{ {files}, ca_file: \"{certificate}\", verify: true }}"
    ));
    assert_reported(
        &url(&nats, "", &late),
        "requires a client certificate: tls_cert and tls_key",
    );
}

#[test]
fn missing_publish_permission_is_reported_at_the_start() {
    if !can_start("logins of NATS that may not put") {
        return;
    }
    let nats = Single::with(&format!(
        "authorization {{ users: [ {{ user: u, password: {SECRET}, \
         permissions {{ publish: {{ deny: \"alldata.>\" }} }} }} ] }}"
    ));
    let output = run(&serve(&url(&nats, &format!("u:{SECRET}@"), "")));
    assert_eq!((output.code, output.stdout.as_str()), (Some(1), ""));
    let error = output
        .stderr
        .lines()
        .find(|line| line.starts_with("error: "));
    let error = error.expect("is reported");
    for reported in [
        "cannot put into the stream",
        "Permissions Violation for Publish to \"alldata.",
    ] {
        assert!(
            error.to_lowercase().contains(&reported.to_lowercase()),
            "{error}"
        );
    }
    assert!(!output.stderr.contains(SECRET), "{output:?}");
}

#[test]
fn password_in_the_environment_is_not_shown() {
    let variables = [
        ("ALLDATA_PEER_SINK", "nats://u:s3cr3t@127.0.0.1:1/e"),
        ("ALLDATA_PEER_STORE", "nats://u:s3cr3t@127.0.0.1:1/e"),
    ];
    for arguments in [
        &["serve", "--help"][..],
        &["get", "--help"],
        &["serve", "--port=0"],
        &["get", "a"],
        &["import", "/dev/null"],
    ] {
        let Output { stdout, stderr, .. } = Output::with_environment(arguments, &variables);
        assert!(
            !format!("{stdout}{stderr}").contains(SECRET),
            "{stdout}{stderr}"
        );
        assert!(
            !stdout.is_empty() || stderr.contains("nats://127.0.0.1:1/e"),
            "{stderr}"
        );
    }
}

/// Creates a self-signed certificate for this machine.
fn certify(directory: &Path) -> Option<()> {
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
    ]);
    command.args(["-nodes", "-days", "2", "-subj", "/CN=localhost"]);
    command.args(["-addext", "subjectAltName=IP:127.0.0.1"]);
    command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
    command.args(["-keyout", "key.pem", "-out", "certificate.pem"]);
    let output = command.current_dir(directory).output().ok()?;
    output.status.success().then_some(())
}
