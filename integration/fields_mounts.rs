// SPDX-License-Identifier: Apache-2.0
//! Options of `mounts[]`, word by word (config.md, "Linux mount options"): each row of a table is one option, and what
//! the kernel then says of the mount and of the one below it.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use crate::harness::bundle::folder;
use crate::harness::look::{Mount, mount_at, parse_mounts};
use crate::harness::{Bundle, Container, Need, Test};
use crate::test;

/// What this file tests.
pub const TESTS: &[Test] = &[
    test!(options_that_set_attributes).differs(&[("crun", "asks the kernel for noatime in a way that it refuses")]),
    test!(nosymfollow).differs(&[("crun", "does not know the word without r")]),
    test!(options_that_clear_attributes)
        .differs(&[("crun", "an option and its opposite do not cancel each other"), ("runc", "leaves noatime on for `atime`")]),
    test!(flags_of_a_bind_are_those_named).differs(&[
        ("runc", "refuses to lift restrictions in a user namespace"),
        ("crun", "leaves some of the source's flags in 1.28"),
    ]),
    test!(every_propagation),
    test!(nested_read_only_binds),
    test!(remount_changes_what_is_there)
        .differs(&[("crun", "remounts the mount's file system"), ("runc", "wants a source on the host, which is not looked at")]),
    test!(unknown_option_of_a_filesystem_is_refused),
    test!(tmpcopyup_keeps_everything),
    test!(copy_symlink).differs(&[("runc", "does not know the option")]),
    test!(source_is_not_followed).differs(&[("runc", "does not know the option"), ("crun", "shows what it leads to")]),
    test!(destination_is_not_followed).differs(&[("runc", "does not know the option"), ("crun", "follows it all the same")]),
    test!(file_bind_makes_its_target),
    test!(idmap_of_the_container).needs(&[IDMAP]),
    test!(idmap_is_not_recursive_and_ridmap_is).needs(&[IDMAP]),
    test!(idmap_written_in_the_option).needs(&[IDMAP]).differs(&[("runc", "does not know this form")]),
    test!(idmap_of_a_new_filesystem_is_refused).differs(&[("crun", "maps it")]),
    test!(host_cgroups_of_a_privileged_container).needs(&[Need::Cgroup2]).differs(&[
        ("runc", "mounts cgroup2 anew, which takes nsdelegate off the host"),
        ("crun", "mounts cgroup2 anew, and knows no nsdelegate"),
    ]),
    test!(cgroup_mount_in_every_namespace_case).needs(&[Need::Cgroup2]),
    test!(sysfs_that_may_not_be_mounted_is_bound).differs(&[("runc", "refuses it: the bind has to be configured")]),
    test!(mounts_inside_proc_are_refused).differs(&[("crun", "allows it")]),
];

/// Since Linux 6.3 on the tmpfs that tests stand on.
const IDMAP: Need = Need::Kernel(6, 3);

fn mounts_of(container: &Container) -> Vec<Mount> {
    parse_mounts(&fs::read_to_string(format!("/proc/{}/mountinfo", container.pid())).unwrap())
}

/// A mounted tmpfs of the host's with a file, and another below it; unmounted when dropped.
struct Nested(String);

