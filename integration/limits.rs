// SPDX-License-Identifier: Apache-2.0
//! Limits of cgroup v2: each controller's files as the kernel has them, that they hold, and what is said when one of them kills.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::bundle::folder;
use crate::harness::disk::{self, Loop};
use crate::harness::look::{self, cgroup, eventually};
use crate::harness::{Bundle, Call, Container, Need, Test, skip};
use crate::test;

const MEMORY: Need = Need::Controller("memory");
const CPU: Need = Need::Controller("cpu");
const IO: Need = Need::Controller("io");
const PIDS: Need = Need::Controller("pids");

const SILENT: &[(&str, &str)] = &[("runc", "does not say why"), ("crun", "does not say why")];

const FILE_ALONE: &[(&str, &str)] = &[("runc", "names the file and not the field"), ("crun", "names the file and not the field")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(memory_files).needs(&[MEMORY]),
    test!(cpu_files).needs(&[CPU]),
    test!(io_files).needs(&[IO, Need::Program("losetup")]).differs(FILE_ALONE),
    test!(weights_of_bfq).needs(&[IO, Need::Program("losetup")]),
    test!(cpuset_files).needs(&[Need::Controller("cpuset")]),
    test!(hugetlb_files)
        .needs(&[Need::Controller("hugetlb")])
        .differs(&[("runc", "names the file and not the field"), ("crun", "sets no limit of reservations")]),
    test!(rdma_device_is_named).needs(&[Need::Controller("rdma")]).differs(&[("crun", "ignores rdma")]),
    test!(misc_resource_is_named).needs(&[Need::Controller("misc")]),
    test!(no_more_than_the_first_process)
        .needs(&[PIDS])
        .differs(&[("crun", "takes 0 for no limit"), ("runc", "versions before 1.4 take 0 for no limit")]),
    test!(quota_is_a_ratio).needs(&[CPU]),
    test!(throttle_is_a_rate).needs(&[IO, Need::Program("losetup")]),
    test!(lack_of_memory_is_said_by_run).needs(&[MEMORY]).differs(SILENT),
    test!(lack_of_memory_is_said_by_create).needs(&[MEMORY]).differs(SILENT),
    test!(lack_of_memory_is_said_by_start).needs(&[MEMORY]).differs(SILENT),
    test!(below_what_is_used_is_refused)
        .needs(&[MEMORY])
        .differs(&[("crun", "does not know checkBeforeUpdate"), ("runc", "does not name the field")]),
    test!(by_name_in_an_update).needs(&[MEMORY, PIDS]).differs(&[("runc", "has no such flags"), ("crun", "has no such flags")]),
    test!(controllers_come_from_above).needs(&[MEMORY]),
    test!(what_cannot_die_is_named)
        .needs(&[Need::Cgroup2, Need::Program("losetup"), Need::Program("mkfs.ext4"), Need::Program("fsfreeze")])
        .differs(&[("runc", "names none"), ("crun", "waits for ever")])
        .seconds(120),
];

fn dir(container: &Container) -> PathBuf {
    look::cgroup2_root().join(cgroup(container.pid()).trim_start_matches('/'))
}

/// Reads the files of a container's cgroup, without their last newline.
fn files(container: &Container) -> impl Fn(&str) -> String + use<> {
    let dir = dir(container);
    move |file| {
        let path = dir.join(file);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
    }
}

fn created(resources: Value) -> Container {
    Bundle::limited("exec sleep 1000", resources).create()
}

fn memory_files() {
    let memory = json!({ "limit": 64 << 20, "reservation": 16 << 20, "swap": 64 << 20 });
    let unified = json!({ "memory.high": (48 << 20).to_string(), "memory.min": "4194304", "memory.oom.group": "1" });
    let container = created(json!({ "memory": memory, "unified": unified }));
    let read = files(&container);
    for (file, value) in [("max", 64 << 20), ("high", 48 << 20), ("low", 16 << 20), ("min", 4 << 20), ("oom.group", 1)] {
        assert_eq!(read(&format!("memory.{file}")), value.to_string(), "{file}");
    }
    if dir(&container).join("memory.swap.max").exists() {
        assert_eq!(read("memory.swap.max"), "0");
    }
    let container = created(json!({ "unified": { "memory.low": "max", "memory.max": "33554432" } }));
    let read = files(&container);
    assert_eq!((read("memory.low"), read("memory.max")), ("max".into(), "33554432".into()));
}

