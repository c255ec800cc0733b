// SPDX-License-Identifier: Apache-2.0
//! Every flag: by its effect where one can be seen, and by what CRIU is told.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::harness::receive::Receiver;
use crate::harness::{Test, call, look, skip};
use crate::test;

const NOT_A_PROGRAM: &[(&str, &str)] = &[("runc", "has no --criu, nor some of the flags"), ("crun", "loads a library instead")];
const NOT_THEIRS: &[(&str, &str)] = &[("runc", "has no such flag"), ("crun", "has no such flag")];
const NO_NETWORK_LOCK: &[(&str, &str)] = &[("runc", "has no --network-lock"), ("crun", "knows other words for it")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(a_dump_is_asked_for).differs(NOT_A_PROGRAM),
    test!(a_restore_is_asked_for).differs(NOT_A_PROGRAM),
    test!(status_descriptor_that_is_not_there).differs(&[("runc", "finds out while it dumps"), ("crun", "has no such flag")]),
    test!(deleted_files).needs(NEEDS).seconds(120).differs(NOT_THEIRS),
    test!(unix_sockets_that_lead_out).needs(NEEDS).seconds(120).differs(&[CRUN]),
    test!(closed_connections).needs(NEEDS).seconds(120).differs(NO_NETWORK_LOCK),
    test!(empty_network_namespace)
        .needs(NEEDS)
        .seconds(120)
        .differs(&[("runc", "leaves the loopback device down after a restore"), CRUN]),
    test!(packets_held_back_by_nftables).needs(NEEDS).seconds(120).differs(NO_NETWORK_LOCK),
    test!(cgroups_of_the_containers_own).needs(&[Need::Criu, Need::Cgroup2]).seconds(120),
    test!(kept_after_its_end).needs(NEEDS).seconds(120).differs(&[("runc", "has no --keep"), ("crun", "has no --keep here")]),
    test!(pidfd_of_the_restored)
        .needs(NEEDS)
        .seconds(120)
        .differs(&[("runc", "has it for create, run and exec"), ("crun", "has no such flag")]),
];

// --- what CRIU is told -----------------------------------------------------------------------------------------------

/// A value of a message of protocol buffers.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

/// The values of the fields of a message, by their numbers.
pub type Fields = BTreeMap<u64, Vec<Value>>;
/// A flag with its value, if it has one, and the field that it becomes.
type Flag = (Vec<String>, u64, Value);

/// The fields of a message (protobuf.dev, "Encoding"); of those that come twice, all.
pub fn fields(mut bytes: &[u8]) -> Fields {
    let varint = |bytes: &mut &[u8]| {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    };
    let mut found: Fields = BTreeMap::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let number = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(number),
            2 => {
                let (block, rest) = bytes.split_at(usize::try_from(number).unwrap());
                bytes = rest;
                Value::Bytes(block.to_vec())
            }
            other => panic!("wire type {other}"),
        };
        found.entry(key >> 3).or_default().push(value);
    }
    found
}

/// What a CRIU that says no has been asked for: its options by the numbers of rpc.proto.
fn asked_for(words: &[&str]) -> Fields {
    let file = folder().join("request");
    let _ = fs::remove_file(&file);
    // It is asked for its version first.
    let program = fake_criu(&format!(
        r"dd bs=65536 count=1 <&$2 >/dev/null 2>&1; printf '\020\001\122\004\010\004\020\002' >&$2
          dd bs=65536 count=1 <&$2 2>/dev/null >{0}.new; mv {0}.new {0}; printf '\010\001\020\000' >&$2",
        file.display()
    ));
    let output = Call::new(&[&["--criu", &program], words].concat()).output();
    let bytes = fs::read(&file).unwrap_or_else(|error| panic!("nothing was asked for ({error}): {output:?}"));
    match fields(&bytes)[&2].as_slice() {
        [Value::Bytes(options)] => fields(options),
        other => panic!("{other:?}"),
    }
}

