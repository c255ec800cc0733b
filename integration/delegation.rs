// SPDX-License-Identifier: Apache-2.0
//! Cgroups that are given over: to a user who runs the runtime, and by the runtime to a container.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::bundle::{folder, state_root};
use crate::harness::look::{self, cgroup};
use crate::harness::{Bundle, Call, Need, Output, Test, call, skip};
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(user_has_cgroups_of_his_own).needs(&[Need::Cgroup2, Need::Program("setpriv")]),
    test!(users_limits_hold).needs(&[Need::Controller("pids"), Need::Program("setpriv")]),
    test!(limits_that_cannot_be_had)
        .needs(&[Need::Controller("pids"), Need::Program("setpriv")])
        .differs(&[("runc", "refuses them in any case"), ("crun", "ignores them in any case")]),
    test!(writable_cgroup_is_the_containers)
        .needs(&[Need::Cgroup2])
        .differs(&[("runc", "gives it over only where systemd made it")]),
    test!(writable_cgroup_is_a_leaf)
        .needs(&[Need::Controller("pids")])
        .differs(&[("runc", "makes no leaf"), ("crun", "makes a leaf only by annotation")]),
    test!(writable_cgroup_of_the_hosts_root_is_its_own).needs(&[Need::Cgroup2]),
    test!(limits_are_not_the_containers).needs(&[Need::Controller("pids")]),
    test!(cgroup_below_is_given_over)
        .needs(&[Need::Cgroup2])
        .differs(&[("runc", "does not know the annotation"), ("crun", "roots the cgroup namespace above it")]),
];

/// A user that has no entry anywhere.
const USER: u32 = 54_322;

/// A cgroup that is the user's to divide, and one below it for what he runs; removed when dropped.
struct Delegated(PathBuf);

impl Delegated {
    fn new(id: &str) -> Delegated {
        let dir = look::cgroup2_root().join(format!("{id}-user"));
        for dir in [dir.clone(), dir.join("shell")] {
            fs::create_dir(&dir).unwrap();
            chown(&dir, Some(USER), Some(USER)).unwrap();
            for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
                chown(dir.join(file), Some(USER), Some(USER)).unwrap();
            }
        }
        Delegated(dir)
    }

    /// `run --detach` by the user, from a process that is in his cgroups.
    fn run(&self, bundle: &Bundle) -> Output {
        run_from(&self.0.join("shell"), &[], bundle)
    }
}

/// `run --detach` by the user, from a process in this cgroup.
fn run_from(cgroup: &Path, flags: &[&str], bundle: &Bundle) -> Output {
    bundle.save();
    let run_dir = folder().join("run");
    for dir in [&state_root(), &run_dir] {
        let _ = fs::create_dir(dir);
        chown(dir, Some(USER), Some(USER)).unwrap();
    }
    let script = format!(
        "echo 0 >{}/cgroup.procs && exec setpriv --reuid {USER} --regid {USER} --clear-groups \
         env XDG_RUNTIME_DIR={} \"$@\"",
        cgroup.display(),
        run_dir.display()
    );
    let words = [flags, &["run", "--detach", "--bundle", bundle.path(), &bundle.id]].concat();
    bundle.output_of(Call::through(&["sh", "-c", &script, "sh"], &words))
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for dir in [self.0.join("shell"), self.0.clone()] {
            fs::remove_dir(dir).unwrap();
        }
    }
}

/// A bundle of the user's, with himself mapped to root.
fn users_bundle() -> Bundle {
    let reach = Call::program(&["test", "-x", call::runtime().to_str().unwrap()]).user(USER, USER).output();
    if !reach.status.success() {
        skip(&format!("user {USER} may not execute {}", call::runtime().display()));
    }
    let mut bundle = Bundle::sh("exec sleep 1000");
    for path in [bundle.dir.clone(), bundle.inside("/")] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    for dir in ["dev", "etc", "home", "proc", "root", "run", "sys", "tmp"] {
        chown(bundle.inside(dir), Some(USER), Some(USER)).unwrap();
    }
    bundle.namespace("user", None).unset("/linux", "cgroupsPath");
    let map = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
    bundle.set("/linux/uidMappings", map.clone()).set("/linux/gidMappings", map);
    bundle
}

/// Without a cgroupsPath the container stands beside the cgroup of the shell, in what is the user's.
fn user_has_cgroups_of_his_own() {
    let bundle = users_bundle();
    let own = Delegated::new(&bundle.id);
    {
        let container = bundle.container();
        own.run(&bundle).ok();
        let dir = own.0.join(&bundle.id);
        assert!(dir.is_dir(), "{} is in {}", bundle.id, cgroup(container.pid()));
        assert_eq!(fs::read_to_string(dir.join("cgroup.procs")).unwrap().trim(), container.pid().to_string());
        container.call(&["delete", "--force"]).output().ok();
        assert!(!dir.exists());
    }
}

fn users_limits_hold() {
    let mut bundle = users_bundle();
    bundle.set("/linux/resources/pids/limit", json!(20));
    let own = Delegated::new(&bundle.id);
    fs::write(own.0.parent().unwrap().join("cgroup.subtree_control"), "+pids").unwrap();
    {
        let container = bundle.container();
        own.run(&bundle).ok();
        assert_eq!(fs::read_to_string(own.0.join(&bundle.id).join("pids.max")).unwrap().trim(), "20");
        container.call(&["delete", "--force"]).output().ok();
    }
}

