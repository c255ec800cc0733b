// SPDX-License-Identifier: Apache-2.0
//! Device nodes and the links beside them (config-linux.md, "Devices", "Default Devices"; runtime-linux.md, "Dev symbolic links").
//! Called by [`super::rootfs`].

use std::collections::BTreeMap;

use super::mounts::{absolute, clean};
use super::rootfs::Context;
use super::step::Node;
use super::{Op, Step};
use crate::linux::types::{DeviceNumber, NodeKind};
use crate::spec::{Device, Problem};

/// What every container has, by the specification: name, major, minor.
const DEFAULT: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links: path, what it says, and whether only where that exists. The kernel's ptmx is the one of the container's devpts.
const LINKS: &[(&str, &str, bool)] = &[
    ("/dev/ptmx", "pts/ptmx", false),
    ("/dev/fd", "/proc/self/fd", false),
    ("/dev/stdin", "/proc/self/fd/0", false),
    ("/dev/stdout", "/proc/self/fd/1", false),
    ("/dev/stderr", "/proc/self/fd/2", false),
    ("/dev/core", "/proc/kcore", true),
];

/// Everybody may read and write: the specification leaves an absent mode to the runtime, and this is what callers expect.
const MODE: u32 = 0o666;

/// Plans the default devices, those of the configuration, and the links, in this order.
pub fn plan(context: &Context, steps: &mut Vec<Step>, warnings: &mut Vec<String>) -> Result<(), Vec<Problem>> {
    let mounted: Vec<(String, bool)> =
        context.spec.mounts.iter().map(|mount| (clean(&mount.destination), mount.is_bind())).collect();
    // A /dev that is the host's, or somebody else's, is taken as it is.
    let foreign_dev = mounted.iter().any(|(place, is_bind)| place == "/dev" && *is_bind);
    let mut nodes: Vec<(Node, String)> = Vec::new();
    if !foreign_dev {
        let free = DEFAULT.iter().filter(|(path, ..)| !mounted.iter().any(|(place, _)| place == path));
        nodes.extend(
            free.map(|&(path, major, minor)| (default_node(context, path, DeviceNumber { major, minor }), String::new())),
        );
    }
    add_configured(context, foreign_dev, &mut nodes, warnings)?;
    steps.extend(nodes.into_iter().map(|(node, at)| Step { op: Op::Node(node), at }));
    if !foreign_dev {
        steps.extend(LINKS.iter().map(|&(path, target, only_existing)| Step {
            op: Op::Link { path: path.to_string(), target: target.to_string(), only_existing },
            at: String::new(),
        }));
    }
    Ok(())
}

fn default_node(context: &Context, path: &str, number: DeviceNumber) -> Node {
    Node { path: path.to_string(), kind: NodeKind::Character, number, mode: MODE, uid: 0, gid: 0, bind: context.unprivileged() }
}

