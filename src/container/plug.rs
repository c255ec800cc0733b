// SPDX-License-Identifier: Apache-2.0
//! Devices plugged into a container that runs: the rule that lets it be used, and the node that it is used by. Called by `update`.

use std::os::fd::OwnedFd;

use super::init_process;
use super::state::State;
use crate::error::{Error, Kind, Result, Told};
use crate::linux::types::{Namespaces, NodeKind};
use crate::linux::{fd, pid};
use crate::plan::step::Node;
use crate::rootfs::plug;
use crate::spec::types::DeviceRule;

/// A device of the host that a container is to have: `--device /dev/fuse:/dev/fuse:rwm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plug {
    /// Its node on the host.
    pub host: String,
    /// Where the container is to have it.
    pub inside: String,
    /// `rwm`, or a part of it.
    pub access: String,
}

/// The nodes that these come to, with the host's permissions and owners.
pub fn nodes(plugs: &[Plug]) -> Result<Vec<Node>> {
    plugs.iter().map(node).collect()
}

fn node(plug: &Plug) -> Result<Node> {
    let stat = fd::stat_path(&plug.host)
        .told(|| format!("cannot find the device {}", plug.host))
        .map_err(|error| error.at("--device"))?;
    let kind = match stat.kind() {
        libc::S_IFCHR => NodeKind::Character,
        libc::S_IFBLK => NodeKind::Block,
        _ => return Err(Error::new(Kind::Usage, format!("{} is no device", plug.host)).at("--device")),
    };
    Ok(Node {
        path: plug.inside.clone(),
        kind,
        number: stat.rdev,
        mode: stat.mode & 0o777,
        uid: stat.uid,
        gid: stat.gid,
        bind: false,
    })
}

/// The rules of a container with those for new devices behind them, where they have the last word.
pub fn rules(now: &[DeviceRule], plugs: &[Plug], nodes: &[Node]) -> Vec<DeviceRule> {
    let mut all = now.to_vec();
    for (plug, node) in plugs.iter().zip(nodes) {
        let rule = DeviceRule {
            allow: true,
            kind: if node.kind == NodeKind::Block { "b" } else { "c" }.to_string(),
            major: Some(i64::from(node.number.major)),
            minor: Some(i64::from(node.number.minor)),
            access: plug.access.clone(),
        };
        all.retain(|known| *known != rule);
        all.push(rule);
    }
    all
}

/// The container's root directory, held while its process lives, so that it cannot be another's.
fn root(state: &State) -> Result<OwnedFd> {
    if Namespaces::from_bits_truncate(state.namespaces).contains(Namespaces::USER) {
        return Err(Error::new(
            Kind::Unsupported,
            "a container with a user namespace of its own can open no device node made for it",
        )
        .at("--device")
        .hint(
            "the kernel honours device nodes there only where the host mounted them: `mounts add` binds the host's node into the \
             container, and `update --resources` with its rule in devices opens it",
        ));
    }
    let gone = || Error::new(Kind::Status, "container not running");
    let process = init_process::open(state)?.ok_or_else(gone)?;
    let path = format!("/proc/{}/root", state.init_process_pid);
    let root = fd::open_dir_path(&path).told(|| format!("cannot open the root directory of {}", state.id))?;
    let ended = pid::wait_readable(&process, Some(std::time::Duration::ZERO));
    if ended.told(|| format!("cannot look after process {}", state.init_process_pid))? { Err(gone()) } else { Ok(root) }
}

/// Makes the nodes inside; after an error none of them is left.
pub fn make(state: &State, nodes: &[Node]) -> Result<()> {
    if nodes.is_empty() {
        return Ok(());
    }
    let root = root(state)?;
    let mut made: Vec<&Node> = Vec::new();
    for node in nodes {
        match plug::plug(&root, node) {
            Ok(true) => made.push(node),
            Ok(false) => {}
            Err(error) => {
                // The first error is what matters.
                made.iter().for_each(|node| drop(plug::unplug(&root, node)));
                return Err(error.at("--device"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_rule_is_for_the_new_device() {
        let plug = Plug { host: "/dev/null".into(), inside: "/dev/mine".into(), access: "rw".into() };
        let plugs = [plug];
        let nodes = nodes(&plugs).unwrap();
        assert_eq!((nodes[0].path.as_str(), nodes[0].kind, nodes[0].number.major), ("/dev/mine", NodeKind::Character, 1));
        let deny = DeviceRule { allow: false, kind: String::new(), major: None, minor: None, access: "rwm".into() };
        let once = rules(std::slice::from_ref(&deny), &plugs, &nodes);
        assert_eq!((once.len(), &once[0]), (2, &deny));
        assert_eq!((once[1].kind.as_str(), once[1].major, once[1].minor, once[1].allow), ("c", Some(1), Some(3), true));
        assert_eq!(rules(&once, &plugs, &nodes), once);
    }

    #[test]
    fn only_devices_can_be_plugged_in() {
        let plug = |host: &str| [Plug { host: host.into(), inside: "/dev/x".into(), access: "rwm".into() }];
        assert!(nodes(&plug("/")).unwrap_err().what.contains("is no device"));
        assert!(nodes(&plug("/dev/none-such")).unwrap_err().what.contains("cannot find the device"));
    }
}
