// SPDX-License-Identifier: Apache-2.0
//! Where a process goes that joins a running container. Called by `exec`.

use std::os::fd::{AsFd, BorrowedFd};

use super::path::{Dir, Hierarchy};
use super::{Cgroup, move_to, systemd};
use crate::error::{Error, Kind, Result, Told};
use crate::linux::types::Errno;
use crate::linux::{probe, proc};
use crate::plan::resources::path::SubCgroup;
use crate::plan::resources::{SavedDir, SavedUnit, Tree};

/// The cgroups for one process, open.
pub struct Place {
    v2: Option<Dir>,
    v1: Vec<Dir>,
    /// Moved by the user's systemd: the user may not move a process from a cgroup that is not his own.
    unit: Option<(SavedUnit, String)>,
}

impl Place {
    /// The directory that clone3(2) can put the process into; [`Place::enter`] does the rest.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Whether clone3(2) alone is not enough: the process has to be moved.
    pub fn moves(&self) -> bool {
        !self.v1.is_empty() || self.unit.is_some()
    }

    /// Moves a process into every cgroup but the one that clone3(2) has put it into.
    pub fn enter(&self, pid: i32, cloned_into: bool) -> Result<()> {
        if let Some((unit, below)) = &self.unit {
            systemd::attach(unit, below, pid)?;
        }
        self.v2.iter().filter(|_| !cloned_into).chain(&self.v1).try_for_each(|dir| move_to(dir, pid))
    }
}

impl Cgroup {
    /// Where a process that joins the container goes: its cgroup, or that cgroup's children where `subs` ask for them. A container that
    /// gives its own cgroup over to children (systemd does) takes it where its first process, `init`, is. A caller that is in the
    /// container's cgroup already, or below, has chosen the place itself.
    pub fn exec_place(mut self, init: i32, subs: &[SubCgroup]) -> Result<Place> {
        let v1 = self.saved.v1.iter().zip(&self.v1).filter_map(|(saved, dir)| {
            let wanted = |sub: &&SubCgroup| {
                sub.controllers.is_empty() || sub.controllers.iter().any(|name| saved.controllers.contains(name))
            };
            dir.as_ref().map(|dir| below(dir, subs.iter().rfind(wanted)))
        });
        let v1 = v1.collect::<Result<Vec<Dir>>>()?;
        let known = |name: &String| self.saved.v1.iter().any(|saved| saved.controllers.contains(name));
        if let Some(name) = subs.iter().flat_map(|sub| &sub.controllers).find(|name| !known(name)) {
            return Err(Error::new(Kind::Unsupported, format!("unknown controller {name} in SubCgroupPaths (--cgroup)"))
                .hint("controllers can be named only where cgroup v1 is mounted"));
        }
        let (Some(saved), Some(dir)) = (&self.saved.v2, &self.v2) else { return Ok(Place { v2: None, v1, unit: None }) };
        let sub = subs.iter().rfind(|sub| sub.controllers.is_empty());
        if sub.is_none() && is_below(&probe::own_cgroup(), &saved.path) {
            return Ok(Place { v2: None, v1, unit: None });
        }
        let elsewhere = match sub {
            None if self.saved.leaf.is_some() || gives_way(dir)? => Some(of_init(saved, init)?),
            None => None,
            sub => Some(below(dir, sub)?),
        };
        if let Some(unit) = self.saved.unit.as_ref().filter(|unit| unit.runtime_dir.is_some()) {
            let below = elsewhere.as_ref().and_then(|v2| v2.path().strip_prefix(dir.path())).unwrap_or_default().to_string();
            return Ok(Place { v2: None, v1, unit: Some((unit.clone(), below)) });
        }
        Ok(Place { v2: elsewhere.or_else(|| self.v2.take()), v1, unit: None })
    }
}

/// The cgroup that one `--cgroup` means; the container's own without.
fn below(dir: &Dir, sub: Option<&SubCgroup>) -> Result<Dir> {
    let path = sub.map_or("", |sub| sub.path.as_str());
    dir.below(path).told(|| format!("error adding pid to cgroups: cannot open {path} below {}", dir.path())).map_err(|error| {
        match error.errno {
            Some(Errno::ENOENT) => error.hint("--cgroup takes a cgroup that exists"),
            _ => error,
        }
    })
}

fn is_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A cgroup that passes controllers on to children can have no processes.
fn gives_way(dir: &Dir) -> Result<bool> {
    match dir.read_if_any("cgroup.subtree_control") {
        Ok(passed_on) => Ok(passed_on.is_some_and(|names| !names.trim().is_empty())),
        Err(error) => Err(error).told(|| format!("cannot read cgroup.subtree_control of {}", dir.path())),
    }
}

/// The cgroup of the container's first process, which must be below the container's own: /proc is believed no further than that.
fn of_init(saved: &SavedDir, init: i32) -> Result<Dir> {
    let what = || format!("cannot find the cgroup of process {init}");
    let lines = proc::cgroups(init).told(what)?;
    let path = lines.into_iter().find(|line| line.controllers.is_empty()).map(|line| line.path).unwrap_or_default();
    if !is_below(&path, &saved.path) {
        return Err(Error::new(Kind::Status, format!("{} in the container's: it is in {path:?}", what()))
            .hint("the container's cgroup has children with controllers, and can have no processes itself: use --cgroup"));
    }
    Hierarchy::open(&saved.mount, Tree::V2)?.dir(&path).told(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_is_not_beside() {
        assert!(is_below("/a/b", "/a/b") && is_below("/a/b/c", "/a/b"));
        assert!(!is_below("/a/bc", "/a/b") && !is_below("/a", "/a/b"));
    }
}
