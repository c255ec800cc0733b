// SPDX-License-Identifier: Apache-2.0
//! Tests against this kernel's own cgroups. They need root and a tree that is theirs alone, which hack/native and hack/vm give; anywhere
//! else they say that they are skipped:
//!
//! ```text
//! cargo test --lib --no-run && hack/native [--hybrid] target/debug/deps/berth-HASH cgroup::
//! ```

use std::path::Path;
use std::process::{Child, Command};

use super::*;
use crate::linux::clone::unshare;
use crate::linux::test_child::in_child;
use crate::linux::types::{CgroupMode, Namespaces, Propagation};
use crate::linux::{mount as mounts, probe};
use crate::plan::resources::{Absent, SavedDir};

/// Whether the tree is ours to play with; if not, says that `test` is skipped.
fn ours(test: &str) -> bool {
    let reason = if probe::euid() != 0 {
        "needs root"
    } else if probe::own_cgroup() != "/command" {
        "needs a cgroup tree of its own: run it under hack/native or hack/vm"
    } else {
        return true;
    };
    println!("skip {test}: {reason}");
    false
}

fn mount() -> &'static str {
    match probe::cgroup_mode() {
        CgroupMode::Hybrid => "/sys/fs/cgroup/unified",
        _ => "/sys/fs/cgroup",
    }
}

fn on_v2(path: &str) -> CgroupPlan {
    CgroupPlan {
        saved: SavedCgroup {
            v2: Some(SavedDir { mount: mount().into(), path: path.into(), controllers: vec![] }),
            ..SavedCgroup::default()
        },
        unit: None,
        required: vec![],
        wanted: probe::v2_controllers(),
        writes: vec![],
        devices: None,
        denied: Denied::Error,
        owner: None,
        delegate: None,
        warnings: vec![],
    }
}

fn on_v1(controller: &str, path: &str) -> CgroupPlan {
    let mut plan = on_v2(path);
    plan.saved.v2 = None;
    plan.saved.v1 =
        vec![SavedDir { mount: format!("/sys/fs/cgroup/{controller}"), path: path.into(), controllers: vec![controller.into()] }];
    plan
}

/// A process that waits, killed when the test ends.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        Sleeper(Command::new("sleep").arg("1000").spawn().unwrap())
    }
    fn pid(&self) -> i32 {
        self.0.id().cast_signed()
    }
    fn ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write(file: &str, value: &str, absent: Absent) -> CgroupWrite {
    CgroupWrite {
        tree: Tree::V2,
        controller: file.split('.').next().unwrap().into(),
        file: file.into(),
        value: value.into(),
        at: "linux.resources.x".into(),
        absent,
        unless_used: None,
    }
}

const SHORT: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(10);

#[test]
fn made_and_removed() {
    if !ours("made_and_removed") {
        return;
    }
    let plan = on_v2("/unit-a/above/box");
    let at = format!("{}/unit-a/above/box", mount());
    check(&plan).unwrap();
    let (cgroup, warning) = Cgroup::create(&plan).unwrap();
    assert_eq!(warning, None);
    assert!(Path::new(&at).is_dir());
    check(&plan).unwrap();
    Cgroup::create(&plan).unwrap();
    std::fs::create_dir_all(format!("{at}/sub/deeper")).unwrap();
    cgroup.remove(LONG).unwrap();
    assert!(!Path::new(&at).exists() && Path::new(&at).parent().unwrap().is_dir());
    // Again, with nothing there, and with the cgroup above gone too.
    cgroup.remove(LONG).unwrap();
    std::fs::remove_dir(format!("{}/unit-a/above", mount())).unwrap();
    std::fs::remove_dir(format!("{}/unit-a", mount())).unwrap();
    let gone = Cgroup::reopen(&plan.saved).unwrap();
    gone.kill().unwrap();
    gone.remove(LONG).unwrap();
    assert_eq!((gone.pids().unwrap(), gone.is_frozen().unwrap()), (vec![], false));
    assert_eq!(gone.clone_into().map(|_| ()), None);
}

