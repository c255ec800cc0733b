// SPDX-License-Identifier: Apache-2.0
//! The device programs that the host keeps in /run/berth.bpf: containers with the same rules share one, nothing that is put there opens a
//! device, and what is damaged, missing or not to be had stops no container (docs/performance.md, docs/security.md).

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use crate::harness::bundle::folder;
use crate::harness::look;
use crate::harness::{Bundle, Container, Test, call, skip};
use crate::mount_namespace::own_run;
use crate::test;

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(containers_with_the_same_rules_share_a_program),
    test!(it_is_made_once_by_whoever_comes_first),
    test!(what_is_put_in_its_place_opens_nothing),
    test!(where_nothing_can_be_kept_containers_work),
    test!(calls_that_are_refused_are_done_without),
    test!(a_file_in_its_place_says_that_nothing_is_to_be_kept),
    test!(update_changes_one_container_alone),
];

/// Where the programs are kept.
pub const KEPT: &str = "/run/berth.bpf";

const BPF_PROG_LOAD: u32 = 5;
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_PROG_QUERY: u32 = 16;
const CGROUP_DEVICE: u32 = 6;

/// bpf(2) with an attribute of words.
#[track_caller]
fn bpf<const N: usize>(command: u32, attribute: &mut [u32; N]) -> i32 {
    // SAFETY: the attribute has the size that is said; what it points to lives in the callers until they return.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, attribute.as_mut_ptr(), size_of_val(attribute)) };
    assert!(answer >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    i32::try_from(answer).unwrap()
}

fn halves(address: u64) -> [u32; 2] {
    [address as u32, (address >> 32) as u32]
}

/// The ids of the device programs of a container's cgroup.
fn ids(container: &Container) -> Vec<u32> {
    let dir = look::cgroup2_root().join(look::cgroup(container.pid()).trim_start_matches('/'));
    let dir = fs::File::open(dir).unwrap();
    let mut ids = vec![0u32; 64];
    let [low, high] = halves(ids.as_mut_ptr() as u64);
    let mut attribute = [dir.as_raw_fd() as u32, CGROUP_DEVICE, 0, 0, low, high, ids.len() as u32, 0];
    bpf(BPF_PROG_QUERY, &mut attribute);
    ids.truncate(attribute[6] as usize);
    ids
}

/// Pins a program that allows everything, under the name that berth gives to its own.
fn pin_an_open_door(place: &Path) {
    // r0 = 1; exit
    let program: [u64; 2] = [1 << 32 | 0xb7, 0x95];
    let license = c"GPL";
    let ([program_low, program_high], [license_low, license_high]) =
        (halves(program.as_ptr() as u64), halves(license.as_ptr() as u64));
    let name = *b"berth_devices\0\0\0";
    let word = |at: usize| u32::from_ne_bytes(name[at..at + 4].try_into().unwrap());
    let mut attribute =
        [15, 2, program_low, program_high, license_low, license_high, 0, 0, 0, 0, 0, 0, word(0), word(4), word(8), word(12)];
    let door = bpf(BPF_PROG_LOAD, &mut attribute);
    let path = std::ffi::CString::new(place.to_str().unwrap()).unwrap();
    let [low, high] = halves(path.as_ptr() as u64);
    bpf(BPF_OBJ_PIN, &mut [low, high, door as u32, 0]);
    nix::unistd::close(door).unwrap();
}

/// What is kept.
fn programs() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(KEPT).unwrap().map(|entry| entry.unwrap().path()).collect();
    // Some kernels put files of their own into every bpffs.
    found.retain(|path| path.file_name().unwrap().len() == 2);
    found
}

fn mounts_there() -> Vec<look::Mount> {
    look::mounts().into_iter().filter(|mount| mount.at == KEPT).collect()
}

/// Gives this test a host that keeps nothing yet.
fn new_host() {
    if call::runtime_name().as_deref() != Some("berth") {
        skip("only berth keeps device programs");
    }
    if !look::cgroup2_root().join("cgroup.procs").exists() {
        skip("without cgroup2 there are no device programs");
    }
    own_run();
}

fn denied() -> Value {
    json!([{ "allow": false, "access": "rwm" }])
}

/// That, and 240:77, which no driver has.
fn one_open() -> Value {
    json!([{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 240, "minor": 77, "access": "rwm" }])
}

