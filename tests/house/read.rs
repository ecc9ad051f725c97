//! Reads the modules of a tree of sources: the names in each, its `use` lines and the paths it mentions. What is
//! compiled for tests alone is left out.

use super::lex::{Kind, Token, tokens};
use super::tree::{Import, Mention, Module, Name, Place, Sources, Tree};

/// Words that are no names; those with which a path may begin are not here.
const KEYWORDS: [&str; 34] = [
    "as", "async", "await", "break", "const", "continue", "dyn", "else", "enum", "extern", "false", "fn", "for", "if",
    "impl", "in", "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct", "trait",
    "true", "type", "unsafe", "use", "where", "while",
];

/// Reads the crates with these names and root files, and all files that their `mod` lines declare.
///
/// # Panics
///
/// Panics where a `mod` line declares a file that `sources` lacks.
pub fn read(sources: &Sources, roots: &[(&str, &str)]) -> Tree {
    let mut tree = Tree::default();
    for &(name, root) in roots {
        let id = add(&mut tree, root, None);
        tree.crates.insert(name.to_owned(), id);
        let directory = root.rsplit_once('/').map_or("", |(directory, _)| directory);
        read_file(&mut tree, sources, id, directory);
    }
    tree
}

fn add(tree: &mut Tree, file: &str, parent: Option<usize>) -> usize {
    tree.modules.push(Module { file: file.to_owned(), parent, ..Module::default() });
    tree.modules.len() - 1
}

/// Reads the file of the module `id`, whose children's files lie in `directory`.
fn read_file(tree: &mut Tree, sources: &Sources, id: usize, directory: &str) {
    let tokens = tokens(&sources[&tree.modules[id].file]);
    Reader { tree, sources, tokens: &tokens, at: 0, attribute: 0 }.module(id, directory);
}

struct Reader<'a> {
    tree: &'a mut Tree,
    sources: &'a Sources,
    tokens: &'a [Token<'a>],
    /// Number of the current token.
    at: usize,
    /// Where the last attribute ends, whose single words are no names of the module.
    attribute: usize,
}

impl<'a> Reader<'a> {
    /// Reads what the module `id` holds, beyond the brace that closes it or to the end of the file.
    fn module(&mut self, id: usize, directory: &str) {
        let (mut depth, mut public) = (0, false);
        while self.at < self.tokens.len() {
            let token = self.peek(0);
            let was_public = std::mem::take(&mut public);
            match token.text {
                _ if token.kind == Kind::Literal => self.at += 1,
                "#" => self.attribute(directory),
                "{" | "(" | "[" => (depth, self.at) = (depth + 1, self.at + 1),
                "}" | ")" | "]" => {
                    self.at += 1;
                    if depth == 0 {
                        return;
                    }
                    depth -= 1;
                }
                "use" if !self.peek(1).is("<") => self.import(id, was_public),
                "mod" if self.peek(1).kind == Kind::Word => self.child(id, directory),
                "pub" => {
                    public = true;
                    self.at += 1;
                    if self.peek(0).is("(") {
                        self.skip_group();
                    }
                }
                "macro_rules" => self.macro_rules(id),
                "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static" if depth == 0 => {
                    self.item(id);
                }
                "::" => self.colons(id),
                _ if token.kind == Kind::Word => self.word(id),
                _ => self.at += 1,
            }
        }
    }