impl Nested {
    fn new(name: &str, flags: MsFlags) -> Nested {
        let top = folder().join(name).to_str().unwrap().to_owned();
        let below = format!("{top}/below");
        for place in [&top, &below] {
            fs::create_dir_all(place).unwrap();
            mount(Some("host"), place.as_str(), Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
            fs::write(format!("{place}/file"), "of the host\n").unwrap();
        }
        for place in [&below, &top] {
            mount(None::<&str>, place.as_str(), None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, None::<&str>)
                .unwrap();
        }
        Nested(top)
    }
}

impl Drop for Nested {
    fn drop(&mut self) {
        umount2(self.0.as_str(), MntFlags::MNT_DETACH).unwrap();
    }
}

/// Binds the tree once for each option; whether the mount itself and the one below it then have the attribute.
fn with_options(tree: &Nested, options: &[(&str, &str)]) -> Vec<(bool, bool)> {
    let mut bundle = Bundle::new();
    for (number, (option, _)) in options.iter().enumerate() {
        bundle.mount(&format!("/mnt/{number}"), "bind", &tree.0, &["rbind", option]);
    }
    let mounts = mounts_of(&bundle.create());
    let has = |at: String, attribute: &str| mount_at(&mounts, &at).options.iter().any(|option| option == attribute);
    let both = |(number, (_, attribute)): (usize, &(&str, &str))| {
        (has(format!("/mnt/{number}"), attribute), has(format!("/mnt/{number}/below"), attribute))
    };
    options.iter().enumerate().map(both).collect()
}

fn options_that_set_attributes() {
    let tree = Nested::new("plain", MsFlags::empty());
    let one = [
        ("ro", "ro"),
        ("nosuid", "nosuid"),
        ("nodev", "nodev"),
        ("noexec", "noexec"),
        ("noatime", "noatime"),
        ("nodiratime", "nodiratime"),
        ("relatime", "relatime"),
    ];
    for ((option, _), (top, below)) in one.iter().zip(with_options(&tree, &one)) {
        assert!(top, "{option}");
        assert!(!below || *option == "relatime", "{option} is not recursive");
    }
    let all = [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
        ("rrelatime", "relatime"),
    ];
    for ((option, _), found) in all.iter().zip(with_options(&tree, &all)) {
        assert_eq!(found, (true, true), "{option}");
    }
    for (option, found) in [("rstrictatime", "relatime"), ("strictatime", "relatime")]
        .iter()
        .zip(with_options(&tree, &[("rstrictatime", "relatime"), ("strictatime", "relatime")]))
    {
        assert_eq!(found, (false, option.0 == "strictatime"), "{}: neither noatime nor relatime is strictatime", option.0);
    }
}

fn nosymfollow() {
    let tree = Nested::new("links", MsFlags::empty());
    let options = [("nosymfollow", "nosymfollow"), ("rnosymfollow", "nosymfollow")];
    assert_eq!(with_options(&tree, &options), [(true, false), (true, true)]);
}

fn options_that_clear_attributes() {
    let every = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NODIRATIME;
    let tree = Nested::new("strict", every | MsFlags::MS_NOATIME);
    let one = [
        ("rw", "ro"),
        ("suid", "nosuid"),
        ("dev", "nodev"),
        ("exec", "noexec"),
        ("atime", "noatime"),
        ("diratime", "nodiratime"),
    ];
    for ((option, _), found) in one.iter().zip(with_options(&tree, &one)) {
        assert_eq!(found, (false, true), "{option}");
    }
    let all = [
        ("rrw", "ro"),
        ("rsuid", "nosuid"),
        ("rdev", "nodev"),
        ("rexec", "noexec"),
        ("ratime", "noatime"),
        ("rdiratime", "nodiratime"),
    ];
    for ((option, _), found) in all.iter().zip(with_options(&tree, &all)) {
        assert_eq!(found, (false, false), "{option}");
    }
    assert_eq!(with_options(&tree, &[("defaults", "nosuid")]), [(true, true)], "what nobody names stays as it is");
}

/// mount(2)'s way, and every runtime's: without a flag a bind is as its source is, with one it has exactly those that are named.
fn flags_of_a_bind_are_those_named() {
    let every = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_NODIRATIME;
    let tree = Nested::new("hardened", every | MsFlags::MS_NOATIME);
    let all = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime"];
    let cases: [(&[&str], &[&str]); 6] = [
        (&[], &all),
        (&["rprivate"], &all),
        (&["rw"], &["noatime", "nodiratime"]),
        (&["nosuid", "nodev"], &["nosuid", "nodev", "noatime", "nodiratime"]),
        (&["rw", "noatime"], &["noatime"]),
        (&["exec", "rnosuid"], &["nosuid", "noatime", "nodiratime"]),
    ];
    for user in [false, true] {
        let mut bundle = Bundle::new();
        if user {
            bundle.user_namespace(&[(0, 100_000, 1000)]);
            std::os::unix::fs::chown(bundle.inside("/"), Some(100_000), Some(100_000)).unwrap();
        }
        for (number, (options, _)) in cases.iter().enumerate() {
            bundle.mount(&format!("/mnt/{number}"), "bind", &tree.0, &[&["rbind"], *options].concat());
        }
        let mounts = mounts_of(&bundle.create());
        for (number, (options, flags)) in cases.iter().enumerate() {
            let mount = mount_at(&mounts, &format!("/mnt/{number}"));
            let found: Vec<&str> = all.into_iter().filter(|flag| mount.options.iter().any(|option| option == flag)).collect();
            match user {
                false => assert_eq!(found, *flags, "{options:?}"),
                true => assert!(found.contains(&"nosuid"), "{options:?}: not the user namespace's to lift: {found:?}"),
            }
        }
    }
}

fn every_propagation() {
    let tree = Nested::new("spread", MsFlags::empty());
    for (option, top, below) in [
        ("shared", "shared", None),
        ("rshared", "shared", Some("shared")),
        ("slave", "master", None),
        ("rslave", "master", Some("master")),
        ("private", "", None),
        ("rprivate", "", Some("")),
        ("unbindable", "unbindable", None),
        ("runbindable", "unbindable", Some("unbindable")),
    ] {
        mount(None::<&str>, tree.0.as_str(), None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>).unwrap();
        let mut bundle = Bundle::new();
        // As engines do: what shall be shared with the host is so in a root that is shared as well.
        let root = if option.ends_with("shared") { "rshared" } else { "rslave" };
        bundle.mount("/mnt", "bind", &tree.0, &["rbind", option]).set("/linux/rootfsPropagation", json!(root));
        let mounts = mounts_of(&bundle.create());
        let kind =
            |at: &str| mount_at(&mounts, at).tags.iter().map(|tag| tag.split(':').next().unwrap().to_owned()).collect::<Vec<_>>();
        let is = |found: Vec<String>, wanted: &str| {
            if wanted.is_empty() { found.is_empty() } else { found.iter().any(|tag| tag == wanted) }
        };
        assert!(is(kind("/mnt"), top), "{option}: {:?}", kind("/mnt"));
        assert!(below.is_none_or(|below| is(kind("/mnt/below"), below)), "{option}: {:?}", kind("/mnt/below"));
    }
}

fn nested_read_only_binds() {
    let tree = Nested::new("tree", MsFlags::empty());
    let mut bundle =
        Bundle::sh("for place in /a /a/below /a/below/deeper; do touch $place/x 2>/dev/null && echo $place; done; exit 0");
    fs::create_dir(format!("{}/below/deeper", tree.0)).unwrap();
    bundle.mount("/a", "bind", &tree.0, &["bind", "ro"]);
    bundle.mount("/a/below", "bind", &format!("{}/below", tree.0), &["bind", "ro"]);
    bundle.mount("/a/below/deeper", "tmpfs", "tmpfs", &[]);
    assert_eq!(bundle.print(), "/a/below/deeper\n");
}

fn remount_changes_what_is_there() {
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["size=1m"]);
    bundle.mount("/mnt", "", "none", &["bind", "remount", "ro", "nosuid", "nodev"]);
    let mounts = mounts_of(&bundle.create());
    let mount = mount_at(&mounts, "/mnt");
    assert_eq!(mounts.iter().filter(|mount| mount.at == "/mnt").count(), 1, "no second mount");
    for option in ["ro", "nosuid", "nodev"] {
        assert!(mount.options.iter().any(|one| one == option), "{option}: {}", mount.line);
    }
    assert!(mount.data.iter().any(|one| one == "rw"), "the file system stays writable: {}", mount.line);
}

