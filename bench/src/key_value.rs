//! Key-value stores with an interface over HTTP: etcd, and Redis with webdis in front of it.
//!
//! Each stores a put on the disk before its response, as the sink `sqlite:` does.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;

use anyhow::Result;
use serde_json::json;

use crate::port;

/// A program, and the address that it listens on.
pub(crate) struct Program {
    pub(crate) command: Command,
    pub(crate) address: SocketAddr,
}

/// One member of etcd, with the default settings.
pub(crate) fn etcd(program: &Path, directory: &Path) -> Result<[Program; 1]> {
    let address = free_address()?;
    let url = format!("http://{address}");
    // There are no other members to connect to this port.
    let for_members = "http://127.0.0.1:0";
    let mut command = Command::new(program);
    command.arg("--data-dir").arg(directory.join("etcd"));
    for option in ["--listen-client-urls", "--advertise-client-urls"] {
        command.args([option, &url]);
    }
    for option in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
        command.args([option, for_members]);
    }
    command.args(["--initial-cluster", &format!("default={for_members}")]);
    Ok([Program { command, address }])
}

/// Redis that syncs its file before each response, and webdis with two threads, which needs a Redis when it starts.
pub(crate) fn redis(redis: &Path, webdis: &Path, directory: &Path) -> Result<[Program; 2]> {
    let [redis_address, address] = [free_address()?, free_address()?];
    let redis_port = redis_address.port();
    let mut server = Command::new(redis);
    server
        .args(["--bind", "127.0.0.1", "--port", &redis_port.to_string()])
        .args(["--appendonly", "yes", "--appendfsync", "always"])
        // No snapshots beside that file, and no process that writes it anew: its time would be in no figure.
        .args(["--save", "", "--auto-aof-rewrite-percentage", "0", "--dir"])
        .arg(directory);
    let configuration = json!({
        "redis_host": "127.0.0.1",
        "redis_port": redis_port,
        "http_host": "127.0.0.1",
        "http_port": address.port(),
        "threads": 2,
        "daemonize": false,
        "verbosity": 0,
        "logfile": "/dev/stderr",
    });
    let file = directory.join("webdis.json");
    fs::write(&file, configuration.to_string())?;
    let mut gateway = Command::new(webdis);
    gateway.arg(file);
    Ok([
        Program {
            command: server,
            address: redis_address,
        },
        Program {
            command: gateway,
            address,
        },
    ])
}

fn free_address() -> Result<SocketAddr> {
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port::free()?)))
}
