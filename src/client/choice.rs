//! Which files of a torrent to download, and in what order: Enhanced CTorrent's `-n LIST`.
//!
//! LIST is groups with commas between them, fetched one after the other; a group is file numbers, from 1, ranges of them
//! (`3-5`) and `*` or `...` for all files, with `+` between them. Enhanced CTorrent takes a part that it does not
//! understand for everything (a number without a file, `x`) or for something else (`5-3`, `1;2`, nothing); here that is
//! an error. As there, a torrent of one file is always downloaded whole.
//!
//! All pieces of a chosen file are fetched. Their bytes that belong to a neighbour are written too, so that the pieces
//! can be served and are not fetched again; other files are not made, where Enhanced CTorrent makes all.

use std::ops::Range;

use crate::torrent::{Bitfield, Geometry, Metainfo};

/// The words for all files: those that remain, where other groups come before.
const REST: [&str; 2] = ["*", "..."];

/// Files that are fetched together.
#[derive(Clone, Debug)]
pub struct Group {
    /// The group as the list spells it; `None` for all files that remain.
    pub name: Option<String>,
    /// Its pieces; in an [`Event`](super::Event), those that were missing.
    pub pieces: Bitfield,
    /// Bytes of those pieces.
    pub bytes: u64,
}

/// The files that are wanted.
pub struct Selection {
    groups: Vec<Group>,
    wanted: Bitfield,
    /// For each file the first group that contains it, from 1; 0 if it was not chosen.
    group: Vec<usize>,
    /// For each file whether it was chosen or shares a piece with a chosen one.
    needed: Vec<bool>,
}

impl Selection {
    /// Reads `list`; without one all files are wanted alike.
    ///
    /// # Errors
    /// A part of the list means nothing, or names a file that the torrent does not have.
    pub fn parse(list: Option<&str>, metainfo: &Metainfo) -> Result<Selection, String> {
        let all = metainfo.files.len();
        let spans = metainfo.spans();
        let mut wanted = Bitfield::new(metainfo.geometry.pieces());
        let (mut groups, mut group) = (Vec::new(), vec![0; all]);
        for name in list.unwrap_or("*").split([',', ' ']).filter(|name| !name.is_empty()) {
            let mut pieces = Bitfield::new(metainfo.geometry.pieces());
            let mut rest = false;
            for part in name.split('+') {
                let (first, last) = range(part, all)?;
                rest |= REST.contains(&part) || !metainfo.multi_file;
                let new = group[first - 1..last].iter_mut().filter(|group| **group == 0);
                new.for_each(|group| *group = groups.len() + 1);
                spans[first - 1..last].iter().cloned().flatten().for_each(|piece| _ = pieces.set(piece));
            }
            wanted.add(&pieces);
            let bytes = metainfo.geometry.bytes_of(&pieces);
            groups.push(Group { name: (!rest).then(|| name.to_owned()), pieces, bytes });
        }
        if groups.is_empty() {
            return Err("no file is named".to_owned());
        }
        let needed =
            |(file, span): (usize, &Range<u32>)| group[file] > 0 || span.clone().any(|piece| wanted.get(piece));
        let needed = spans.iter().enumerate().map(needed).collect();
        Ok(Selection { groups, wanted, group, needed })
    }

    /// Whether `have` lacks something that is wanted.
    pub fn lacks(&self, have: &Bitfield) -> bool {
        !self.wanted.without(have).is_empty()
    }

    /// Whether the file of this number, from 0, was chosen.
    pub fn is_chosen(&self, file: usize) -> bool {
        self.group[file] > 0
    }

    /// Whether all files are wanted alike.
    fn is_plain(&self) -> bool {
        self.groups.first().is_some_and(|group| group.name.is_none())
    }

    /// Returns the group, from 1, of the file of this number, from 0; 0 if it was not chosen, or all are wanted alike.
    pub fn group(&self, file: usize) -> usize {
        if self.is_plain() { 0 } else { self.group[file] }
    }

    /// Returns the first group, from 1, with pieces missing from `have`; 0 if there is none, or all files are wanted alike.
    pub fn current(&self, have: &Bitfield) -> usize {
        let lacks = |group: &Group| !group.pieces.without(have).is_empty();
        if self.is_plain() { 0 } else { self.groups.iter().position(lacks).map_or(0, |at| at + 1) }
    }

    /// Whether the file of this number, from 0, was chosen or has bytes in a wanted piece.
    pub fn needs(&self, file: usize) -> bool {
        self.needed[file]
    }

    /// Returns the pieces of each group in their order.
    pub fn pieces(&self) -> Vec<Bitfield> {
        self.groups.iter().map(|group| group.pieces.clone()).collect()
    }
}

/// Returns the first and the last file, from 1, that a part of a group names.
fn range(part: &str, all: usize) -> Result<(usize, usize), String> {
    if REST.contains(&part) {
        return Ok((1, all));
    }
    let (first, last) = part.split_once('-').unwrap_or((part, part));
    let (Ok(first), Ok(last)) = (first.parse(), last.parse()) else {
        return Err(format!("`{part}` is neither the number of a file nor a range (2-5), nor * for all others"));
    };
    match [first, last].into_iter().find(|number| *number == 0 || *number > all) {
        Some(number) => Err(format!("there is no file {number} in the torrent, but 1 to {all}")),
        None if first > last => Err(format!("`{part}` ends before it begins")),
        None => Ok((first, last)),
    }
}

