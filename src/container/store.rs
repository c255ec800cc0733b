// SPDX-License-Identifier: Apache-2.0
//! Where states are kept: the state root, one directory for each container, opened once and then used by descriptor only.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, ResolveFlag};

use super::bundle::CONFIG_MAX;
use super::identity::Identity;
use super::journal::{self, Part};
use super::mounts;
use super::runc_fields::{self, WithRuncFields};
use super::state::{Signs, State, Status, VERSION, status};
use crate::cgroup::Frozen;
use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::fd;
use crate::linux::types::Errno;
use crate::plan::Id;
use crate::process::gate;
use crate::spec::types::Mount;
use crate::spec::write::to_line;

/// The largest state file that is read: it is ours, and a container's annotations are in it.
const STATE_MAX: usize = 16 << 20;
/// What most states take.
const ROOM: usize = 2048;
/// The file's name.
const STATE: &str = "state.json";
/// How it is opened. What is there in its place, be it a FIFO, is no state, and not waited for.
const READING: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY);

/// The state root.
#[derive(Debug)]
pub struct Store {
    root: OwnedFd,
    path: String,
}

/// Whose fault it is that the state root cannot be used, unless the kernel's answer says more: no space, too many files.
fn state_root(error: Error) -> Error {
    match error.errno {
        Some(Errno::EACCES | Errno::EPERM | Errno::ENOTDIR | Errno::ENOENT | Errno::ELOOP) => error.cause(Code::StateRoot),
        _ => error,
    }
}

impl Store {
    /// Opens the state root, and makes it where it is missing, for its owner only.
    ///
    /// Symbolic links on the way are followed: the path is the operator's, and Docker's leads through /var/run, which is one.
    pub fn create(path: &str) -> Result<Store> {
        if let Some(store) = Store::open(path)? {
            return Ok(store);
        }
        let told = || format!("cannot make the state root {path}");
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for part in ends.map(|end| &path[..end]).filter(|part| !part.is_empty() && !part.ends_with('/')) {
            match fd::mkdir(part, 0o700) {
                Ok(()) => {}
                Err(error) if error.errno == Errno::EEXIST => {}
                // A read-only or foreign directory on the way may still hold the next one.
                Err(error) if [Errno::EROFS, Errno::EACCES].contains(&error.errno) && fd::open_dir_path(part).is_ok() => {}
                Err(error) => return Err(state_root(Error::from(error).doing(told()))),
            }
        }
        Ok(Store { root: fd::open_dir_path(path).told(told).map_err(state_root)?, path: path.to_string() })
    }

    /// Its path, for messages.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether what is in it may still be there when the machine has been started again: not in memory.
    pub fn outlives_the_boot(&self) -> Result<bool> {
        let magic = fd::statfs(&self.root).told(|| format!("cannot look at the state root {}", self.path))?.magic;
        Ok(![fd::magic::TMPFS, fd::magic::RAMFS].contains(&magic))
    }

    /// Opens the state root if it is there.
    pub fn open(path: &str) -> Result<Option<Store>> {
        match fd::open_dir_path(path) {
            Ok(root) => Ok(Some(Store { root, path: path.to_string() })),
            Err(error) if [Errno::ENOENT, Errno::ENOTDIR].contains(&error.errno) => Ok(None),
            Err(error) => Err(Error::from(error).doing(format!("cannot open the state root {path}"))),
        }
    }

    /// Takes an id: makes its directory, which fails where it exists, and holds it against every other command.
    pub fn take(&self, id: &Id) -> Result<Entry> {
        match fd::mkdirat(&self.root, id.as_str(), 0o711) {
            Ok(()) => {}
            Err(error) if error.errno == Errno::EEXIST => {
                return Err(Error::new(Kind::Exists, "container with given ID already exists")
                    .hint(format!("delete it (`delete {id}`) or choose another id; its state is in {}/{id}", self.path)));
            }
            Err(error) => return Err(Error::from(error).doing(format!("cannot make the state directory {}/{id}", self.path))),
        }
        self.hold_taken(id).inspect_err(|_| {
            // Still empty: nothing of a create that fails may keep its id in use. Where it has an owner by now it is not, or is gone.
            let _ = fd::rmdirat(&self.root, id.as_str());
        })
    }

    /// Nobody else knows the directory yet, but a delete may be quick.
    fn hold_taken(&self, id: &Id) -> Result<Entry> {
        let entry = self.entry(id)?;
        entry.new.set(New::WithoutState);
        if !entry.try_lock()? {
            return Err(Error::new(Kind::State, format!("the container {id} is being deleted while it is made")));
        }
        Ok(entry)
    }

    /// The directory of a container that exists.
    pub fn get(&self, id: &Id) -> Result<Entry> {
        self.entry(id)
    }