#[test]
fn a_cgroup_in_use_is_refused() {
    if !ours("a_cgroup_in_use_is_refused") {
        return;
    }
    let plan = on_v2("/unit-b");
    let (cgroup, _) = Cgroup::create(&plan).unwrap();
    let sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), false).unwrap();
    assert_eq!(cgroup.pids().unwrap(), [sleeper.pid()]);
    for error in [check(&plan).unwrap_err(), Cgroup::create(&plan).unwrap_err()] {
        assert!(error.what.contains("container's cgroup is not empty: 1 process(es) found"), "{error}");
    }
    assert!(!std::fs::read_to_string(format!("/proc/{}/stat", sleeper.pid())).unwrap().is_empty());
    drop(sleeper);
    std::fs::write(format!("{}/unit-b/cgroup.freeze", mount()), "1").unwrap();
    assert!(cgroup.is_frozen().unwrap());
    let error = check(&plan).unwrap_err();
    assert!(error.what.contains("container's cgroup unexpectedly frozen"), "{error}");
    cgroup.thaw().unwrap();
    check(&plan).unwrap();
    cgroup.remove(LONG).unwrap();
}

#[test]
fn frozen_killed_and_removed_with_all_below() {
    if !ours("frozen_killed_and_removed_with_all_below") {
        return;
    }
    let plan = on_v2("/unit-c");
    let (cgroup, _) = Cgroup::create(&plan).unwrap();
    let (mut one, mut two) = (Sleeper::new(), Sleeper::new());
    cgroup.enter(one.pid(), false).unwrap();
    std::fs::create_dir(format!("{}/unit-c/sub", mount())).unwrap();
    std::fs::write(format!("{}/unit-c/sub/cgroup.procs", mount()), two.pid().to_string()).unwrap();
    let mut both = [one.pid(), two.pid()];
    both.sort_unstable();
    assert_eq!(cgroup.pids().unwrap(), both);
    cgroup.freeze().unwrap();
    assert!(cgroup.is_frozen().unwrap());
    let again = Cgroup::reopen(cgroup.saved()).unwrap();
    again.thaw().unwrap();
    assert!(!cgroup.is_frozen().unwrap());
    cgroup.freeze().unwrap();

    let error = cgroup.remove(SHORT).unwrap_err();
    assert!(error.what.contains(&format!("{} (state ", one.pid())), "{error}");
    assert_eq!(error.errno, Some(Errno::EBUSY));
    again.kill().unwrap();
    again.remove(LONG).unwrap();
    assert!(one.ended() && two.ended());
    assert!(!Path::new(&format!("{}/unit-c", mount())).exists());
}

#[test]
fn what_fails_leaves_nothing() {
    if !ours("what_fails_leaves_nothing") {
        return;
    }
    let mut plan = on_v2("/unit-d/above/box");
    plan.required = vec!["no-such".into()];
    plan.wanted.push("no-such".into());
    let error = Cgroup::create(&plan).unwrap_err();
    assert!(error.what.contains("the cgroup controller \"no-such\" is not available in /sys/fs/cgroup"), "{error}");
    assert!(!Path::new(&format!("{}/unit-d", mount())).exists());
    // A cgroup that holds processes passes nothing on to those below it.
    let domain = probe::v2_controllers().into_iter().find(|name| ["memory", "hugetlb", "io"].contains(&name.as_str()));
    let Some(domain) = domain else {
        println!("skip a part of what_fails_leaves_nothing: cgroup2 has no controller here");
        return;
    };
    let mut plan = on_v2("/command/unit-d/box");
    plan.required = vec![domain];
    let error = Cgroup::create(&plan).unwrap_err();
    assert!(error.hint.as_deref().unwrap_or_default().contains("processes of its own"), "{error}");
    assert_eq!(std::fs::read_to_string(format!("{}/command/cgroup.type", mount())).unwrap().trim(), "domain");
    assert!(!Path::new(&format!("{}/command/unit-d", mount())).exists());
}

#[test]
fn below_a_threaded_cgroup_is_no_place() {
    if !ours("below_a_threaded_cgroup_is_no_place") {
        return;
    }
    let above = format!("{}/unit-e", mount());
    std::fs::create_dir_all(format!("{above}/t")).unwrap();
    std::fs::write(format!("{above}/t/cgroup.type"), "threaded").unwrap();
    let error = Cgroup::create(&on_v2("/unit-e/t/box")).unwrap_err();
    assert!(error.hint.as_deref().unwrap_or_default().contains("threaded"), "{error}");
    assert!(!Path::new(&format!("{above}/t/box")).exists());
    std::fs::remove_dir(format!("{above}/t")).unwrap();
    std::fs::remove_dir(above).unwrap();
}

