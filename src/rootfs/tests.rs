// SPDX-License-Identifier: Apache-2.0
//! Root filesystems made for real, in a child with a mount namespace of its own, and looked at through its mountinfo. They need root.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::linux::clone::{self, CloneArgs, Cloned};
use crate::linux::fd::tests::Scratch;
use crate::linux::pid;
use crate::linux::test_child::{in_child, is_root};
use crate::linux::types::Namespaces;
use crate::plan::rootfs::RootPlan;
use crate::plan::rootfs::tests::{Setup, setup};
use crate::plan::{IdMap, Op, ParentOp, Step};

mod hostile;
mod names;
mod namespaces;

/// A bundle on a tmpfs of the child's own, with a rootfs that has some directories; and what stands for the host beside it.
struct Bundle {
    dir: PathBuf,
    setup: Setup,
}

impl Bundle {
    /// To be called in the child.
    fn new(scratch: &Path) -> Bundle {
        clone::unshare(Namespaces::MOUNT).unwrap();
        sys::set_propagation("/", Propagation::Private, true).unwrap();
        nix::mount::mount(Some("scratch"), scratch, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
        let mut setup = setup();
        setup.request.bundle = scratch.to_str().unwrap().to_string();
        for dir in ["rootfs/etc", "rootfs/proc", "rootfs/dev", "rootfs/sys", "rootfs/old", "host/dir"] {
            fs::create_dir_all(scratch.join(dir)).unwrap();
        }
        fs::write(scratch.join("host/file"), "of the host").unwrap();
        Bundle { dir: scratch.to_path_buf(), setup }
    }
    fn rootfs(&self, path: &str) -> PathBuf {
        self.dir.join("rootfs").join(path)
    }
    fn host(&self, path: &str) -> PathBuf {
        self.dir.join("host").join(path)
    }
    fn add(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) {
        self.setup.add(destination, kind, source, options);
    }
    /// Carries out the steps before the hooks.
    fn build(&self) -> (RootPlan, Result<RootFs>) {
        let plan = self.setup.plan();
        let made = build(&plan, HostTrees::default());
        (plan, made)
    }
    fn built(&self) -> RootFs {
        self.build().1.unwrap_or_else(|error| panic!("{error}"))
    }
    fn refused(&self) -> String {
        match self.build().1 {
            Err(error) => error.to_string(),
            Ok(_) => panic!("was carried out"),
        }
    }
    /// What is beside the root filesystem, which nothing may touch.
    fn outside(&self) -> Vec<String> {
        let mut found = Vec::new();
        list(&self.dir.join("host"), "", &mut found);
        found
    }
}

fn list(dir: &Path, at: &str, into: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{at}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &format!("{name}/"), into);
        }
        into.push(name);
    }
    into.sort();
}

fn build(plan: &RootPlan, trees: HostTrees) -> Result<RootFs> {
    let (mut trees, mut rootfs) = (Some(trees), None);
    carry_out(&plan.mounts, &mut rootfs, &mut trees)?;
    Ok(rootfs.unwrap())
}

/// What `process::init` does with these steps.
fn carry_out(steps: &[Step], made: &mut Option<RootFs>, trees: &mut Option<HostTrees>) -> Result<()> {
    for step in steps {
        if let Op::AttachRoot { source, path, propagation, private_parent } = &step.op {
            *made = Some(RootFs::attach(source, path, *propagation, *private_parent, trees.take().unwrap(), &|| unreachable!())?);
            continue;
        }
        if let Op::Propagation(change) = step.op {
            propagation(change)?;
            continue;
        }
        let rootfs = made.as_mut().unwrap();
        match &step.op {
            Op::Mount(mount) => rootfs.mount(mount)?,
            Op::Node(node) => rootfs.node(node)?,
            Op::Link { path, target, only_existing } => rootfs.link(path, target, *only_existing)?,
            Op::Directory(path) => rootfs.directory(path)?,
            Op::Pivot { shared } => rootfs.pivot(*shared)?,
            Op::MoveRoot => rootfs.move_root()?,
            Op::ReadonlyPath { path, but } => rootfs.readonly_path(path, but)?,
            Op::MaskPaths { paths, label } => rootfs.mask_paths(paths, label.as_deref())?,
            Op::ReadonlyMounts => rootfs.readonly_mounts()?,
            Op::ReadonlyRoot => rootfs.readonly_root()?,
            Op::RootPropagation(change) => rootfs.root_propagation(*change)?,
            other => panic!("{other:?}"),
        }
    }
    Ok(())
}