/// Adds the devices of the configuration; one for a path that is there already takes its place.
fn add_configured(
    context: &Context,
    foreign_dev: bool,
    nodes: &mut Vec<(Node, String)>,
    warnings: &mut Vec<String>,
) -> Result<(), Vec<Problem>> {
    let mut problems = Vec::new();
    // A privileged container has every device of the host.
    let mut places: BTreeMap<String, usize> = (0..).zip(&*nodes).map(|(index, (node, _))| (clean(&node.path), index)).collect();
    let devices = context.spec.linux.iter().flat_map(|linux| &linux.devices);
    for (index, device) in devices.enumerate() {
        let at = format!("linux.devices[{index}]");
        let place = clean(&device.path);
        if place == "/dev/ptmx" || (foreign_dev && place.starts_with("/dev/")) {
            continue;
        }
        let node = match node(context, device, &at) {
            Ok(node) => node,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        match places.get(&place).and_then(|index| nodes.get_mut(*index)) {
            Some((other, from)) => {
                if (other.kind, other.number) != (node.kind, node.number) {
                    warnings.push(format!("{at}: \"{place}\" is another device than {}", origin(from)));
                }
                (*other, *from) = (node, at);
            }
            None => {
                places.insert(place, nodes.len());
                nodes.push((node, at));
            }
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn origin(at: &str) -> &str {
    if at.is_empty() { "the default one there, and takes its place" } else { at }
}

fn node(context: &Context, device: &Device, at: &str) -> Result<Node, Problem> {
    if clean(&device.path) == "/" {
        return Err(Problem::new(format!("{at}.path"), format!("\"{}\" is not the path of a device", device.path)));
    }
    let kind = match device.kind.as_str() {
        "c" | "u" => NodeKind::Character,
        "b" => NodeKind::Block,
        "p" => NodeKind::Fifo,
        other => return Err(Problem::new(format!("{at}.type"), format!("\"{other}\" is none of c, b, u and p"))),
    };
    let number = match kind {
        NodeKind::Fifo => DeviceNumber { major: 0, minor: 0 },
        _ => DeviceNumber { major: half(device.major, "major", 12, at)?, minor: half(device.minor, "minor", 20, at)? },
    };
    Ok(Node {
        path: absolute(&device.path),
        kind,
        number,
        mode: device.file_mode.map_or(MODE, |mode| mode & 0o7777),
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
        bind: kind != NodeKind::Fifo && context.unprivileged(),
    })
}

/// One half of a device number; the kernel's dev_t has 12 bits for the major and 20 for the minor.
fn half(value: Option<i64>, which: &str, bits: u32, at: &str) -> Result<u32, Problem> {
    let at = format!("{at}.{which}");
    let Some(value) = value else { return Err(Problem::new(at, "is missing")) };
    match u32::try_from(value).ok().filter(|value| value >> bits == 0) {
        Some(value) => Ok(value),
        None => Err(Problem::new(at, format!("{value} is not between 0 and {}", (1u32 << bits) - 1))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::rootfs::tests::{Setup, setup};
    use crate::spec::Mount;

    fn planned(setup: &Setup) -> (Vec<Step>, Vec<String>, Vec<Problem>) {
        let (mut steps, mut warnings) = (Vec::new(), Vec::new());
        let problems = plan(&setup.context(), &mut steps, &mut warnings).err().unwrap_or_default();
        (steps, warnings, problems)
    }
    fn nodes(steps: &[Step]) -> Vec<&Node> {
        steps.iter().filter_map(|step| if let Op::Node(node) = &step.op { Some(node) } else { None }).collect()
    }
    fn device(path: &str, kind: &str, number: Option<(i64, i64)>) -> Device {
        Device {
            path: path.into(),
            kind: kind.into(),
            major: number.map(|n| n.0),
            minor: number.map(|n| n.1),
            ..Default::default()
        }
    }

    #[test]
    fn every_container_has_six_devices_and_the_links() {
        let (steps, warnings, problems) = planned(&setup());
        let paths: Vec<&str> = nodes(&steps).iter().map(|node| node.path.as_str()).collect();
        assert_eq!(paths, ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"]);
        assert!(nodes(&steps).iter().all(|node| !node.bind && node.mode == 0o666 && node.kind == NodeKind::Character));
        assert_eq!(steps.len(), 12);
        assert!(warnings.is_empty() && problems.is_empty());
    }

    #[test]
    fn a_configured_device_takes_the_place_of_a_default_one() {
        let mut setup = setup();
        let mut null = device("/dev//null", "c", Some((1, 3)));
        (null.file_mode, null.uid, null.gid) = (Some(0o020640), Some(7), Some(8));
        setup.linux().devices = vec![null, device("/dev/ptmx", "c", Some((5, 2))), device("/dev/zero", "u", Some((1, 7)))];
        let (steps, warnings, _) = planned(&setup);
        assert_eq!(nodes(&steps).len(), 6);
        let null = nodes(&steps)[0];
        assert_eq!((null.mode, null.uid, null.gid), (0o640, 7, 8));
        assert_eq!(steps[0].at, "linux.devices[0]");
        assert_eq!(
            warnings,
            ["linux.devices[2]: \"/dev/zero\" is another device than the default one there, and takes its place"]
        );
    }

    #[test]
    fn a_bound_dev_is_taken_as_it_is() {
        let mut setup = setup();
        setup.linux().devices = vec![device("/dev/fuse", "c", Some((10, 229))), device("/opt/pipe", "p", Some((3, 4)))];
        setup.spec.mounts = vec![Mount { destination: "/dev/".into(), options: vec!["ro,rbind".into()], ..Default::default() }];
        let (steps, ..) = planned(&setup);
        assert_eq!(steps.len(), 1);
        assert_eq!((nodes(&steps)[0].path.as_str(), nodes(&steps)[0].kind), ("/opt/pipe", NodeKind::Fifo));
        setup.spec.mounts[0].options.clear();
        assert_eq!(planned(&setup).0.len(), 14);
        setup.spec.mounts[0].destination = "/dev/tty".into();
        assert_eq!(nodes(&planned(&setup).0).len(), 7);
    }

    #[test]
    fn in_a_user_namespace_the_hosts_nodes_are_bound() {
        let mut setup = setup();
        setup.user_namespace();
        setup.linux().devices = vec![device("/dev/fuse", "c", Some((10, 229))), device("/pipe", "p", None)];
        let (steps, ..) = planned(&setup);
        assert!(nodes(&steps).iter().all(|node| node.bind == (node.kind != NodeKind::Fifo)));
    }

    #[test]
    fn wrong_devices_are_named() {
        let mut setup = setup();
        setup.linux().devices = vec![
            device("/dev/a", "x", Some((1, 1))),
            device("/dev/b", "b", None),
            device("/dev/c", "c", Some((4096, 0))),
            device("/dev/d", "c", Some((0, -1))),
            device("", "c", Some((0, 0))),
        ];
        let at: Vec<String> = planned(&setup).2.into_iter().map(|problem| problem.at).collect();
        let fields = ["[0].type", "[1].major", "[2].major", "[3].minor", "[4].path"];
        assert_eq!(at, fields.map(|field| format!("linux.devices{field}")));
    }
}
