//! The modules of a tree of sources, and what a path in one of them leads to.

use std::collections::BTreeMap;

/// Sources by their path below the project, such as `src/peer/wire.rs`.
pub type Sources = BTreeMap<String, String>;

/// What a name in a module stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// A module, by its number in [`Tree::modules`].
    Module(usize),
    /// Defined in the module itself.
    Item,
    /// Brought by `use`, by its number in [`Module::imports`].
    Import(usize),
}

/// One leaf of a `use` declaration.
#[derive(Clone, Debug)]
pub struct Import {
    /// The segments as written, without a final `self` or `*`.
    pub path: Vec<String>,
    /// Line of the last segment.
    pub line: usize,
    /// Whether it has a visibility and so passes the name on.
    pub public: bool,
    /// Whether it brings all names of a module.
    pub glob: bool,
}

/// Where a path or a single name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before `!`: a macro is called.
    Macro,
    /// Before `(`: a function is called, or a value of a tuple struct made.
    Call,
    /// Alone between parentheses or commas.
    Argument,
    /// Anywhere else.
    Other,
}

/// A path outside `use`, or a single name.
#[derive(Clone, Debug)]
pub struct Mention {
    /// The segments as written.
    pub path: Vec<String>,
    /// Line of the first segment.
    pub line: usize,
    /// Where it stands.
    pub place: Place,
}

/// A module, of a file or inline.
#[derive(Debug, Default)]
pub struct Module {
    /// Path of the file it is written in.
    pub file: String,
    /// Module it is in; a crate's root has none.
    pub parent: Option<usize>,
    /// All that its names stand for; one name may be a module and a function at once.
    pub names: BTreeMap<String, Vec<Name>>,
    /// Each leaf of each `use`.
    pub imports: Vec<Import>,
    /// Each path outside `use`, each single name.
    pub mentions: Vec<Mention>,
    /// Names that it binds: variables, parameters, fields.
    pub bound: Vec<String>,
    /// Names of its `macro_rules!`.
    pub macros: Vec<String>,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A module, by its number.
    Module(usize),
    /// An item, by the number of the module that defines it and its name there.
    Item(usize, String),
}

/// All modules of all crates.
#[derive(Debug, Default)]
pub struct Tree {
    /// A module's number is its place here.
    pub modules: Vec<Module>,
    /// Roots by the name that other crates call them.
    pub crates: BTreeMap<String, usize>,
    /// Paths, without `.rs`, of modules that are declared for tests alone.
    pub tests: Vec<String>,
}

impl Tree {
    /// All that `path`, written in the module `scope`, leads to; empty for what no crate of the tree has. The second
    /// value has the modules that the path itself passes.
    pub fn resolve(&self, scope: usize, path: &[String]) -> (Vec<Target>, Vec<usize>) {
        self.walk(scope, path, &mut Vec::new())
    }

    /// `resolve`, with the imports that are being resolved already: they lead nowhere.
    fn walk(&self, scope: usize, path: &[String], open: &mut Vec<(usize, usize)>) -> (Vec<Target>, Vec<usize>) {
        let Some((first, rest)) = path.split_first() else { return (vec![Target::Module(scope)], vec![]) };
        let mut targets = match first.as_str() {
            "crate" => vec![Target::Module(self.root(scope))],
            "self" => vec![Target::Module(scope)],
            "super" => self.modules[scope].parent.map(Target::Module).into_iter().collect(),
            // A path that begins with `::`.
            "" => vec![],
            name => self.look_up(scope, name, open),
        };
        if targets.is_empty() {
            targets.extend(self.crates.get(first).map(|&root| Target::Module(root)));
        }
        let mut passed = Vec::new();
        for segment in rest {
            targets = if first.is_empty() && passed.is_empty() && targets.is_empty() {
                self.crates.get(segment).map(|&root| Target::Module(root)).into_iter().collect()
            } else {
                self.step(&targets, segment, &mut passed, open)
            };
        }
        (targets, passed)
    }

    /// One segment further from `targets`.
    fn step(
        &self,
        targets: &[Target],
        segment: &str,
        passed: &mut Vec<usize>,
        open: &mut Vec<(usize, usize)>,
    ) -> Vec<Target> {
        let modules: Vec<usize> =
            targets.iter().filter_map(|t| if let Target::Module(id) = t { Some(*id) } else { None }).collect();
        if modules.is_empty() {
            return targets.to_vec();
        }
        let mut further = Vec::new();
        for id in modules {
            passed.push(id);
            let found = match segment {
                "super" => self.modules[id].parent.map(Target::Module).into_iter().collect(),
                _ => self.look_up(id, segment, open),
            };
            // A name that no line defines is made by a macro, which only that module can have called.
            further.extend(if found.is_empty() { vec![Target::Item(id, segment.to_owned())] } else { found });
        }
        further
    }

    /// All that `name` stands for in the module `id`; what comes from other crates is nothing.
    fn look_up(&self, id: usize, name: &str, open: &mut Vec<(usize, usize)>) -> Vec<Target> {
        let module = &self.modules[id];
        let mut found = Vec::new();
        for &known in module.names.get(name).into_iter().flatten() {
            match known {
                Name::Module(child) => found.push(Target::Module(child)),
                Name::Item => found.push(Target::Item(id, name.to_owned())),
                Name::Import(import) => found.extend(self.import(id, import, open)),
            }
        }
        if found.is_empty() && !module.names.contains_key(name) {
            for (import, _) in module.imports.iter().enumerate().filter(|(_, import)| import.glob) {
                for target in self.import(id, import, open) {
                    if let Target::Module(from) = target
                        && !open.contains(&(id, import))
                    {
                        open.push((id, import));
                        found.extend(self.look_up(from, name, open));
                        open.pop();
                    }
                }
            }
        }
        found.dedup();
        found
    }

    fn import(&self, id: usize, import: usize, open: &mut Vec<(usize, usize)>) -> Vec<Target> {
        if open.contains(&(id, import)) {
            return vec![];
        }
        open.push((id, import));
        let (targets, _) = self.walk(id, &self.modules[id].imports[import].path, open);
        open.pop();
        targets
    }

    fn root(&self, mut id: usize) -> usize {
        while let Some(parent) = self.modules[id].parent {
            id = parent;
        }
        id
    }
}
