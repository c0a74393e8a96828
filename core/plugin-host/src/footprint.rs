//! What an instance of a component takes of the host beside its memories and tables.
//!
//! The engine keeps a part of each core instance in the host's own memory: its passive element segments, and a context
//! with its globals, imports and function references. No limit of a call counts them. A component may instantiate one
//! module many times, so 300 KB of it could hold 192 MB for as long as a call lasts. [`check`] adds them up from the
//! component's sections, before anything is compiled or instantiated.
//!
//! Invariant: the sum is not below what the engine allocates. Each part counts with the size of its largest kind, and
//! what cannot be counted is refused: a module or a component that is imported, or taken from an instance.
//! Active and declared element segments are free: the engine writes the former into tables and drops the latter. Data
//! segments are shared by all instances.
//!
//! Not here: whether the component is valid (the engine), and memories and tables (see `state`).

use wasmparser::{
    Chunk, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, ElementItems,
    ElementKind, Encoding, Instance, Parser, Payload, TypeRef,
};

use crate::plugin::LoadError;
use crate::text::{TEXT_CHARS_MAX, escaped};

/// Bytes that an instance may take: twice what the engine's pool accepts for contexts, because the sum here is
/// generous. Plugins of this repository take up to 30 KB, the example in Python with all of CPython half a MB, and none
/// has a passive segment. 256 calls at the bound take half a GiB.
pub(crate) const INSTANCE_BYTES_MAX: u64 = 2 << 20;

// Sizes on a machine of 64 bits, rounded up; wasmtime 48, `VMOffsets`, `VMComponentOffsets` and `vm::Instance`.
const ELEMENT_BYTES: u64 = 16;
const ELEMENT_SEGMENT_BYTES: u64 = 32;
const IMPORT_BYTES: u64 = 32;
const FUNCTION_REFERENCE_BYTES: u64 = 32;
const GLOBAL_BYTES: u64 = 16;
const TAG_BYTES: u64 = 16;
const DATA_SEGMENT_BYTES: u64 = 16;
/// Of a memory or a table: its record, not its contents.
const STORAGE_BYTES: u64 = 256;
const CORE_INSTANCE_BYTES: u64 = 1024;
const COMPONENT_INSTANCE_BYTES: u64 = 512;
/// Of a canonical function: a trampoline and its lowering, or where two components meet an adapter with its imports.
const CANONICAL_BYTES: u64 = 512;

/// Components inside components. Composing tools nest two or three.
const NESTING_MAX: usize = 32;
/// Modules, and components, that one component may number; the engine's own bound.
const PARTS_MAX: usize = 1000;

/// Bytes of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Footprint {
    /// Of passive element segments.
    pub(crate) passive: u64,
    /// Of everything else.
    pub(crate) other: u64,
}

impl Footprint {
    fn add(&mut self, part: Footprint) {
        self.passive = self.passive.saturating_add(part.passive);
        self.other = self.other.saturating_add(part.other);
    }

    fn count(&mut self, items: u32, bytes: u64) {
        self.other = self.other.saturating_add(u64::from(items) * bytes);
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.passive.saturating_add(self.other)
    }
}

/// Refuses a component whose instance takes more than [`INSTANCE_BYTES_MAX`].
///
/// # Errors
/// `InstanceBytes`; `ForeignPart`; `Malformed` for bytes whose sections cannot be read.
pub(crate) fn check(component: &[u8]) -> Result<Footprint, LoadError> {
    let footprint = read(component)?;
    let (found, passive, limit) = (footprint.bytes(), footprint.passive, INSTANCE_BYTES_MAX);
    if found > limit {
        return Err(LoadError::InstanceBytes { found, passive, limit });
    }
    Ok(footprint)
}

