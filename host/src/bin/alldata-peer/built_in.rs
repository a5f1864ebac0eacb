//! The components that the program contains: the peer and the sinks, for each version of WASI.

use alldata_peer_server_http::BUILT_IN_COMPONENT;
use anyhow::{Result, bail};
use clap::ValueEnum as _;
use clap::builder::PossibleValue;

use crate::arguments::{BuiltInSink, Wasi};

macro_rules! built {
    ($file:literal) => {
        include_bytes!(concat!(env!("OUT_DIR"), "/components/", $file))
    };
}

/// The peer.
pub(crate) fn peer(wasi: Wasi) -> &'static [u8] {
    match wasi {
        Wasi::V0_2 => BUILT_IN_COMPONENT,
        Wasi::V0_3 => built!("peer-wasi-0.3.wasm"),
    }
}

impl BuiltInSink {
    /// Its component.
    ///
    /// # Errors
    ///
    /// When there is none for this version of WASI.
    pub(crate) fn component(self, wasi: Wasi) -> Result<&'static [u8]> {
        Ok(match (wasi, self) {
            (Wasi::V0_2, Self::Forward) => built!("forward.wasm"),
            (Wasi::V0_2, Self::Directory) => built!("directory.wasm"),
            (Wasi::V0_2, Self::KeyvalueSpin) => built!("keyvalue-spin.wasm"),
            (Wasi::V0_2, Self::KeyvalueWasmcloud) => built!("keyvalue-wasmcloud.wasm"),
            (Wasi::V0_3, Self::Forward) => built!("forward-wasi-0.3.wasm"),
            (Wasi::V0_3, Self::Directory) => built!("directory-wasi-0.3.wasm"),
            (Wasi::V0_3, _) => bail!("the sink {} is made for WASI 0.2 only", self.name()),
        })
    }

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        let name = self.to_possible_value();
        name.as_ref().map_or("", PossibleValue::get_name).to_owned()
    }
}