fn unknown_option_of_a_filesystem_is_refused() {
    let mut bundle = Bundle::new();
    bundle.mount("/mnt", "tmpfs", "tmpfs", &["nonsense-of-ours"]);
    let message = bundle.create_fails();
    assert!(message.contains("mnt"), "{message}");
}

fn tmpcopyup_keeps_everything() {
    let script = "cd /home; stat -c '%n %a %u:%g %F' . file dir dir/deep link; cat dir/deep; readlink link";
    let mut bundle = Bundle::sh(script);
    let home = bundle.inside("/home");
    fs::create_dir(home.join("dir")).unwrap();
    fs::write(home.join("file"), "x").unwrap();
    fs::write(home.join("dir/deep"), "deep\n").unwrap();
    symlink("/none/such", home.join("link")).unwrap();
    std::os::unix::fs::chown(home.join("file"), Some(5), Some(6)).unwrap();
    fs::set_permissions(home.join("file"), std::os::unix::fs::PermissionsExt::from_mode(0o4750)).unwrap();
    fs::set_permissions(home.join("dir"), std::os::unix::fs::PermissionsExt::from_mode(0o1711)).unwrap();
    fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o750)).unwrap();
    let before = bundle.print();
    bundle.id = crate::harness::bundle::new_id();
    bundle.mount("/home", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let args = format!("{script}; grep -q ' /home .* - tmpfs' /proc/self/mountinfo && echo mounted");
    bundle.set("/process/args/2", json!(args));
    assert_eq!(bundle.run().stdout, format!("{before}mounted\n"));
}