fn cpu_files() {
    let container = created(json!({ "cpu": { "shares": 2048, "quota": 50_000, "period": 100_000, "burst": 20_000 } }));
    let read = files(&container);
    assert_eq!((read("cpu.max"), read("cpu.weight")), ("50000 100000".into(), "174".into()));
    assert_eq!(read("cpu.max.burst"), "20000");
    let container = created(json!({ "cpu": { "idle": 1 } }));
    let read = files(&container);
    assert_eq!(read("cpu.idle"), "1");
    let container = created(json!({ "unified": { "cpu.weight": "77", "cpu.max": "max 50000" } }));
    let read = files(&container);
    assert_eq!((read("cpu.weight"), read("cpu.max")), ("77".into(), "max 50000".into()));
}

fn io_files() {
    let disk = Loop::new(1 << 20);
    // As a module it would come in at any time, by the test of its weights.
    disk::load_module("bfq");
    let (major, minor) = (disk.major, disk.minor);
    let throttle = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let container = created(json!({ "blockIO": {
        "throttleReadBpsDevice": throttle(1 << 20), "throttleWriteBpsDevice": throttle(2 << 20),
        "throttleReadIOPSDevice": throttle(100), "throttleWriteIOPSDevice": throttle(200),
    } }));
    let read = files(&container);
    assert_eq!(read("io.max"), format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200"));
    let container = created(json!({ "unified": { "io.max": format!("{major}:{minor} wiops=7\n") } }));
    let read = files(&container);
    assert_eq!(read("io.max"), format!("{major}:{minor} rbps=max wbps=max riops=max wiops=7"));
    let has = |file: &str| dir(&container).join(file).exists();
    let by_weight = (has("io.bfq.weight"), has("io.weight"));
    let weight = Bundle::limited("exec sleep 1000", json!({ "blockIO": { "weight": 500 } }));
    match by_weight {
        (true, _) => assert_eq!(files(&weight.create())("io.bfq.weight"), "default 500"),
        (false, true) => assert_eq!(files(&weight.create())("io.weight"), "default 4950"),
        (false, false) => {
            let said = weight.create_fails();
            assert!(said.contains("blockIO.weight") && said.contains("no I/O scheduler that goes by weight"), "{said}");
        }
    }
}

/// By the scheduler that goes by weight: for all devices, and for one.
fn weights_of_bfq() {
    let disk = Loop::new(1 << 20);
    disk.schedule_by("bfq");
    if !dir(&created(json!({}))).join("io.bfq.weight").exists() {
        skip("the BFQ of this kernel knows no cgroups");
    }
    let (major, minor) = (disk.major, disk.minor);
    let one = json!([{ "major": major, "minor": minor, "weight": 700 }]);
    let container = created(json!({ "blockIO": { "weight": 300, "weightDevice": one } }));
    let read = files(&container);
    assert_eq!(read("io.bfq.weight"), format!("default 300\n{major}:{minor} 700"));
    container.call(&["update", "--blkio-weight", "400"]).output().ok();
    assert_eq!(read("io.bfq.weight"), format!("default 400\n{major}:{minor} 700"));
}

fn cpuset_files() {
    let script = "grep -E 'Cpus_allowed_list|Mems_allowed_list' /proc/self/status; exec sleep 1000";
    let container = Bundle::limited(script, json!({ "cpu": { "cpus": "0", "mems": "0" } })).run_detached();
    let read = files(&container);
    assert_eq!((read("cpuset.cpus"), read("cpuset.mems")), ("0".into(), "0".into()));
    assert_eq!(container.wait_stdout("Mems"), "Cpus_allowed_list:\t0\nMems_allowed_list:\t0\n");
    // Here and now there is no such CPU: what was stays.
    container.call(&["update", "--cpuset-cpus", "4000"]).output().fails();
    assert_eq!(read("cpuset.cpus"), "0");
}

/// The kernel's sizes, as config-linux.md writes them.
fn hugetlb_files() {
    let sizes: Vec<String> = fs::read_dir("/sys/kernel/mm/hugepages")
        .map(|dir| dir.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    if !sizes.iter().any(|size| size == "hugepages-2048kB") {
        skip("no huge pages of 2 MB here");
    }
    let container = created(json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 << 20 }] }));
    let read = files(&container);
    assert_eq!(read("hugetlb.2MB.max"), (4 << 20).to_string());
    assert_eq!(read("hugetlb.2MB.rsvd.max"), (4 << 20).to_string());
    let said = Bundle::limited("true", json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 1 }] })).create_fails();
    assert!(said.contains("hugepageLimits[0]") && said.contains("no huge pages of that size"), "{said}");
}

