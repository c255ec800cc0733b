// SPDX-License-Identifier: Apache-2.0
//! config-linux.md, Network Devices. New in version 1.3.0.
use crate::bundle::Bundle;
use crate::config::mount;
use crate::entry::Level::{Must, MustNot};
use crate::entry::{Outcome, Section, check, skip, tested};
use crate::seen::Seen;
use crate::standin::{Break, Call};
use crate::suite::Suite;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

pub const DEVICES: Section = Section {
    name: "config-linux.md#network-devices",
    entries: &[
        tested("1", Must, "network devices that MUST be made available", moved, NO_DEVICES),
        tested(
            "2",
            Must,
            "MUST check if moving the network interface to the container namespace is possible",
            impossible,
            NO_DEVICES,
        ),
        tested("3", Must, "already exists in the container namespace, the runtime MUST generate an error", taken, NO_DEVICES),
        tested("4", Must, "In that case, the runtime MUST allow the move", template, NO_DEVICES),
        tested(
            "5",
            Must,
            "MUST preserve existing network interface attributes",
            addresses,
            Break::After("create", forget_addresses),
        ),
        tested("6", Must, "MUST set the network device state to \"up\"", up, Break::After("create", take_down)),
    ],
};

pub const TERMINATION: Section = Section {
    name: "config-linux.md#namespace-lifecycle-and-container-termination",
    entries: &[
        tested("1", MustNot, "MUST NOT actively manage the interface's lifecycle", left_alone, Break::After("start", set_up)),
        tested("2", MustNot, "MUST NOT attempt to move the interface out", stays, Break::After("delete", take_out)),
    ],
};

const NO_DEVICES: Break = Break::Config(|config| config["linux"]["netDevices"] = json!({}));

/// The suite's device within containers, whatever it was outside.
const INSIDE: &str = "conformance0";

fn within(call: &Call, words: &[&str]) {
    let _ = Command::new("nsenter").args(["--target", &call.pid(), "--net", "busybox", "ip"]).args(words).status();
}

fn forget_addresses(call: &Call) {
    within(call, &["addr", "flush", "dev", INSIDE]);
}

fn take_down(call: &Call) {
    within(call, &["link", "set", INSIDE, "down"]);
}

fn set_up(call: &Call) {
    within(call, &["link", "set", INSIDE, "up"]);
}

fn take_out(call: &Call) {
    let netns = format!("--net={}", call.home().join("netns").display());
    let _ = Command::new("nsenter").args([&netns, "busybox", "ip", "link", "del", INSIDE]).status();
}

/// A device on the host, gone when dropped.
struct Device(String);

impl Device {
    /// A dummy device with an address of each family; skips where none can be made.
    fn new(suite: &Suite, bundle: &Bundle) -> Outcome<Device> {
        let device = Device(format!("cf{}", bundle.id.rsplit_once("conformance-").map_or("0", |(_, rest)| rest)));
        if suite.tool("busybox", &["ip", "link", "add", &device.0, "type", "dummy"]).is_err() {
            skip!("no dummy network device can be made here");
        }
        for words in [["addr", "add", "192.0.2.7/24", "dev", &device.0], ["addr", "add", "2001:db8::7/64", "dev", &device.0]] {
            let mut all = vec!["ip"];
            all.extend(words);
            suite.tool("busybox", &all)?;
        }
        Ok(device)
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("busybox").args(["ip", "link", "del", &self.0]).stderr(std::process::Stdio::null()).status();
    }
}

/// A bundle that wants a device under the name INSIDE, and that device.
fn wanting(suite: &Suite) -> Outcome<(Bundle<'_>, Device)> {
    let mut bundle = suite.bundle()?;
    let device = Device::new(suite, &bundle)?;
    bundle.config["linux"]["netDevices"] = json!({ &device.0: { "name": INSIDE } });
    mount(&mut bundle.config, "/sys", "sysfs", "sysfs", &["ro"]);
    Ok((bundle, device))
}

/// The names of the devices a container has.
fn names(seen: &Seen) -> Outcome<Vec<String>> {
    let text = seen.of("read:/proc/net/dev")?["text"].as_str().unwrap_or_default();
    Ok(text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_string())).collect())
}