#[test]
fn limits_are_written_as_the_plan_says() {
    if !ours("limits_are_written_as_the_plan_says") {
        return;
    }
    let (cgroup, _) = Cgroup::create(&on_v2("/unit-f")).unwrap();
    let read = |file: &str| std::fs::read_to_string(format!("{}/unit-f/{file}", mount())).unwrap().trim().to_string();
    let instead = Absent::Instead { file: "cgroup.max.depth".into(), value: "7".into() };
    cgroup
        .apply(&[
            write("cgroup.max.descendants", "5", Absent::Error),
            write("nothing.max", "1", Absent::Harmless),
            write("nothing.weight", "1", instead),
        ])
        .unwrap();
    assert_eq!((read("cgroup.max.descendants"), read("cgroup.max.depth")), ("5".into(), "7".into()));
    let error = cgroup.apply(&[write("nothing.max", "1", Absent::Error)]).unwrap_err();
    assert_eq!((error.errno, error.config.as_deref()), (Some(Errno::ENOENT), Some("linux.resources.x")));
    assert!(error.hint.as_deref().unwrap_or_default().contains("\"nothing\" is not enabled"), "{error}");
    let error = cgroup.apply(&[write("cgroup.max.depth", "x", Absent::Error)]).unwrap_err();
    assert!(error.what.contains("cannot set cgroup.max.depth of the cgroup") && error.what.contains("to \"x\""), "{error}");
    // A process limit, where there is that controller.
    if probe::v2_controllers().iter().any(|name| name == "pids") {
        cgroup.apply(&[write("pids.max", "3", Absent::Error)]).unwrap();
        assert_eq!(read("pids.max"), "3");
    }
    cgroup.remove(LONG).unwrap();
}

#[test]
fn an_owner_gets_what_the_kernel_lists() {
    use std::os::unix::fs::MetadataExt;
    if !ours("an_owner_gets_what_the_kernel_lists") {
        return;
    }
    let mut plan = on_v2("/unit-g");
    plan.owner = Some(4321);
    let (cgroup, _) = Cgroup::create(&plan).unwrap();
    let owner = |file: &str| std::fs::metadata(format!("{}/unit-g/{file}", mount())).unwrap().uid();
    assert_eq!((owner(""), owner("cgroup.procs"), owner("cgroup.subtree_control")), (4321, 4321, 4321));
    assert_eq!(owner("cgroup.freeze"), 0);
    cgroup.remove(LONG).unwrap();
}

#[test]
fn v1_hierarchies_hold_limits() {
    let name = "v1_hierarchies_hold_limits";
    if !ours(name) {
        return;
    }
    if probe::cgroup_mode() != CgroupMode::Hybrid {
        println!("skip {name}: no cgroup v1 hierarchies here");
        return;
    }
    for controller in ["memory", "cpuset", "pids", "freezer"] {
        let plan = on_v1(controller, "/unit-h/box");
        let (cgroup, _) = Cgroup::create(&plan).unwrap();
        let mut sleeper = Sleeper::new();
        cgroup.enter(sleeper.pid(), false).unwrap();
        assert_eq!(cgroup.pids().unwrap(), [sleeper.pid()], "{controller}");
        let error = check(&plan).unwrap_err();
        assert!(error.what.contains("not empty: 1 process(es)"), "{error}");
        let limits: &[(&str, &str, &str)] = match controller {
            // The second before the first would be invalid, and then the first before the second.
            "memory" => &[("memory.limit_in_bytes", "8388608", ""), ("memory.limit_in_bytes", "33554432", "")],
            "pids" => &[("pids.max", "7", "")],
            _ => &[],
        };
        for (file, value, _) in limits {
            let mut write = write(file, value, Absent::Error);
            write.tree = Tree::V1;
            cgroup.apply(&[write]).unwrap();
            let now = std::fs::read_to_string(format!("/sys/fs/cgroup/{controller}/unit-h/box/{file}")).unwrap();
            assert_eq!(now.trim(), *value);
        }
        if controller == "freezer" {
            cgroup.freeze().unwrap();
            assert!(cgroup.is_frozen().unwrap());
            cgroup.thaw().unwrap();
            assert!(!cgroup.is_frozen().unwrap());
            cgroup.freeze().unwrap();
        }
        let error = cgroup.remove(SHORT).unwrap_err();
        assert!(error.what.contains(&format!("{} (state ", sleeper.pid())), "{error}");
        cgroup.kill().unwrap();
        cgroup.remove(LONG).unwrap();
        assert!(sleeper.ended(), "{controller}");
        assert!(!Path::new(&format!("/sys/fs/cgroup/{controller}/unit-h/box")).exists());
        std::fs::remove_dir(format!("/sys/fs/cgroup/{controller}/unit-h")).unwrap();
    }
}