/// Machines of tests have no such device, so that it can only be seen where the wish ends.
fn rdma_device_is_named() {
    let said = Bundle::limited("true", json!({ "rdma": { "mlx5_1": { "hcaHandles": 3, "hcaObjects": 10000 } } })).create_fails();
    assert!(said.contains("mlx5_1") && said.contains("rdma.max") && said.contains("hca_handle=3"), "{said}");
}

fn misc_resource_is_named() {
    let said = Bundle::limited("true", json!({ "unified": { "misc.max": "no_such 1" } })).create_fails();
    assert!(said.contains("misc.max") && said.contains("no_such 1"), "{said}");
}

/// A limit of 0 holds, as far as a container can be without any process: not at all.
fn no_more_than_the_first_process() {
    let output = Bundle::limited("cat /dev/null; echo forked", json!({ "pids": { "limit": 0 } })).run();
    assert!(output.stderr.contains("fork") && !output.stdout.contains("forked"), "{output:?}");
    assert_eq!(files(&created(json!({ "pids": { "limit": 0 } })))("pids.max"), "1");
}

/// Whatever else runs can only make it less.
fn quota_is_a_ratio() {
    let container =
        Bundle::limited("while true; do true; done", json!({ "cpu": { "quota": 20_000, "period": 100_000 } })).run_detached();
    let stat = dir(&container).join("cpu.stat");
    let count = |key: &str| number(&fs::read_to_string(&stat).unwrap(), key);
    let used = || count("usage_usec");
    let (start, before) = (Instant::now(), used());
    std::thread::sleep(Duration::from_secs(1));
    let ratio = (used() - before) as f64 / start.elapsed().as_micros() as f64;
    assert!(ratio < 0.3, "it had {ratio:.2} of a CPU instead of 0.20");
    eventually("it is held back", || count("nr_throttled") > 0);
}

fn throttle_is_a_rate() {
    disk::assert_throttle_is_a_rate();
}

const HOG: &str = "exec dd if=/dev/zero of=/dev/null bs=64M count=1";

fn lack_of_memory_is_said_by_run() {
    let bundle = Bundle::limited(HOG, json!({ "memory": { "limit": 24 << 20, "swap": 24 << 20 } }));
    let output = bundle.run_call(&[]).output();
    assert_eq!(output.code(), 137, "{output:?}");
    assert!(output.stderr.contains("for lack of memory: limit 25165824 bytes, peak "), "{output:?}");
    // Nor is it said of others who are killed.
    let killed = Bundle::limited("kill -9 $$", json!({ "memory": { "limit": 24 << 20 } })).run_call(&[]).output();
    assert_eq!(killed.stderr, "");
}

/// Too little for the runtime's own part of the way.
fn lack_of_memory_is_said_by_create() {
    let bundle = Bundle::limited("true", json!({ "memory": { "limit": 64 << 10, "swap": 64 << 10 } }));
    let said = bundle.create_fails();
    assert!(said.contains("limit 65536 bytes"), "{said}");
    assert_eq!(look::cgroups_named(&bundle.id), Vec::<PathBuf>::new());
}

fn lack_of_memory_is_said_by_start() {
    let container = created(json!({}));
    // The kernel makes room by killing.
    container.call(&["update", "--memory", "4096", "--memory-swap", "4096"]).output();
    container.wait_status("stopped");
    let said = container.call(&["start"]).output().fails();
    assert!(said.contains("cannot start a container that has stopped") && said.contains("limit 4096 bytes"), "{said}");
    assert!(said.trim_end().ends_with("[E-OOM]"), "{said}");
}

fn below_what_is_used_is_refused() {
    let script = "dd if=/dev/zero of=/dev/shm/f bs=1M count=20 2>/dev/null; echo ready; exec sleep 1000";
    let container = Bundle::limited(script, json!({ "memory": { "limit": 64 << 20 } })).run_detached();
    let read = files(&container);
    container.wait_stdout("ready");
    let path = folder().join("resources.json");
    fs::write(&path, json!({ "memory": { "limit": 8 << 20, "checkBeforeUpdate": true } }).to_string()).unwrap();
    let said = container.call(&["update", "--resources", path.to_str().unwrap()]).output().fails();
    assert!(said.contains("checkBeforeUpdate") && said.contains("rejecting memory limit 8388608 <= usage "), "{said}");
    assert_eq!((read("memory.max"), container.status()), ((64 << 20).to_string(), "running".into()));
}