/// Follows which group is being fetched.
pub struct Guide {
    /// The groups that lacked something in the beginning, with what they lacked; `None` stands for the files that were
    /// not chosen.
    groups: Vec<Option<Group>>,
    /// Groups that have begun.
    begun: usize,
}

impl Guide {
    /// Returns a guide to the pieces that `have` lacks.
    pub fn new(selection: &Selection, geometry: &Geometry, have: &Bitfield) -> Guide {
        let mut guide = Guide { groups: Vec::new(), begun: 0 };
        if selection.is_plain() {
            return guide;
        }
        let mut known = have.clone();
        for group in &selection.groups {
            let pieces = group.pieces.without(&known);
            known.add(&pieces);
            if !pieces.is_empty() {
                let bytes = geometry.bytes_of(&pieces);
                guide.groups.push(Some(Group { name: group.name.clone(), pieces, bytes }));
            }
        }
        if selection.group.contains(&0) {
            guide.groups.push(None);
        }
        guide
    }

    /// Returns the group that begins now that the pieces of `have` are here, if one does.
    pub fn next(&mut self, have: &Bitfield) -> Option<Option<&Group>> {
        let last = self.begun.checked_sub(1).and_then(|last| self.groups[last].as_ref());
        if last.is_some_and(|group| !group.pieces.without(have).is_empty()) {
            return None;
        }
        let group = self.groups.get(self.begun)?;
        self.begun += 1;
        Some(group.as_ref())
    }

    /// Whether every group has begun.
    pub fn is_over(&self) -> bool {
        self.begun == self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files of 10, 0, 20, 5 and 16 bytes in pieces of 16.
    fn metainfo() -> Metainfo {
        let files =
            [10, 0, 20, 5, 16].iter().zip(1..).map(|(length, at)| format!("d6:lengthi{length}e4:pathl1:{at}ee"));
        let files: String = files.collect();
        let torrent =
            format!("d8:announce1:u4:infod5:filesl{files}e4:name1:n12:piece lengthi16e6:pieces80:{}ee", "a".repeat(80));
        Metainfo::parse(torrent.as_bytes()).expect("a torrent")
    }

    fn pieces(list: &str) -> Vec<Vec<u32>> {
        let selection = Selection::parse(Some(list), &metainfo()).expect("a list");
        selection.groups.iter().map(|group| group.pieces.iter_ones().collect()).collect()
    }

    #[test]
    fn groups_have_the_pieces_of_their_files() {
        assert_eq!(pieces("1"), [[0]]);
        assert_eq!(pieces("5,1+3-4"), [vec![2, 3], vec![0, 1, 2]]);
        assert_eq!(pieces("2"), [[0; 0]]);
        assert_eq!(pieces(", 01,,4 1,"), [[0], [1], [0]].map(|[piece]| if piece == 1 { vec![1, 2] } else { vec![0] }));
        for rest in ["*", "...", "3+*"] {
            assert_eq!(pieces(&format!("5,{rest}")), [vec![2, 3], vec![0, 1, 2, 3]], "{rest}");
            assert_eq!(pieces(rest), [[0, 1, 2, 3]], "{rest}");
        }
    }

    #[test]
    fn files_are_made_where_they_were_chosen_or_share_a_piece_with_one_that_was() {
        let selection = Selection::parse(Some("2,4"), &metainfo()).expect("a list");
        assert_eq!([0, 1, 2, 3, 4].map(|file| selection.is_chosen(file)), [false, true, false, true, false]);
        assert_eq!([0, 1, 2, 3, 4].map(|file| selection.needs(file)), [false, true, true, true, true]);
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for wrong in ["", ",", "x", "0", "6", "1-6", "3-2", "3-", "-3", "1--2", "1;2", "1.5", "1+", "+1", "*1", "1,x"] {
            assert!(Selection::parse(Some(wrong), &metainfo()).is_err(), "{wrong}");
        }
    }

    fn begun(guide: &mut Guide, have: &Bitfield) -> Option<Option<(String, u64)>> {
        let described = |group: &Group| (group.name.clone().unwrap_or_else(|| "rest".to_owned()), group.bytes);
        guide.next(have).map(|group| group.map(described))
    }

    #[test]
    fn each_group_begins_when_those_before_are_here() {
        let (metainfo, mut have) = (metainfo(), Bitfield::new(4));
        let selection = Selection::parse(Some("1,2,3+4,1"), &metainfo).expect("a list");
        let mut guide = Guide::new(&selection, &metainfo.geometry, &have);
        assert_eq!(begun(&mut guide, &have), Some(Some(("1".to_owned(), 16))));
        assert_eq!(begun(&mut guide, &have), None);
        have.set(0);
        assert_eq!(begun(&mut guide, &have), Some(Some(("3+4".to_owned(), 32))));
        have.set(2);
        assert!(begun(&mut guide, &have).is_none() && !guide.is_over());
        have.set(1);
        assert_eq!(begun(&mut guide, &have), Some(None), "the files that were not chosen");
        assert!(begun(&mut guide, &have).is_none() && guide.is_over());

        let selection = Selection::parse(Some("1,*"), &metainfo).expect("a list");
        let mut guide = Guide::new(&selection, &metainfo.geometry, &have);
        assert_eq!(begun(&mut guide, &have), Some(Some(("rest".to_owned(), 3))));
        assert!(guide.is_over());
        for all in [None, Some("*"), Some("...,1")] {
            let selection = Selection::parse(all, &metainfo).expect("a list");
            assert!(selection.lacks(&have) && Guide::new(&selection, &metainfo.geometry, &have).is_over(), "{all:?}");
        }
    }
}
