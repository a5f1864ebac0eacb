//! The flags of `serve` for proxies in front of the server.

use alldata_peer_server_http::{ForwardedField, TrustedProxies, TrustedProxy};
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};

/// The heading of these flags in the help.
const HEADING: &str = "Proxies";

/// The proxies in front of the server.
#[derive(Debug, Args)]
#[command(next_help_heading = HEADING)]
pub(crate) struct Proxies {
    /// Address or network (10.0.0.0/8) of a proxy that is believed about the addresses of its clients, or
    /// unix for those on Unix sockets. May be repeated; the variable has them separated by commas
    #[arg(
        long,
        env = "ALLDATA_PEER_TRUSTED_PROXY",
        value_name = "NETWORK",
        value_delimiter = ','
    )]
    trusted_proxy: Vec<TrustedProxy>,
    /// Header field in which these proxies tell the address; others are ignored
    #[arg(
        long,
        env = "ALLDATA_PEER_CLIENT_IP_HEADER",
        value_name = "FIELD",
        default_value = "x-forwarded-for",
        requires = "trusted_proxy"
    )]
    client_ip_header: ClientIpHeader,
    /// Connections of these proxies begin with a header of the PROXY protocol, version 1 or 2; those that do
    /// not are closed
    #[arg(
        long,
        env = "ALLDATA_PEER_PROXY_PROTOCOL",
        value_parser = BoolishValueParser::new()
    )]
    proxy_protocol: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ClientIpHeader {
    /// X-Forwarded-For
    XForwardedFor,
    /// Forwarded (RFC 7239)
    Forwarded,
}

/// The PROXY protocol without the proxies that speak it.
#[derive(Debug, thiserror::Error)]
#[error("--proxy-protocol needs --trusted-proxy: the proxies that speak it")]
pub(crate) struct NoTrustedProxy;

impl Proxies {
    /// The settings of a server.
    pub(crate) fn settings(&self) -> Result<TrustedProxies, NoTrustedProxy> {
        // Not by clap, which does not tell a variable that is false from one that is true.
        if self.proxy_protocol && self.trusted_proxy.is_empty() {
            return Err(NoTrustedProxy);
        }
        Ok(TrustedProxies {
            proxies: self.trusted_proxy.clone(),
            field: match self.client_ip_header {
                ClientIpHeader::XForwardedFor => ForwardedField::XForwardedFor,
                ClientIpHeader::Forwarded => ForwardedField::Forwarded,
            },
            proxy_protocol: self.proxy_protocol,
        })
    }
}
