//! Authentication of operators: the authorizer of the listener, for tokens in the forms that programs and browsers send.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Response, StatusCode};

use crate::admin::content::text;
use crate::server::auth::{Authorizer, RequestHead};

/// Asks a program for a token, and a browser for a password.
const CHALLENGES: [&str; 2] = ["Bearer", "Basic realm=\"alldata-peer\", charset=\"UTF-8\""];

/// The response to a request that is refused, if it is.
pub(super) fn refuse(
    authorizer: &dyn Authorizer,
    request: &Parts,
    peer: SocketAddr,
) -> Option<Response<Full<Bytes>>> {
    let with_token = token_of_password(&request.headers);
    let head = RequestHead {
        method: &request.method,
        uri: &request.uri,
        headers: with_token.as_ref().unwrap_or(&request.headers),
        peer: Some(peer),
        client_ip: Some(peer.ip().to_canonical()),
    };
    let reason = authorizer.authorize(&head).err()?;
    let mut response = text(StatusCode::UNAUTHORIZED, format!("{reason}\n"));
    for challenge in CHALLENGES {
        let challenge = HeaderValue::from_static(challenge);
        response.headers_mut().append(WWW_AUTHENTICATE, challenge);
    }
    Some(response)
}

/// The header fields with the password of HTTP Basic as a token, if there is one: browsers send nothing else.
fn token_of_password(headers: &HeaderMap) -> Option<HeaderMap> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let login = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let login = String::from_utf8(login).ok()?;
    let (_, password) = login.split_once(':')?;
    let mut value = HeaderValue::try_from(format!("Bearer {password}")).ok()?;
    value.set_sensitive(true);
    let mut headers = headers.clone();
    headers.insert(AUTHORIZATION, value);
    Some(headers)
}