/// One line of mountinfo.
#[derive(Clone, Debug)]
struct Line {
    id: String,
    point: String,
    options: String,
    propagation: String,
    fstype: String,
    source: String,
    /// Options of the filesystem.
    filesystem: String,
}

fn mountinfo() -> Vec<Line> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    text.lines()
        .map(|line| {
            let (left, right) = line.split_once(" - ").unwrap();
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            Line {
                id: left[0].into(),
                point: left[4].into(),
                options: left[5].into(),
                propagation: left[6..].join(" "),
                fstype: right[0].into(),
                source: right[1].into(),
                filesystem: right[2].into(),
            }
        })
        .collect()
}

/// The mount that a path is the root of.
fn mounted(point: impl AsRef<Path>) -> Line {
    let point = point.as_ref().to_str().unwrap();
    let id = fd::stat_path(point).unwrap().mount_id.unwrap().to_string();
    let line = mountinfo().into_iter().find(|line| line.id == id).unwrap();
    assert_eq!(line.point, point, "nothing is mounted there");
    line
}

fn count(under: &Path) -> usize {
    mountinfo().iter().filter(|line| Path::new(&line.point).starts_with(under)).count()
}

fn in_bundle(test: impl FnOnce(Bundle)) {
    if !is_root() {
        return;
    }
    let scratch = Scratch::new();
    in_child(|| test(Bundle::new(scratch.path())));
}

