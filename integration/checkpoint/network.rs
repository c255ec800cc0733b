// SPDX-License-Identifier: Apache-2.0
//! Connections while they are dumped: packets are held back, and let through again; one that is only being made is left out.
//!
//! The programs nft and iptables-restore are those of the folder BERTH_TEST_NETFILTER (`hack/criu` fetches them), which is in PATH here only:
//! where they are, CRIU uses them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::pages::{free_port, listens};
use super::*;
use crate::harness::{Test, call, look, skip};
use crate::test;

const LOCKS: &[(&str, &str)] = &[("runc", "has no --network-lock"), ("crun", "knows other words for it")];
const NOT_SKIPPED: &[(&str, &str)] = &[("runc", "does not say which flag helps"), ("crun", "has no --tcp-skip-in-flight")];

/// This file's tests.
pub const TESTS: &[Test] = &[
    test!(locked_by_nftables).needs(NEEDS).seconds(120).differs(LOCKS),
    test!(locked_by_iptables).needs(NEEDS).seconds(120).differs(LOCKS),
    test!(connection_that_is_being_made).needs(NEEDS).seconds(120).differs(NOT_SKIPPED),
];

/// The folder of nft and iptables-restore.
fn netfilter() -> PathBuf {
    match std::env::var_os("BERTH_TEST_NETFILTER").map(PathBuf::from).filter(|dir| dir.join("nft").exists()) {
        Some(dir) => dir,
        None => skip("no nft here: hack/criu fetches it, BERTH_TEST_NETFILTER names its folder"),
    }
}

/// What the kernel holds back in a container's network namespace.
fn rules(container: &Container) -> String {
    let net = format!("--net=/proc/{}/ns/net", container.pid());
    Call::program(&["nsenter", &net, netfilter().join("nft").to_str().unwrap(), "list", "ruleset"]).output().ok()
}

/// Counts, and keeps a connection whose two ends are its own.
fn connected() -> Bundle {
    let mut bundle =
        Bundle::sh("sleep 1000 | nc -l -p 4444 & sleep 0.3; sleep 1000 | nc 127.0.0.1 4444 & exec /bin/sh -c \"$COUNT\"");
    bundle.set("/process/env/-", json!(format!("COUNT={COUNT}")));
    bundle
}

fn established(container: &Container) -> String {
    inside(container, "cat /proc/net/tcp /proc/net/tcp6 | grep -c ' 01 '")
}

/// A page server that answers nothing keeps CRIU in the middle of the dump: that is when the rules are there. They go when it fails, and
/// when it is done; the connection stays.
fn locked_by(method: &str) {
    let path = format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", netfilter().display());
    let path = std::env::var("BERTH_TEST_CRIU").map_or(path.clone(), |dir| format!("{dir}:{path}"));
    let bundle = connected();
    let container = bundle.run_detached();
    counts_on(&container);
    eventually("it is connected", || established(&container) == "2\n");
    assert_eq!(rules(&container), "");
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap().to_string();
    let dumping = |name: &str, flags: &[&str]| {
        let image = image(name);
        let words = ["checkpoint", "--image-path", &image, "--tcp-established", "--network-lock", method];
        container.call(&[&words[..], flags].concat()).env("PATH", &path)
    };
    let running = dumping("held", &["--leave-running", "--page-server", &address]).spawn();
    let (mut criu, _) = server.accept().unwrap();
    criu.read_exact(&mut [0]).unwrap();
    let held = rules(&container);
    assert!(held.contains("CRIU") && held.contains("drop"), "packets are held back: {held}");
    drop((criu, server));
    running.finish().fails();
    eventually("packets go through after a failure", || !rules(&container).contains("CRIU"));
    counts_on(&container);
    dumping("left", &["--leave-running"]).output().ok();
    assert!(!rules(&container).contains("CRIU"), "packets go through after a dump: {}", rules(&container));
    counts_on(&container);
    assert_eq!(established(&container), "2\n");
    dumping("one", &[]).output().ok();
    drop(container);
    let restoring = restore_call(&bundle, &image("one"), &["--detach", "--tcp-established", "--network-lock", method]);
    let container = bundle.container();
    bundle.output_of(restoring.env("PATH", &path)).ok();
    counts_on(&container);
    assert!(!rules(&container).contains("CRIU"), "packets go through after a restore: {}", rules(&container));
    assert_eq!(established(&container), "2\n");
}

fn locked_by_nftables() {
    if !look::criu(&["check", "--feature", "nftables"]) {
        skip("this kernel, or this CRIU, has no nftables");
    }
    locked_by("nftables");
}

fn locked_by_iptables() {
    let restore = netfilter().join("iptables-restore");
    let rule = "printf '*filter\\n-A INPUT -m mark --mark 1 -j ACCEPT\\nCOMMIT\\n' | \"$0\" -n";
    let output = Call::program(&["unshare", "--net", "sh", "-c", rule, restore.to_str().unwrap()]).output();
    if output.code() != 0 {
        skip(&format!("iptables does not work with this kernel: {}", output.stderr.trim()));
    }
    locked_by("iptables");
}

/// A connection that the kernel has made and the program has not accepted: it can only be left out, which the other end notices.
fn connection_that_is_being_made() {
    let port = free_port();
    let mut bundle = Bundle::sh(&format!("nc -l -p {port} & {COUNT}"));
    bundle.namespace("network", Some(""));
    let container = bundle.run_detached();
    counts_on(&container);
    eventually("it listens", || listens(&port));
    inside(&container, "kill -STOP $(pidof nc)");
    // Until it does stand still it could accept.
    eventually("it is stopped", || inside(&container, "grep State /proc/$(pidof nc)/status").contains("T (stopped)"));
    let mut peer = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    let flags = ["--tcp-established", "--network-lock", "skip"];
    let refused = dump(&container, &image("none"), &flags).fails();
    assert!(refused.contains("--tcp-skip-in-flight leaves out"), "it says which flag: {refused}");
    counts_on(&container);
    dump(&container, &image("one"), &[&flags[..], &["--tcp-skip-in-flight"]].concat()).ok();
    drop(container);
    peer.set_read_timeout(Some(Duration::from_secs(10) * call::patience())).unwrap();
    assert!(!matches!(peer.read(&mut [0]), Ok(1..)), "its end");
    let container = restore(&bundle, &image("one"), &flags);
    counts_on(&container);
    eventually("it listens again", || listens(&port));
    inside(&container, "kill -CONT $(pidof nc)");
    let mut peer = TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    peer.write_all(b"hello\n").unwrap();
    container.wait_stdout("hello");
}