/// Every kind of cell of the program, and numbers that need all 32 bits.
#[test]
fn the_kernel_takes_the_programs_of_device_rules() {
    use crate::linux::bpf;
    use crate::linux::test_child::is_root;
    use crate::linux::types::NodeKind::{Block, Character};
    use crate::plan::devices_filter::{Rule, access, program};
    if !is_root() {
        return println!("skipped: loading programs needs root");
    }
    let rule = |kind, major, minor| Rule { allow: true, kind, major, minor, access: access::READ };
    let sets = [
        vec![],
        vec![rule(None, None, None)],
        vec![rule(None, None, Some(3)), rule(None, Some(u32::MAX), Some(u32::MAX))],
        vec![rule(Some(Block), None, None), rule(Some(Character), None, Some(1 << 31))],
        vec![rule(Some(Block), Some(8), Some(63)), rule(Some(Block), Some(8), Some(64)), rule(Some(Block), Some(1 << 31), None)],
        (0..200).map(|minor| rule(Some(Character), Some(1), Some(minor))).collect(),
    ];
    for rules in sets {
        let program = program(&rules, "").unwrap();
        bpf::load_device_program("berth_test", &program).unwrap_or_else(|error| panic!("{rules:?}: {error}"));
    }
}

#[test]
fn devices_are_filtered_and_the_filter_replaced() {
    use crate::linux::bpf;
    use crate::plan::devices_filter::{program, with_defaults};
    use crate::plan::resources::DeviceFilter;
    use crate::spec::types::DeviceRule;
    if !ours("devices_are_filtered_and_the_filter_replaced") {
        return;
    }
    let filter = |rules: &[DeviceRule]| {
        let rules = with_defaults(rules, "").unwrap();
        DeviceFilter { program: program(&rules, "").unwrap(), optional: false, keep: false, unit: vec![] }
    };
    let rule = |allow, major, minor, access: &str| DeviceRule {
        allow,
        kind: "c".into(),
        major: Some(major),
        minor: Some(minor),
        access: access.into(),
    };
    let (cgroup, _) = Cgroup::create(&on_v2("/unit-i")).unwrap();
    let dir = format!("{}/unit-i", mount());
    // c 1:11 is /dev/kmsg; nodes of our own on a mount of our own, because the machine's may lack them, or refuse devices.
    let script = r#"
        mount -t tmpfs tmpfs /mnt; cd /mnt; echo $$ >"$1/cgroup.procs"; r=
        t() { if "$@" 2>/dev/null; then r=${r}y; else r=${r}n; fi; }
        t mknod null c 1 3; t mknod kmsg c 1 11; t mknod disk b 7 0
        t sh -c ': <null'; t sh -c ': >null'; t sh -c ': <kmsg'; t sh -c ': >kmsg'; t sh -c ': <disk'
        echo $r"#;
    let results = || {
        let output = Command::new("unshare").args(["-m", "sh", "-c", script, "sh", &dir]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_string()
    };
    assert_eq!(cgroup.filter_devices(&filter(&[])), Ok(None));
    assert_eq!(results(), "yyyyynnn");
    assert_eq!(cgroup.filter_devices(&filter(&[rule(true, 1, 11, "w")])), Ok(None));
    assert_eq!(results(), "yyyyynyn");
    assert_eq!(bpf::query(cgroup.clone_into().unwrap()).unwrap().len(), 1);
    // Beside the program of another owner, which stays.
    let other = bpf::load_device_program("other", &filter(&[]).program).unwrap();
    bpf::attach(cgroup.clone_into().unwrap(), &other, None).unwrap();
    assert_eq!(cgroup.filter_devices(&filter(&[rule(true, 1, 11, "rw")])), Ok(None));
    assert_eq!(bpf::query(cgroup.clone_into().unwrap()).unwrap().len(), 2);
    assert_eq!(results(), "yyyyynnn");
    bpf::detach(cgroup.clone_into().unwrap(), &other).unwrap();
    assert_eq!(results(), "yyyyyyyn");
    cgroup.remove(LONG).unwrap();
}

#[test]
fn what_is_used_is_counted() {
    if !ours("what_is_used_is_counted") {
        return;
    }
    let (cgroup, _) = Cgroup::create(&on_v2("/unit-j")).unwrap();
    let mut watch = cgroup.watch().unwrap();
    assert_eq!(watch.next(SHORT).unwrap(), watch::Seen::Ended);
    let sleeper = Sleeper::new();
    cgroup.enter(sleeper.pid(), false).unwrap();
    let mut busy = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
    cgroup.enter(busy.id().cast_signed(), false).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let stats = cgroup.stats().unwrap();
    assert!(stats.cpu.usage.total > 1_000_000, "{stats:?}");
    if probe::v2_controllers().iter().any(|name| name == "memory") {
        assert!(stats.memory.usage.limit == u64::MAX && !stats.memory.raw.is_empty(), "{stats:?}");
        assert_eq!(stats.pids.current, 2);
    }
    let mut watch = cgroup.watch().unwrap();
    assert_eq!(watch.next(SHORT).unwrap(), watch::Seen::Nothing);
    cgroup.kill().unwrap();
    let _ = busy.wait();
    drop(sleeper);
    assert_eq!(watch.next(LONG).unwrap(), watch::Seen::Ended);
    cgroup.remove(LONG).unwrap();
    assert_eq!(cgroup.stats().unwrap(), stats::Stats::default());
}

#[test]
fn a_kill_for_memory_is_seen() {
    let name = "a_kill_for_memory_is_seen";
    if !ours(name) {
        return;
    }
    let on_v2_memory = probe::v2_controllers().iter().any(|name| name == "memory");
    if !on_v2_memory && probe::cgroup_mode() != CgroupMode::Hybrid {
        println!("skip {name}: no memory controller here");
        return;
    }
    let mut plan = on_v2("/unit-k");
    if !on_v2_memory {
        plan.saved.v1 = on_v1("memory", "/unit-k").saved.v1;
    }
    let (cgroup, _) = Cgroup::create(&plan).unwrap();
    let mut limit = write(if on_v2_memory { "memory.max" } else { "memory.limit_in_bytes" }, "8388608", Absent::Error);
    limit.tree = if on_v2_memory { Tree::V2 } else { Tree::V1 };
    cgroup.apply(&[limit]).unwrap();
    if on_v2_memory {
        cgroup.apply(&[write("memory.swap.max", "0", Absent::Harmless)]).unwrap();
    }
    let mut watch = cgroup.watch().unwrap();
    let mut hungry =
        Command::new("sh").args(["-c", "sleep 0.3; head -c 100M /dev/zero | tail -c 64M >/dev/null"]).spawn().unwrap();
    cgroup.enter(hungry.id().cast_signed(), false).unwrap();
    let seen = watch.next(LONG).unwrap();
    assert!(matches!(seen, watch::Seen::OomKills(1..)), "{seen:?}");
    assert!(cgroup.oom_kills().unwrap() > 0);
    let _ = hungry.kill();
    let _ = hungry.wait();
    cgroup.remove(LONG).unwrap();
}

#[test]
fn a_joining_process_finds_its_place() {
    use crate::plan::resources::path::SubCgroup;
    if !ours("a_joining_process_finds_its_place") {
        return;
    }
    let (cgroup, _) = Cgroup::create(&on_v2("/unit-l")).unwrap();
    let at = format!("{}/unit-l", mount());
    let (init, joining) = (Sleeper::new(), Sleeper::new());
    let now = || std::fs::read_to_string(format!("/proc/{}/cgroup", joining.pid())).unwrap();
    cgroup.enter(init.pid(), false).unwrap();
    Cgroup::reopen(cgroup.saved()).unwrap().exec_place(init.pid(), &[]).unwrap().enter(joining.pid(), false).unwrap();
    assert!(now().contains("0::/unit-l\n"), "{}", now());
    std::fs::create_dir_all(format!("{at}/sub/deeper")).unwrap();
    let place = |sub: &str| Cgroup::reopen(cgroup.saved()).unwrap().exec_place(init.pid(), &[SubCgroup::parse(sub).unwrap()]);
    place("sub/deeper").unwrap().enter(joining.pid(), false).unwrap();
    assert!(now().contains("0::/unit-l/sub/deeper\n"), "{}", now());
    assert_eq!(place("none").err().unwrap().errno, Some(Errno::ENOENT));
    assert!(place("cpu:sub").err().unwrap().what.contains("unknown controller cpu"));
    // The container gives its own cgroup over to children.
    if let Some(controller) = probe::v2_controllers().into_iter().find(|name| ["memory", "hugetlb"].contains(&name.as_str())) {
        std::fs::write(format!("{at}/sub/cgroup.procs"), init.pid().to_string()).unwrap();
        std::fs::write(format!("{at}/cgroup.subtree_control"), format!("+{controller}")).unwrap();
        Cgroup::reopen(cgroup.saved()).unwrap().exec_place(init.pid(), &[]).unwrap().enter(joining.pid(), false).unwrap();
        assert!(now().contains("0::/unit-l/sub\n"), "{}", now());
        let outside = Sleeper::new();
        let error = Cgroup::reopen(cgroup.saved()).unwrap().exec_place(outside.pid(), &[]).err().unwrap();
        assert!(error.hint.as_deref().unwrap_or_default().contains("use --cgroup"), "{error}");
    }
    cgroup.kill().unwrap();
    drop((init, joining));
    cgroup.remove(LONG).unwrap();
}

#[test]
fn a_cgroup_is_given_over_below_the_limits() {
    use crate::plan::resources::Delegate;
    use std::os::unix::fs::MetadataExt;
    if !ours("a_cgroup_is_given_over_below_the_limits") {
        return;
    }
    let mut plan = on_v2("/unit-m");
    plan.delegate = Some(Delegate { name: "inner".into(), owner: Some(4321) });
    plan.saved.leaf = Some("inner".into());
    let (cgroup, _) = Cgroup::create(&plan).unwrap();
    let init = Sleeper::new();
    cgroup.enter(init.pid(), false).unwrap();
    let at = format!("{}/unit-m", mount());
    assert!(std::fs::read_to_string(format!("/proc/{}/cgroup", init.pid())).unwrap().contains("0::/unit-m/inner\n"));
    let owner = |file: &str| std::fs::metadata(format!("{at}/{file}")).unwrap().uid();
    assert_eq!((owner("cgroup.procs"), owner("inner/cgroup.procs"), owner("inner")), (0, 4321, 4321));
    // It has the controllers, and the limits above it are not its own to change.
    for controller in probe::v2_controllers() {
        assert!(std::fs::read_to_string(format!("{at}/inner/cgroup.controllers")).unwrap().contains(&controller), "{controller}");
    }
    let again = Cgroup::reopen(cgroup.saved()).unwrap();
    let joining = Sleeper::new();
    Cgroup::reopen(again.saved()).unwrap().exec_place(init.pid(), &[]).unwrap().enter(joining.pid(), false).unwrap();
    assert!(std::fs::read_to_string(format!("/proc/{}/cgroup", joining.pid())).unwrap().contains("0::/unit-m/inner\n"));
    assert_eq!(again.pids().unwrap().len(), 2);
    again.kill().unwrap();
    drop((init, joining));
    again.remove(LONG).unwrap();
    assert!(!Path::new(&at).exists());
}

/// What is mounted over it meanwhile is not what the command looked at; a clone of the command has nothing of it open, and looks itself.
#[test]
fn the_root_is_that_which_was_looked_at() {
    if !ours("the_root_is_that_which_was_looked_at") {
        return;
    }
    // A thread is no clone, and can have mounts of its own.
    let thread = std::thread::spawn(|| {
        unshare(Namespaces::MOUNT).unwrap();
        mounts::set_propagation("/", Propagation::Private, true).unwrap();
        let (place, plan) = (mount(), on_v2("/looked-at"));
        let saved = plan.saved.v2.as_ref().unwrap();
        let opened = || path::Hierarchy::open(place, Tree::V2);
        let identity = || fd::stat(opened().unwrap().into_root()).unwrap();
        let root = identity();
        let tmpfs = mounts::new_mount("tmpfs", [], 0).unwrap();
        mounts::move_mount(&tmpfs, fd::open_dir_path("/sys/fs/cgroup").unwrap()).unwrap();
        assert!(root.same_file(&identity()) && !path::is_there(saved, Tree::V2));
        assert!(path::Hierarchy::open(place, Tree::V1).is_err(), "it is none of v1");
        let cgroup = Cgroup::create(&plan).unwrap().0;
        assert!(path::is_there(saved, Tree::V2) && check(&plan).is_ok());
        in_child(|| assert!(opened().is_err()));
        drop(cgroup);
        assert!(Cgroup::remove_unused(&plan.saved).unwrap() && !path::is_there(saved, Tree::V2));
    });
    thread.join().unwrap();
}