/// What most engines ask for.
fn engine(bundle: &mut Bundle) {
    bundle.add("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]);
    bundle.add("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k", "ro"]);
    bundle.add("/dev/pts", "devpts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]);
    bundle.add("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=64k"]);
    bundle.add("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]);
    bundle.add("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]);
    bundle.add("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    bundle.add("/etc/hosts", "bind", "host/file", &["rbind", "rprivate", "ro"]);
    bundle.add("/data/volume", "bind", "host/dir", &["rbind"]);
}

#[test]
fn a_container_as_engines_ask_for_it() {
    in_bundle(|mut bundle| {
        engine(&mut bundle);
        bundle.setup.spec.root.as_mut().unwrap().readonly = true;
        let linux = bundle.setup.linux();
        linux.masked_paths = ["/proc/version", "/proc/keys", "/sys/firmware", "/proc/irq", "/proc/nowhere", "/etc/hosts/x"]
            .map(String::from)
            .into();
        linux.readonly_paths = ["/proc/sys", "/proc/bus", "/nowhere"].map(String::from).into();
        let (plan, made) = bundle.build();
        let mut made = Some(made.unwrap_or_else(|error| panic!("{error}")));
        let proc = mounted(bundle.rootfs("proc"));
        assert_eq!((proc.fstype.as_str(), proc.options.as_str()), ("proc", "rw,nosuid,nodev,noexec,relatime"));
        let dev = mounted(bundle.rootfs("dev"));
        assert_eq!((dev.fstype.as_str(), dev.source.as_str(), dev.options.as_str()), ("tmpfs", "tmpfs", "rw,nosuid"));
        assert_eq!(mounted(bundle.rootfs("sys")).options, "ro,nosuid,nodev,noexec,relatime");
        let cgroup = mounted(bundle.rootfs("sys/fs/cgroup"));
        assert_eq!((cgroup.fstype.as_str(), cgroup.source.as_str()), ("cgroup2", "cgroup"));
        assert_eq!(cgroup.options, "ro,nosuid,nodev,noexec,relatime");
        // It is the host's, which stays writable.
        assert!(cgroup.filesystem.starts_with("rw"), "{cgroup:?}");
        assert_eq!(mounted(bundle.rootfs("dev/shm")).filesystem, "rw,size=64k");
        assert!(mounted(bundle.rootfs("etc/hosts")).options.starts_with("ro,"));
        for (name, number) in
            [("null", 0x103), ("zero", 0x105), ("full", 0x107), ("random", 0x108), ("urandom", 0x109), ("tty", 0x500)]
        {
            let node = fs::symlink_metadata(bundle.rootfs("dev").join(name)).unwrap();
            assert_eq!((node.rdev(), node.permissions().mode()), (number, 0o020666), "{name}");
        }
        assert_eq!(fs::read_link(bundle.rootfs("dev/ptmx")).unwrap(), Path::new("pts/ptmx"));
        assert_eq!(fs::read_link(bundle.rootfs("dev/stderr")).unwrap(), Path::new("/proc/self/fd/2"));
        // The rest happens in the new root.
        carry_out(&plan.pivot, &mut made, &mut None).unwrap();
        carry_out(&plan.hide, &mut made, &mut None).unwrap();
        assert_eq!(fs::read_to_string("/etc/hosts").unwrap(), "of the host");
        let all = mountinfo();
        assert!(all.iter().all(|line| !line.point.contains("berth-test") && !line.point.contains("oldroot")), "{all:?}");
        assert!(mounted("/").options.starts_with("ro,") && mounted("/dev").options.starts_with("ro,"));
        assert!(fs::write("/dev/new", "").is_err() && fs::write("/new", "").is_err());
        assert!(fs::write("/data/volume/new", "x").is_ok());
        assert_eq!(fs::read("/proc/version").unwrap(), b"");
        for empty in ["/sys/firmware", "/proc/irq"].iter().filter(|path| Path::new(path).exists()) {
            assert_eq!(fs::read_dir(empty).unwrap().count(), 0, "{empty}");
            assert_eq!(mounted(empty).options, "ro,nosuid,nodev,noexec,relatime");
        }
        assert_eq!(mounted("/proc/sys").options, "ro,nosuid,nodev,noexec,relatime");
        assert!(fs::write("/proc/sys/kernel/hostname", "x").is_err());
        // Nothing is left that only has no path: neither below the root, nor as the working directory.
        assert!(sys::count(1000).is_ok_and(|all| all == mountinfo().len()) || sys::count(1).is_err());
        assert!(fd::stat_path(".").unwrap().mount_id == fd::stat_path("/").unwrap().mount_id);
        assert_eq!(std::env::current_dir().unwrap(), Path::new("/"));
        assert_eq!(fs::read_dir("/..").unwrap().count(), fs::read_dir("/").unwrap().count());
    });
}

#[test]
fn binds_have_the_flags_that_are_named_or_those_of_their_source() {
    in_bundle(|mut bundle| {
        let below = bundle.host("dir/below");
        fs::create_dir(&below).unwrap();
        let flags = nix::mount::MsFlags::MS_NODEV | nix::mount::MsFlags::MS_NOSUID;
        nix::mount::mount(Some("t"), &bundle.host("dir"), Some("tmpfs"), flags, None::<&str>).unwrap();
        fs::create_dir(&below).unwrap();
        nix::mount::mount(Some("t"), &below, Some("tmpfs"), flags, None::<&str>).unwrap();
        bundle.add("/plain", "bind", "host/dir", &["bind"]);
        bundle.add("/all", "bind", "host/dir", &["rbind", "ro", "noexec"]);
        bundle.add("/rro", "bind", "host/dir", &["rbind", "rro", "rnoatime"]);
        bundle.add("/free", "bind", "host/dir", &["rbind", "suid", "nosymfollow", "strictatime"]);
        let _rootfs = bundle.built();
        let options = |path: &str| mounted(bundle.rootfs(path)).options;
        assert_eq!(options("plain"), "rw,nosuid,nodev,relatime");
        assert_eq!(count(&bundle.rootfs("plain")), 1);
        assert_eq!((options("all"), options("all/below")), ("ro,noexec,relatime".into(), "rw,nosuid,nodev,relatime".into()));
        assert_eq!((options("rro"), options("rro/below")), ("ro,nosuid,nodev,noatime".into(), "ro,nosuid,nodev,noatime".into()));
        assert_eq!(options("free"), "rw,nosymfollow");
    });
}

#[test]
fn sources_may_be_links_and_files() {
    in_bundle(|mut bundle| {
        symlink("file", bundle.host("link")).unwrap();
        symlink("/gone", bundle.host("dangling")).unwrap();
        bundle.add("/followed", "bind", "host/link", &["bind"]);
        bundle.add("/copied", "bind", "host/dangling", &["bind", "copy-symlink"]);
        bundle.add("/copied", "bind", "host/dangling", &["bind", "copy-symlink"]);
        bundle.add("/plain", "bind", "host/file", &["bind", "copy-symlink"]);
        bundle.add("/namespace", "bind", "/proc/self/ns/uts", &["bind"]);
        bundle.add("/deep/er/file", "bind", "host/file", &["bind", "ro"]);
        let _rootfs = bundle.built();
        assert_eq!(fs::read_to_string(bundle.rootfs("followed")).unwrap(), "of the host");
        assert_eq!(fs::read_link(bundle.rootfs("copied")).unwrap(), Path::new("/gone"));
        assert_eq!(fs::read_to_string(bundle.rootfs("plain")).unwrap(), "of the host");
        assert!(fs::write(bundle.rootfs("deep/er/file"), "").is_err());
        assert_eq!(mounted(bundle.rootfs("namespace")).fstype, "nsfs");
        let outside = bundle.outside();
        for (source, destination, part) in [
            ("host/none", "/x", "cannot mount \"host/none\" at /x"),
            ("host/dir", "/plain", "ENOTDIR"),
            ("host/file", "/etc", "not a directory (ENOTDIR)"),
        ] {
            bundle.setup.spec.mounts.clear();
            bundle.add(destination, "bind", source, &["bind"]);
            let error = bundle.refused();
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(bundle.outside(), outside);
        assert!(!bundle.rootfs("x").exists());
        bundle.setup.spec.mounts.clear();
        bundle.add("/copied", "bind", "host/link", &["bind", "copy-symlink"]);
        assert!(bundle.refused().contains("EEXIST"));
    });
}

#[test]
fn a_tmpfs_is_filled_with_what_it_covers() {
    in_bundle(|mut bundle| {
        let dir = bundle.rootfs("etc");
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/file"), vec![7; 200_000]).unwrap();
        fs::set_permissions(dir.join("sub/file"), fs::Permissions::from_mode(0o4755)).unwrap();
        nix::unistd::chown(&dir.join("sub/file"), Some(11.into()), Some(12.into())).unwrap();
        fs::set_permissions(dir.join("sub/file"), fs::Permissions::from_mode(0o4755)).unwrap();
        fs::set_permissions(dir.join("sub"), fs::Permissions::from_mode(0o1770)).unwrap();
        fd::xattr::set(fs::File::open(dir.join("sub")).unwrap(), c"trusted.berth", b"v").unwrap();
        symlink("/host/dir", dir.join("link")).unwrap();
        lchown(dir.join("link"), Some(21), Some(22)).unwrap();
        nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        nix::unistd::chown(&dir, Some(3.into()), Some(4.into())).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o751)).unwrap();
        bundle.add("/etc", "tmpfs", "tmpfs", &["tmpcopyup", "ro", "size=1m"]);
        let mut rootfs = bundle.built();
        rootfs.readonly_mounts().unwrap();
        assert_eq!(mounted(&dir).options, "ro,relatime");
        let meta = fs::metadata(&dir).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid()), (0o751, 3, 4));
        let meta = fs::metadata(dir.join("sub/file")).unwrap();
        assert_eq!((meta.mode() & 0o7777, meta.uid(), meta.gid(), meta.len()), (0o4755, 11, 12, 200_000));
        assert_eq!(fs::metadata(dir.join("sub")).unwrap().mode() & 0o7777, 0o1770);
        assert_eq!(fd::xattr::get(fs::File::open(dir.join("sub")).unwrap(), c"trusted.berth").unwrap(), b"v");
        assert_eq!(fs::read_link(dir.join("link")).unwrap(), Path::new("/host/dir"));
        assert_eq!(fs::symlink_metadata(dir.join("link")).unwrap().uid(), 21);
        assert!(fs::symlink_metadata(dir.join("fifo")).unwrap().file_type().is_fifo());
        assert_eq!(meta.dev(), fs::metadata(&dir).unwrap().dev());
        // Too deep, and too large, are errors.
        let mut deep = bundle.rootfs("old");
        for _ in 0..140 {
            deep = deep.join("d");
        }
        fs::create_dir_all(&deep).unwrap();
        bundle.setup.spec.mounts.clear();
        bundle.add("/old", "tmpfs", "tmpfs", &["tmpcopyup"]);
        assert!(bundle.refused().contains("deep"));
        fs::create_dir(bundle.rootfs("big")).unwrap();
        fs::write(bundle.rootfs("big/file"), vec![0; 100_000]).unwrap();
        bundle.setup.spec.mounts.clear();
        bundle.add("/big", "tmpfs", "tmpfs", &["tmpcopyup", "size=8k"]);
        assert!(bundle.refused().contains("ENOSPC"));
    });
}