/// What the specification has no field for.
fn by_name_in_an_update() {
    let container = created(json!({}));
    let read = files(&container);
    let update = |flags: &[&str]| container.call(&[&["update"], flags].concat()).output();
    update(&[
        "--memory-high",
        "48m",
        "--memory-low=8m",
        "--memory-min",
        "1m",
        "--memory-oom-group",
        "1",
        "--unified",
        "pids.max=55",
    ])
    .ok();
    let files = ["memory.high", "memory.low", "memory.min", "memory.oom.group", "pids.max"];
    assert_eq!(files.map(&read), ["50331648", "8388608", "1048576", "1", "55"]);
    update(&["--memory-high=-1"]).ok();
    assert_eq!(read("memory.high"), "max");
    for wrong in [["--memory-oom-group", "2"], ["--unified", "pids.max"], ["--unified", "no.such=1"], ["--memory-high", "x"]] {
        update(&wrong).fails();
    }
}

/// From the top down, through cgroups that the runtime makes on the way; what it did not make stays as it is.
fn controllers_come_from_above() {
    let mut bundle = Bundle::limited("exec sleep 1000", json!({ "memory": { "limit": 64 << 20 } }));
    let above = look::cgroup2_root().join(format!("{}-above", bundle.id));
    fs::create_dir(&above).unwrap();
    bundle.set("/linux/cgroupsPath", json!(format!("/{}-above/a/b/box", bundle.id)));
    {
        let container = bundle.create();
        let read = files(&container);
        assert_eq!(read("memory.max"), (64 << 20).to_string());
        for dir in [above.clone(), above.join("a"), above.join("a/b")] {
            assert!(fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap().contains("memory"), "{}", dir.display());
        }
        container.delete();
        assert!(above.join("a/b").exists() && !above.join("a/b/box").exists());
    }
    for dir in look::cgroups_below(&above) {
        fs::remove_dir(dir).unwrap();
    }
}

/// A frozen file system, thawed when dropped: whoever writes to it waits where no signal reaches.
struct Frozen(PathBuf);

impl Frozen {
    fn new(disk: &Loop) -> Frozen {
        let place = folder().join("frozen");
        fs::create_dir(&place).unwrap();
        let place_text = place.to_str().unwrap();
        for words in [
            &["mkfs.ext4", "-q", disk.path()][..],
            &["mount", "-t", "ext4", disk.path(), place_text],
            &["fsfreeze", "--freeze", place_text],
        ] {
            let output = Call::program(words).output();
            if !output.status.success() {
                let _ = Call::program(&["umount", place_text]).output();
                skip(&format!("{}: {}", words[0], output.stderr.trim()));
            }
        }
        Frozen(place)
    }

    fn thaw(&self) {
        let _ = Call::program(&["fsfreeze", "--unfreeze", self.0.to_str().unwrap()]).output();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.thaw();
        let _ = Call::program(&["umount", "--lazy", self.0.to_str().unwrap()]).output();
    }
}

/// With its state, and where in the kernel it hangs; and when it can die, deleting is done.
fn what_cannot_die_is_named() {
    let disk = Loop::new(16 << 20);
    let frozen = Frozen::new(&disk);
    let mut bundle = Bundle::sh("sleep 1000 & echo go; exec dd if=/dev/zero of=/mnt/file bs=4k count=1");
    bundle.mount("/mnt", "bind", frozen.0.to_str().unwrap(), &["rbind"]);
    let container = bundle.run_detached();
    let pid = container.pid();
    eventually("it hangs", || look::status(pid, "State").unwrap().starts_with('D'));
    let said = container.call(&["delete", "--force"]).output().fails();
    assert!(said.contains(&format!("{pid} (state D")), "{said}");
    assert!(dir(&container).exists(), "nothing that lives is forgotten");
    frozen.thaw();
    container.call(&["delete", "--force"]).output().ok();
    assert_eq!(look::cgroups_named(&bundle.id), Vec::<PathBuf>::new());
}

/// The number in a line `key number`.
fn number(text: &str, key: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {key} in {text}")).parse().unwrap()
}
