// SPDX-License-Identifier: Apache-2.0
//! Tests of the option words and of planned mounts.

use proptest::prelude::*;

use super::*;
use crate::linux::types::{Atime, IdRange};
use crate::plan::rootfs::tests::{Setup, mounts_of, setup};
use crate::spec::IdMapping;

fn options(words: &[&str]) -> Options {
    Options::parse(&words.iter().map(|word| word.to_string()).collect::<Vec<_>>(), "mounts[0]").unwrap()
}

fn one(kind: &str, words: &[&str]) -> Setup {
    let mut setup = setup();
    setup.add("/x", kind, "src", words);
    setup
}

#[test]
fn the_table_is_sorted_and_whole() {
    let known = mount_options_known();
    assert!(known.is_sorted() && known.windows(2).all(|pair| pair[0] != pair[1]));
    // config.md, "Linux mount options", and crun's.
    let specified = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec \
        noiversion nolazytime norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec \
        rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared \
        rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable \
        idmap ridmap mand nomand copy-symlink src-nofollow dest-nofollow";
    for word in specified.split_whitespace() {
        assert!(known.contains(&word), "{word} is not known");
        let parsed = options(&[word]);
        assert!(parsed.parameters.is_empty(), "{word} was taken for a parameter");
    }
}

#[test]
fn attributes_are_set_and_cleared() {
    let cases: &[(&[&str], MountAttr, u64)] = &[
        (&["ro", "nosuid"], MountAttr::RDONLY | MountAttr::NOSUID, 0),
        (&["ro", "rw"], MountAttr::empty(), MountAttr::RDONLY.bits()),
        (&["rw", "ro"], MountAttr::RDONLY, 0),
        (&["dev", "noexec", "suid"], MountAttr::NOEXEC, (MountAttr::NODEV | MountAttr::NOSUID).bits()),
        (&["nosymfollow", "nodiratime"], MountAttr::NOSYMFOLLOW | MountAttr::NODIRATIME, 0),
        (&["defaults", "silent", "loud", "iversion"], MountAttr::empty(), 0),
    ];
    for (words, set, clear) in cases {
        let attr = options(words).attr;
        assert_eq!((attr.attr_set(), attr.attr_clear()), (set.bits(), *clear), "{words:?}");
        let recursive: Vec<String> = words
            .iter()
            .filter(|word| !["defaults", "silent", "loud", "iversion"].contains(word))
            .map(|w| format!("r{w}"))
            .collect();
        let attr = Options::parse(&recursive, "").unwrap();
        assert_eq!((attr.attr_recursive.attr_set(), attr.attr_recursive.attr_clear()), (set.bits(), *clear), "{recursive:?}");
        assert!(attr.attr.is_empty());
    }
}

#[test]
fn access_times_are_one_value() {
    let cases: &[(&[&str], Option<Atime>)] = &[
        (&[], None),
        (&["noatime"], Some(Atime::Noatime)),
        (&["noatime", "relatime"], Some(Atime::Noatime)),
        (&["strictatime", "noatime"], Some(Atime::Strictatime)),
        (&["noatime", "atime"], Some(Atime::Relatime)),
        (&["strictatime", "nostrictatime"], Some(Atime::Relatime)),
        (&["norelatime", "noatime"], Some(Atime::Noatime)),
        (&["norelatime"], Some(Atime::Relatime)),
    ];
    for (words, expected) in cases {
        let mut want = super::super::step::AttrChange::default();
        expected.iter().for_each(|atime| want.atime(*atime));
        assert_eq!(options(words).attr, want, "{words:?}");
    }
}