#[test]
fn remounts_and_long_parameters() {
    in_bundle(|mut bundle| {
        bundle.add("/old", "tmpfs", "tmpfs", &["size=4m"]);
        bundle.add("/old", "tmpfs", "tmpfs", &["remount", "ro", "noexec", "size=1m"]);
        let _rootfs = bundle.built();
        assert_eq!(mounted(bundle.rootfs("old")).options, "ro,noexec,relatime");
        let size = nix::sys::statvfs::statvfs(&bundle.rootfs("old")).unwrap();
        assert_eq!(size.blocks() * size.fragment_size(), 1 << 20);
        bundle.setup.spec.mounts.clear();
        bundle.add("/etc", "", "", &["bind", "remount", "ro"]);
        assert!(bundle.refused().contains("nothing is mounted there"));
        if !fs::read_to_string("/proc/filesystems").unwrap().contains("\toverlay\n") {
            eprintln!("skipped in part: this kernel has no overlay filesystem");
            return;
        }
        let long: Vec<PathBuf> = (0..3).map(|index| bundle.host(&format!("{index}{}", "x".repeat(120)))).collect();
        long.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        fs::write(long[2].join("lowest"), "").unwrap();
        let lower = format!("lowerdir={}", long.iter().map(|dir| dir.to_str().unwrap()).collect::<Vec<_>>().join(":"));
        bundle.setup.spec.mounts.clear();
        bundle.add("/old", "overlay", "overlay", &[&lower, "ro", "nodev"]);
        let _rootfs = bundle.built();
        assert_eq!(mounted(bundle.rootfs("old")).options, "ro,nodev,relatime");
        assert!(bundle.rootfs("old/lowest").exists());
    });
}