    fn entry(&self, id: &Id) -> Result<Entry> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW;
        match fd::openat(&self.root, id.as_str(), flags, 0) {
            Ok(dir) => Ok(Entry { dir, id: id.clone(), new: Cell::new(New::No) }),
            Err(error) if error.errno == Errno::ENOENT => Err(Error::new(Kind::NotFound, "container does not exist")
                .hint(format!("no container \"{id}\" in {}; `list` shows those there are", self.path))),
            Err(error) => Err(Error::from(error).doing(format!("cannot open the state directory {}/{id}", self.path))),
        }
    }

    /// The state of a container, where it can be read at once; [`Entry::load`] says why not.
    pub fn glance(&self, id: &Id) -> Option<State> {
        let file = fd::open_within(&self.root, &format!("{id}/{STATE}"), READING, ResolveFlag::RESOLVE_NO_SYMLINKS).ok()?;
        let bytes = fd::read_record(file, STATE_MAX).ok()?;
        runc_fields::read(&bytes).ok().filter(|state| state.version == VERSION)
    }

    /// The status of a container whose state has been read so; as [`Entry::status`].
    pub fn status_at_a_glance(&self, id: &Id, state: &State, frozen: &mut Frozen) -> Result<Status> {
        let gate = || gate::is_waited_at_below(&self.root, id.as_str());
        Ok(status(state, signs(state, gate, || frozen.is(&state.cgroup))?))
    }

    /// The ids there are, sorted: names of directories, as far as the filesystem says what they are of.
    pub fn ids(&self) -> Result<Vec<Id>> {
        let told = || format!("cannot list the state root {}", self.path);
        let dir = fd::open_dir(&self.path).told(told)?;
        let entries = fd::entries(&dir).told(told)?;
        let directories = entries.iter().filter(|entry| matches!(entry.kind, libc::DT_DIR | libc::DT_UNKNOWN));
        let mut ids: Vec<Id> = directories.filter_map(|entry| Id::parse(entry.name.to_str()?).ok()).collect();
        ids.sort();
        Ok(ids)
    }

    /// Removes a container's directory: the last thing that a delete does.
    pub fn remove(&self, entry: &Entry) -> Result<()> {
        let told = || format!("cannot remove the state directory {}/{}", self.path, entry.id);
        // What every container has, the journal last: it tells a delete that is repeated of all that this one had to know. Then what
        // else there may be.
        for name in [STATE, journal::FILE] {
            match fd::unlinkat(&entry.dir, name) {
                // A directory in its place has been put there by others, and is removed with what else there may be.
                Err(error) if !matches!(error.errno, Errno::ENOENT | Errno::EISDIR) => {
                    return Err(Error::from(error).doing(told()));
                }
                _ => {}
            }
        }
        if fd::rmdirat(&self.root, entry.id.as_str()).is_ok() {
            return Ok(());
        }
        fd::remove_contents(&entry.dir).told(told)?;
        match fd::rmdirat(&self.root, entry.id.as_str()) {
            Err(error) if error.errno != Errno::ENOENT => Err(Error::from(error).doing(told())),
            _ => Ok(()),
        }
    }
}

/// One container's directory.
#[derive(Debug)]
pub struct Entry {
    dir: OwnedFd,
    id: Id,
    new: Cell<New>,
}

/// Whether this command has made the directory, with the usual umask.
#[derive(Clone, Copy, Debug, PartialEq)]
enum New {
    No,
    /// And there is no state.json in it yet.
    WithoutState,
    Yes,
}

/// A state of at most this size is there whole as soon as anything of it is: the kernel copies it before it changes the file's size.
const AT_ONCE: usize = 4096;

impl AsFd for Entry {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl Entry {
    /// The container's id.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// Waits until no other command changes this container, and keeps others waiting until the entry is dropped.
    pub fn lock(&self) -> Result<()> {
        fd::flock(&self.dir, true, true).map(drop).told(|| format!("cannot lock the state of {}", self.id))
    }

    /// As [`Entry::lock`], where nobody holds it: whether that was so.
    pub fn try_lock(&self) -> Result<bool> {
        fd::flock(&self.dir, true, false).told(|| format!("cannot lock the state of {}", self.id))
    }

    /// Lets go of the lock.
    pub fn unlock(&self) -> Result<()> {
        fd::unlock(&self.dir).told(|| format!("cannot unlock the state of {}", self.id))
    }

    /// Whether its directory has been removed since it was opened.
    pub fn is_removed(&self) -> bool {
        fd::stat(&self.dir).is_ok_and(|stat| stat.nlink == 0)
    }

    /// Reads the state: that of the journal as long as it is being made.
    pub fn load(&self) -> Result<State> {
        for _ in 0..2 {
            let empty = match fd::openat(&self.dir, STATE, READING, 0).and_then(|file| fd::read_record(file, STATE_MAX)) {
                Ok(bytes) if bytes.is_empty() => true,
                Ok(bytes) => return self.parse(&bytes),
                Err(error) if error.errno == Errno::ENOENT => false,
                Err(error) => return Err(Error::from(error).doing(format!("cannot read the state of {}", self.id))),
            };
            let Some(first) = journal::read(self, Part::State)? else { break };
            let first = self.parse(&first)?;
            // An empty one is being written this moment, or has been meanwhile; or it is damaged, and says nothing of what runs.
            if !empty || creator_lives(&first)? {
                return Ok(first);
            }
        }
        // Not yet, or not any more.
        Err(Error::new(Kind::NotFound, "container does not exist")
            .hint(format!("the state directory of {} is there but empty: `delete --force {}` removes it", self.id, self.id)))
    }

