//! The canonical ABI of the npm package, which is written by hand: what it assumes is what the WIT says.

use std::process::Command;

use serde_json::{Value, json};
use wit_parser::abi::{AbiVariant, WasmSignature, WasmType};
use wit_parser::{Field, Resolve, SizeAlign, Type, TypeDefKind};

use crate::support::{DEADLINE, finish, installed_package, run};

/// Prints the layout.
const LAYOUT: &str = "
import { LAYOUT } from './lib/component-abi.js';
console.log(JSON.stringify(LAYOUT));
";

/// The interface, and the sizes of its types.
struct Interface {
    resolve: Resolve,
    sizes: SizeAlign,
}

impl Interface {
    fn parse() -> Self {
        let mut resolve = Resolve::default();
        let wit = run(&["component", "--wit"]);
        let package = resolve.push_str("peer.wit", wit.assert_ok());
        package.expect("is WIT that needs no other");
        let mut sizes = SizeAlign::default();
        sizes.fill(&resolve).expect("has a layout");
        Self { resolve, sizes }
    }

    /// A type of an interface.
    fn kind(&self, interface: &str, name: &str) -> &TypeDefKind {
        let mut interfaces = self.resolve.interfaces.iter();
        let found = interfaces.find(|(_, found)| found.name.as_deref() == Some(interface));
        let (_, interface) = found.expect("is there");
        &self.resolve.types[interface.types[name]].kind
    }

    fn fields(&self, name: &str) -> &[Field] {
        match self.kind("protocol", name) {
            TypeDefKind::Record(record) => &record.fields,
            kind => panic!("{name}: {kind:?}"),
        }
    }

    /// The offsets of a record's fields, by their names.
    fn offsets(&self, name: &str) -> Value {
        let fields = self.fields(name);
        let offsets = self.offsets_of(fields.iter().map(|field| &field.ty));
        let names = fields.iter().map(|field| field.name.clone());
        Value::Object(names.zip(offsets).collect())
    }

    fn offsets_of<'a>(&self, types: impl IntoIterator<Item = &'a Type>) -> Vec<Value> {
        let offsets = self.sizes.field_offsets(types).into_iter();
        offsets
            .map(|(offset, _)| json!(offset.size_wasm32()))
            .collect()
    }

    /// The cases of a variant, as `name` or `name(payload)`.
    fn cases(&self, interface: &str, name: &str) -> Vec<String> {
        let TypeDefKind::Variant(variant) = self.kind(interface, name) else {
            panic!("{name} is no variant");
        };
        let cases = variant.cases.iter().map(|case| match case.ty {
            Some(ty) => format!("{}({})", case.name, self.payload(ty)),
            None => case.name.clone(),
        });
        cases.collect()
    }

    fn payload(&self, ty: Type) -> String {
        let Type::Id(id) = ty else {
            return format!("{ty:?}").to_lowercase();
        };
        let ty = &self.resolve.types[id];
        match (&ty.kind, &ty.name) {
            (TypeDefKind::Option(inner), _) => format!("option<{}>", self.payload(*inner)),
            (_, Some(name)) => name.clone(),
            (kind, None) => format!("{kind:?}"),
        }
    }

    /// The parameters and results of a function of the core module.
    fn signature(&self, function: &str) -> String {
        let mut interfaces = self.resolve.interfaces.iter();
        let functions = interfaces.find_map(|(_, found)| found.functions.get(function));
        let function = functions.expect("is there");
        let of_core = AbiVariant::GuestExport;
        let WasmSignature {
            params, results, ..
        } = self.resolve.wasm_signature(of_core, function);
        format!("{} -> {}", core_types(&params), core_types(&results))
    }
}

fn core_types(types: &[WasmType]) -> String {
    let names = types.iter().map(|ty| match ty {
        WasmType::I64 | WasmType::PointerOrI64 => "i64",
        WasmType::I32 | WasmType::Pointer | WasmType::Length => "i32",
        WasmType::F32 | WasmType::F64 => "a float",
    });
    names.collect::<Vec<_>>().join(" ")
}

#[test]
fn layout_is_that_of_the_interface() {
    let interface = Interface::parse();
    let [_, header, _] = interface.fields("response") else {
        panic!("a response has other fields");
    };
    let Type::Id(header) = header.ty else {
        panic!("{header:?}");
    };
    let TypeDefKind::Option(Type::Id(tuple)) = interface.resolve.types[header].kind else {
        panic!("a header is no option");
    };
    let TypeDefKind::Tuple(texts) = &interface.resolve.types[tuple].kind else {
        panic!("a header is no tuple");
    };
    assert_eq!(texts.types, [Type::String, Type::String]);
    let [name, value] = &*interface.offsets_of(&texts.types) else {
        unreachable!("there are two");
    };
    // The payloads of the option and the result have this alignment.
    let payload = interface.sizes.align(&Type::Id(tuple)).align_wasm32();
    let names = |cases: Vec<String>| -> Value {
        let names = cases.iter().filter_map(|case| case.split('(').next());
        names.collect()
    };
    let expected = json!({
        "response": interface.offsets("response"),
        "put": interface.offsets("put"),
        "byteRange": interface.offsets("byte-range"),
        "header": { "name": name, "value": value },
        "payload": payload,
        "requestError": names(interface.cases("protocol", "request-error")),
        "putError": names(interface.cases("put-sink", "put-error")),
    });
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--eval", LAYOUT]);
    let output = finish(node.current_dir(installed_package()), "", DEADLINE);
    let layout: Value = serde_json::from_str(output.assert_ok()).expect("is JSON");
    assert_eq!(layout, expected);
}

#[test]
fn payloads_and_parameters_are_those_that_are_passed() {
    let interface = Interface::parse();
    let mut cases = interface.cases("protocol", "request-error");
    cases.extend(interface.cases("put-sink", "put-error"));
    cases.retain(|case| case.contains('('));
    let expected = [
        "content-too-large(option<u64>)",
        "unsupported-content-coding(string)",
        "put(put-error)",
        "rejected(string)",
        "unavailable(u32)",
        "failed(string)",
    ];
    assert_eq!(cases, expected);
    for (function, signature) in [
        ("decode", "i32 i32 -> i32"),
        ("stored-response", " -> i32"),
        ("error-response", "i32 i32 i64 i32 -> i32"),
        ("same-event", "i32 i32 i32 i32 -> i32"),
    ] {
        assert_eq!(interface.signature(function), signature, "{function}");
    }
}
