//! Arrows between files: each use in one of what another defines.

use super::tree::{Import, Mention, Module, Place, Target, Tree};

/// How a file comes to know another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It uses an item that the other defines.
    Uses,
    /// It passes on an item that the other defines, by `pub use`, and does not use it.
    PassesOn,
    /// A path in it names or passes the other's module, wherever the item is defined.
    Names,
}

/// Knowledge that one file has of another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    /// The file that knows.
    pub from: String,
    /// Line of the path.
    pub line: usize,
    /// The path as written.
    pub path: String,
    /// The file that is known.
    pub to: String,
    /// The item's name where it is defined; empty for a module.
    pub item: String,
    /// How.
    pub kind: Kind,
}

/// All arrows of a tree, by file and line.
pub fn arrows(tree: &Tree) -> Vec<Arrow> {
    let mut found = Vec::new();
    for id in 0..tree.modules.len() {
        let mut source = Source { tree, id, module: &tree.modules[id], found: &mut found };
        source.module.imports.iter().for_each(|import| source.import(import));
        source.module.mentions.iter().for_each(|mention| source.mention(mention));
    }
    found.sort();
    found.dedup();
    found
}

/// A module whose arrows are being found.
struct Source<'a> {
    tree: &'a Tree,
    id: usize,
    module: &'a Module,
    found: &'a mut Vec<Arrow>,
}

impl Source<'_> {
    /// A `use`. What a glob brings or a `pub use` passes on is used where its names stand.
    fn import(&mut self, import: &Import) {
        let kind = if import.public { Kind::PassesOn } else { Kind::Uses };
        self.path(&import.path, import.line, kind);
    }

    fn mention(&mut self, mention: &Mention) {
        match mention.path.as_slice() {
            [name] => self.name(name, mention),
            path => self.path(path, mention.line, Kind::Uses),
        }
    }

    fn path(&mut self, path: &[String], line: usize, kind: Kind) {
        let (targets, passed) = self.tree.resolve(self.id, path);
        let text = path.join("::");
        for target in targets {
            match target {
                Target::Item(to, item) => self.add(to, line, &text, &item, kind),
                Target::Module(to) => self.add(to, line, &text, "", Kind::Names),
            }
        }
        for to in passed {
            self.add(to, line, &text, "", Kind::Names);
        }
    }

    /// A single name: a `use` of the module may have brought it, and says so by itself unless it is public or a glob.
    fn name(&mut self, name: &str, mention: &Mention) {
        if mention.place == Place::Macro {
            return self.macro_call(name, mention.line);
        }
        let function = name.starts_with(|c: char| c.is_lowercase());
        let bound = self.module.bound.iter().any(|bound| bound == name);
        if function && (bound || mention.place == Place::Other) {
            return;
        }
        for target in self.tree.resolve(self.id, &[name.to_owned()]).0 {
            if let Target::Item(to, item) = target {
                self.add(to, mention.line, name, &item, Kind::Uses);
            }
        }
    }

    /// `name!`, which may be a macro of a module around this one.
    fn macro_call(&mut self, name: &str, line: usize) {
        let mut around = Some(self.id);
        while let Some(id) = around {
            let module = &self.tree.modules[id];
            if module.macros.iter().any(|known| known == name) {
                return self.add(id, line, name, name, Kind::Uses);
            }
            around = module.parent;
        }
        self.path(&[name.to_owned()], line, Kind::Uses);
    }

    fn add(&mut self, to: usize, line: usize, path: &str, item: &str, kind: Kind) {
        let (from, to) = (self.module.file.clone(), self.tree.modules[to].file.clone());
        if from != to {
            self.found.push(Arrow { from, line, path: path.to_owned(), to, item: item.to_owned(), kind });
        }
    }
}