fn moved(suite: &Suite) -> Outcome {
    let (mut bundle, device) = wanting(suite)?;
    bundle.config["linux"]["netDevices"] = json!({ &device.0: {} });
    bundle.actions(&["read:/proc/net/dev"]);
    let seen = bundle.see()?;
    let found = names(&seen)?;
    check!(found.contains(&device.0), "the device is not among those of the container: {found:?}");
    Ok(())
}

fn impossible(suite: &Suite) -> Outcome {
    let mut bundle = suite.bundle()?;
    bundle.config["linux"]["netDevices"] = json!({ "conf-no-such": {} });
    bundle.is_refused()
}

fn taken(suite: &Suite) -> Outcome {
    let (mut bundle, device) = wanting(suite)?;
    bundle.config["linux"]["netDevices"] = json!({ &device.0: { "name": "lo" } });
    bundle.is_refused()
}

fn template(suite: &Suite) -> Outcome {
    let (mut bundle, device) = wanting(suite)?;
    bundle.config["linux"]["netDevices"] = json!({ &device.0: { "name": "conf%d" } });
    bundle.actions(&["read:/proc/net/dev"]);
    let seen = bundle.see()?;
    let found = names(&seen)?;
    check!(found.iter().any(|name| name == "conf0"), "the container has {found:?}, not conf0");
    Ok(())
}

/// What `ip` says in the container's network namespace.
fn from_within(suite: &Suite, bundle: &Bundle, words: &[&str]) -> Outcome<String> {
    let pid = bundle.pid()?.to_string();
    let mut all = vec!["--target", &pid, "--net", "busybox", "ip"];
    all.extend(words);
    suite.tool("nsenter", &all)
}

fn addresses(suite: &Suite) -> Outcome {
    let (mut bundle, _device) = wanting(suite)?;
    bundle.actions(&["wait"]);
    bundle.created()?;
    let found = from_within(suite, &bundle, &["addr"])?;
    check!(found.contains(INSIDE), "the container has no device {INSIDE}");
    for address in ["192.0.2.7/24", "2001:db8::7/64"] {
        check!(found.contains(address), "the device has lost its address {address}: {found}");
    }
    Ok(())
}

/// IFF_UP of the flags in /sys/class/net.
fn is_up(seen: &Seen) -> Outcome<bool> {
    let text = seen.of(FLAGS)?["text"].as_str().unwrap_or_default();
    let flags = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16);
    match flags {
        Ok(flags) => Ok(flags & 1 == 1),
        Err(_) => Err(crate::entry::Stop::Failed(format!("the container has no device {INSIDE}"))),
    }
}

const FLAGS: &str = "read:/sys/class/net/conformance0/flags";

fn up(suite: &Suite) -> Outcome {
    let (mut bundle, _device) = wanting(suite)?;
    bundle.actions(&[FLAGS]);
    let seen = bundle.see()?;
    check!(is_up(&seen)?, "the device is down");
    Ok(())
}

/// Taken down by somebody else after create, the device must still be down once the program runs.
fn left_alone(suite: &Suite) -> Outcome {
    let (mut bundle, _device) = wanting(suite)?;
    bundle.actions(&["sleep:300", FLAGS]);
    bundle.created()?;
    let found = from_within(suite, &bundle, &["link"])?;
    check!(found.contains(INSIDE), "the container has no device {INSIDE}");
    from_within(suite, &bundle, &["link", "set", INSIDE, "down"])?;
    bundle.started()?;
    bundle.wait()?;
    check!(!is_up(&bundle.seen()?)?, "the runtime has set up a device that was down");
    Ok(())
}

/// In a network namespace that outlives the container.
fn stays(suite: &Suite) -> Outcome {
    let (mut bundle, _device) = wanting(suite)?;
    let netns = bundle.dir.join("netns").to_string_lossy().into_owned();
    fs::write(&netns, "")?;
    suite.tool("unshare", &[&format!("--net={netns}"), "true"])?;
    for namespace in bundle.config["linux"]["namespaces"].as_array_mut().into_iter().flatten() {
        if namespace["type"] == "network" {
            namespace["path"] = Value::from(netns.as_str());
        }
    }
    let result = bundle.see().and_then(|_| {
        let there = suite.tool("nsenter", &[&format!("--net={netns}"), "busybox", "ip", "link"])?;
        check!(there.contains(INSIDE), "after delete the device is not in the network namespace");
        Ok(())
    });
    suite.tool("umount", &[&netns])?;
    result
}
