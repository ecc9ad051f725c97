//! The checks on made-up trees: that they see what they should, and nothing else.

use super::arrows::{Arrow, Kind, arrows};
use super::lengths::functions;
use super::read::read;
use super::rooms::{circles, forbidden, rooms, rooms_of_readme};
use super::tree::Sources;

/// Three rooms, of which the lowest but one may not know the lowest.
const LIB: &str = "\
//! A house.
//!
//! - `top`: commands
//! - `middle` (not `low`): work
//! - `sea` (only `low`): decisions
//! - `low`: what all use

pub mod low;
pub mod middle;
pub mod sea;
pub mod top;
";

/// A house of these files, in which the rooms that none of them belongs to are empty.
fn house(files: &[(&str, &str)]) -> Vec<Arrow> {
    let mut sources = Sources::from([("src/lib.rs".to_owned(), LIB.to_owned())]);
    for room in ["low", "middle", "sea", "top"] {
        sources.insert(format!("src/{room}/mod.rs"), String::new());
    }
    sources.extend(files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())));
    arrows(&read(&sources, &[("ogbox", "src/lib.rs")]))
}

/// What is said against a house of these files.
fn faults(files: &[(&str, &str)]) -> Vec<String> {
    forbidden(&rooms(LIB), &house(files))
}

/// `file -> file: item` for each use of an item.
fn uses(files: &[(&str, &str)]) -> Vec<String> {
    let all = house(files).into_iter().filter(|arrow| arrow.kind == Kind::Uses);
    let mut all: Vec<String> = all.map(|arrow| format!("{} -> {}: {}", arrow.from, arrow.to, arrow.item)).collect();
    all.dedup();
    all
}

const TOP: (&str, &str) = ("src/top/mod.rs", "pub mod face;\npub use face::{Face, show as display};");
const FACE: (&str, &str) = ("src/top/face.rs", "pub struct Face;\npub fn show() {}\nmacro_rules! paint { () => {} }");

/// What is said against `text` as the whole of the room `low`, to which `top` is forbidden.
fn against(text: &str) -> Vec<String> {
    faults(&[TOP, FACE, ("src/low/mod.rs", text)])
}

/// What is said of the line that names `path` and so uses `Face`.
fn sentence(line: usize, path: &str) -> String {
    format!("src/low/mod.rs:{line}: {path} is in src/top/face.rs, but `low` stands below `top`")
}

#[test]
fn an_arrow_that_points_up_is_seen_in_a_use() {
    assert!(against("\nuse crate::top::face::Face;").contains(&sentence(2, "crate::top::face::Face")));
}

#[test]
fn an_arrow_that_points_up_is_seen_in_an_expression_and_in_a_type() {
    assert!(against("fn f() { crate::top::face::show() }").contains(&sentence(1, "crate::top::face::show")));
    let generic = "fn f(x: Option<&'static crate::top::face::Face>) -> [u8; 4] { [0; 4] }";
    assert!(against(generic).contains(&sentence(1, "crate::top::face::Face")));
    let qualified = "fn f() { <crate::top::face::Face as Default>::default(); }";
    assert!(against(qualified).contains(&sentence(1, "crate::top::face::Face")));
    assert!(against("fn f() { x(..crate::top::face::Face) }").contains(&sentence(1, "crate::top::face::Face")));
}

#[test]
fn an_arrow_that_points_up_is_seen_through_a_re_export() {
    assert!(against("use crate::top::Face;").contains(&sentence(1, "crate::top::Face")));
    assert!(against("fn f() { crate::top::display() }").contains(&sentence(1, "crate::top::display")));
}

#[test]
fn an_arrow_that_points_up_is_seen_through_super_and_self() {
    assert!(against("fn f() { super::top::face::show() }").contains(&sentence(1, "super::top::face::show")));
    let child = ("src/low/deep.rs", "use super::super::top::face::Face;");
    let said = faults(&[TOP, FACE, ("src/low/mod.rs", "mod deep;"), child]);
    let text = "src/low/deep.rs:1: super::super::top::face::Face is in src/top/face.rs, but `low` stands below `top`";
    assert!(said.contains(&text.to_owned()), "{said:?}");
    assert!(
        against("mod inner { use self::super::super::top::Face; }")
            .contains(&sentence(1, "self::super::super::top::Face"))
    );
}

