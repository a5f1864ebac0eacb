//! A component that is compiled once in a process, and loaded by any number of servers.
//!
//! Each server has an engine of its own, since its limits set how many instances there may be. So servers share the
//! compiled code as bytes, which an engine loads in some milliseconds, and nothing else.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::component::Component;
use wasmtime::{Engine, Result};

use crate::component::engine::{compile_binary, compiler, ensure_binary};
use crate::error::Error;

/// The component that is embedded in this crate, and that
/// [`component`](crate::PeerServerBuilder::component) replaces.
pub static BUILT_IN_COMPONENT: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/components/peer.wasm"));

/// The built-in component, once a server has used it.
static BUILT_IN: Mutex<Option<CompiledComponent>> = Mutex::new(None);

/// A compiled component for any number of servers, which would otherwise compile it each; see
/// [`PeerServerBuilder::compiled_component`](crate::PeerServerBuilder::compiled_component).
///
/// Clones are cheap. The servers share nothing but the code: each has its own instances, within its own limits. Servers
/// with the built-in component share its code without this.
#[derive(Clone)]
pub struct CompiledComponent(Arc<Compiled>);

struct Compiled {
    /// The size of its binary.
    binary_bytes: usize,
    /// As [`Component::serialize`] returned it.
    code: Vec<u8>,
}

impl CompiledComponent {
    /// Compiles a component from the bytes of its binary. Blocks while it does, seconds for one of megabytes; in async
    /// code, call it by `tokio::task::spawn_blocking`.
    ///
    /// # Errors
    ///
    /// When it is not a valid component.
    pub fn compile(binary: &[u8]) -> std::result::Result<Self, Error> {
        compile(binary).map_err(|error| Error::Component {
            component: format!("of {} bytes", binary.len()),
            source: error.into(),
        })
    }

    /// The built-in component. The first call compiles it, and others wait for it.
    pub(crate) fn built_in() -> Result<Self> {
        // The value is set as a whole, so a poisoned lock is still good.
        let mut compiled = BUILT_IN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(compiled) = &*compiled {
            return Ok(compiled.clone());
        }
        Ok(compiled.insert(compile(BUILT_IN_COMPONENT)?).clone())
    }

    /// Loads the component into an engine.
    #[expect(
        unsafe_code,
        reason = "compiled code is loaded, which this process has made"
    )]
    pub(crate) fn load(&self, engine: &Engine) -> Result<Component> {
        // SAFETY: the bytes were returned by `Component::serialize` in this process, and nothing has changed them since:
        // the field is private, and never written. wasmtime checks that the engine is compatible.
        unsafe { Component::deserialize(engine, &self.0.code) }
    }
}

fn compile(binary: &[u8]) -> Result<CompiledComponent> {
    ensure_binary(binary)?;
    let component = compile_binary(&compiler()?, binary)?;
    Ok(CompiledComponent(Arc::new(Compiled {
        binary_bytes: binary.len(),
        code: component.serialize()?,
    })))
}

impl fmt::Display for CompiledComponent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "of {} bytes", self.0.binary_bytes)
    }
}

impl fmt::Debug for CompiledComponent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CompiledComponent")
            .field("binary_bytes", &self.0.binary_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::CompiledComponent;

    #[test]
    fn built_in_component_is_compiled_once() {
        let compile = || CompiledComponent::built_in().expect("is valid");
        let others = [(); 4].map(|()| thread::spawn(compile));
        let own = compile();
        for other in others {
            let other = other.join().expect("did not panic");
            assert!(Arc::ptr_eq(&own.0, &other.0));
        }
    }
}
