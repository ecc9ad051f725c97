//! Disk numbers and devices: disk 1 is the first by device number (in the order of `lsblk -x MAJ:MIN`), and its
//! partition 2 is the one that the kernel numbers 2 (OpenGnsys' ogDiskToDev and ogDevToDisk).

use std::path::Path;

use super::device::identity;
use super::{Code, Device, Engine, Error};

impl Engine {
    /// Returns all disks in order, each followed by its partitions.
    ///
    /// # Errors
    /// [`Code::NotFound`]: /proc/partitions cannot be read.
    pub fn disks(&self) -> Result<Vec<Vec<Device>>, Error> {
        let path = self.env.rooted("/proc/partitions");
        let text = std::fs::read_to_string(&path)
            .map_err(|error| Error::new(Code::NotFound, format!("read {}: {error}", path.display())))?;
        let node = |name: &str| self.env.rooted(Path::new("/dev").join(name));
        let numbered = |(at, names): (usize, Vec<(Option<u32>, String)>)| {
            let device = |(partition, name): (Option<u32>, String)| Device {
                disk: at + 1,
                partition,
                path: node(&name.replace('!', "/")),
                name,
            };
            names.into_iter().map(device).collect()
        };
        Ok(sort(&text, self.env.is_moved()).into_iter().enumerate().map(numbered).collect())
    }

    /// Returns the device with these numbers of disk and, if given, partition, as scripts write them.
    ///
    /// # Errors
    /// [`Code::Format`]: they are not numbers. [`Code::NotFound`]: there is no such device.
    pub fn device(&self, disk: &str, partition: Option<&str>) -> Result<Device, Error> {
        let number = |word: &str, what| {
            let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
            let number = if digits { word.parse::<u32>().ok() } else { None };
            number.ok_or_else(|| Error::new(Code::Format, format!("{what} {word} is no number")))
        };
        let (disk, partition) = (number(disk, "disk")?, partition.map(|word| number(word, "partition")).transpose()?);
        let found = self
            .disks()?
            .into_iter()
            .flatten()
            .find(|device| device.disk == disk as usize && device.partition == partition && device.path.exists());
        found.ok_or_else(|| match partition {
            Some(partition) => Error::new(Code::NotFound, format!("disk {disk}, partition {partition}")),
            None => Error::new(Code::NotFound, format!("disk {disk}")),
        })
    }

    /// Returns the disk or partition that `path` refers to.
    ///
    /// # Errors
    /// [`Code::NotFound`]: it refers to no disk.
    pub fn device_of(&self, path: &Path) -> Result<Device, Error> {
        let wanted = identity(&self.env.rooted(path));
        let same = |device: &Device| wanted.is_some() && device.identity() == wanted;
        let found = self.disks()?.into_iter().flatten().find(same);
        found.ok_or_else(|| Error::new(Code::NotFound, path.display().to_string()))
    }
}

/// Kernel names of devices that are not disks: RAM, floppies, CD drives, devices on top of others.
const NO_DISKS: &[&str] = &["ram", "zram", "fd", "sr", "dm-", "nbd"];

/// Returns the names in /proc/partitions by disk, in the order of device numbers. With `loops`, for made-up lists, loop
/// devices are disks too.
fn sort(text: &str, loops: bool) -> Vec<Vec<(Option<u32>, String)>> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = (words.next()?.parse::<u32>().ok()?, words.next()?.parse::<u32>().ok()?);
        Some(((major, minor), words.nth(1)?.to_owned()))
    };
    let is_disk = |name: &str| !NO_DISKS.iter().any(|no| name.starts_with(no)) && (loops || !name.starts_with("loop"));
    let mut all: Vec<((u32, u32), String)> = text.lines().filter_map(line).filter(|(_, name)| is_disk(name)).collect();
    all.sort();
    let disk_of =
        |name: &str| all.iter().find_map(|(_, disk)| partition_number(disk, name).map(|number| (disk.clone(), number)));
    let whole = all.iter().filter(|(_, name)| disk_of(name).is_none());
    whole
        .map(|(_, disk)| {
            let mut parts: Vec<(Option<u32>, String)> = all
                .iter()
                .filter_map(|(_, name)| partition_number(disk, name).map(|number| (Some(number), name.clone())))
                .collect();
            parts.sort();
            parts.insert(0, (None, disk.clone()));
            parts
        })
        .collect()
}

/// Returns the number of the partition `name` if it belongs to `disk`: `sda1`, but `nvme0n1p1` if the disk's name ends
/// in a digit.
fn partition_number(disk: &str, name: &str) -> Option<u32> {
    let rest = name.strip_prefix(disk)?;
    let digits = if disk.ends_with(|last: char| last.is_ascii_digit()) { rest.strip_prefix('p')? } else { rest };
    let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARTITIONS: &str = "major minor  #blocks  name\n\n \
        259        0  500107608 nvme0n1\n 259        1     524288 nvme0n1p1\n 259       11     524288 nvme0n1p10\n \
        259        2     524288 nvme0n1p2\n   8       16  488386584 sdb\n   8        0  488386584 sda\n   \
        8        1     524288 sda1\n   8        4     524288 sda4\n   1        0      65536 ram0\n   \
        7        0      65536 loop0\n  11        0    1048575 sr0\n 253        0    1048575 vda\n 253        \
        1    1048575 vda1\n 254        0    1048575 dm-0\n 179        0    1048575 mmcblk0\n 179        1    \
        1048575 mmcblk0p1\n   9      127    1048575 md127\n 259       20    1048575 md127p1\n   8      256 1 sdq\n \
        bad line\n";

    fn names(loops: bool) -> Vec<String> {
        let text = |(number, name): &(Option<u32>, String)| match number {
            Some(number) => format!("{number}={name}"),
            None => name.clone(),
        };
        let disk = |names: &Vec<(Option<u32>, String)>| names.iter().map(text).collect::<Vec<_>>().join(" ");
        sort(PARTITIONS, loops).iter().map(disk).collect()
    }

    #[test]
    fn disks_are_numbered_by_their_device_numbers() {
        let disks = [
            "sda 1=sda1 4=sda4",
            "sdb",
            "sdq",
            "md127 1=md127p1",
            "mmcblk0 1=mmcblk0p1",
            "vda 1=vda1",
            "nvme0n1 1=nvme0n1p1 2=nvme0n1p2 10=nvme0n1p10",
        ];
        assert_eq!(names(false), disks);
    }

    #[test]
    fn a_loop_device_is_a_disk_where_the_list_is_made_up() {
        assert_eq!(names(true)[0], "loop0");
    }

    #[test]
    fn a_partition_belongs_to_the_disk_whose_name_it_goes_on() {
        for (disk, name, number) in [
            ("sda", "sda1", Some(1)),
            ("sda", "sdaa1", None),
            ("sda", "sda", None),
            ("md1", "md12", None),
            ("md1", "md1p2", Some(2)),
            ("mmcblk0", "mmcblk0boot0", None),
            ("sda", "sda99999999999", None),
        ] {
            assert_eq!(partition_number(disk, name), number, "{name} of {disk}");
        }
    }
}