fn on(flags: &[(&str, u64)]) -> Vec<Flag> {
    flags.iter().map(|(flag, field)| (vec![format!("--{flag}")], *field, Value::Number(1))).collect()
}

fn with(flags: &[(&str, &str, u64, Value)]) -> Vec<Flag> {
    flags.iter().map(|(flag, value, field, sent)| (vec![format!("--{flag}"), value.to_string()], *field, sent.clone())).collect()
}

fn text(text: &str) -> Value {
    Value::Bytes(text.as_bytes().to_vec())
}

/// Flags that both commands have, and the network namespace's bit (CLONE_NEWNET).
fn common() -> Vec<Flag> {
    let switches = [
        ("ext-unix-sk", 4),
        ("tcp-established", 5),
        ("shell-job", 7),
        ("file-locks", 8),
        ("auto-dedup", 16),
        ("link-remap", 18),
        ("tcp-close", 52),
    ];
    let number = Value::Number;
    let words = [
        ("manage-cgroups-mode", "ignore", 34, number(0)),
        ("manage-cgroups-mode", "soft", 34, number(3)),
        ("manage-cgroups-mode", "full", 34, number(4)),
        ("manage-cgroups-mode", "strict", 34, number(5)),
        ("network-lock", "iptables", 64, number(1)),
        ("network-lock", "nftables", 64, number(2)),
        ("network-lock", "skip", 64, number(3)),
        ("empty-ns", "network", 38, number(0x4000_0000)),
        ("parent-path", "../parent", 14, text("../parent")),
    ];
    [on(&switches), with(&words)].concat()
}

/// Asks with each flag and without any: the field is there with the value then, and without it not so.
#[track_caller]
fn each_is_sent(flags: &[Flag], ask: &dyn Fn(&[&str]) -> Fields) {
    let plain = ask(&[]);
    for (flag, field, value) in flags {
        let words: Vec<&str> = flag.iter().map(String::as_str).collect();
        let sent = ask(&words);
        assert_eq!(sent.get(field), Some(&vec![value.clone()]), "{flag:?}: field {field}");
        if words.get(1).is_none() {
            assert_eq!(plain.get(field), None, "without {flag:?}");
        }
    }
}

fn a_dump_is_asked_for() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    fs::create_dir(image("parent")).unwrap();
    let images = image("one");
    let ask = |flags: &[&str]| asked_for(&[&["checkpoint", "--image-path", &images], flags, &[&container.id]].concat());
    let only_here = on(&[("leave-running", 3), ("tcp-skip-in-flight", 46), ("pre-dump", 15)]);
    let server = with(&[("page-server", "[::1]:27", 11, Value::Bytes(b"\x0a\x03::1\x10\x1b".to_vec()))]);
    each_is_sent(&[common(), only_here, server].concat(), &ask);
    let lazy = ask(&["--lazy-pages", "--page-server", "127.0.0.1:27"]);
    assert_eq!(lazy[&48], [Value::Number(1)]);
    let plain = ask(&["--work-path", &image("logs")]);
    assert!(plain.contains_key(&17), "the directory of the logs");
    assert_eq!(plain[&2], [Value::Number(u64::try_from(container.pid()).unwrap())]);
    assert_eq!(plain[&10], [text("dump.log")]);
}

fn a_restore_is_asked_for() {
    let bundle = Bundle::sh(COUNT);
    bundle.save();
    fs::create_dir(image("parent")).unwrap();
    fs::create_dir(image("one")).unwrap();
    fs::write(Path::new(&image("one")).join("inventory.img"), "").unwrap();
    let images = image("one");
    let ask = |flags: &[&str]| {
        asked_for(
            &[&["restore", "--detach", "--bundle", bundle.path(), "--image-path", &images], flags, &[bundle.id.as_str()]]
                .concat(),
        )
    };
    let only_here = with(&[
        ("lsm-profile", "apparmor:other", 53, text("apparmor:other")),
        ("lsm-mount-context", "system_u:object_r:container_file_t:s0", 63, text("system_u:object_r:container_file_t:s0")),
    ]);
    each_is_sent(&[common(), on(&[("lazy-pages", 48)]), only_here].concat(), &ask);
    let plain = ask(&["--no-pivot", "--no-subreaper", "--work-path", &image("logs")]);
    assert!(plain.contains_key(&17), "the directory of the logs");
    assert_eq!((&plain[&10], &plain[&26]), (&vec![text("restore.log")], &vec![Value::Number(1)]));
    bundle.container().call(&["state"]).output().fails();
}

