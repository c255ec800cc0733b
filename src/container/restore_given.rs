// SPDX-License-Identifier: Apache-2.0
//! What of this host a restored container is given: mounts and their places, namespaces of others, the caller's streams, and a way for CRIU to
//! read the image. All of it by the configuration; of the image only the names of the streams are read. Called by `restore`.

use std::os::fd::{AsRawFd, OwnedFd};

use super::checkpoint::{DESCRIPTORS, DESCRIPTORS_MAX, INVENTORY};
use super::notify;
use super::store::Entry;
use crate::error::{Error, Kind, Result, Told};
use crate::linux::types::{Errno, Namespaces};
use crate::linux::{clone, fd, mount, proc};
use crate::plan::checkpoint::{self as plans, Outside};
use crate::plan::criu::Stream;
use crate::plan::{Plan, Request};
use crate::spec::load;

/// In the container's state directory, the upper layer of what CRIU sees of the image in a user namespace.
pub(super) const SEARCHABLE: &str = "image";
/// In an image, the link to the one that it builds on.
const PARENT: &str = "parent";

/// Namespaces that CRIU cannot put a restored container into.
pub(super) fn refuse_namespaces(outside: &Outside) -> Result<()> {
    let wrong = outside.joins.iter().find(|join| [Namespaces::CGROUP, Namespaces::MOUNT].contains(&join.kind));
    match wrong {
        None => Ok(()),
        Some(join) => Err(Error::new(
            Kind::Unsupported,
            format!("CRIU cannot restore into a {} namespace that exists", crate::plan::namespaces::name(join.kind)),
        )
        .at(&join.at)),
    }
}

/// The directory of an image, which has to be one.
pub(super) fn open_images(path: &str) -> Result<OwnedFd> {
    let images = fd::open_dir(path).told(|| format!("cannot open the image directory {path}"))?;
    match fd::statat(&images, INVENTORY) {
        Ok(_) => Ok(images),
        Err(error) => Err(Error::from(error)
            .doing(format!("there is no checkpoint in {path}"))
            .hint(format!("--image-path names a directory where `checkpoint` has left {INVENTORY} and more"))),
    }
}

/// Which of our standard streams the restored process gets, under the names that the image has for them. The image is not to be trusted:
/// it can ask for no other descriptor. They are copies: CRIU closes what it is given, and needs a terminal of its own for a shell job.
pub(super) fn read_streams(images: &OwnedFd) -> Result<Vec<(String, OwnedFd)>> {
    let told = || format!("cannot read {DESCRIPTORS} of the image");
    let bytes = match fd::read_at(images, DESCRIPTORS, DESCRIPTORS_MAX) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(Vec::new()),
        other => other.told(told)?,
    };
    let list: Vec<String> = load::json(&bytes).map_err(|error| Error::new(Kind::Peer, format!("{}: {error}", told())))?;
    let streams = list.into_iter().take(3).map(|leads_to| Stream { leads_to });
    let mut given: Vec<(Stream, usize)> = streams.zip(0..).filter(|(stream, _)| stream.is_given()).collect();
    // One terminal is mostly all three.
    given.dedup_by(|one, other| one.0 == other.0);
    let own = fd::standard_streams();
    let copy = |(stream, number): (Stream, usize)| fd::dup_from(own[number], 3).map(|copy| (stream.leads_to, copy));
    given.into_iter().map(copy).collect::<crate::linux::call::Result<_>>().told(|| "cannot copy the standard streams".into())
}

/// In a user namespace CRIU reads the image first as nobody and then as the container's root, neither of whom may search its directory.
/// So its files are shown below a directory that anybody may: to CRIU, and to nobody else. None where there is no user namespace of
/// the container's own, or no overlay: then CRIU says what it could not read. An image that builds on another leads out of itself.
pub(super) fn searchable_images(plan: &Plan, entry: &Entry, images: &OwnedFd) -> Result<Option<OwnedFd>> {
    if plan.spawn.id_map.is_none() || fd::statat(images, PARENT).is_ok() {
        return Ok(None);
    }
    let told = || format!("cannot make the directory {SEARCHABLE} of the container's state");
    fd::mkdirat(entry, SEARCHABLE, 0o755).told(told)?;
    let above = fd::openat(entry, SEARCHABLE, fd::OFlag::O_DIRECTORY, 0).told(told)?;
    fd::fchmod(&above, 0o755).told(told)?;
    let layers = format!("/proc/self/fd/{}:/proc/self/fd/{}", above.as_raw_fd(), images.as_raw_fd());
    Ok(mount::new_mount("overlay", [("lowerdir", Some(layers.as_str()))], 0).ok())
}

/// Places of mounts that an engine's new root filesystem may lack.
pub(super) fn make_places(rootfs: &str, outside: &Outside) -> Result<()> {
    let told = || format!("cannot open the root filesystem {}", rootfs);
    let root = fd::Root::open(rootfs).told(told)?;
    for (place, mount) in &outside.places {
        let directory = match mount.and_then(|index| outside.mounts.get(index)) {
            None => true,
            Some(mount) => fd::stat_path(&mount.source)
                .told(|| format!("cannot look at \"{}\", which is mounted at \"{place}\"", mount.source))?
                .is_dir(),
        };
        crate::rootfs::make_place(&root, place, directory)?;
    }
    Ok(())
}

/// Namespaces of others that CRIU keeps by descriptor, under the names that the image has for them.
pub(super) fn open_namespaces(outside: &Outside) -> Result<Vec<(String, OwnedFd)>> {
    let mut all = Vec::new();
    for join in &outside.joins {
        let Some((name, key)) = plans::external_namespace(join.kind) else { continue };
        let told = || format!("cannot open the {name} namespace {}", join.path);
        let file = clone::open_namespace(&join.path).told(told).map_err(|error| error.at(&join.at))?;
        all.push((key.to_string(), file));
    }
    Ok(all)
}

/// What each mount of the image stands for on this host.
pub(super) fn find_mounts(request: &Request, entry: &Entry, outside: &Outside) -> Result<Vec<(String, String)>> {
    let below = match outside.mounts.iter().any(|mount| mount.recursive) {
        true => proc::mountinfo().told(|| "cannot read the host's mounts".into())?,
        false => Vec::new(),
    };
    let below: Vec<String> = below.into_iter().map(|mount| mount.mount_point).collect();
    let mut mounts = plans::find_mounts(outside, &below);
    if request.notify_socket.is_none() {
        // A container that was to tell its service manager has the mount; it is nobody's now, and has to be there all the same.
        notify::make_directory(entry)?;
        let path = format!("{}/{}/{}", request.root, request.id, notify::DIRECTORY);
        mounts.push(("/run/notify".to_string(), path));
    }
    Ok(mounts)
}