#[test]
fn an_arrow_that_points_up_is_seen_through_a_glob() {
    let said = against("use crate::top::face::*;\nfn f() -> Face { show() }");
    assert!(said.contains(&sentence(2, "Face")) && said.contains(&sentence(2, "show")), "{said:?}");
    let said = against("use crate::top::*;\nfn f() -> Option<face::Face> { None }");
    assert!(said.contains(&sentence(2, "face::Face")), "{said:?}");
    let through = ("src/top/mod.rs", "pub mod face;\npub use face::*;");
    assert!(
        faults(&[through, FACE, ("src/low/mod.rs", "use crate::top::Face;")])
            .contains(&sentence(1, "crate::top::Face"))
    );
}

#[test]
fn an_arrow_that_points_up_is_seen_in_a_grouped_use() {
    let said = against("use std::{fs, io::{self, Read}};\nuse crate::{low, top::{self,\n    face::{show, Face}}};");
    assert!(said.contains(&sentence(3, "crate::top::face::show")), "{said:?}");
    assert!(said.contains(&sentence(3, "crate::top::face::Face")), "{said:?}");
}

#[test]
fn an_arrow_that_points_up_is_seen_through_a_new_name() {
    let said = against("use crate::top::face as mask;\nfn f() { mask::show() }");
    assert!(said.contains(&sentence(2, "mask::show")), "{said:?}");
    let said = against("use crate::top::face::{self as mask, Face as Other};\nfn f(_: mask::Face) {}");
    assert!(
        said.contains(&sentence(1, "crate::top::face::Face")) && said.contains(&sentence(2, "mask::Face")),
        "{said:?}"
    );
}

#[test]
fn an_arrow_that_points_up_is_seen_in_a_macro() {
    let rules = "macro_rules! m { ($x:expr) => { $crate::top::face::show($x) } }";
    assert!(against(rules).contains(&sentence(1, "crate::top::face::show")));
    assert!(
        against("fn f() { println!(\"{}\", crate::top::face::show()) }")
            .contains(&sentence(1, "crate::top::face::show"))
    );
    let attribute = "#[argh(option, from_str_fn(crate::top::face::show))]\nstruct S;";
    assert!(against(attribute).contains(&sentence(1, "crate::top::face::show")));
}

#[test]
fn an_arrow_that_points_up_is_seen_where_another_crate_names_it() {
    assert!(against("use ogbox::top::Face;").contains(&sentence(1, "ogbox::top::Face")));
    assert!(against("fn f() { ::ogbox::top::display() }").contains(&sentence(1, "::ogbox::top::display")));
}

#[test]
fn naming_a_room_is_knowing_it() {
    let text = "src/low/mod.rs:1: crate::top is in src/top/mod.rs, but `low` stands below `top`";
    assert_eq!(against("use crate::top;"), [text]);
    // An item from below, called by the name of a room above.
    let passed_on = ("src/top/mod.rs", "pub use crate::low::Thing;");
    let said =
        faults(&[passed_on, ("src/low/mod.rs", "pub struct Thing;"), ("src/sea/mod.rs", "use crate::top::Thing;")]);
    let text = "src/sea/mod.rs:1: crate::top::Thing is in src/top/mod.rs, but `sea` stands below `top`";
    assert_eq!(said, [text]);
}

#[test]
fn passing_on_what_is_above_is_an_arrow_that_points_up() {
    assert!(against("pub use crate::top::Face;").contains(&sentence(1, "crate::top::Face")));
    assert!(against("pub(crate) use crate::top::face::*;").iter().any(|said| said.contains("stands below `top`")));
}

#[test]
fn nothing_may_use_what_the_root_defines() {
    let lib = format!("{LIB}pub const VERSION: u8 = 1;\n");
    let said = faults(&[("src/lib.rs", &lib), ("src/top/mod.rs", "use crate::VERSION;")]);
    assert_eq!(said, ["src/top/mod.rs:1: crate::VERSION is in src/lib.rs, but src/lib.rs stands above all rooms"]);
}

#[test]
fn a_forbidden_pair_is_seen() {
    let low = ("src/low/mod.rs", "pub struct Thing;");
    let said = faults(&[low, ("src/middle/mod.rs", "fn f(_: crate::low::Thing) {}")]);
    assert_eq!(
        said,
        ["src/middle/mod.rs:1: crate::low::Thing is in src/low/mod.rs, but `middle` knows nothing of `low`"]
    );
    assert_eq!(faults(&[low, ("src/sea/mod.rs", "fn f(_: crate::low::Thing) {}")]), [""; 0]);
    let only = LIB.replace("only `low`", "only `sky`");
    let said = forbidden(&rooms(&only), &house(&[low, ("src/sea/mod.rs", "use crate::low::Thing;")]));
    assert_eq!(said, ["src/sea/mod.rs:1: crate::low::Thing is in src/low/mod.rs, but `sea` knows only sky"]);
}

