//! What a component has to export and import to be called through `protocol`.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Instance, TypedFunc};
use wasmtime::{Engine, Result, Store};

use crate::component::put_sink::protocol::{Put, RequestError, Response};

/// The interface that a component is called through.
const PROTOCOL: &str = "alldata:peer/protocol@0.1.0";

/// The sink that such a component calls where it is called through `wasi:http`.
const KNOWN_PUT_SINK: &str = "alldata:peer/put-sink@0.1.0";

/// The other imports of such a component, for callers through `wasi:http`. `protocol` calls none of
/// them.
const NOT_CALLED: [&str; 2] = ["wasi:http/types@", "wasi:io/"];

/// The places of the functions among the exports of a component.
pub(crate) struct ProtocolExports {
    decode: ComponentExportIndex,
    stored_response: ComponentExportIndex,
    error_response: ComponentExportIndex,
}

/// The functions of an instance.
#[derive(Clone, Copy)]
pub(crate) struct ProtocolFunctions {
    pub(crate) decode: TypedFunc<(&'static [u8],), (std::result::Result<Put, Response>,)>,
    pub(crate) stored_response: TypedFunc<(), (Response,)>,
    pub(crate) error_response: TypedFunc<(RequestError,), (Response,)>,
}

impl ProtocolExports {
    /// The functions of a component, of whatever types, if it has all of them, and needs no other sink than the host's.
    pub(crate) fn find(engine: &Engine, component: &Component) -> Option<Self> {
        if !is_one_program(component) || !imports_no_more(engine, component) {
            return None;
        }
        let protocol = component.get_export_index(None, PROTOCOL)?;
        Some(Self {
            decode: component.get_export_index(Some(&protocol), "decode")?,
            stored_response: component.get_export_index(Some(&protocol), "stored-response")?,
            error_response: component.get_export_index(Some(&protocol), "error-response")?,
        })
    }

    /// The functions of an instance. An error means that they have other types.
    pub(crate) fn functions<T: Send>(
        &self,
        store: &mut Store<T>,
        instance: &Instance,
    ) -> Result<ProtocolFunctions> {
        Ok(ProtocolFunctions {
            decode: instance.get_typed_func(&mut *store, self.decode)?,
            stored_response: instance.get_typed_func(&mut *store, self.stored_response)?,
            error_response: instance.get_typed_func(&mut *store, self.error_response)?,
        })
    }
}

/// Whether a component is not composed of several, each of which has a memory of its own. One of them
/// could be a sink, which these functions would not call.
fn is_one_program(component: &Component) -> bool {
    let resources = component.resources_required();
    resources.is_some_and(|resources| resources.num_memories <= 1)
}

/// Whether a component imports this `put-sink`, and otherwise only interfaces that are not called.
fn imports_no_more(engine: &Engine, component: &Component) -> bool {
    let component = component.component_type();
    let mut has_sink = false;
    let no_more = component
        .imports(engine)
        .all(|(name, import)| match import.ty {
            ComponentItem::ComponentInstance(sink) if name == KNOWN_PUT_SINK => {
                has_sink = true;
                let mut items = sink.exports(engine);
                items.all(|(item, _)| ["put", "put-error"].contains(&item))
            }
            _ => NOT_CALLED.iter().any(|known| name.starts_with(known)),
        });
    no_more && has_sink
}
