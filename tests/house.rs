//! The house rules that a program can check: which file may use which, and how long things are.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

mod house {
    pub mod arrows;
    pub mod lengths;
    pub mod lex;
    mod made_up;
    pub mod read;
    pub mod rooms;
    pub mod tree;
}

use house::arrows::{Arrow, arrows};
use house::lengths::functions;
use house::read::read;
use house::rooms::{Room, circles, forbidden, rooms, rooms_of_readme};
use house::tree::Sources;

/// Lines that the longest function may have.
const LONGEST_FUNCTION: usize = 70;
/// Lines that `src/applets` may have in all.
const APPLETS: usize = 7_500;
/// The crates: what others call them, and their root files.
const CRATES: [(&str, &str); 3] = [("kernels", "src/kernels/lib.rs"), ("ogbox", "src/lib.rs"), ("", "src/main.rs")];

/// Sources of the project below a folder.
fn sources(folder: &str) -> Sources {
    let mut found = Sources::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), folder, &mut found);
    found
}

fn collect(project: &Path, folder: &str, found: &mut Sources) {
    for entry in fs::read_dir(project.join(folder)).expect(folder) {
        let entry = entry.expect(folder);
        let path = format!("{folder}/{}", entry.file_name().to_str().expect("a name in UTF-8"));
        if entry.file_type().expect("its kind").is_dir() {
            collect(project, &path, found);
        } else if path.ends_with(".rs") {
            found.insert(path, fs::read_to_string(entry.path()).expect("a source in UTF-8"));
        }
    }
}

fn project_file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).expect(name)
}

fn our_rooms() -> Vec<Room> {
    rooms(&project_file("src/lib.rs"))
}

fn our_arrows() -> Vec<Arrow> {
    arrows(&read(&sources("src"), &CRATES))
}

/// Fails with what is at fault, a line each.
fn none(faults: &[String]) {
    assert!(faults.is_empty(), "{} at fault:\n{}\n", faults.len(), faults.join("\n"));
}

#[test]
fn the_list_of_rooms_has_each_folder_of_src() {
    let listed: BTreeSet<String> = our_rooms().into_iter().map(|room| room.name).collect();
    let files = sources("src");
    let folders = files.keys().filter_map(|file| file.strip_prefix("src/")?.split_once('/'));
    let folders: BTreeSet<String> = folders.map(|(room, _)| room.to_owned()).collect();
    assert_eq!(listed, folders, "left: the list at the head of src/lib.rs; right: the folders of src");
}

#[test]
fn the_readme_has_the_rooms_in_the_same_order() {
    let listed: Vec<String> = our_rooms().into_iter().map(|room| room.name).collect();
    let table = rooms_of_readme(&project_file("README.md"));
    assert_eq!(table, listed, "left: the README's table; right: the list at the head of src/lib.rs");
}

#[test]
fn every_source_is_declared_by_a_mod_line() {
    let files = sources("src");
    let tree = read(&files, &CRATES);
    let known: BTreeSet<&str> = tree.modules.iter().map(|module| module.file.as_str()).collect();
    let of_tests = |file: &str| {
        tree.tests
            .iter()
            .any(|module| file.strip_prefix(module.as_str()).is_some_and(|rest| rest.starts_with(['.', '/'])))
    };
    let lost = files.keys().filter(|file| !known.contains(file.as_str()) && !of_tests(file));
    none(&lost.cloned().collect::<Vec<_>>());
}

#[test]
fn arrows_between_rooms_point_down_and_to_what_a_room_may_know() {
    none(&forbidden(&our_rooms(), &our_arrows()));
}

#[test]
fn no_room_has_a_circle_of_files() {
    none(&circles(&our_arrows()));
}

#[test]
fn no_function_is_too_long() {
    let folders = ["src", "tests", "benches", "examples"];
    let mut found = Vec::new();
    for (file, source) in folders.iter().flat_map(|folder| sources(folder)) {
        found.extend(functions(&file, &source).into_iter().filter(|function| function.lines > LONGEST_FUNCTION));
    }
    found.sort();
    let found: Vec<String> = found.iter().rev().map(|long| format!("{} lines: {}", long.lines, long.place)).collect();
    none(&found);
}

#[test]
fn the_applets_are_thin() {
    let files = sources("src/applets");
    let lines: usize = files.values().map(|source| source.lines().count()).sum();
    assert!(lines <= APPLETS, "src/applets has {lines} lines; {APPLETS} are allowed");
}
