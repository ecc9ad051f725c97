//! Gives up root: becomes an ordinary user, looked up by name in /etc/passwd and /etc/group.

use std::fs;
use std::io;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};

/// A user's ids.
#[derive(Debug, PartialEq, Eq)]
struct User {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// Becomes `name` for good, unless this process runs as that user already. Must be called while there is only one
/// thread: others keep their ids.
///
/// # Errors
/// There is no such user, or this process may not become another.
pub fn become_user(name: &str) -> io::Result<()> {
    let (passwd, group) = (fs::read_to_string("/etc/passwd")?, fs::read_to_string("/etc/group").unwrap_or_default());
    let user = find(name, &passwd, &group).ok_or_else(|| io::Error::other("no such user"))?;
    if rustix::process::getuid().as_raw() == user.uid {
        return Ok(());
    }
    let groups: Vec<Gid> = user.groups.into_iter().map(Gid::from_raw).collect();
    // The user last: without root none of the other ids can be changed.
    set_thread_groups(&groups)?;
    set_thread_gid(Gid::from_raw(user.gid))?;
    set_thread_uid(Uid::from_raw(user.uid))?;
    Ok(())
}

fn find(name: &str, passwd: &str, group: &str) -> Option<User> {
    let fields = |line: &'_ str| -> Vec<String> { line.split(':').map(str::to_owned).collect() };
    let user = passwd.lines().map(fields).find(|user| user.len() >= 4 && user[0] == name)?;
    let (uid, gid) = (user[2].parse().ok()?, user[3].parse().ok()?);
    let member = |group: &Vec<String>| group.len() >= 4 && group[3].split(',').any(|one| one.trim() == name);
    let others = group.lines().map(fields).filter(member).filter_map(|group| group[2].parse().ok());
    Some(User { uid, gid, groups: std::iter::once(gid).chain(others).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_with_all_groups() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nog:x:112:65534::/:/bin/false\n";
        let group = "root:x:0:\nimages:x:50:og,other\nogs:x:51:ogre\nlab:x:52:other,og\n";
        assert_eq!(find("og", passwd, group), Some(User { uid: 112, gid: 65534, groups: vec![65534, 50, 52] }));
        assert_eq!(find("o", passwd, group), None);
    }
}
