//! The files of TLS: which are accepted, and the error for each that is not.

use std::error::Error as _;
use std::fs;
use std::path::{Path, PathBuf};

use alldata_peer_server_http::{TlsConfig, TlsFiles};

use crate::certificates::{Authority, Issued};

fn files(certificates: &Path, key: &Path) -> TlsFiles {
    TlsFiles {
        certificates: certificates.to_owned(),
        key: key.to_owned(),
        ..TlsFiles::default()
    }
}

/// The error of files that cannot be used, with its causes.
#[track_caller]
fn error(files: TlsFiles) -> String {
    let error = TlsConfig::from_pem_files(files).expect_err("is refused");
    assert!(error.source().is_none(), "{error}");
    error.to_string()
}

#[test]
fn certificate_with_its_key_is_accepted_in_one_file_or_two() {
    let authority = Authority::new("authority");
    let Issued { certificate, key } = authority.issue("localhost");
    let config = TlsConfig::from_pem_files(files(&certificate, &key)).expect("is accepted");
    assert!(config.expiry().is_some() && !config.authenticates_clients());
    let both = [&certificate, &key].map(|path| fs::read_to_string(path).expect("reads"));
    fs::write(authority.file("both.pem"), both.concat()).expect("writes");
    let both = authority.file("both.pem");
    TlsConfig::from_pem_files(files(&both, &both)).expect("is accepted");
}

/// Writes a file with this text.
fn write(authority: &Authority, name: &str, text: &str) -> PathBuf {
    let path = authority.file(name);
    fs::write(&path, text).expect("writes");
    path
}

fn pem(label: &str, base64: &str) -> String {
    format!("-----BEGIN {label}-----\n{base64}\n-----END {label}-----\n")
}

#[test]
fn error_of_certificate_names_file_and_reason() {
    let authority = Authority::new("authority");
    let Issued {
        certificate: _,
        key,
    } = authority.issue("localhost");
    let write = |name: &str, text: &str| write(&authority, name, text);
    let text = write("text", "no PEM");
    let damaged = write("damaged", &pem("CERTIFICATE", "?"));
    let cut = write("cut", "-----BEGIN CERTIFICATE-----\nAAAA\n");
    let not_der = write("not_der", &pem("CERTIFICATE", "AAAA"));
    let missing = authority.file("missing");
    let large = write("large", &" ".repeat(5 * 1024 * 1024));
    for (certificates, reason) in [
        (&*missing, "No such file"),
        (&text, "no certificate in PEM format"),
        (&damaged, "base64"),
        (&cut, "END CERTIFICATE"),
        (&not_der, "invalid peer certificate"),
        (&key, "no certificate in PEM format"),
        (&large, "more than 4194304 bytes"),
        (Path::new("/dev/zero"), "not a regular file"),
        (authority.directory(), "Is a directory"),
    ] {
        let error = error(files(certificates, &key));
        let path = certificates.display();
        let named = format!("cannot use {path} as TLS certificate (--tls-cert): ");
        assert!(
            error.starts_with(&named) && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn error_of_key_names_file_and_reason() {
    let authority = Authority::new("authority");
    let Issued {
        certificate,
        key: _,
    } = authority.issue("localhost");
    let other = authority.issue("other").key;
    let no_key = write(&authority, "no_key", &pem("PRIVATE KEY", "AAAA"));
    let encrypted = pem("ENCRYPTED PRIVATE KEY", "AAAA");
    let encrypted = write(&authority, "encrypted", &encrypted);
    let missing = authority.file("missing");
    for (key, reason) in [
        (&missing, "No such file"),
        (&certificate, "no private key in PEM format"),
        (&no_key, "private key"),
        (&encrypted, "is encrypted"),
        (&other, "does not match the first certificate"),
    ] {
        let error = error(files(&certificate, key));
        let named = format!("cannot use {} as TLS key (--tls-key): ", key.display());
        assert!(
            error.starts_with(&named) && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn error_of_client_authorities_names_flag() {
    let authority = Authority::new("authority");
    let Issued { certificate, key } = authority.issue("localhost");
    for (authorities, reason) in [
        (&authority.file("missing"), "No such file"),
        (&key, "no certificate"),
    ] {
        let error = error(TlsFiles {
            client_authorities: Some(authorities.clone()),
            ..files(&certificate, &key)
        });
        assert!(
            error.contains("--tls-client-ca") && error.contains(reason),
            "{error}"
        );
    }
    let names_only = TlsFiles {
        client_names: vec!["client".to_owned()],
        ..files(&certificate, &key)
    };
    assert!(error(names_only).contains("--tls-client-ca"));
}

#[test]
fn reload_after_error_keeps_settings() {
    let authority = Authority::new("authority");
    let Issued { certificate, key } = authority.issue("localhost");
    let config = TlsConfig::from_pem_files(files(&certificate, &key)).expect("is accepted");
    let before = config.server_config();
    fs::write(&certificate, "no PEM").expect("writes");
    config.reload().expect_err("is refused");
    assert!(std::sync::Arc::ptr_eq(&before, &config.server_config()));
    authority.issue("localhost");
    config.reload().expect("is accepted");
    assert!(!std::sync::Arc::ptr_eq(&before, &config.server_config()));
}