/// A folder of the host with a link in it that leads to a file of the host.
fn host_link() -> String {
    let dir = folder().join("shown");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("target"), "of the host\n").unwrap();
    symlink("target", dir.join("link")).unwrap();
    dir.join("link").to_str().unwrap().to_owned()
}

/// The file that it leads to.
fn host_file() -> String {
    host_link().replace("/link", "/target")
}

fn copy_symlink() {
    let mut bundle = Bundle::sh("readlink /opt/copied; grep -c /opt/copied /proc/self/mountinfo; exit 0");
    bundle.mount("/opt/copied", "bind", &host_link(), &["bind", "copy-symlink"]);
    assert_eq!(bundle.print(), "target\n0\n");
}

fn source_is_not_followed() {
    let link = host_link();
    let mut bundle = Bundle::new();
    bundle.mount("/opt/file", "bind", &link, &["bind"]);
    let container = bundle.create();
    assert!(Path::new(&format!("/proc/{}/root/opt/file", container.pid())).is_file(), "without the option it is");
    let mut bundle = Bundle::args(&["/bin/cat", "/opt/file"]);
    bundle.mount("/opt/file", "bind", &link, &["bind", "src-nofollow"]);
    let output = bundle.run();
    assert!(output.code() != 0 && output.stdout.is_empty(), "a link cannot be read as what it leads to: {output:?}");
}

/// The mount lies over the link itself, which Linux allows for links only, or is refused: never where the link leads.
fn destination_is_not_followed() {
    let mut bundle = Bundle::new();
    fs::write(bundle.inside("/etc/real"), "of the image\n").unwrap();
    symlink("/etc/real", bundle.inside("/etc/link")).unwrap();
    let target = host_file();
    bundle.mount("/etc/link", "bind", &target, &["bind", "dest-nofollow"]);
    bundle.set("/process/args", json!(["/bin/cat", "/etc/real"]));
    let output = bundle.run();
    assert!(!output.stdout.contains("of the host"), "{output:?}");
}

fn file_bind_makes_its_target() {
    let mut bundle = Bundle::args(&["/bin/cat", "/new/dir/file"]);
    bundle.mount("/new/dir/file", "bind", &host_file(), &["bind", "ro"]);
    assert_eq!(bundle.print(), "of the host\n");
}

/// `idmap` without mappings of its own takes those of the container's user namespace.
fn idmap_of_the_container() {
    let source = folder().join("owned");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    let mut bundle = Bundle::sh("stat -c %u:%g /plain/file /mapped/file; touch /mapped/new");
    bundle.user_namespace(&[(0, 100_000, 1000)]);
    std::os::unix::fs::chown(bundle.inside("/"), Some(100_000), Some(100_000)).unwrap();
    let source = source.to_str().unwrap();
    bundle.mount("/plain", "bind", source, &["bind"]).mount("/mapped", "bind", source, &["bind", "idmap"]);
    for place in ["/plain", "/mapped"] {
        fs::create_dir(bundle.inside(place)).unwrap();
    }
    assert_eq!(bundle.print(), "65534:65534\n0:0\n");
    assert_eq!(fs::metadata(format!("{source}/new")).unwrap().uid(), 0, "what user 0 makes belongs to 0 on the host");
}

fn idmap_is_not_recursive_and_ridmap_is() {
    let tree = Nested::new("mapped", MsFlags::empty());
    let map = json!([{ "containerID": 0, "hostID": 7, "size": 1 }]);
    for (option, below) in [("idmap", "0"), ("ridmap", "7")] {
        let mut bundle = Bundle::sh("stat -c %u /mnt/file /mnt/below/file");
        bundle.set(
            "/mounts/-",
            json!({ "destination": "/mnt", "type": "bind", "source": tree.0, "options": ["rbind", option],
                "uidMappings": map, "gidMappings": map }),
        );
        assert_eq!(bundle.print(), format!("7\n{below}\n"), "{option}");
    }
}