fn sleeper(rules: &Value) -> Container {
    let mut bundle = Bundle::args(&["/bin/sleep", "1000"]);
    bundle.set("/linux/resources/devices", rules.clone());
    bundle.run_detached()
}

/// A container that may open /dev/null, and as its rules say 240:77: whoever may is told that there is no such device.
#[track_caller]
fn holds(rules: &Value, why: &str) {
    let mut bundle = Bundle::sh("head -c 1 /dev/null && head -c 1 /dev/mine");
    bundle.set("/linux/devices", json!([{ "path": "/dev/mine", "type": "c", "major": 240, "minor": 77, "fileMode": 0o666 }]));
    bundle.set("/linux/resources/devices", rules.clone());
    let stderr = bundle.run().stderr;
    let wanted = if *rules == denied() { "Operation not permitted" } else { "No such device or address" };
    assert!(stderr.contains("/dev/mine") && stderr.contains(wanted), "{why}: {stderr}");
}

fn containers_with_the_same_rules_share_a_program() {
    new_host();
    let first = sleeper(&denied());
    let found = ids(&first);
    assert_eq!(found.len(), 1);
    let second = sleeper(&denied());
    assert_eq!(ids(&second), found);
    let mut mapped = Bundle::args(&["/bin/sleep", "1000"]);
    mapped.user_namespace(&[(0, 100_000, 65_536)]).set("/linux/resources/devices", denied());
    assert_eq!(ids(&mapped.run_detached()), found, "with a user namespace");
    let other = sleeper(&one_open());
    assert!(ids(&other).len() == 1 && ids(&other) != found);
    assert_eq!(programs().len(), 2);
    for container in [first, second, other] {
        container.kill("KILL");
        container.wait_status("stopped");
        container.delete();
    }
    assert_eq!(ids(&sleeper(&denied())), found, "it outlives its containers");
    holds(&denied(), "a kept one holds");
    holds(&one_open(), "and so does another");
    // How to be rid of it.
    umount2(KEPT, MntFlags::empty()).unwrap();
    fs::remove_dir(KEPT).unwrap();
    holds(&denied(), "after it was removed");
    assert_eq!(programs().len(), 1);
}

fn it_is_made_once_by_whoever_comes_first() {
    new_host();
    let bundles: Vec<Bundle> = (0..8).map(|_| Bundle::args(&["/bin/echo", "works"])).collect();
    let calls: Vec<_> = bundles.iter().map(|bundle| bundle.run_call(&[])).collect();
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = calls.into_iter().map(|call| scope.spawn(move || call.output())).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    outputs.into_iter().for_each(|output| assert_eq!(output.ok(), "works\n"));
    let mounts = mounts_there();
    assert!(mounts.len() == 1 && mounts[0].kind == "bpf", "{mounts:?}");
    assert_eq!(fs::metadata(KEPT).unwrap().permissions().mode() & 0o777, 0o700);
    umount2(KEPT, MntFlags::empty()).unwrap();
    assert_eq!(fs::metadata(KEPT).unwrap().permissions().mode() & 0o7777, 0o700);
}

fn what_is_put_in_its_place_opens_nothing() {
    new_host();
    let right = ids(&sleeper(&denied()));
    let place = programs().pop().unwrap();
    let tampered = |what: &str, tamper: &dyn Fn()| {
        fs::remove_file(&place).unwrap();
        tamper();
        holds(&denied(), what);
        holds(&denied(), what);
    };
    tampered("another program", &|| pin_an_open_door(&place));
    let mended = sleeper(&denied());
    assert!(ids(&mended) != right && ids(&mended) == ids(&sleeper(&denied())), "it is replaced by one that is shared again");
    let aside = Path::new(KEPT).join("aside");
    pin_an_open_door(&aside);
    tampered("a link to another program", &|| symlink(&aside, &place).unwrap());
    tampered("a link to nothing", &|| symlink("nowhere", &place).unwrap());
    tampered("a link to itself", &|| symlink(&place, &place).unwrap());
    tampered("a directory", &|| fs::create_dir(&place).unwrap());
    fs::remove_dir(&place).unwrap();
    holds(&denied(), "at last");
    assert!(place.exists());
    // A bpffs of somebody else's over ours, with what he likes in it.
    mount(Some("bpf"), KEPT, Some("bpf"), MsFlags::empty(), Some("mode=777")).unwrap();
    pin_an_open_door(&place);
    holds(&denied(), "another bpffs");
    umount2(KEPT, MntFlags::empty()).unwrap();
    holds(&denied(), "without that");
}