/// Why the sum cannot be made.
enum Unread {
    Malformed(String),
    Foreign(&'static str),
}

impl From<wasmparser::Error> for Unread {
    fn from(error: wasmparser::Error) -> Unread {
        Unread::Malformed(error.to_string())
    }
}

impl From<Unread> for LoadError {
    fn from(unread: Unread) -> LoadError {
        match unread {
            Unread::Malformed(text) => LoadError::Malformed(escaped(&text, TEXT_CHARS_MAX)),
            Unread::Foreign(part) => LoadError::ForeignPart(part),
        }
    }
}

/// A module or a component whose sections are being read.
enum Frame {
    Module(Module),
    Component(Component),
}

#[derive(Default)]
struct Module {
    /// Without function references.
    footprint: Footprint,
    functions: u32,
    /// Places that refer to a function; one function may have several.
    references: u64,
}

impl Module {
    fn section(&mut self, payload: Payload<'_>) -> Result<(), Unread> {
        let footprint = &mut self.footprint;
        match payload {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    footprint.count(1, IMPORT_BYTES);
                    if matches!(import?.ty, TypeRef::Func(_) | TypeRef::FuncExact(_)) {
                        self.functions = self.functions.saturating_add(1);
                        self.references += 1;
                    }
                }
            }
            Payload::FunctionSection(functions) => {
                self.functions = self.functions.saturating_add(functions.count());
            }
            Payload::TableSection(tables) => {
                footprint.count(tables.count(), STORAGE_BYTES);
                // Its elements may begin as one function.
                self.references += u64::from(tables.count());
            }
            Payload::MemorySection(memories) => footprint.count(memories.count(), STORAGE_BYTES),
            Payload::TagSection(tags) => footprint.count(tags.count(), TAG_BYTES),
            Payload::GlobalSection(globals) => {
                footprint.count(globals.count(), GLOBAL_BYTES);
                self.references += u64::from(globals.count());
            }
            Payload::ExportSection(exports) => self.references += u64::from(exports.count()),
            Payload::DataSection(data) => footprint.count(data.count(), DATA_SEGMENT_BYTES),
            Payload::ElementSection(segments) => {
                for segment in segments {
                    let segment = segment?;
                    let items = match &segment.items {
                        ElementItems::Functions(functions) => functions.count(),
                        ElementItems::Expressions(_, expressions) => expressions.count(),
                    };
                    self.references += u64::from(items);
                    if matches!(segment.kind, ElementKind::Passive) {
                        let bytes = u64::from(items) * ELEMENT_BYTES + ELEMENT_SEGMENT_BYTES;
                        footprint.passive = footprint.passive.saturating_add(bytes);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn total(mut self) -> Footprint {
        // One more for the function that starts the module.
        let references = self.references.min(self.functions.into()) + 1;
        self.footprint.add(Footprint {
            passive: 0,
            other: references * FUNCTION_REFERENCE_BYTES + CORE_INSTANCE_BYTES,
        });
        self.footprint
    }
}

/// A part of a component by its number; `None` for one that is imported or taken from an instance.
type Part = Option<Footprint>;

#[derive(Default)]
struct Component {
    modules: Vec<Part>,
    components: Vec<Part>,
    /// Of what it instantiates.
    footprint: Footprint,
}

impl Component {
    /// Reads a section; `outer` are the components around this one, the outermost first.
    fn section(&mut self, payload: Payload<'_>, outer: &[Frame]) -> Result<(), Unread> {
        match payload {
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    if let Instance::Instantiate { module_index, .. } = instance? {
                        self.footprint.add(numbered(&self.modules, module_index, "module")?);
                    }
                }
            }
            Payload::ComponentInstanceSection(instances) => {
                for instance in instances {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        self.footprint.add(numbered(&self.components, component_index, "component")?);
                    }
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    match alias? {
                        ComponentAlias::InstanceExport { kind, .. } => self.part(kind, None)?,
                        ComponentAlias::Outer { kind, count, index } => {
                            self.outer_part(kind, count, index, outer)?;
                        }
                        ComponentAlias::CoreInstanceExport { .. } => {}
                    }
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    self.part(import?.ty.kind(), None)?;
                }
            }
            // An export is a new number of what it exports.
            Payload::ComponentExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    let part = match export.kind {
                        ComponentExternalKind::Module => part(&self.modules, export.index)?,
                        ComponentExternalKind::Component => part(&self.components, export.index)?,
                        _ => continue,
                    };
                    self.part(export.kind, part)?;
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                self.footprint.count(functions.count(), CANONICAL_BYTES);
            }
            _ => {}
        }
        Ok(())
    }

    fn outer_part(
        &mut self,
        kind: ComponentOuterAliasKind,
        count: u32,
        index: u32,
        outer: &[Frame],
    ) -> Result<(), Unread> {
        let kind = match kind {
            ComponentOuterAliasKind::CoreModule => ComponentExternalKind::Module,
            ComponentOuterAliasKind::Component => ComponentExternalKind::Component,
            ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Type => return Ok(()),
        };
        let around = match (count as usize).checked_sub(1) {
            None => &*self,
            Some(count) => match outer.iter().rev().nth(count) {
                Some(Frame::Component(component)) => component,
                _ => return Err(Unread::Malformed("an alias leads out of the component".to_owned())),
            },
        };
        let found = match kind {
            ComponentExternalKind::Module => part(&around.modules, index)?,
            _ => part(&around.components, index)?,
        };
        self.part(kind, found)
    }