#[test]
fn a_room_that_the_list_lacks_is_seen() {
    let short = LIB.replace("//! - `low`: what all use\n", "");
    let said = forbidden(
        &rooms(&short),
        &house(&[("src/low/mod.rs", "pub fn f() {}"), ("src/top/mod.rs", "use crate::low::f;")]),
    );
    assert!(said[0].ends_with("but the list of rooms in src/lib.rs lacks `top` or `low`"), "{said:?}");
}

#[test]
fn arrows_down_are_no_fault() {
    let low = ("src/low/mod.rs", "pub mod deep;\npub use deep::Thing;");
    let deep = ("src/low/deep.rs", "pub struct Thing;\npub mod more { pub fn far() {} }");
    let top = ("src/top/mod.rs", "use crate::low::{self, Thing};\nfn f(_: Thing) { low::deep::more::far() }");
    assert_eq!(faults(&[low, deep, top]), [""; 0]);
    let told = ["src/top/mod.rs -> src/low/deep.rs: Thing", "src/top/mod.rs -> src/low/deep.rs: far"];
    let mut found = uses(&[low, deep, top]);
    found.sort();
    found.dedup();
    assert_eq!(found, told);
}

#[test]
fn a_circle_of_three_files_is_printed_with_what_ties_it() {
    let files = [
        ("src/low/mod.rs", "mod a;\nmod b;\nmod c;\nmod d;"),
        ("src/low/a.rs", "use super::b::B;\npub struct A;"),
        ("src/low/b.rs", "pub struct B;\nfn f() { super::c::c() }"),
        ("src/low/c.rs", "use super::a;\npub fn c() -> a::A { a::A }"),
        ("src/low/d.rs", "use super::a::A;"),
    ];
    let said = circles(&house(&files));
    assert_eq!(
        said,
        ["circle of 3 files, such as src/low/a.rs -> src/low/b.rs -> src/low/c.rs -> src/low/a.rs
    src/low/a.rs:1 -> src/low/b.rs: B
    src/low/b.rs:2 -> src/low/c.rs: c
    src/low/c.rs:2 -> src/low/a.rs: A"]
    );
}

#[test]
fn a_circle_is_seen_through_the_face_of_a_room() {
    let face = ("src/low/mod.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;");
    let both = [face, ("src/low/a.rs", "pub struct A(super::B);"), ("src/low/b.rs", "pub struct B(crate::low::A);")];
    assert_eq!(circles(&house(&both)).len(), 1);
    // What the face itself uses of its child, and the child of it.
    let face = ("src/low/mod.rs", "mod a;\npub use a::A;\npub struct B(A);");
    assert_eq!(circles(&house(&[face, ("src/low/a.rs", "pub struct A(*const super::B);")])).len(), 1);
    let face = ("src/low/mod.rs", "mod a;\npub use a::f;\nfn g() { f() }\npub struct B;");
    assert_eq!(circles(&house(&[face, ("src/low/a.rs", "pub fn f(_: super::B) {}")])).len(), 1);
}

#[test]
fn passing_on_is_no_use_within_a_room() {
    let face = (
        "src/low/mod.rs",
        "mod a;\npub use a::{A, f};\npub struct B { f: u8 }\nfn g(b: B) -> u8 { let f = 1; b.f + f }",
    );
    assert_eq!(circles(&house(&[face, ("src/low/a.rs", "pub struct A(super::B);\npub fn f() {}")])), [""; 0]);
}

#[test]
fn a_macro_ties_files_like_any_item() {
    let root = ("src/low/mod.rs", "macro_rules! m { () => { a::f() } }\nmod a;");
    let said = circles(&house(&[root, ("src/low/a.rs", "pub fn f() { m!() }")]));
    assert!(said[0].contains("src/low/a.rs:1 -> src/low/mod.rs: m"), "{said:?}");
    let passed_on = ("src/low/mod.rs", "mod a;\nmod b;");
    let a = ("src/low/a.rs", "macro_rules! m { () => {} }\npub(crate) use m;\nuse super::b::B;");
    let said = circles(&house(&[passed_on, a, ("src/low/b.rs", "pub struct B;\nfn f() { super::a::m!() }")]));
    assert!(said[0].contains("src/low/b.rs:2 -> src/low/a.rs: m"), "{said:?}");
}

#[test]
fn what_is_for_tests_alone_is_left_out() {
    let up = "use crate::top::face::Face;";
    assert_eq!(against(&format!("#[cfg(test)]\nmod tests {{ {up} fn f() {{ }} }}")), [""; 0]);
    assert_eq!(
        against(&format!("#[cfg(test)]\n#[allow(dead_code)]\npub(crate) mod tests {{ {up} }}\nfn g() {{}}")),
        [""; 0]
    );
    assert_eq!(against(&format!("#[cfg(test)]\n{up}")), [""; 0]);
    assert_eq!(against("#[cfg(all(test, unix))]\nfn f(x: [u8; 4]) { crate::top::face::show() }"), [""; 0]);
    assert_eq!(against("struct S { #[cfg(test)] face: crate::top::Face }"), [""; 0]);
    // The file of such a module need not be there.
    assert_eq!(against("#[cfg(test)]\nmod tests;"), [""; 0]);
    // What follows it counts, and what is for anything but tests.
    assert_ne!(against(&format!("#[cfg(test)]\nmod tests {{ }}\n{up}")), [""; 0]);
    assert_ne!(against(&format!("#[cfg(test)]\nmod tests;\n{up}")), [""; 0]);
    assert_ne!(against(&format!("struct S {{ #[cfg(test)] x: u8 }}\n{up}")), [""; 0]);
    assert_ne!(against(&format!("#[cfg(not(test))]\n{up}")), [""; 0]);
}

#[test]
fn what_only_looks_like_a_path_is_none() {
    let texts = [
        "// use crate::top::Face;\n/* crate::top::Face /* nested */ crate::top::Face */",
        "/// See [`crate::top::Face`].\nfn f() {}",
        r##"const A: &str = "crate::top::Face"; const B: &str = r#"" crate::top::Face "#; const C: &[u8] = b"\" crate::top::Face";"##,
        r#"const A: (char, char, u8) = ('"', '\'', b'"'); fn f<'a>(_: &'a str) {} const B: &str = "crate::top::Face";"#,
        "fn f(x: X) { x.top::<u8>(); x.crate_top.Face }",
        "use std::fs;\nmod top { pub struct Face; }\nfn f() { top::Face; self::top::Face; fs::top::Face; }",
        "fn f<'b>() -> impl Sized + use<'b> { 'b: loop { break 'b } }",
    ];
    for text in texts {
        assert_eq!(against(text), [""; 0], "{text}");
    }
}

#[test]
fn a_name_that_is_a_module_and_a_function_is_both() {
    let low = ("src/low/mod.rs", "pub mod rate;\npub use rate::rate;");
    let rate = ("src/low/rate.rs", "pub fn rate() {}\npub struct Rate;");
    let top = ("src/top/mod.rs", "use crate::low::rate;\nfn f() -> rate::Rate { rate() }");
    assert_eq!(
        uses(&[low, rate, top]),
        ["src/top/mod.rs -> src/low/rate.rs: rate", "src/top/mod.rs -> src/low/rate.rs: Rate"]
    );
}

#[test]
fn what_a_macro_defines_is_its_modules() {
    let low = ("src/low/mod.rs", "codes! { One = 1 }");
    assert_eq!(uses(&[low, ("src/top/mod.rs", "use crate::low::Code;")]), ["src/top/mod.rs -> src/low/mod.rs: Code"]);
}

#[test]
fn uses_in_a_circle_end() {
    let low = ("src/low/mod.rs", "mod a;\nmod b;");
    let files = [
        low,
        ("src/low/a.rs", "pub use super::b::*;"),
        ("src/low/b.rs", "pub use super::a::*;\nfn f() -> Lost { Lost }"),
    ];
    assert_eq!(uses(&files), [""; 0]);
}

#[test]
fn the_readmes_table_is_read() {
    let readme = "# x\n\n## How the house is laid out\n\n| room | what |\n|---|---|\n| `top` | a `b` |\n| `low` | c |\n\n## More\n\n| `no` |\n";
    assert_eq!(rooms_of_readme(readme), ["top", "low"]);
}

#[test]
fn functions_are_measured_from_fn_to_the_brace() {
    let source = "\
/// Not counted.
#[inline]
pub fn outer(
    x: [u8; 4],
) -> impl Fn(u8) -> u8 {
    fn inner() { \"}\"; '}'; }
    // }
}
trait T { fn none(&self); fn given(&self) {} }
type F = fn(u8);
";
    let found: Vec<String> =
        functions("a.rs", source).into_iter().map(|f| format!("{} {}", f.lines, f.place)).collect();
    assert_eq!(found, ["6 a.rs:3: outer", "1 a.rs:6: inner", "1 a.rs:9: given"]);
}
