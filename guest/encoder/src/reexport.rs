//! Has a component lift a function from a module that re-exports it.
//!
//! For each call of a lifted function, wasmtime up to version 48 looks up its code, unless the module that exports the
//! function has imported it. The function that is called is the same.

use anyhow::{Context as _, Result, bail, ensure};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, EntityType, ExportKind, ExportSection, ImportSection,
    InstanceSection, Module, ModuleArg, ModuleSection, RawSection, TypeSection, ValType,
};
use wasmparser::{
    ComponentAlias, ComponentAliasSectionReader, ExternalKind, Parser, Payload, Validator,
};

/// The name of the module that the function is imported from: there is no other.
const DEFINING: &str = "";

/// Changes a component, which is the encoded `module`, so that it lifts this function of the module in this way, if the
/// module has it.
pub(crate) fn reexport(component: Vec<u8>, module: &[u8], function: &str) -> Result<Vec<u8>> {
    let Some(reexporting) = reexporting_module(module, function)? else {
        return Ok(component);
    };
    let mut changed = Component::new();
    let (mut depth, mut modules, mut instances, mut is_changed) = (0_usize, 0, 0, false);
    for payload in Parser::new(0).parse_all(&component) {
        let payload = payload?;
        let is_nested = depth > 0;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if is_nested {
            continue;
        }
        match &payload {
            Payload::ModuleSection { .. } => modules += 1,
            Payload::InstanceSection(section) => instances += section.count(),
            Payload::ComponentAliasSection(section) => {
                if let Some((defining, aliases)) = aliases(section, function, instances)? {
                    ensure!(!is_changed, "{function} is lifted more than once");
                    is_changed = true;
                    changed.section(&ModuleSection(&reexporting));
                    let mut reexported = InstanceSection::new();
                    let defining = (DEFINING, ModuleArg::Instance(defining));
                    reexported.instantiate(modules, [defining]);
                    changed.section(&reexported);
                    changed.section(&aliases);
                    continue;
                }
            }
            _ => {}
        }
        // The indices of all that were there before remain as they are.
        let has_index = matches!(
            payload,
            Payload::ModuleSection { .. } | Payload::InstanceSection(_)
        );
        ensure!(
            !(is_changed && has_index),
            "an instance is made after {function} is lifted"
        );
        if let Some((id, range)) = payload.as_section() {
            let range = usize::try_from(range.start)?..usize::try_from(range.end)?;
            let data = component.get(range).context("a section is cut off")?;
            changed.section(&RawSection { id, data });
        }
    }
    ensure!(is_changed, "the component does not lift {function}");
    let changed = changed.finish();
    Validator::new().validate_all(&changed)?;
    Ok(changed)
}

/// A section of aliases, with that of `function` taken from the core instance `reexporting`. Also returns the instance
/// that defines the function. `None` for a section without it.
fn aliases(
    section: &ComponentAliasSectionReader<'_>,
    function: &str,
    reexporting: u32,
) -> Result<Option<(u32, ComponentAliasSection)>> {
    let (mut aliases, mut defining) = (ComponentAliasSection::new(), None);
    for alias in section.clone() {
        let ComponentAlias::CoreInstanceExport {
            kind,
            instance_index,
            name,
        } = alias?
        else {
            return Ok(None);
        };
        let is_function = kind == ExternalKind::Func && name == function;
        if is_function {
            defining = Some(instance_index);
        }
        aliases.alias(Alias::CoreInstanceExport {
            instance: if is_function {
                reexporting
            } else {
                instance_index
            },
            kind: match kind {
                ExternalKind::Func => ExportKind::Func,
                ExternalKind::Memory => ExportKind::Memory,
                ExternalKind::Table => ExportKind::Table,
                ExternalKind::Global => ExportKind::Global,
                _ => return Ok(None),
            },
            name,
        });
    }
    Ok(defining.map(|defining| (defining, aliases)))
}

/// A module that imports this function of `module`, and exports it. `None` if the module does not export it.
fn reexporting_module(module: &[u8], function: &str) -> Result<Option<Module>> {
    let types = Validator::new().validate_all(module)?;
    let types = types.as_ref();
    let mut exports = types.core_exports().context("it is not a module")?;
    let id = match exports.find(|(name, _)| *name == function) {
        None => return Ok(None),
        Some((_, wasmparser::types::EntityType::Func(id))) => id,
        Some(_) => bail!("{function} is not a function"),
    };
    let function_type = types[id].unwrap_func();
    let values = |values: &[wasmparser::ValType]| {
        let values = values.iter().map(|value| match value {
            wasmparser::ValType::I32 => Ok(ValType::I32),
            wasmparser::ValType::I64 => Ok(ValType::I64),
            other => bail!("{function} has a parameter or a result of the type {other}"),
        });
        values.collect::<Result<Vec<_>>>()
    };
    let (mut types, mut imports, mut exports) = (
        TypeSection::new(),
        ImportSection::new(),
        ExportSection::new(),
    );
    types.ty().function(
        values(function_type.params())?,
        values(function_type.results())?,
    );
    imports.import(DEFINING, function, EntityType::Function(0));
    exports.export(function, ExportKind::Func, 0);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&exports);
    Ok(Some(module))
}
