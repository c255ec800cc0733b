// SPDX-License-Identifier: Apache-2.0
//! `state` and `list`: what the kernel and the saved states say (runtime.md, Query State).

use super::state::Shown;
use super::store::Store;
use crate::error::Result;
use crate::linux::fd;
use crate::plan::Id;

/// The state of one container.
pub fn state(store: &Store, id: &Id) -> Result<Shown> {
    let entry = store.get(id)?;
    let state = entry.load()?;
    Ok(Shown::new(&state, entry.status(&state)))
}

/// The state of every container; one that is half made, or goes while we look, is passed over.
pub fn list(store: &Store) -> Result<Vec<Shown>> {
    let mut all = Vec::new();
    let passwd = fd::read_file_bounded("/etc/passwd", 4 << 20).unwrap_or_default();
    for id in store.ids()? {
        let Ok(entry) = store.get(&id) else { continue };
        let Ok(state) = entry.load() else { continue };
        let mut shown = Shown::new(&state, entry.status(&state));
        shown.owner = owner(&String::from_utf8_lossy(&passwd), state.owner);
        all.push(shown);
    }
    Ok(all)
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
