//! `-n LIST`: which files of a torrent to download, and in what order.
//!
//! LIST is groups with commas between them, fetched one after the other; a group is file numbers as `-x` shows them,
//! ranges of them (`3-5`) and `*` or `...`, all files, with `+` between them. It is what the namesake takes. Where that
//! takes what it does not understand for everything (a number that no file has, `x`) or for something else (`5-3`, `1;2`,
//! nothing), it is refused here. As there, a torrent of one file is downloaded as ever.
//!
//! Of a chosen file all pieces are fetched. What of them belongs to a neighbour is written too, so that they can be given
//! to others and are not fetched again; other files that were not chosen are not made, where the namesake makes all.

use std::ops::Range;

use super::info;
use crate::torrent::{Bitfield, Metainfo};

/// The words for all files, which are those that remain where others come before.
const REST: [&str; 2] = ["*", "..."];

/// Files that are fetched together.
struct Group {
    /// As it was given; none when it is all that remain.
    name: Option<String>,
    pieces: Bitfield,
}

/// The files that are wanted.
pub struct Selection {
    groups: Vec<Group>,
    wanted: Bitfield,
    /// By file: the first group that it is in, from 1; 0: it was not chosen.
    group: Vec<usize>,
    /// By file: it was chosen, or a piece of one that was is in it.
    needed: Vec<bool>,
}

impl Selection {
    /// Reads `list`; without one all files are wanted alike.
    ///
    /// # Errors
    /// It cannot be read, or no such file is in the torrent.
    pub fn parse(list: Option<&str>, metainfo: &Metainfo) -> Result<Selection, String> {
        let all = metainfo.files.len();
        let spans = info::spans(metainfo);
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
            groups.push(Group { name: (!rest).then(|| name.to_owned()), pieces });
        }
        if groups.is_empty() {
            return Err("no file is named".to_owned());
        }
        let needed =
            |(file, span): (usize, &Range<u32>)| group[file] > 0 || span.clone().any(|piece| wanted.get(piece));
        let needed = spans.iter().enumerate().map(needed).collect();
        Ok(Selection { groups, wanted, group, needed })
    }

    /// Something that is wanted is not in `have`.
    pub fn lacks(&self, have: &Bitfield) -> bool {
        !self.wanted.without(have).is_empty()
    }

    /// The file of this number, from 0, was chosen.
    pub fn is_chosen(&self, file: usize) -> bool {
        self.group[file] > 0
    }

    /// All files are wanted alike.
    fn is_plain(&self) -> bool {
        self.groups.first().is_some_and(|group| group.name.is_none())
    }

    /// The group of the file of this number, from 0; groups count from 1. 0: it was not chosen, or all are wanted alike.
    pub fn group(&self, file: usize) -> usize {
        if self.is_plain() { 0 } else { self.group[file] }
    }

    /// The first group, from 1, that lacks something beside `have`; 0: none does, or all files are wanted alike.
    pub fn current(&self, have: &Bitfield) -> usize {
        let lacks = |group: &Group| !group.pieces.without(have).is_empty();
        if self.is_plain() { 0 } else { self.groups.iter().position(lacks).map_or(0, |at| at + 1) }
    }

    /// The file of this number, from 0, has bytes in a piece that is wanted, or was chosen.
    pub fn needs(&self, file: usize) -> bool {
        self.needed[file]
    }

    /// The pieces of each group, the first first.
    pub fn pieces(&self) -> Vec<Bitfield> {
        self.groups.iter().map(|group| group.pieces.clone()).collect()
    }
}

/// The first and the last file, from 1, that a part of a group names.
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

/// Says which group is being fetched.
pub struct Guide {
    /// Those that lacked something in the beginning: what is said of them, and what they lacked.
    groups: Vec<(String, Bitfield)>,
    /// How many of them were told of.
    told: usize,
}

impl Guide {
    /// A guide to what is not in `have`.
    pub fn new(selection: &Selection, metainfo: &Metainfo, have: &Bitfield) -> Guide {
        let mut guide = Guide { groups: Vec::new(), told: 0 };
        if selection.is_plain() {
            return guide;
        }
        let mut known = have.clone();
        for group in &selection.groups {
            let missing = group.pieces.without(&known);
            known.add(&missing);
            let what = match &group.name {
                Some(name) => format!("file(s): {name}"),
                None => "remaining files".to_owned(),
            };
            if !missing.is_empty() {
                let bytes = metainfo.geometry.bytes_of(&missing);
                let what = format!("Downloading {what}\nPieces: {} ({bytes} bytes)\n", missing.count());
                guide.groups.push((what, missing));
            }
        }
        if selection.group.contains(&0) {
            guide.groups.push(("End of download files list.\n".to_owned(), Bitfield::new(0)));
        }
        guide
    }

    /// What is to be said now that the pieces of `have` are here; none when there is nothing new.
    pub fn next(&mut self, have: &Bitfield) -> Option<&str> {
        if let Some((_, missing)) = self.groups[..self.told].last_mut() {
            missing.remove(have);
            if !missing.is_empty() {
                return None;
            }
        }
        let (what, _) = self.groups.get(self.told)?;
        self.told += 1;
        Some(what)
    }

    /// Everything was said.
    pub fn is_over(&self) -> bool {
        self.told == self.groups.len()
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

    #[test]
    fn each_group_is_told_of_when_those_before_are_here() {
        let (metainfo, mut have) = (metainfo(), Bitfield::new(4));
        let selection = Selection::parse(Some("1,2,3+4,1"), &metainfo).expect("a list");
        let mut guide = Guide::new(&selection, &metainfo, &have);
        assert_eq!(guide.next(&have), Some("Downloading file(s): 1\nPieces: 1 (16 bytes)\n"));
        assert_eq!(guide.next(&have), None);
        have.set(0);
        assert_eq!(guide.next(&have), Some("Downloading file(s): 3+4\nPieces: 2 (32 bytes)\n"));
        have.set(2);
        assert!(guide.next(&have).is_none() && !guide.is_over());
        have.set(1);
        assert_eq!(guide.next(&have), Some("End of download files list.\n"));
        assert!(guide.next(&have).is_none() && guide.is_over());

        let selection = Selection::parse(Some("1,*"), &metainfo).expect("a list");
        let mut guide = Guide::new(&selection, &metainfo, &have);
        assert_eq!(guide.next(&have), Some("Downloading remaining files\nPieces: 1 (3 bytes)\n"));
        assert!(guide.is_over());
        for all in [None, Some("*"), Some("...,1")] {
            let selection = Selection::parse(all, &metainfo).expect("a list");
            assert!(selection.lacks(&have) && Guide::new(&selection, &metainfo, &have).is_over(), "{all:?}");
        }
    }
}
