//! The rooms, their order and what the arrows between and within them may be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::arrows::{Arrow, Kind};

/// Which of the rooms below it a room may know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Knows {
    /// All but these.
    AllBut(Vec<String>),
    /// These alone.
    Only(Vec<String>),
}

/// A room: a folder of `src`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// The folder's name.
    pub name: String,
    /// What of the rooms below it may be known.
    pub knows: Knows,
}

/// Rooms in the order that the head comment of `src/lib.rs` gives, uppermost first: lines of the form ``- `name`: what
/// it is``, ``- `name` (not `other`, `third`): …`` or ``- `name` (only `other`): …``.
///
/// # Panics
///
/// Panics at a line of another form.
pub fn rooms(lib: &str) -> Vec<Room> {
    let lines = lib.lines().map_while(|line| line.strip_prefix("//!"));
    lines.filter_map(|line| line.strip_prefix(" - ")).map(room).collect()
}

fn room(line: &str) -> Room {
    let (head, _) = line.split_once(": ").unwrap_or_else(|| panic!("src/lib.rs: no colon after a room's name: {line}"));
    let mut quoted = head.split('`').skip(1).step_by(2).map(str::to_owned);
    let name = quoted.next().unwrap_or_else(|| panic!("src/lib.rs: no room's name in backticks: {line}"));
    let others = quoted.collect();
    let knows = if head.contains("(only ") { Knows::Only(others) } else { Knows::AllBut(others) };
    Room { name, knows }
}

/// Rooms in the order of the table in the README's section about them.
pub fn rooms_of_readme(readme: &str) -> Vec<String> {
    let section = readme.split("\n## ").find(|section| section.starts_with("How the house is laid out"));
    let rows = section.unwrap_or_default().lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name.to_owned()).collect()
}

/// The room of a file; `None` for those right in `src`, which stand above all rooms.
fn room_of(file: &str) -> Option<&str> {
    file.strip_prefix("src/")?.split_once('/').map(|(room, _)| room)
}

/// A sentence for each arrow between rooms that may not be.
pub fn forbidden(rooms: &[Room], arrows: &[Arrow]) -> Vec<String> {
    let mut faults = BTreeSet::new();
    for arrow in arrows {
        let Some(from) = room_of(&arrow.from) else { continue };
        let why = match room_of(&arrow.to) {
            Some(to) if from == to => continue,
            Some(to) => why_not(rooms, from, to),
            // A path through the root names no room of its own.
            None if arrow.kind == Kind::Names => continue,
            None => Some(format!("{} stands above all rooms", arrow.to)),
        };
        if let Some(why) = why {
            faults.insert(format!("{}:{}: {} is in {}, but {why}", arrow.from, arrow.line, arrow.path, arrow.to));
        }
    }
    faults.into_iter().collect()
}

/// Why the room `from` may not know the room `to`; `None` if it may.
fn why_not(rooms: &[Room], from: &str, to: &str) -> Option<String> {
    let place = |name: &str| rooms.iter().position(|room| room.name == name);
    let (Some(upper), Some(lower)) = (place(from), place(to)) else {
        return Some(format!("the list of rooms in src/lib.rs lacks `{from}` or `{to}`"));
    };
    if lower < upper {
        return Some(format!("`{from}` stands below `{to}`"));
    }
    let to = to.to_owned();
    match &rooms[upper].knows {
        Knows::AllBut(others) if others.contains(&to) => Some(format!("`{from}` knows nothing of `{to}`")),
        Knows::Only(others) if !others.contains(&to) => Some(format!("`{from}` knows only {}", others.join(", "))),
        _ => None,
    }
}

/// A paragraph for each set of files of one room of which each uses each other, through others or not: a shortest
/// circle, then each arrow between files of the set with the names that tie it.
pub fn circles(arrows: &[Arrow]) -> Vec<String> {
    let mut uses: BTreeMap<&str, BTreeMap<&str, Vec<&Arrow>>> = BTreeMap::new();
    for arrow in arrows {
        if arrow.kind == Kind::Uses && room_of(&arrow.from) == room_of(&arrow.to) {
            uses.entry(&arrow.from).or_default().entry(&arrow.to).or_default().push(arrow);
        }
    }
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut faults = Vec::new();
    for &file in uses.keys() {
        if told.contains(file) {
            continue;
        }
        let Some(shortest) = way(&uses, file, file) else { continue };
        let set: BTreeSet<&str> =
            uses.keys().copied().filter(|&other| other == file || ties(&uses, file, other)).collect();
        faults.push(paragraph(&uses, &shortest, &set));
        told.extend(set);
    }
    faults
}

type Uses<'a> = BTreeMap<&'a str, BTreeMap<&'a str, Vec<&'a Arrow>>>;

fn ties(uses: &Uses, one: &str, other: &str) -> bool {
    way(uses, one, other).is_some() && way(uses, other, one).is_some()
}

/// A shortest way of one arrow or more, both ends included.
fn way<'a>(uses: &Uses<'a>, from: &str, to: &str) -> Option<Vec<&'a str>> {
    let mut came: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([*uses.get_key_value(from)?.0]);
    let start = queue[0];
    while let Some(file) = queue.pop_front() {
        for &next in uses.get(file).into_iter().flat_map(BTreeMap::keys) {
            if next == to {
                let mut way = vec![next, file];
                while way[way.len() - 1] != start {
                    way.push(came[way[way.len() - 1]]);
                }
                way.reverse();
                return Some(way);
            }
            if next != start && !came.contains_key(next) {
                came.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}

fn paragraph(uses: &Uses, shortest: &[&str], set: &BTreeSet<&str>) -> String {
    let mut text = format!("circle of {} files, such as {}", set.len(), shortest.join(" -> "));
    for (from, all) in uses.iter().filter(|(from, _)| set.contains(*from)) {
        for (to, arrows) in all.iter().filter(|(to, _)| set.contains(*to)) {
            let names: BTreeSet<&str> = arrows.iter().map(|arrow| arrow.item.as_str()).collect();
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            text += &format!("\n    {from}:{} -> {to}: {names}", arrows[0].line);
        }
    }
    text
}