fn status_descriptor_that_is_not_there() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    let (program, images) = (fake_criu("exit 0"), image("one"));
    let flags = ["--page-server", "127.0.0.1:27", "--lazy-pages", "--status-fd"];
    for number in ["9", "3"] {
        let words = [&["--criu", &program, "checkpoint", "--image-path", &images], &flags[..], &[number, &container.id]].concat();
        let error = Call::new(&words).output().fails();
        assert!(error.contains(&format!("--status-fd: {number} is no descriptor")), "{error}");
    }
    counts_on(&container);
}

// --- what can be seen ------------------------------------------------------------------------------------------------

/// An open file that has lost the name under which it was opened, but has another.
fn deleted_files() {
    let script = "echo >/a; ln /a /b; exec 3>>/a; rm /a; i=0; while :; do i=$((i+1)); echo $i; echo $i >&3; sleep 0.05; done";
    let bundle = Bundle::sh(script);
    let container = bundle.run_detached();
    counts_on(&container);
    let refused = dump(&container, &image("none"), &[]).fails();
    assert!(refused.contains("--link-remap"), "it says which flag: {refused}");
    counts_on(&container);
    dump(&container, &image("one"), &["--link-remap"]).ok();
    drop(container);
    let lines = || fs::read_to_string(bundle.inside("/b")).unwrap().lines().count();
    let before = lines();
    let container = restore(&bundle, &image("one"), &["--link-remap"]);
    counts_on(&container);
    eventually("it writes to its file again", || lines() > before);
    assert!(!bundle.inside("/a").exists());
}

/// Its standard input is a socket whose other end is on the host, and has a name.
fn unix_sockets_that_lead_out() {
    let dir = folder().join("socket");
    fs::create_dir(&dir).unwrap();
    let path = dir.join("host");
    let host = UnixDatagram::bind(&path).unwrap();
    host.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let own = UnixDatagram::unbound().unwrap();
    own.connect(&path).unwrap();
    // It writes there when told to: while a shell writes elsewhere, it has its standard output open under another number.
    let mut bundle = Bundle::sh(&format!("trap 'echo $i >&0' USR1; {COUNT}"));
    // CRIU looks for its sockets in its network namespace, and that is where it was made.
    bundle.mount(dir.to_str().unwrap(), "bind", dir.to_str().unwrap(), &["bind"]).namespace("network", Some(""));
    let container = bundle.container();
    bundle.output_of(bundle.run_call(&["--detach"]).stdin(std::os::fd::OwnedFd::from(own))).ok();
    let hear = |container: &Container| {
        container.kill("USR1");
        let mut buffer = [0; 64];
        let length = host.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim().parse::<usize>().unwrap()
    };
    container.wait_stdout("3\n");
    assert!(hear(&container) >= 3);
    let refused = dump(&container, &image("none"), &[]).fails();
    assert!(refused.contains("--ext-unix-sk"), "it says which flag: {refused}");
    dump(&container, &image("one"), &["--ext-unix-sk"]).ok();
    let last = numbers(&container).len();
    drop(container);
    let container = restore(&bundle, &image("one"), &["--ext-unix-sk"]);
    eventually("the host hears it count on", || hear(&container) > last);
    assert_eq!(container.status(), "running");
}