    fn parse(&self, bytes: &[u8]) -> Result<State> {
        let damaged = |why: String| {
            Error::new(Kind::State, format!("the state of {} is damaged: {why}", self.id))
                .hint(format!("`delete --force {}` removes what is left of the container", self.id))
        };
        let state = runc_fields::read(bytes).map_err(|error| damaged(error.to_string()))?;
        match state.version {
            VERSION => Ok(state),
            other => Err(damaged(format!("its version is {other}, this berth reads {VERSION}"))),
        }
    }

    /// Replaces the state, so that a reader sees the old one or the new one.
    pub fn save(&self, state: &State) -> Result<()> {
        // For tools that look: what cannot be read is not worth a failure.
        self.save_with(state, &mounts::current(self).unwrap_or_default())
    }

    /// As [`Entry::save`], by whoever knows the container's mounts.
    pub fn save_with(&self, state: &State, mounts: &[Mount]) -> Result<()> {
        let bytes = to_line(&WithRuncFields::of(state, mounts), ROOM)
            .map_err(|error| Error::new(Kind::State, format!("cannot write the state: {error}")))?;
        if self.new.get() == New::WithoutState {
            self.new.set(New::Yes);
            if bytes.len() <= AT_ONCE {
                return fd::create_file_at(&self.dir, STATE, &bytes).told(|| format!("cannot save the state of {}", self.id));
            }
        }
        self.write(STATE, &bytes)
    }

    /// Runs the poststart hooks, and has the state say that we do: `delete --force` then need not wait for one that never ends.
    pub fn while_hooks_run(&self, state: &State, run: impl FnOnce() -> Result<()>) -> Result<()> {
        // Where it cannot be said (a full disk), a delete waits its time: that is no reason not to run them.
        let _ = self.save(&State { poststart_by: Identity::own().ok(), ..state.clone() });
        run()?;
        let _ = self.save(state);
        Ok(())
    }

    /// Writes a file of this container, for root only.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let written = match self.new.get() {
            New::No => fd::write_file_atomic(&self.dir, name, bytes, fd::PRIVATE),
            _ => fd::write_private_atomic(&self.dir, name, bytes),
        };
        written.told(|| format!("cannot save {name} of {}", self.id))
    }

    /// A file of this container, where there is one.
    pub fn read_if_any(&self, name: &str) -> Result<Option<Vec<u8>>> {
        match fd::read_at(&self.dir, name, STATE_MAX) {
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            other => other.map(Some).told(|| format!("cannot read {name} of {}", self.id)),
        }
    }

    /// The configuration as it was at create.
    pub fn config(&self) -> Result<Vec<u8>> {
        let told = || format!("cannot read the saved configuration of {}", self.id);
        match journal::read(self, Part::Config)? {
            Some(bytes) => Ok(bytes),
            // An older berth has made it.
            None => match fd::read_at(&self.dir, "config.json", CONFIG_MAX) {
                Err(error) if error.errno == Errno::ENOENT => {
                    Err(Error::new(Kind::State, format!("{}: there is no whole {}", told(), journal::FILE)))
                }
                other => other.told(told),
            },
        }
    }

    /// The status now of a container that may be being made, and its state, which is another if it has been made meanwhile.
    pub fn settle(&self, state: State) -> Result<(State, Status)> {
        match self.status(&state)? {
            // Its maker has ended since the state was read, or long before.
            Status::Stopped if state.creating => {
                let state = self.load()?;
                let status = self.status(&state)?;
                Ok((state, status))
            }
            status => Ok((state, status)),
        }
    }

    /// The status of this container now. That it cannot be told is an error: who takes a container for stopped may delete it.
    pub fn status(&self, state: &State) -> Result<Status> {
        self.status_of(state, || gate::find(&self.dir).is_some())
    }

    /// The same for whoever knows whether its process waits at the start gate, or asks that as he likes.
    pub fn status_of(&self, state: &State, gate: impl FnOnce() -> bool) -> Result<Status> {
        Ok(status(state, signs(state, gate, || Frozen::default().is(&state.cgroup))?))
    }
}

/// What the kernel says of a container; `gate` and `frozen` are asked where they say something.
fn signs(state: &State, gate: impl FnOnce() -> bool, frozen: impl FnOnce() -> bool) -> Result<Signs> {
    // Of one that is being made, it says nothing. Whoever waits there lives, and need not be looked for.
    let gate = !state.creating && gate();
    let alive = gate || (!state.creating && state.init_process().lives()? && !state.is_of_another_boot()?);
    Ok(Signs { alive, creator_alive: creator_lives(state)?, gate, frozen: alive && !state.creating && frozen() })
}

/// Whether it is being made, by a process that lives.
fn creator_lives(state: &State) -> Result<bool> {
    match state.creator() {
        Some(creator) => Ok(creator.lives()? && !state.is_of_another_boot()?),
        None => Ok(false),
    }
}
