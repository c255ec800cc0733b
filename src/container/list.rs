// SPDX-License-Identifier: Apache-2.0
//! `state` and `list`: what the kernel and the saved states say (runtime.md, Query State).

use std::time::Duration;

use super::state::Shown;
use super::store::Store;
use crate::cgroup::Frozen;
use crate::error::{Kind, Result, Told};
use crate::linux::fd;
use crate::linux::types::Errno;
use crate::plan::Id;

/// The state of one container.
pub fn state(store: &Store, id: &Id) -> Result<Shown> {
    let entry = store.get(id)?;
    let (state, status) = entry.settle(entry.load()?)?;
    Ok(Shown::of(state, status))
}

/// The state of every container; one that goes while we look is passed over.
pub fn list(store: &Store) -> Result<Vec<Shown>> {
    let mut all = Vec::new();
    let passwd = fd::read_file_bounded("/etc/passwd", 4 << 20).unwrap_or_default();
    let mut frozen = Frozen::default();
    // Mostly one user has made them all.
    let mut known: Option<(u32, String)> = None;
    for id in store.ids()? {
        let found = match at_a_glance(store, &id, &mut frozen) {
            None => shown(store, &id)?,
            found => found,
        };
        let Some((mut shown, uid)) = found else { continue };
        let name = match known {
            Some((last, ref name)) if last == uid => name,
            _ => &known.insert((uid, owner(&String::from_utf8_lossy(&passwd), uid))).1,
        };
        shown.owner.clone_from(name);
        all.push(shown);
    }
    Ok(all)
}

/// A container whose state is there and whole, which is read from the state root, and the user who made it: with as few calls as can be,
/// since there may be thousands.
fn at_a_glance(store: &Store, id: &Id, frozen: &mut Frozen) -> Option<(Shown, u32)> {
    let state = store.glance(id)?;
    let status = store.status_at_a_glance(id, &state, frozen).ok()?;
    let owner = state.owner;
    Some((Shown::of(state, status), owner))
}

/// How often, and how long apart, a container without a state is looked at again: it may be being made, or deleted, this very moment.
const LOOKS: u32 = 5;
const APART: Duration = Duration::from_millis(10);

/// A container as it is shown, and the user who made it. One whose state is missing or damaged is there all the same: its id is taken, its
/// process may run, and somebody has to see it to delete it by force. None where there is no container, or no more.
fn shown(store: &Store, id: &Id) -> Result<Option<(Shown, u32)>> {
    let there = || match store.get(id) {
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        // A file or a link: somebody else's.
        Err(error) if matches!(error.errno, Some(Errno::ENOTDIR | Errno::ELOOP)) => Ok(None),
        entry => entry.map(Some),
    };
    for _ in 0..LOOKS {
        let Some(entry) = there()? else { return Ok(None) };
        match entry.load() {
            Ok(state) => {
                let (state, status) = entry.settle(state)?;
                let owner = state.owner;
                return Ok(Some((Shown::of(state, status), owner)));
            }
            Err(error) if error.kind == Kind::NotFound => std::thread::sleep(APART),
            Err(_) => break,
        }
    }
    let Some(entry) = there()? else { return Ok(None) };
    let uid = fd::stat(&entry).told(|| format!("cannot look at the state of {id}"))?.uid;
    Ok(Some((Shown::unknown(id), uid)))
}

/// The name of a user of this host, or `#uid`.
fn owner(passwd: &str, uid: u32) -> String {
    let named = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_string())
    });
    named.unwrap_or_else(|| format!("#{uid}"))
}

#[cfg(test)]
mod tests {
    use super::owner;

    #[test]
    fn owners_by_name_where_there_is_one() {
        let passwd = "root:x:0:0::/root:/bin/sh\nbad\nme:x:1000:1000::/:/bin/sh\n";
        assert_eq!((owner(passwd, 0), owner(passwd, 1000), owner(passwd, 7)), ("root".into(), "me".into(), "#7".into()));
    }
}