/// Nothing is the user's here: that is an error, unless he says that it may be passed over; then it is said what is.
fn limits_that_cannot_be_had() {
    let mut bundle = users_bundle();
    bundle.set("/linux/resources/pids/limit", json!(20));
    let own = look::cgroup2_root().join(cgroup(std::process::id().cast_signed()).trim_start_matches('/'));
    for flags in [&[][..], &["--rootless=false"]] {
        let said = run_from(&own, flags, &bundle).fails();
        assert!(said.contains("cgroup"), "{said}");
    }
    for flag in ["--rootless=true", "--rootless=auto"] {
        let container = bundle.container();
        let output = run_from(&own, &[flag], &bundle);
        assert!(output.stderr.contains("not set are linux.resources.pids.limit"), "{output:?}");
        output.ok();
        assert_eq!(container.status(), "running");
        container.call(&["delete", "--force"]).output().ok();
    }
    // Without a limit there is nothing to pass over.
    bundle.set("/linux/resources/pids/limit", json!(-1));
    let container = bundle.container();
    run_from(&own, &[], &bundle).ok();
    container.call(&["delete", "--force"]).output().ok();
}

/// With its own cgroup namespace and a writable mount, in a user namespace: root inside divides what it has.
fn with_writable_cgroup(script: &str) -> Bundle {
    let mut bundle = Bundle::sh(script);
    bundle.user_namespace(&[(0, 100_000, 65_536)]);
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "noexec", "nodev"]);
    bundle
}

fn writable_cgroup_is_the_containers() {
    let bundle = with_writable_cgroup(
        "cd /sys/fs/cgroup; stat -c %u . cgroup.procs cgroup.subtree_control; mkdir below && echo 0 >below/cgroup.procs && cat /proc/self/cgroup",
    );
    let printed = bundle.print();
    assert!(printed.starts_with("0\n0\n0\n") && printed.contains("0::/below"), "{printed}");
}

/// The first process is in a leaf, which is all that the container sees, and can pass controllers on below it; what holds its limits is
/// above, and they are seen in the leaf too, also after an update.
fn writable_cgroup_is_a_leaf() {
    let mut bundle = with_writable_cgroup(
        "cd /sys/fs/cgroup; cat pids.max; mkdir a b; echo 0 >a/cgroup.procs; for p in $(cat cgroup.procs); do echo $p >a/cgroup.procs; done; \
         echo +pids >cgroup.subtree_control && echo 5 >b/pids.max && cat b/pids.max; echo done; exec sleep 1000",
    );
    bundle.set("/linux/resources/pids/limit", json!(30));
    let container = bundle.run_detached();
    assert_eq!(container.wait_stdout("done"), "30\n5\ndone\n");
    let whole = look::cgroup2_root().join(&bundle.id);
    for dir in [whole.join("init"), whole] {
        let uid = |path: &Path| fs::metadata(path).unwrap().uid();
        assert_eq!((uid(&dir), uid(&dir.join("cgroup.procs")), uid(&dir.join("pids.max"))), (100_000, 100_000, 0), "{dir:?}");
    }
    assert_eq!(cgroup(container.pid()), format!("/{}/init/a", bundle.id));
    let dir = look::cgroup2_root().join(&bundle.id);
    let limit = |dir: &Path| fs::read_to_string(dir.join("pids.max")).unwrap().trim().to_owned();
    assert_eq!((limit(&dir), limit(&dir.join("init"))), ("30".to_owned(), "30".to_owned()));
    container.call(&["update", "--pids-limit", "40"]).output().ok();
    assert_eq!((limit(&dir), limit(&dir.join("init"))), ("40".to_owned(), "40".to_owned()));
    assert_eq!(Call::new(&["exec", &bundle.id, "grep", "^0:", "/proc/self/cgroup"]).output().ok(), "0::/a\n");
    assert_eq!(serde_json::from_str::<Vec<i32>>(&container.call(&["ps", "--format", "json"]).output().ok()).unwrap().len(), 1);
    container.call(&["pause"]).output().ok();
    assert_eq!(container.status(), "paused");
    container.call(&["delete", "--force"]).output().ok();
    assert!(!dir.exists());
}

/// The host's root, as in the privileged containers of engines, whose monitors look for it in the container's own cgroup.
fn writable_cgroup_of_the_hosts_root_is_its_own() {
    let mut bundle = Bundle::sh("cat /proc/self/cgroup; exec sleep 1000");
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["rw", "nosuid", "noexec", "nodev"]);
    let container = bundle.run_detached();
    assert!(container.wait_stdout("0::").contains("0::/\n"));
    assert_eq!(cgroup(container.pid()), format!("/{}", bundle.id));
}

fn limits_are_not_the_containers() {
    let mut bundle = with_writable_cgroup("cd /sys/fs/cgroup; cat pids.max; echo max >pids.max; cat pids.max");
    bundle.set("/linux/resources/pids/limit", json!(30));
    let printed = bundle.run();
    assert_eq!(printed.stdout, "30\n30\n", "{printed:?}");
}

/// The annotation asks for a cgroup below the one with the limits.
fn cgroup_below_is_given_over() {
    let mut bundle = with_writable_cgroup("grep ^0: /proc/self/cgroup; mkdir /sys/fs/cgroup/below && echo made; exec sleep 1000");
    bundle.set("/annotations/run.oci.delegate-cgroup", json!("inner"));
    let container = bundle.run_detached();
    assert_eq!(container.wait_stdout("made"), "0::/\nmade\n");
    assert_eq!(cgroup(container.pid()), format!("/{}/inner", bundle.id));
    let dir = look::cgroup2_root().join(&bundle.id);
    container.call(&["delete", "--force"]).output().ok();
    assert!(!dir.exists());
}