#[test]
fn over_the_root_itself() {
    in_bundle(|mut bundle| {
        bundle.add("/", "tmpfs", "tmpfs", &["mode=755"]);
        bundle.add("/proc", "proc", "proc", &[]);
        let (plan, made) = bundle.build();
        carry_out(&plan.pivot, &mut Some(made.unwrap()), &mut None).unwrap();
        assert_eq!(mounted("/").fstype, "tmpfs");
        assert!(Path::new("/proc/self").exists() && Path::new("/dev/null").exists() && !Path::new("/etc").exists());
    });
}

#[test]
fn read_only_from_the_root_on() {
    in_bundle(|mut bundle| {
        bundle.add("/tmp", "tmpfs", "tmpfs", &[]);
        bundle.setup.linux().readonly_paths = vec!["/".into()];
        let (plan, made) = bundle.build();
        let mut made = Some(made.unwrap());
        carry_out(&plan.pivot, &mut made, &mut None).unwrap();
        carry_out(&plan.hide, &mut made, &mut None).unwrap();
        assert!(fs::write("/new", "").is_err() && fs::write("/tmp/new", "").is_err());
    });
}

#[test]
fn chroot_hides_the_host() {
    in_bundle(|mut bundle| {
        bundle.add("/proc", "proc", "proc", &[]);
        bundle.setup.request.no_pivot = true;
        let (plan, made) = bundle.build();
        let mut made = Some(made.unwrap());
        carry_out(&plan.pivot, &mut made, &mut None).unwrap();
        carry_out(&plan.hide, &mut made, &mut None).unwrap();
        assert!(Path::new("/etc").exists() && !Path::new("/usr").exists());
        let all = mountinfo();
        // mountinfo shows only what is below this process's root.
        assert!(all.iter().all(|line| line.point == "/" || line.point.starts_with("/proc")), "{all:?}");
        // The way out of a chroot that CAP_SYS_CHROOT knows leads back into it: the container lies over the host's root.
        fs::create_dir("/escape").unwrap();
        let outside = fd::open_dir("/").unwrap();
        sys::chroot("/escape").unwrap();
        sys::fchdir(&outside).unwrap();
        for _ in 0..64 {
            sys::chdir("..").unwrap();
        }
        sys::chroot(".").unwrap();
        assert!(Path::new("/escape").exists() && !Path::new("/usr").exists());
    });
}