#[test]
fn flags_and_parameters_of_a_new_filesystem() {
    let parameters = |kind: &str, words: &[&str]| match one(kind, words).mount().source {
        Source::New { parameters, .. } => parameters
            .into_iter()
            .map(|(key, value)| value.map_or(key.clone(), |value| format!("{key}={value}")))
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(parameters("tmpfs", &["size=64k", "sync", "ro", "nr_inodes=5"]), ["sync", "size=64k", "nr_inodes=5"]);
    assert_eq!(parameters("ext4", &["ro", "data=journal", "async"]), ["ro", "data=journal"]);
    assert_eq!(
        parameters("overlay", &["lowerdir=/a=b:/c", "dirsync", "sync", "async", "nolazytime"]),
        ["dirsync", "lowerdir=/a=b:/c"]
    );
    assert_eq!(parameters("devpts", &["newinstance", "gid=5"]), ["newinstance", "gid=5"]);
    let mut setup = one("devpts", &["newinstance", "gid=70000"]);
    setup.user_namespace();
    let plan = setup.plan();
    assert!(matches!(&mounts_of(&plan)[0].source, Source::New { parameters, .. } if parameters.len() == 1));
    assert_eq!(plan.warnings.len(), 1);
    let mut setup = one("tmpfs", &[]);
    setup.linux().mount_label = "system_u:object_r:x:s0".into();
    assert!(matches!(setup.mount().source, Source::New { parameters, .. } if parameters.is_empty()));
    setup.host.selinux = true;
    assert!(matches!(setup.mount().source, Source::New { parameters, .. } if parameters[0].0 == "context"));
}

#[test]
fn a_tmpfs_waits_to_become_read_only_and_takes_its_mode() {
    let mount = one("tmpfs", &["ro", "tmpcopyup"]).mount();
    assert!(mount.readonly_last && mount.attr.is_empty());
    assert!(matches!(mount.source, Source::New { mode_of_destination: true, copy_up: true, .. }));
    let mount = one("tmpfs", &["mode=755", "rro"]).mount();
    assert!(mount.readonly_last);
    assert!(matches!(mount.source, Source::New { mode_of_destination: false, copy_up: false, .. }));
    let mount = one("sysfs", &["ro"]).mount();
    assert!(!mount.readonly_last && mount.attr.flags() == MountAttr::RDONLY && mount.destination_nofollow);
    let mut setup = setup();
    setup.add("dev/", "bind", "/dev", &["rbind", "ro"]);
    let mount = setup.mount();
    assert!(mount.readonly_last && mount.destination == "/dev/");
}

#[test]
fn binds() {
    let setup = one("bind", &["rbind", "bind", "ro", "rro", "rslave", "private", "mode=755", "nosuch"]);
    let plan = setup.plan();
    let mount = &mounts_of(&plan)[0];
    assert!(
        matches!(&mount.source, Source::Bind { tree: Tree::Path(path), recursive: true, source_nofollow: false, copy_symlink: false, .. } if path == "/bundle/src")
    );
    assert_eq!(mount.attr_recursive.flags(), MountAttr::RDONLY);
    assert_eq!(mount.propagation.iter().map(|change| change.recursive).collect::<Vec<_>>(), [true, false]);
    assert_eq!(
        plan.warnings,
        [
            "mounts[0].options[6]: \"mode\" means nothing to a bind mount and is ignored",
            "mounts[0].options[7]: \"nosuch\" means nothing to a bind mount and is ignored"
        ]
    );
    assert!(matches!(one("bind", &[]).mount().source, Source::Bind { recursive: false, .. }));
    let mount = one("", &["bind", "copy-symlink", "dest-nofollow"]).mount();
    assert!(mount.destination_nofollow);
    assert!(matches!(mount.source, Source::Bind { source_nofollow: true, copy_symlink: true, .. }));
    let mut setup = setup_without_source();
    assert_eq!(setup.problems()[0].at, "mounts[0].source");
    setup.spec.mounts[0].destination.clear();
    assert_eq!(setup.problems()[0].at, "mounts[0].destination");
}

fn setup_without_source() -> Setup {
    let mut setup = one("bind", &[]);
    setup.spec.mounts[0].source.clear();
    setup
}

#[test]
fn a_bind_does_not_tell_the_host_unless_it_says_so() {
    let propagation = |root: &str, words: &[&str], user: bool| {
        let mut setup = one("bind", words);
        setup.linux().rootfs_propagation = root.into();
        if user {
            setup.user_namespace();
        }
        setup.mount().propagation.iter().map(|change| (change.kind, change.recursive)).collect::<Vec<_>>()
    };
    assert_eq!(propagation("shared", &[], false), [(Propagation::Slave, true)]);
    assert_eq!(propagation("shared", &["rshared"], false), [(Propagation::Shared, true)]);
    assert_eq!(propagation("rslave", &[], false), []);
    assert_eq!(propagation("private", &[], false), []);
    assert_eq!(propagation("private", &[], true), [(Propagation::Private, true)]);
    assert_eq!(propagation("", &[], true), []);
}

#[test]
fn remounts() {
    let source = |kind: &str, words: &[&str]| one(kind, words).mount().source;
    assert_eq!(source("", &["bind", "remount", "ro"]), Source::Remount { parameters: None });
    let flags = vec![("async".to_string(), None), ("size".to_string(), Some("1m".to_string()))];
    assert_eq!(source("tmpfs", &["remount", "async", "size=1m"]), Source::Remount { parameters: Some(flags) });
    assert_eq!(source("ext4", &["remount", "ro"]), Source::Remount { parameters: Some(vec![("ro".into(), None)]) });
    assert_eq!(source("ext4", &["remount", "rw"]), Source::Remount { parameters: Some(vec![("rw".into(), None)]) });
}

#[test]
fn only_procfs_on_proc() {
    let problems = |destination: &str, kind: &str, words: &[&str]| {
        let mut setup = setup();
        setup.add(destination, kind, "/x", words);
        super::super::rootfs::root_steps(&setup.context())
            .err()
            .unwrap_or_default()
            .into_iter()
            .map(|one| one.at)
            .collect::<Vec<_>>()
    };
    let rule = |destination: &str, kind: &str, words: &[&str]| {
        let mut setup = setup();
        setup.add(destination, kind, "/x", words);
        (setup.mount().proc, setup.mount().destination_nofollow)
    };
    assert_eq!(rule("/proc", "proc", &[]), (ProcRule::IsProc, true));
    assert_eq!(rule("//a/../proc/", "bind", &["rbind"]), (ProcRule::IsProc, true));
    assert_eq!(rule("/proc/meminfo", "bind", &["bind"]), (ProcRule::CoversFile, false));
    assert_eq!(rule("/procs", "tmpfs", &[]), (ProcRule::Outside, false));
    assert_eq!(rule("/mnt/proc", "proc", &[]), (ProcRule::Outside, true));
    for (destination, kind) in [("/proc", "tmpfs"), ("proc/", "ext4"), ("/./proc", "overlay")] {
        assert_eq!(problems(destination, kind, &[]), ["mounts[0]"], "{destination}");
    }
    for destination in ["/proc/self/attr", "/proc/sys", "/x/../proc/1", "/proc/meminfo/.."] {
        let expected = if clean(destination) == "/proc" { "mounts[0]" } else { "mounts[0].destination" };
        assert_eq!(problems(destination, "tmpfs", &[]), [expected], "{destination}");
    }
}

#[test]
fn id_mapped_binds() {
    let range = |inside, outside, count| IdRange { inside, outside, count };
    let opened = |setup: &Setup| match &setup.plan().trees.last().unwrap().op {
        ParentOp::OpenTree { id_map, id_map_recursive, .. } => (id_map.clone().unwrap().uids, *id_map_recursive),
        other => panic!("{other:?}"),
    };
    let own = vec![IdMapping { container_id: 0, host_id: 7, size: 9 }];
    let mut setup = one("bind", &["bind"]);
    setup.spec.mounts[0].uid_mappings = own.clone();
    assert_eq!(setup.problems()[0].at, "mounts[0]");
    setup.spec.mounts[0].gid_mappings = own.clone();
    assert_eq!(opened(&setup), (vec![range(0, 7, 9)], false));
    let text = "ridmap=uids=0-1-10#10-11-10;gids=0-100-10";
    assert_eq!(opened(&one("bind", &["rbind", text])), (vec![range(0, 1, 10), range(10, 11, 10)], true));
    // Relative to the container's user namespace.
    let mut setup = one("bind", &["bind", "idmap=uids=@5-3-10;gids=0-0-1"]);
    assert_eq!(setup.problems()[0].at, "mounts[0]");
    setup.user_namespace();
    assert_eq!(opened(&setup).0, [range(5, 100_003, 10)]);
    let mut setup = one("bind", &["bind", "idmap=uids=@5-65530-10;gids=0-0-1"]);
    setup.user_namespace();
    assert!(setup.problems()[0].rule.contains("(@)"));
    // The container's own.
    let mut setup = one("bind", &["bind", "ridmap"]);
    assert!(setup.problems()[0].rule.contains("user namespace"));
    setup.user_namespace();
    assert_eq!(opened(&setup), (vec![range(0, 100_000, 65_536)], true));
    setup.rootless();
    assert!(setup.problems()[0].rule.contains("CAP_SYS_ADMIN"));
    assert_eq!(one("tmpfs", &["idmap"]).problems()[0].at, "mounts[0]");
    let words = ["idmap=uids=0-0-1;gids=0-0-1"];
    let mut setup = one("bind", &words);
    (setup.spec.mounts[0].uid_mappings, setup.spec.mounts[0].gid_mappings) = (own.clone(), own);
    assert!(setup.problems()[0].rule.contains("as well"));
}

#[test]
fn wrong_mappings_are_named() {
    for text in [
        "uids=0-0-1",
        "uids=0-0-1;gids=",
        "x=1",
        "uids=0-0-0;gids=0-0-1",
        "uids=0-0;gids=0-0-1",
        "",
        "uids=+0-0-1;gids=0-0-1",
        "uids=0-4294967295-2;gids=0-0-1",
        "uids=4294967295-0-2;gids=0-0-1",
        "uids=0-0-1-1;gids=0-0-1",
        "uids=-1-0-1;gids=0-0-1",
    ] {
        let setup = one("bind", &["bind", &format!("idmap={text}")]);
        assert_eq!(setup.problems()[0].at, "mounts[0].options[1]", "{text}");
    }
    assert_eq!(one("tmpfs", &["ro", "=x"]).problems()[0].at, "mounts[0].options[1]");
}

#[test]
fn paths() {
    assert_eq!(absolute("a/b"), "/a/b");
    assert_eq!(from_bundle("a", "/b/"), "/b/a");
    for (given, cleaned) in [("", "/"), ("/", "/"), ("//a/./b//", "/a/b"), ("../a/../../b", "/b"), ("/a/..", "/")] {
        assert_eq!(clean(given), cleaned);
    }
}

proptest! {
    #[test]
    fn any_words_parse_or_are_named(words in proptest::collection::vec("[a-z=@;#0-9-]{0,12}|r?(ro|rw|bind|idmap|noatime)", 0..8)) {
        match Options::parse(&words, "mounts[0]") {
            Ok(options) => {
                prop_assert_eq!(options.attr.attr_set() & options.attr.attr_clear() & !Atime::MASK, 0);
                for parameter in &options.parameters {
                    let word = &words[parameter.index];
                    prop_assert!(word.starts_with(&parameter.key) && !parameter.key.is_empty());
                }
                let known = words.iter().filter(|word| mount_options_known().contains(&word.as_str()) || word.contains("idmap=")).count();
                let empty = words.iter().filter(|word| word.is_empty()).count();
                prop_assert!(known + empty + options.parameters.len() >= words.len());
            }
            Err(problems) => prop_assert!(problems.iter().all(|one| one.at.starts_with("mounts[0].options["))),
        }
    }

    #[test]
    fn the_last_word_wins(words in proptest::collection::vec(prop_oneof![Just("ro"), Just("rw"), Just("nosuid"), Just("suid"), Just("noexec"), Just("exec")], 1..12)) {
        let attr = options(&words).attr;
        for (on, off, bit) in [("ro", "rw", MountAttr::RDONLY), ("nosuid", "suid", MountAttr::NOSUID), ("noexec", "exec", MountAttr::NOEXEC)] {
            let last = words.iter().rev().find(|word| **word == on || **word == off);
            prop_assert_eq!(attr.flags().contains(bit), last == Some(&on));
            prop_assert_eq!(attr.clears(bit), last == Some(&off));
        }
    }

    #[test]
    fn inline_mappings_read_back(ranges in proptest::collection::vec((0u32..1000, 0u32..1000, 1u32..1000), 1..5)) {
        let text: Vec<String> = ranges.iter().map(|(inside, outside, count)| format!("{inside}-{outside}-{count}")).collect();
        let parsed = options(&[&format!("idmap=uids={};gids=0-0-1", text.join("#"))]).id_map.unwrap().inline.unwrap().absolute(None).unwrap();
        let back: Vec<(u32, u32, u32)> = parsed.uids.iter().map(|range| (range.inside, range.outside, range.count)).collect();
        prop_assert_eq!(back, ranges);
    }

    /// As a shell would without links: names are kept in order, `..` takes the last one, nothing is above the root.
    #[test]
    fn cleaned_paths_are_absolute_and_plain(path in "[a-c./]{0,24}") {
        let cleaned = clean(&path);
        let parts: Vec<&str> = cleaned[1..].split('/').filter(|part| !part.is_empty()).collect();
        prop_assert!(cleaned.starts_with('/') && parts.iter().all(|part| *part != "." && *part != ".."), "{:?}", cleaned);
        prop_assert_eq!(clean(&cleaned), cleaned.clone());
        let mut expected = std::path::PathBuf::from("/");
        for part in std::path::Path::new(&absolute(&path)).components() {
            match part {
                std::path::Component::ParentDir => drop(expected.pop()),
                std::path::Component::Normal(name) => expected.push(name),
                _ => {}
            }
        }
        prop_assert_eq!(cleaned, expected.to_str().unwrap());
    }

    /// An option and what undoes it, in any order and number: the last one counts, recursively as well.
    #[test]
    fn every_pair_of_words_is_a_switch(on in prop::collection::vec(any::<bool>(), 1..8), which in 0usize..7, recursive: bool) {
        const PAIRS: [(&str, &str, MountAttr); 7] = [
            ("ro", "rw", MountAttr::RDONLY),
            ("nosuid", "suid", MountAttr::NOSUID),
            ("nodev", "dev", MountAttr::NODEV),
            ("noexec", "exec", MountAttr::NOEXEC),
            ("nodiratime", "diratime", MountAttr::NODIRATIME),
            ("nosymfollow", "symfollow", MountAttr::NOSYMFOLLOW),
            ("ro", "rw", MountAttr::RDONLY),
        ];
        let (set, clear, bit) = PAIRS[which];
        let prefix = if recursive { "r" } else { "" };
        let words: Vec<String> = on.iter().map(|on| format!("{prefix}{}", if *on { set } else { clear })).collect();
        let parsed = Options::parse(&words, "").unwrap();
        let (changed, other) = if recursive { (parsed.attr_recursive, parsed.attr) } else { (parsed.attr, parsed.attr_recursive) };
        prop_assert!(other.is_empty());
        prop_assert_eq!(changed.flags().contains(bit), on[on.len() - 1]);
        prop_assert_eq!(changed.clears(bit), !on[on.len() - 1]);
    }
}

#[test]
fn options_in_one_string() {
    let read = |text: &str| {
        let options = self::options(&[text]);
        options.parameters.iter().map(|one| format!("{}={}", one.key, one.value.as_deref().unwrap_or("-"))).collect::<Vec<_>>()
    };
    assert_eq!(read("size=1m,mode=700,ro"), ["size=1m", "mode=700"]);
    assert_eq!(read(",,"), [""; 0]);
    assert_eq!(read(""), [""; 0]);
    assert_eq!(read("mpol=bind:0,2,4-5,huge=never"), ["mpol=bind:0,2,4-5", "huge=never"]);
    assert_eq!(read("lowerdir=/a\\,b:/c,upperdir=/d"), ["lowerdir=/a\\,b:/c", "upperdir=/d"]);
    assert_eq!(read("context=a:b:s0:c1,x2"), ["context=a:b:s0:c1,x2"]);
    assert_eq!(read("context=\"a:b:s0:c1,x2\",size=1"), ["context=a:b:s0:c1,x2", "size=1"]);
    let options = self::options(&["ro,nosuid", "bind"]);
    assert!(options.attr.flags().contains(MountAttr::RDONLY | MountAttr::NOSUID) && options.bind == Some(false));
}