fn idmap_written_in_the_option() {
    let source = folder().join("inline");
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("file"), "").unwrap();
    let mut bundle = Bundle::args(&["/bin/stat", "-c", "%u:%g", "/mnt/file"]);
    bundle.mount("/mnt", "bind", source.to_str().unwrap(), &["bind", "idmap=uids=0-8-1;gids=0-9-1"]);
    assert_eq!(bundle.print(), "8:9\n");
}

fn idmap_of_a_new_filesystem_is_refused() {
    let map = json!([{ "containerID": 0, "hostID": 7, "size": 1 }]);
    let mut bundle = Bundle::new();
    let mount = json!({ "destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "uidMappings": map, "gidMappings": map });
    bundle.set("/mounts/-", mount);
    assert!(bundle.create_fails().contains("mount"));
}

fn cgroup_mount_in_every_namespace_case() {
    let other = Bundle::new();
    let other = other.run_detached();
    let joined = format!("/proc/{}/ns/cgroup", other.pid());
    for (case, namespace, user) in [
        ("new", None, false),
        ("the caller's", Some(""), false),
        ("joined", Some(joined.as_str()), false),
        ("new, in a user namespace", None, true),
        ("the caller's, in a user namespace", Some(""), true),
    ] {
        let mut bundle =
            Bundle::sh("stat -f -c %T /sys/fs/cgroup 2>/dev/null; cat /sys/fs/cgroup/cgroup.type; mkdir /sys/fs/cgroup/x");
        bundle.namespace("cgroup", namespace);
        if user {
            bundle.user_namespace(&[(0, 100_000, 1000)]);
            std::os::unix::fs::chown(bundle.inside("/"), Some(100_000), Some(100_000)).unwrap();
        }
        bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "ro"]);
        let output = bundle.run();
        // The root of all has no such file.
        let all = namespace == Some("") && !user;
        assert!(all || output.stdout.contains("domain"), "{case}: a cgroup that is not the root of all: {output:?}");
        assert!(output.stderr.contains("Read-only file system"), "{case}: {output:?}");
    }
}

/// Engines leave a privileged container in the host's cgroup namespace: there the paths of /proc/self/cgroup are to be found.
fn host_cgroups_of_a_privileged_container() {
    let flags = || {
        fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .lines()
            .filter(|line| line.contains(" cgroup2 "))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let before = flags();
    for (option, made) in [("rw", true), ("ro", false)] {
        let mut bundle = Bundle::sh(
            "own=/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup); grep -qx $$ $own/cgroup.procs && echo found; \
             mkdir $own/below && echo made && rmdir $own/below",
        );
        bundle.namespace("cgroup", Some(""));
        // As containerd's CRI plugin asks for it: with the host's own flags of the filesystem.
        bundle.mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", option, "nsdelegate", "memory_recursiveprot"],
        );
        let output = bundle.run();
        assert_eq!(output.stdout, if made { "found\nmade\n" } else { "found\n" }, "{output:?}");
    }
    // runc before its #5267 took nsdelegate off the host, with configurations that did not have it.
    let mut bundle = Bundle::new();
    bundle.namespace("cgroup", Some("")).mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "rw"]);
    bundle.run_detached();
    assert_eq!(flags(), before, "the host's mounts of cgroup2 have changed");
}

/// A user namespace without a network namespace of its own may not mount sysfs: it sees the host's, read-only.
fn sysfs_that_may_not_be_mounted_is_bound() {
    let mut bundle = Bundle::sh("test -d /sys/class/net/lo && echo lo; touch /sys/x");
    bundle.user_namespace(&[(0, 100_000, 1000)]).namespace("network", Some(""));
    std::os::unix::fs::chown(bundle.inside("/"), Some(100_000), Some(100_000)).unwrap();
    bundle.set("/linux/maskedPaths", json!([])).set("/linux/readonlyPaths", json!([]));
    let output = bundle.run();
    assert_eq!(output.stdout, "lo\n", "{output:?}");
    assert!(output.stderr.contains("Read-only") || output.stderr.contains("ermission denied"), "{output:?}");
}

fn mounts_inside_proc_are_refused() {
    let mut bundle = Bundle::new();
    bundle.mount("/proc/self", "tmpfs", "tmpfs", &[]);
    assert!(bundle.create_fails().contains("/proc"));
    let mut bundle = Bundle::args(&["/bin/cat", "/proc/uptime"]);
    bundle.mount("/proc/uptime", "bind", &host_file(), &["bind"]);
    assert_eq!(bundle.print(), "of the host\n", "what lxcfs covers may be covered");
}