    /// The token `ahead` of the current one; a lone `;` beyond the end.
    fn peek(&self, ahead: usize) -> Token<'a> {
        self.tokens.get(self.at + ahead).copied().unwrap_or(Token { kind: Kind::Mark, text: ";", line: 0 })
    }

    /// The token `behind` places before the current one; a lone `;` before the beginning.
    fn behind(&self, behind: usize) -> Token<'a> {
        let at = self.at.checked_sub(behind);
        at.map_or(Token { kind: Kind::Mark, text: ";", line: 0 }, |at| self.tokens[at])
    }

    /// Goes beyond the bracket that closes the one here.
    fn skip_group(&mut self) {
        let mut depth = 0;
        while self.at < self.tokens.len() {
            match self.peek(0).text {
                _ if self.peek(0).kind == Kind::Literal => {}
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    /// Goes into the attribute here, or beyond what it keeps for tests.
    fn attribute(&mut self, directory: &str) {
        let from = self.at;
        self.at += if self.peek(1).is("!") { 2 } else { 1 };
        if !self.peek(0).is("[") {
            return;
        }
        self.skip_group();
        let words = &self.tokens[from..self.at];
        let has = |text: &str| words.iter().any(|token| token.is(text));
        if has("cfg") && has("test") && !has("not") {
            self.skip_item(directory);
        } else {
            self.attribute = self.at;
            self.at = from + 1;
        }
    }

    /// Goes beyond an item, and notes the file that it declares.
    fn skip_item(&mut self, directory: &str) {
        loop {
            let token = self.peek(0);
            match token.text {
                _ if token.kind == Kind::Literal => self.at += 1,
                "mod" if self.peek(2).is(";") => {
                    self.tree.tests.push(format!("{directory}/{}", self.peek(1).text));
                    self.at += 3;
                    return;
                }
                ";" => {
                    self.at += 1;
                    return;
                }
                // The end of what encloses a field or an arm.
                ")" | "]" | "}" => return,
                "{" => return self.skip_group(),
                "(" | "[" => self.skip_group(),
                _ => self.at += 1,
            }
        }
    }

    /// Reads `mod name;` or `mod name { … }`.
    fn child(&mut self, id: usize, directory: &str) {
        let name = self.peek(1).text;
        let inner = format!("{directory}/{name}");
        let inline = self.peek(2).is("{");
        let file = if inline { self.tree.modules[id].file.clone() } else { self.file_of(&inner) };
        let child = add(self.tree, &file, Some(id));
        self.define(id, name, Name::Module(child));
        self.at += 3;
        if inline {
            self.module(child, &inner);
        } else {
            read_file(self.tree, self.sources, child, &inner);
        }
    }

    fn file_of(&self, module: &str) -> String {
        let files = [format!("{module}.rs"), format!("{module}/mod.rs")];
        let found = files.into_iter().find(|file| self.sources.contains_key(file));
        found.unwrap_or_else(|| panic!("a `mod` line declares {module}.rs, which there is not"))
    }

    fn define(&mut self, id: usize, name: &str, what: Name) {
        self.tree.modules[id].names.entry(name.to_owned()).or_default().push(what);
    }

    /// Reads the keyword of an item and the name that follows.
    fn item(&mut self, id: usize) {
        self.at += 1;
        if self.peek(0).is("mut") {
            self.at += 1;
        }
        let name = self.peek(0);
        if name.kind == Kind::Word && !KEYWORDS.contains(&name.text) {
            self.define(id, name.text, Name::Item);
            self.at += 1;
        }
    }

    /// Reads `macro_rules! name`; the rules are read like any code.
    fn macro_rules(&mut self, id: usize) {
        let name = self.peek(2);
        self.at += 1;
        if self.peek(0).is("!") && name.kind == Kind::Word {
            self.define(id, name.text, Name::Item);
            self.tree.modules[id].macros.push(name.text.to_owned());
            self.at += 2;
        }
    }

    /// Reads `::` where no path is being read: the beginning of one, or the end of `<T as Trait>::name`.
    fn colons(&mut self, id: usize) {
        let begins = !self.behind(1).is(">") && self.behind(1).kind != Kind::Word;
        self.at += 1;
        if self.peek(0).kind != Kind::Word {
            return;
        }
        let (mut path, line) = (vec![String::new()], self.peek(0).line);
        path.extend(self.segments());
        if begins {
            self.mention(id, path, line);
        }
    }

    /// Reads a word that is no item's keyword, and the path that it begins.
    fn word(&mut self, id: usize) {
        let (word, before) = (self.peek(0), self.behind(1));
        let field = before.is(".") && !self.behind(2).is(".");
        let variable = before.is("$") && word.text != "crate";
        if KEYWORDS.contains(&word.text) || field || variable {
            self.at += 1;
            return;
        }
        let in_attribute = self.at < self.attribute;
        let binds = ["let", "mut", "ref", "|"].iter().any(|mark| before.is(mark)) || self.peek(1).is(":");
        let defines = before.is("fn") || before.is("struct") || before.is("enum");
        let path: Vec<String> = self.segments();
        if path.len() > 1 {
            self.mention(id, path, word.line);
        } else if binds {
            self.tree.modules[id].bound.extend(path);
        } else if !in_attribute && !defines {
            self.mention(id, path, word.line);
        }
    }

    /// Reads a path's segments, up to what is none.
    fn segments(&mut self) -> Vec<String> {
        let mut path = vec![self.peek(0).text.to_owned()];
        self.at += 1;
        while self.peek(0).is("::") && self.peek(1).kind == Kind::Word {
            path.push(self.peek(1).text.to_owned());
            self.at += 2;
        }
        path
    }

    /// Notes the path that was just read.
    fn mention(&mut self, id: usize, path: Vec<String>, line: usize) {
        let before = self.behind(2);
        let place = match self.peek(0).text {
            "!" if !self.peek(1).is("=") => Place::Macro,
            "(" => Place::Call,
            ")" | "," if path.len() == 1 && (before.is("(") || before.is(",")) => Place::Argument,
            _ => Place::Other,
        };
        self.tree.modules[id].mentions.push(Mention { path, line, place });
    }

    /// Reads a `use` declaration.
    fn import(&mut self, id: usize, public: bool) {
        self.at += 1;
        let mut prefix = Vec::new();
        if self.peek(0).is("::") {
            prefix.push(String::new());
            self.at += 1;
        }
        self.import_tree(id, public, &prefix);
    }

    /// Reads one tree of a `use` declaration and what ends it, but a closing brace.
    fn import_tree(&mut self, id: usize, public: bool, prefix: &[String]) {
        let mut path = prefix.to_vec();
        loop {
            let token = self.peek(0);
            match token.text {
                "{" => {
                    self.at += 1;
                    while !self.peek(0).is("}") && self.at < self.tokens.len() {
                        self.import_tree(id, public, &path);
                    }
                    self.at += 1;
                    if self.peek(0).is(",") {
                        self.at += 1;
                    }
                    return;
                }
                "*" => {
                    self.bring(id, None, Import { path, line: token.line, public, glob: true });
                    self.at += 1;
                    return self.end_of_leaf();
                }
                "self" if !path.is_empty() => self.at += 1,
                _ if token.kind == Kind::Word => {
                    path.push(token.text.to_owned());
                    self.at += 1;
                }
                // `$crate` in a macro.
                "$" => self.at += 1,
                _ => return self.end_of_leaf(),
            }
            if self.peek(0).is("::") {
                self.at += 1;
                continue;
            }
            if self.peek(0).is("$") {
                continue;
            }
            let renamed = self.peek(0).is("as").then(|| self.peek(1).text.to_owned());
            self.at += if renamed.is_some() { 2 } else { 0 };
            let name = renamed.or_else(|| path.last().cloned());
            let line = token.line;
            self.bring(id, name, Import { path, line, public, glob: false });
            return self.end_of_leaf();
        }
    }

    fn end_of_leaf(&mut self) {
        if !self.peek(0).is("}") {
            self.at += 1;
        }
    }

    fn bring(&mut self, id: usize, name: Option<String>, import: Import) {
        let number = self.tree.modules[id].imports.len();
        self.tree.modules[id].imports.push(import);
        if let Some(name) = name {
            self.define(id, &name, Name::Import(number));
        }
    }
}
