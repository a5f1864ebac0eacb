//! The interfaces through which servers take puts over HTTP.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::client::{Request, Response};

/// The interface of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interface {
    /// `POST /_put` of a peer server.
    Peer,
    /// A transaction of etcd that creates a key if there is none, as JSON.
    Etcd,
    /// The command `SETNX` of Redis, through webdis.
    Webdis,
}

impl Interface {
    /// The name in `put.lua`, which makes the same requests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Etcd => "etcd",
            Self::Webdis => "webdis",
        }
    }

    /// The path of requests, without a key.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Peer => "/_put",
            Self::Etcd => "/v3/kv/txn",
            Self::Webdis => "/SETNX/",
        }
    }

    /// The request that puts an event under a key that needs no escaping.
    pub(crate) fn put(self, key: &str, event: &str) -> Request {
        let path = self.path().to_owned();
        match self {
            Self::Peer => Request {
                method: "POST",
                path,
                body: format!(r#"{{"key":"{key}","event":{event}}}"#),
            },
            Self::Etcd => {
                let (key, value) = (STANDARD.encode(key), STANDARD.encode(event));
                let body = json!({
                    "compare": [{ "target": "CREATE", "key": key, "createRevision": "0" }],
                    "success": [{ "requestPut": { "key": key, "value": value } }],
                });
                Request {
                    method: "POST",
                    path,
                    body: body.to_string(),
                }
            }
            Self::Webdis => Request {
                method: "PUT",
                path: path + key,
                body: event.to_owned(),
            },
        }
    }

    /// Whether a response says that the event is stored now.
    pub(crate) fn is_stored(self, response: &Response) -> bool {
        let Response { status, body } = response;
        match self {
            Self::Peer => *status == 201,
            Self::Etcd => *status == 200 && body.contains(r#""succeeded":true"#),
            Self::Webdis => *status == 200 && body == r#"{"SETNX":1}"#,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Interface;
    use crate::client::Response;

    #[test]
    fn refused_put_is_not_stored() {
        let response = |status, body: &str| Response {
            status,
            body: body.to_owned(),
        };
        for (interface, stored, refused) in [
            (Interface::Peer, response(201, ""), response(409, "")),
            (
                Interface::Etcd,
                response(200, r#"{"header":{},"succeeded":true}"#),
                response(200, r#"{"header":{}}"#),
            ),
            (
                Interface::Webdis,
                response(200, r#"{"SETNX":1}"#),
                response(200, r#"{"SETNX":0}"#),
            ),
        ] {
            assert!(interface.is_stored(&stored), "{interface:?}");
            assert!(!interface.is_stored(&refused), "{interface:?}");
        }
    }
}