fn where_nothing_can_be_kept_containers_work() {
    new_host();
    let read_only =
        |flags: MsFlags| mount(None::<&str>, "/run", None::<&str>, MsFlags::MS_REMOUNT | flags, None::<&str>).unwrap();
    read_only(MsFlags::MS_RDONLY);
    holds(&denied(), "/run cannot be written to");
    assert!(!Path::new(KEPT).exists());
    read_only(MsFlags::empty());
    for (what, make) in [
        ("a link", &(|| symlink("/tmp", KEPT).unwrap()) as &dyn Fn()),
        ("a link to nowhere", &|| symlink("/run/nowhere", KEPT).unwrap()),
        ("a directory that others may enter", &|| {
            fs::create_dir(KEPT).unwrap();
            fs::set_permissions(KEPT, fs::Permissions::from_mode(0o755)).unwrap();
        }),
    ] {
        make();
        holds(&denied(), what);
        holds(&one_open(), what);
        assert!(mounts_there().is_empty(), "{what} is not used");
        let _ = fs::remove_file(KEPT).or_else(|_| fs::remove_dir(KEPT));
    }
    holds(&denied(), "at last");
    assert_eq!(programs().len(), 1);
}

/// Each of the calls that a container can do without is refused, as by an outer container's seccomp profile.
fn calls_that_are_refused_are_done_without() {
    new_host();
    for round in ["nothing is kept", "something is kept"] {
        for command in [BPF_OBJ_GET, BPF_OBJ_GET_INFO_BY_FD, BPF_OBJ_PIN] {
            let mut bundle = Bundle::sh("head -c 1 /dev/null && head -c 1 /dev/full >/dev/null; head -c 1 /dev/mine");
            bundle.set(
                "/linux/devices",
                json!([{ "path": "/dev/mine", "type": "c", "major": 240, "minor": 77, "fileMode": 0o666 }]),
            );
            bundle.set("/linux/resources/devices", denied());
            let output = bundle.run_call(&[]).refused(libc::SYS_bpf, command).output();
            assert!(output.stderr.contains("Operation not permitted"), "{round}, {command}: {output:?}");
            assert!(!output.stderr.contains("level="), "{round}, {command}: {output:?}");
        }
        holds(&denied(), round);
    }
}

fn a_file_in_its_place_says_that_nothing_is_to_be_kept() {
    new_host();
    fs::write(KEPT, "").unwrap();
    let (first, second) = (sleeper(&denied()), sleeper(&denied()));
    assert_ne!(ids(&first), ids(&second));
    assert!(Path::new(KEPT).is_file() && mounts_there().is_empty());
    holds(&denied(), "each has its own");
}

fn update_changes_one_container_alone() {
    new_host();
    let (first, second) = (sleeper(&denied()), sleeper(&denied()));
    let closed = ids(&first);
    let path = folder().join("resources.json");
    let update = |rules: &Value| {
        fs::write(&path, json!({ "devices": rules }).to_string()).unwrap();
        first.call(&["update", "--resources", path.to_str().unwrap()]).output().ok();
        let found = ids(&first);
        assert_eq!(found.len(), 1, "one is in the other's place");
        assert_eq!(ids(&second), closed);
        found
    };
    let open = update(&one_open());
    assert_ne!(open, closed);
    assert_eq!(ids(&sleeper(&one_open())), open);
    // Other rules, which come to the same: the program that is attached is the one that is to be.
    let twice = json!([denied()[0], denied()[0], one_open()[1]]);
    assert_eq!(update(&twice), open);
    assert_eq!(update(&denied()), closed);
    // And where nothing is kept any more.
    umount2(KEPT, MntFlags::empty()).unwrap();
    fs::remove_dir(KEPT).unwrap();
    assert_ne!(update(&one_open()), open);
    let anew = update(&denied());
    assert!(anew != closed && anew == ids(&sleeper(&denied())));
}
