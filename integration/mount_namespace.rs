// SPDX-License-Identifier: Apache-2.0
//! The container's mount namespace on hosts with many mounts and on new kernels, where it is no copy of the host's: the container sees the
//! same, hooks see the host, and what is kept on the host for it may be damaged at any time (docs/performance.md).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, unshare};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::harness::bundle::folder;
use crate::harness::look::{Mount, eventually, mount_at, mounts, parse_mounts};
use crate::harness::{Bundle, Container, Need, Test, call, skip};
use crate::test;
use crate::{kept_programs, live_mounts};

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(a_container_sees_the_same_mounts_either_way),
    test!(mounts_go_on_to_propagate_either_way),
    test!(binds_show_what_was_mounted_before_them),
    test!(hooks_before_the_change_of_root_see_the_host_in_its_mount_namespace).needs(&[Need::Program("nsenter")]),
    test!(the_tests_of_mounts_in_a_crowd).seconds(180),
    test!(the_tests_of_rootfs_in_a_crowd).seconds(180),
    test!(nothing_is_kept_without_a_crowd),
    test!(what_is_kept_is_made_once_by_whoever_comes_first),
    test!(what_is_kept_is_out_of_sight_in_containers),
    test!(damage_is_mended_and_never_an_error),
    test!(a_recursive_bind_of_the_host_has_what_is_kept_in_it),
    test!(mount_namespaces_that_others_keep_are_left_out),
];

/// Where the small namespace is kept.
const KEPT: &str = "/run/berth.mntns";

/// More mounts than a host must have to keep one.
const CROWD: usize = 150;

/// Gives this test a mount namespace of its own, with a /run of its own, in which nothing is kept: what the host keeps is not even
/// mounted below it.
pub fn own_run() {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let kept = |mount: &&Mount| [KEPT, kept_programs::KEPT].iter().any(|place| Path::new(&mount.at).starts_with(place));
    for mount in mounts().iter().rev().filter(kept) {
        umount2(mount.at.as_str(), MntFlags::MNT_DETACH).unwrap();
    }
    let place = PathBuf::from(std::env::var_os("BERTH_TEST_PLACE").unwrap());
    let run = folder().join("run");
    fs::create_dir(&run).unwrap();
    mount(Some("run"), &run, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).unwrap();
    // The tests' own place is in /run.
    let inside = run.join(place.strip_prefix("/run").unwrap_or(Path::new("place")));
    fs::create_dir_all(&inside).unwrap();
    mount(Some(&place), &inside, none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
    mount(Some(&run), "/run", none, MsFlags::MS_BIND | MsFlags::MS_REC, none).unwrap();
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none).unwrap();
}

/// The same, with as many mounts as a busy host has.
fn crowd() {
    own_run();
    for number in 0..CROWD {
        let place = folder().join(format!("crowd/{number}"));
        fs::create_dir_all(&place).unwrap();
        mount(Some("crowd"), &place, Some("tmpfs"), MsFlags::empty(), Some("nr_inodes=2")).unwrap();
    }
}

/// As [`crowd`], on a kernel and a runtime that keep a namespace then.
fn crowd_that_keeps() {
    if call::runtime_name().as_deref() != Some("berth") {
        skip("only berth keeps a mount namespace");
    }
    if Need::Kernel(6, 8).missing().is_some() {
        skip("before Linux 6.8 mounts are not counted, and nothing is kept");
    }
    if Need::Kernel(7, 0).missing().is_none() {
        skip("from Linux 7.0 on nothing has to be kept");
    }
    crowd();
}

/// The same container again, as another; with a hook that makes it need the host in its mount namespace.
fn classic(bundle: &Bundle) -> Bundle {
    let mut other = Bundle { dir: bundle.dir.clone(), id: format!("{}c", bundle.id), config: bundle.config.clone() };
    let id = other.id.clone();
    other.set("/linux/cgroupsPath", json!(format!("/{id}")));
    other.set("/hooks/createContainer/-", json!({ "path": "/bin/true" }));
    other
}

fn mounts_of(container: &Container) -> Vec<Mount> {
    parse_mounts(&fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap())
}