    /// Numbers a module or a component.
    fn part(&mut self, kind: ComponentExternalKind, part: Part) -> Result<(), Unread> {
        let parts = match kind {
            ComponentExternalKind::Module => &mut self.modules,
            ComponentExternalKind::Component => &mut self.components,
            _ => return Ok(()),
        };
        if parts.len() >= PARTS_MAX {
            return Err(Unread::Malformed(format!("more than {PARTS_MAX} modules or components in one")));
        }
        parts.push(part);
        Ok(())
    }

    fn total(mut self) -> Footprint {
        self.footprint.count(1, COMPONENT_INSTANCE_BYTES);
        self.footprint
    }
}

fn part(parts: &[Part], index: u32) -> Result<Part, Unread> {
    let missing = || Unread::Malformed(format!("module or component {index} is not defined"));
    parts.get(index as usize).copied().ok_or_else(missing)
}

fn numbered(parts: &[Part], index: u32, what: &'static str) -> Result<Footprint, Unread> {
    part(parts, index)?.ok_or(Unread::Foreign(what))
}

/// Adds up what an instance of a component takes. Zero for a module, which the engine refuses.
fn read(mut bytes: &[u8]) -> Result<Footprint, Unread> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut parsers = Vec::new();
    let mut parser = Parser::new(0);
    loop {
        let (payload, consumed) = match parser.parse(bytes, true)? {
            Chunk::Parsed { payload, consumed } => (payload, consumed),
            Chunk::NeedMoreData(_) => return Err(Unread::Malformed("unexpected end".to_owned())),
        };
        bytes = &bytes[consumed..];
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => {
                frames.push(Frame::Module(Module::default()))
            }
            Payload::Version { encoding: Encoding::Component, .. } => {
                frames.push(Frame::Component(Component::default()));
            }
            Payload::ModuleSection { parser: inner, .. }
            | Payload::ComponentSection { parser: inner, .. } => {
                if parsers.len() >= NESTING_MAX {
                    return Err(Unread::Malformed(format!("more than {NESTING_MAX} nested components")));
                }
                parsers.push(std::mem::replace(&mut parser, inner));
            }
            // Code is the greater part of a component and says nothing here.
            Payload::CodeSectionStart { size, .. } => {
                parser.skip_section();
                let rest = bytes.get(size as usize..);
                bytes = rest.ok_or_else(|| Unread::Malformed("unexpected end of the code".to_owned()))?;
            }
            Payload::End(_) => {
                let (kind, total) = match frames.pop() {
                    Some(Frame::Module(module)) => (ComponentExternalKind::Module, module.total()),
                    Some(Frame::Component(inner)) => (ComponentExternalKind::Component, inner.total()),
                    None => return Err(Unread::Malformed("an end without a beginning".to_owned())),
                };
                match (frames.last_mut(), parsers.pop()) {
                    (Some(Frame::Component(around)), Some(outer)) => {
                        around.part(kind, Some(total))?;
                        parser = outer;
                    }
                    _ if kind == ComponentExternalKind::Module => return Ok(Footprint::default()),
                    _ => return Ok(total),
                }
            }
            section => match frames.split_last_mut() {
                Some((Frame::Module(module), _)) => module.section(section)?,
                Some((Frame::Component(component), outer)) => component.section(section, outer)?,
                None => return Err(Unread::Malformed("a section without a beginning".to_owned())),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Footprint, String> {
        let bytes = wat::parse_str(text).expect("the text is a component");
        check(&bytes).map_err(|error| error.to_string())
    }

    /// A component with one module of such an element segment, instantiated so many times.
    fn segments(segment: &str, items: usize, instances: usize) -> String {
        let items = "(ref.null func) ".repeat(items);
        let instances = "(core instance (instantiate $m))".repeat(instances);
        format!("(component (core module $m (table 1 funcref) (elem {segment} funcref {items})) {instances})")
    }

    #[test]
    fn passive_items_count_for_each_instance_and_active_and_declared_ones_do_not() {
        let passive =
            |segment: &str, items, instances| of(&segments(segment, items, instances)).map(|f| f.passive);
        assert_eq!(passive("", 1000, 0), Ok(0));
        assert_eq!(passive("", 1000, 3), Ok(3 * (16_000 + 32)));
        assert_eq!(passive("(i32.const 0)", 100_000, 3), Ok(0));
        assert_eq!(passive("declare", 100_000, 3), Ok(0));
        let functions =
            "(component (core module $m (func $f) (elem func $f $f)) (core instance (instantiate $m)))";
        assert_eq!(of(functions).map(|f| f.passive), Ok(64));
    }

    #[test]
    fn an_instance_is_accepted_up_to_the_bound_and_not_above() {
        let empty = of(&segments("", 0, 4)).expect("is accepted").bytes();
        let items =
            usize::try_from((INSTANCE_BYTES_MAX - empty) / ELEMENT_BYTES / 4).expect("a small number");
        let most = of(&segments("", items, 4)).expect("is accepted");
        assert!(most.bytes() <= INSTANCE_BYTES_MAX && most.bytes() > INSTANCE_BYTES_MAX - 4 * ELEMENT_BYTES);
        let found = most.bytes() + 4 * ELEMENT_BYTES;
        let passive = most.passive + 4 * ELEMENT_BYTES;
        assert_eq!(
            of(&segments("", items + 1, 4)),
            Err(format!(
                "an instance takes {found} bytes of the host beside its memories and tables, {passive} of them for \
                 passive element segments; at most 2097152 are accepted"
            ))
        );
    }

    #[test]
    fn globals_imports_and_functions_count_for_each_instance() {
        let bytes = |module: &str, instances: usize| {
            let instances = "(core instance (instantiate $m))".repeat(instances);
            of(&format!("(component (core module $m {module}) {instances})")).map(|f| f.bytes())
        };
        let (none, one) = (bytes("", 0).expect("is accepted"), bytes("", 1).expect("is accepted"));
        assert_eq!(bytes("", 128), Ok(none + 128 * (one - none)));
        let global = "(global i64 (i64.const 0))";
        assert_eq!(bytes(&global.repeat(1000), 2), Ok(none + 2 * (one - none + 16_000)));
        assert!(bytes(&global.repeat(100_000), 2).is_err());
        // A function costs something where it can be referred to.
        assert_eq!(bytes(&"(func)".repeat(1000), 1), Ok(one));
        let exported: String = (0..1000).map(|i| format!("(func (export \"{i}\"))")).collect();
        assert_eq!(bytes(&exported, 1), Ok(one + 32_000));
        // The same one twice.
        assert_eq!(bytes("(func $f (export \"a\")) (elem declare func $f $f $f)", 1), Ok(one + 32));
    }

    #[test]
    fn nested_components_multiply() {
        let inner = "(core module $m (elem funcref (ref.null func))) (core instance (instantiate $m))";
        let nested = |level: usize| {
            let mut text = format!("(component $c {inner})");
            for _ in 1..level {
                text = format!("(component $c {text} {})", "(instance (instantiate $c))".repeat(100));
            }
            of(&text)
        };
        let one = nested(1).expect("is accepted");
        let hundred = nested(2).expect("is accepted");
        assert_eq!((one.passive, hundred.passive), (48, 4800));
        assert_eq!(hundred.bytes(), 100 * one.bytes() + COMPONENT_INSTANCE_BYTES);
        assert!(nested(3).is_err());
        // Far beyond what a number holds.
        assert!(nested(20).is_err());
        let outer = "(component (core module $m (elem funcref (ref.null func)))
            (component $c (alias outer 1 $m (core module $n)) (core instance (instantiate $n)))
            (component $d (alias outer 1 $c (component $e)) (instance (instantiate $e)))
            (export $f \"f\" (component $d)) (instance (instantiate $f)) (instance (instantiate $d)))";
        assert_eq!(of(outer).map(|f| f.passive), Ok(96));
    }

    #[test]
    fn a_part_that_cannot_be_counted_is_refused() {
        let module = "(component (import \"m\" (core module $m)) (core instance (instantiate $m)))";
        let text = |part: &str| {
            Err(format!(
                "instantiates a {part} that it imports or takes from an instance; define it in the component"
            ))
        };
        assert_eq!(of(module), text("module"));
        let component = "(component (import \"c\" (component $c)) (instance (instantiate $c)))";
        assert_eq!(of(component), text("component"));
        let taken = "(component (component $a (component $b) (export \"b\" (component $b)))
            (instance $a (instantiate $a)) (alias export $a \"b\" (component $b)) (instance (instantiate $b)))";
        assert_eq!(of(taken), text("component"));
        // Imported and not instantiated, it costs nothing.
        assert!(of("(component (import \"m\" (core module $m)))").is_ok());
    }

    #[test]
    fn bytes_whose_sections_cannot_be_read_are_malformed() {
        let whole = wat::parse_str(segments("", 10, 2)).expect("a component");
        for bytes in [&b""[..], b"(component)", b"\0asm", &whole[..whole.len() - 3], &whole[..20]] {
            let error = check(bytes).expect_err("is refused");
            assert!(matches!(error, LoadError::Malformed(_)), "{error}");
        }
        let deep = format!("{}{}", "(component ".repeat(NESTING_MAX + 2), ")".repeat(NESTING_MAX + 2));
        assert_eq!(of(&deep), Err("not a valid component: more than 32 nested components".to_owned()));
        assert_eq!(check(&wat::parse_str("(module)").expect("a module")).ok(), Some(Footprint::default()));
    }
}