/// A connection that the restored program finds closed.
fn closed_connections() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let mut bundle = Bundle::sh(&format!("nc 127.0.0.1 {port}; echo over; while :; do sleep 1; done"));
    bundle.namespace("network", Some(""));
    let container = bundle.run_detached();
    let (mut peer, _) = server.accept().unwrap();
    peer.write_all(b"before\n").unwrap();
    container.wait_stdout("before");
    let flags = ["--tcp-close", "--network-lock", "skip"];
    dump(&container, &image("one"), &flags).ok();
    drop(container);
    let container = restore(&bundle, &image("one"), &flags);
    container.wait_stdout("over");
    peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert!(matches!(peer.read(&mut [0; 8]), Ok(0) | Err(_)), "nothing comes any more");
}

/// With the flag the engine makes the network anew; without, it is as it was.
fn empty_network_namespace() {
    let up = |container: &Container| inside(container, "ip link show lo").contains("LOOPBACK,UP");
    for (name, flags, is_up) in [("kept", &[][..], true), ("empty", &["--empty-ns", "network"], false)] {
        let bundle = Bundle::sh(COUNT);
        let container = bundle.run_detached();
        counts_on(&container);
        assert!(up(&container));
        dump(&container, &image(name), flags).ok();
        drop(container);
        let container = restore(&bundle, &image(name), flags);
        counts_on(&container);
        assert_eq!(up(&container), is_up, "{name}");
    }
}

fn packets_held_back_by_nftables() {
    if !look::criu(&["check", "--feature", "nftables"]) {
        skip("this kernel, or this CRIU, has no nftables");
    }
    let mut bundle =
        Bundle::sh("sleep 1000 | nc -l -p 4444 & sleep 0.3; sleep 1000 | nc 127.0.0.1 4444 & exec /bin/sh -c \"$COUNT\"");
    bundle.set("/process/env/-", json!(format!("COUNT={COUNT}")));
    let container = bundle.run_detached();
    counts_on(&container);
    let flags = ["--tcp-established", "--network-lock", "nftables"];
    dump(&container, &image("one"), &flags).ok();
    let log = fs::read_to_string(Path::new(&image("one")).join("dump.log")).unwrap();
    assert!(log.contains("Lock network") && !log.contains("iptables-restore"), "{log}");
    drop(container);
    counts_on(&restore(&bundle, &image("one"), &flags));
}

/// The container has made a cgroup below its own, and a process of it is in there.
fn cgroups_of_the_containers_own() {
    if fs::read_to_string("/proc/self/cgroup").unwrap().lines().count() > 1 {
        skip("there are hierarchies of cgroup v1 here, where CRIU is told to leave cgroups alone");
    }
    let mut bundle = Bundle::sh(&format!("mkdir /sys/fs/cgroup/below; echo 0 >/sys/fs/cgroup/below/cgroup.procs; {COUNT}"));
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime"]);
    let container = there_and_back(&bundle, "1\n", &["--manage-cgroups-mode", "soft"]);
    counts_on(&container);
    assert!(look::cgroup(container.pid()).ends_with(&format!("{}/below", bundle.id)), "{}", look::cgroup(container.pid()));
}

fn kept_after_its_end() {
    let bundle = Bundle::sh("trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done");
    let container = bundle.run_detached();
    container.wait_stdout("ready");
    dump(&container, &image("one"), &[]).ok();
    let mut running = restore_call(&bundle, &image("one"), &["--keep"]).spawn_to(&bundle.stdout_file(), &bundle.stderr_file());
    eventually("it runs", || container.call(&["state"]).output().stdout.contains("running"));
    container.kill("TERM");
    assert_eq!(call::wait(&mut running).code(), Some(7));
    assert_eq!(container.status(), "stopped");
}

fn pidfd_of_the_restored() {
    let bundle = Bundle::sh(COUNT);
    let container = bundle.run_detached();
    counts_on(&container);
    dump(&container, &image("one"), &[]).ok();
    drop(container);
    let receiver = Receiver::new("pidfd");
    let container = restore(&bundle, &image("one"), &["--pidfd-socket", receiver.path(), "--no-pivot"]);
    let (_, pidfd) = receiver.receive();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&pidfd))).unwrap();
    assert_eq!(look::status_field(&info, "Pid"), container.pid().to_string());
}