/// What a container sees, without the numbers: place, options, kind, source, which directory of it, how it propagates.
fn seen(bundle: &Bundle) -> Vec<String> {
    let lines = mounts_of(&bundle.create()).into_iter().map(|mount| {
        let root = mount.line.split(' ').nth(3).unwrap();
        let (_, source) = mount.line.split_once(" - ").unwrap();
        let tags: Vec<&str> = mount.tags.iter().filter_map(|tag| tag.split(':').next()).collect();
        let root = root.replace(&format!("/{}", bundle.id), "/ID");
        format!("{} {root} {} {tags:?} {source}", mount.at, mount.options.join(","))
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

/// The container sees the same on the classic route; of the lines that count.
#[track_caller]
fn assert_same(bundle: &Bundle, what: &str, counts: impl Fn(&str) -> bool) {
    let (here, there) = (seen(bundle), seen(&classic(bundle)));
    let only = |some: &[String], others: &[String]| {
        some.iter().filter(|line| counts(line) && !others.contains(line)).cloned().collect::<Vec<_>>()
    };
    assert_eq!((only(&here, &there), only(&there, &here)), (vec![], vec![]), "{what}");
    assert!(here.len() > 20, "{here:#?}");
}

/// A bundle with mounts of every kind, and host mounts below a bind source. That is a mount of its own: the classic way makes the one that
/// the bundle is in private.
fn varied() -> (Bundle, PathBuf) {
    let source = folder().join("source");
    fs::create_dir(&source).unwrap();
    let on_host = |place: &Path| mount(Some("host"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    on_host(&source);
    fs::create_dir(source.join("below")).unwrap();
    fs::write(source.join("file"), "of the host\n").unwrap();
    on_host(&source.join("below"));
    let path = source.to_str().unwrap().to_owned();
    let mut bundle = Bundle::new();
    bundle.mount("/plain", "bind", &path, &["bind"]).mount("/whole", "bind", &path, &["rbind", "ro", "nosuid"]);
    bundle.mount("/to-host", "bind", &path, &["rbind", "rshared"]).mount("/of-host", "bind", &path, &["rbind", "rslave"]);
    bundle.mount("/alone", "bind", &path, &["rbind", "rprivate"]).mount("/rro", "bind", &path, &["rbind", "rro"]);
    bundle.mount("/etc/hosts", "bind", &format!("{path}/file"), &["rbind", "ro"]);
    bundle.mount("/scratch", "tmpfs", "tmpfs", &["size=1m", "mode=1777"]);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro"]);
    (bundle, source)
}

/// Natively this is on a host with many mounts, in the virtual machine with a new kernel: each has another way than copying the host's.
fn a_container_sees_the_same_mounts_either_way() {
    crowd();
    let (mut bundle, _) = varied();
    for propagation in [None, Some("rslave"), Some("private"), Some("rshared"), Some("unbindable")] {
        for readonly in [false, true] {
            bundle.set("/linux/rootfsPropagation", propagation.map_or(Value::Null, |value| json!(value)));
            if propagation.is_none() {
                bundle.unset("/linux", "rootfsPropagation");
            }
            bundle.set("/root/readonly", json!(readonly));
            assert_same(&bundle, &format!("{propagation:?}, read-only {readonly}"), |_| true);
        }
    }
    // Without a cgroup namespace it gets a part of the host's tree.
    bundle.namespace("cgroup", Some(""));
    bundle.unset("/linux", "rootfsPropagation");
    assert_same(&bundle, "the host's cgroup namespace", |line| !line.starts_with("/sys/fs/cgroup "));
}

/// What the host mounts later appears where it should, and what the container mounts later too.
fn mounts_go_on_to_propagate_either_way() {
    crowd();
    let (mut bundle, source) = varied();
    bundle.set("/linux/rootfsPropagation", json!("rshared"));
    let all = json!(["CAP_SYS_ADMIN"]);
    bundle.set("/process/capabilities", json!({ "bounding": all, "effective": all, "permitted": all }));
    let script = "mkdir /to-host/made /of-host/kept && mount -t tmpfs made /to-host/made && mount -t tmpfs kept /of-host/kept && \
                  mount -o bind /etc/hosts /proc/keys && echo mounted in ID. && exec sleep 1000";
    for mut bundle in [classic(&bundle), bundle] {
        bundle.set("/process/args", json!(["/bin/sh", "-c", script.replace("ID", &bundle.id)]));
        let container = bundle.run_detached();
        container.wait_stdout(&format!("mounted in {}.", bundle.id));
        let at = |name: &str| source.join(name).to_str().unwrap().to_owned();
        let host = mounts();
        assert!(host.iter().any(|mount| mount.at == at("made")), "what a shared bind gets goes to the host: {}", bundle.id);
        assert!(!host.iter().any(|mount| mount.at == "/dev/null"), "what lies over a masked file stays: {}", bundle.id);
        assert!(!host.iter().any(|mount| mount.at == at("kept")), "what a slave gets stays: {}", bundle.id);
        fs::create_dir(at("later")).unwrap();
        mount(Some("later"), at("later").as_str(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        let inside = mounts_of(&container);
        let has = |place: &str| inside.iter().any(|mount| mount.at == format!("{place}/later"));
        assert!(has("/to-host") && has("/of-host") && !has("/alone"), "{}: {inside:#?}", bundle.id);
        drop(container);
        for name in ["later", "made"] {
            umount2(at(name).as_str(), MntFlags::MNT_DETACH).unwrap();
        }
        ["later", "made", "kept"].iter().for_each(|name| fs::remove_dir(at(name)).unwrap());
    }
}

/// A source in the root filesystem is what the container has there by then.
fn binds_show_what_was_mounted_before_them() {
    crowd();
    let mut bundle = Bundle::sh("ls /copy /whole/rootfs/first");
    fs::create_dir(bundle.inside("/first")).unwrap();
    fs::create_dir(folder().join("shown")).unwrap();
    fs::write(folder().join("shown/of-the-first"), "").unwrap();
    let (first, whole) = (bundle.inside("/first"), bundle.dir.clone());
    bundle.mount("/first", "bind", folder().join("shown").to_str().unwrap(), &["bind"]);
    bundle.mount("/copy", "bind", first.to_str().unwrap(), &["bind"]);
    bundle.mount("/whole", "bind", whole.to_str().unwrap(), &["rbind"]);
    assert_eq!(bundle.print(), "/copy:\nof-the-first\n\n/whole/rootfs/first:\nof-the-first\n");
}

/// Tools that prepare a container from a createRuntime hook enter its mount namespace and find its root filesystem at the host's path.
fn hooks_before_the_change_of_root_see_the_host_in_its_mount_namespace() {
    crowd();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let mut bundle = Bundle::args(&["/bin/ls", "/tmp"]);
        let place = bundle.inside("/tmp");
        let make = format!("mount -t tmpfs hook {0} && touch {0}/of-the-hook", place.display());
        let script = match kind {
            "createContainer" => make,
            _ => format!(
                "pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/' | tail -n 1); nsenter --mount=/proc/$pid/ns/mnt sh -c '{make}'"
            ),
        };
        let env = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"];
        bundle.set(&format!("/hooks/{kind}/-"), json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": env }));
        assert_eq!(bundle.print(), "of-the-hook\n", "{kind}");
        assert!(!place.join("of-the-hook").exists());
    }
}

/// On a new kernel, all tests go another way than the classic one already.
fn the_tests_of_mounts_in_a_crowd() {
    crowd_that_keeps();
    crate::mounts::TESTS.iter().for_each(Test::run_here);
}

fn the_tests_of_rootfs_in_a_crowd() {
    crowd_that_keeps();
    crate::rootfs::TESTS.iter().for_each(Test::run_here);
}

/// The mounts that are kept, in this mount namespace.
fn kept() -> Vec<Mount> {
    mounts().into_iter().filter(|mount| mount.at.starts_with(KEPT)).collect()
}

#[track_caller]
fn works(why: &str) {
    let output = Bundle::args(&["/bin/echo", "works"]).run();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("works\n", ""), "{why}");
}

fn nothing_is_kept_without_a_crowd() {
    crowd_that_keeps();
    for number in 0..CROWD {
        umount2(&folder().join(format!("crowd/{number}")), MntFlags::MNT_DETACH).unwrap();
    }
    if mounts().len() > 100 {
        skip("this host has many mounts itself");
    }
    works("few mounts");
    assert!(!Path::new(KEPT).exists());
}

fn what_is_kept_is_made_once_by_whoever_comes_first() {
    crowd_that_keeps();
    fs::write("/run/berth.bpf", "").unwrap(); // Device programs are not kept, which would be a mount more.
    let before = mounts().len();
    let bundles: Vec<Bundle> = (0..8).map(|_| Bundle::args(&["/bin/echo", "works"])).collect();
    let calls: Vec<_> = bundles.iter().map(|bundle| bundle.run_call(&[])).collect();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = calls.into_iter().map(|call| scope.spawn(move || call.output())).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    outputs.into_iter().for_each(|output| assert_eq!(output.ok(), "works\n"));
    let all = kept();
    let kinds: Vec<_> = all.iter().map(|mount| (mount.at.as_str(), mount.kind.as_str())).collect();
    assert_eq!(kinds, [(&*format!("{KEPT}/own"), "tmpfs"), (&*format!("{KEPT}/own/ns"), "nsfs")]);
    assert!(all.iter().all(|mount| mount.tags.is_empty()), "private: {all:?}");
    works("again");
    assert_eq!(kept().iter().map(|mount| mount.id).collect::<Vec<_>>(), all.iter().map(|mount| mount.id).collect::<Vec<_>>());
    assert_eq!(mounts().len(), before + 2);
    assert_eq!(fs::metadata(KEPT).unwrap().permissions().mode() & 0o7777, 0o700);
    // How to be rid of it.
    umount2(&*format!("{KEPT}/own/ns"), MntFlags::empty()).unwrap();
    umount2(&*format!("{KEPT}/own"), MntFlags::empty()).unwrap();
    fs::remove_dir_all(KEPT).unwrap();
    works("after it was removed");
}

/// Neither a container that was there before, with a view of /run to which mounts propagate, nor a later one.
fn what_is_kept_is_out_of_sight_in_containers() {
    crowd_that_keeps();
    let container = |id: &str| {
        let mut bundle = Bundle::sh("echo up; exec sleep 1000");
        bundle.mount("/host-run", "bind", "/run", &["rbind", "rslave"]);
        bundle.set("/linux/rootfsPropagation", json!("rslave"));
        let container = bundle.run_detached();
        container.wait_stdout("up");
        eprintln!("{id}: {}", container.id);
        container
    };
    let early = container("early");
    works("something is kept from now on");
    assert_eq!(kept().len(), 2);
    let late = container("late");
    for container in [early, late] {
        assert!(!mounts_of(&container).iter().any(|mount| mount.kind == "nsfs"), "{:#?}", mounts_of(&container));
    }
}

/// All on one CPU: only namespaces younger than one's own may be mounted, and Linux 6.18 takes some of another CPU for older.
fn on_one_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &cpus).unwrap();
}

/// A process in a mount namespace of its own.
fn lives_elsewhere() -> Child {
    let process = Command::new("/bin/busybox").args(["unshare", "-m", "sleep", "1000"]).spawn().unwrap();
    let (own, its) = (fs::read_link("/proc/self/ns/mnt").unwrap(), format!("/proc/{}/ns/mnt", process.id()));
    eventually("it has a mount namespace", || fs::read_link(&its).is_ok_and(|found| found != own));
    process
}

fn damage_is_mended_and_never_an_error() {
    on_one_cpu();
    crowd_that_keeps();
    works("at first");
    let (own, file) = (format!("{KEPT}/own"), format!("{KEPT}/own/ns"));
    let whole = || kept().iter().filter(|mount| mount.kind == "nsfs").count() == 1 && kept().len() == 2;
    let detach = |place: &str| umount2(place, MntFlags::MNT_DETACH).unwrap();
    let bind = |source: &str, place: &str| mount(Some(source), place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    detach(&file);
    works("the namespace is unmounted");
    assert!(whole());
    detach(&own);
    works("its tmpfs is unmounted");
    assert!(whole());
    bind("/proc/self/ns/net", &file);
    works("another kind of namespace lies over it");
    assert!(whole());
    // A mount namespace that is not ours: nobody who lives elsewhere is let into it, and it stays.
    detach(&file);
    let mut other = lives_elsewhere();
    bind(&format!("/proc/{}/ns/mnt", other.id()), &file);
    works("somebody else's mount namespace is there");
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/self/mountinfo"]);
    bundle.set("/linux/maskedPaths", json!([]));
    assert!(!bundle.print().contains("crowd"), "nothing of the host is left in sight");
    other.kill().unwrap();
    other.wait().unwrap();
    detach(&file);
    detach(&own);
    fs::remove_dir_all(KEPT).unwrap();
    for (what, make) in [
        ("a file", &(|| fs::write(KEPT, "").unwrap()) as &dyn Fn()),
        ("a link", &|| symlink("/tmp", KEPT).unwrap()),
        ("a directory that others may enter", &|| fs::create_dir(KEPT).unwrap()),
    ] {
        make();
        works(what);
        assert!(kept().is_empty(), "{what} is not used: {:?}", kept());
        let _ = fs::remove_file(KEPT).or_else(|_| fs::remove_dir(KEPT));
    }
    works("at last");
    assert!(whole());
}

/// The kernel lets no mount of an older namespace into a younger one, so such binds go the old way.
fn a_recursive_bind_of_the_host_has_what_is_kept_in_it() {
    crowd_that_keeps();
    works("something is kept");
    for source in ["/", "/run", "/var/run", "/run/berth.mntns"] {
        let mut bundle = Bundle::args(&["/bin/echo", "works"]);
        bundle.mount("/host", "bind", source, &["rbind", "rslave"]);
        assert_eq!(bundle.print(), "works\n", "{source}");
    }
    let mut bundle = Bundle::new();
    bundle.mount("/host", "bind", "/", &["rbind", "ro"]);
    assert_eq!(mount_at(&mounts_of(&bundle.create()), "/host/proc").kind, "proc");
}

/// The kernel lets none of them into the container's mount namespace, and takes none of them along when it copies the host's: all the rest
/// of a directory that they are kept in is there.
fn mount_namespaces_that_others_keep_are_left_out() {
    on_one_cpu();
    crowd();
    let source = folder().join("source");
    let at = |name: &str| source.join(name).to_str().unwrap().to_owned();
    let on_host = |place: &Path| mount(Some("host"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::create_dir(&source).unwrap();
    on_host(&source);
    mount(None::<&str>, &source, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).unwrap();
    fs::create_dir(at("below")).unwrap();
    on_host(Path::new(&at("below")));
    for name in ["below/file", "ns"] {
        fs::write(at(name), name).unwrap();
    }
    let mut other = lives_elsewhere();
    let keep = |place: &str| {
        let namespace = format!("/proc/{}/ns/mnt", other.id());
        mount(Some(namespace.as_str()), place, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
    };
    keep(&at("ns"));
    let bundle = |user: bool, option: &str| {
        let mut bundle = Bundle::sh("cat /host/ns /host/below/file && mount | grep -c nsfs");
        let mut mount = json!({ "destination": "/host", "type": "bind", "source": source, "options": ["rbind", option] });
        if option == "idmap" {
            let map = json!([{ "containerID": 0, "hostID": 0, "size": 1 }]);
            (mount["uidMappings"], mount["gidMappings"]) = (map.clone(), map);
        }
        bundle.set("/mounts/-", mount);
        if user {
            bundle.user_namespace(&[(0, 0, 65536)])
        } else {
            &mut bundle
        };
        bundle
    };
    for (user, option) in [(false, "ro"), (false, "rshared"), (false, "idmap"), (true, "ro")] {
        if option == "idmap" && call::runtime_name().as_deref() != Some("berth") {
            continue; // The others copy the tree in the host's mount namespace.
        }
        let output = bundle(user, option).run();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("nsbelow/file0\n", ""), "{user} {option}");
    }
    // Nor into a container that runs.
    if call::runtime_name().as_deref() == Some("berth") {
        let (_, container) = live_mounts::sleeper();
        let list = [live_mounts::bind(source.to_str().unwrap(), "/host", &["rbind", "ro"])];
        live_mounts::mounts(&container, "add", &list).output().ok();
        let seen = live_mounts::inside(&container, "cat /host/ns /host/below/file && mount | grep -c nsfs; true");
        assert_eq!(seen, "nsbelow/file0\n");
    }
    // So it is in a root filesystem, of which the container's is a copy.
    for user in [false, true] {
        let mut bundle = bundle(user, "ro");
        let rootfs = bundle.inside("");
        mount(Some(&rootfs), &rootfs, None::<&str>, MsFlags::MS_BIND, None::<&str>).unwrap();
        mount(None::<&str>, &rootfs, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        fs::write(bundle.inside("/tmp/ns"), "in the root\n").unwrap();
        keep(bundle.inside("/tmp/ns").to_str().unwrap());
        bundle.set("/process/args", json!(["/bin/cat", "/tmp/ns"]));
        let output = bundle.run();
        assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("in the root\n", ""), "{user}");
        umount2(&rootfs, MntFlags::MNT_DETACH).unwrap();
    }
    other.kill().unwrap();
    other.wait().unwrap();
}
