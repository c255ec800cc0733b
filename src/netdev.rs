// SPDX-License-Identifier: Apache-2.0
//! `linux.netDevices`: network devices of the host that become the container's (config-linux.md, "Network Devices"). Called by
//! `container::create`, between the clone and the process's first step, one call for each device.
//!
//! The kernel takes a device's addresses and brings it down when it changes its namespace. So its permanent global addresses are read
//! here, and given back to it there, where it is brought up. At delete there is nothing to do: with the last process the namespace ends,
//! and the kernel gives physical devices back to the host and removes virtual ones. Only a create that fails gives back what it took.

use std::os::fd::{AsFd, OwnedFd};

use crate::error::{Code, Error, Kind, Result, Told};
use crate::linux::clone::{self, CloneArgs, Cloned, clone3, exit_now};
use crate::linux::netlink::{Address, Link, Netlink};
use crate::linux::pid;
use crate::linux::socket;
use crate::linux::types::{Errno, Namespaces};

/// `IFA_F_PERMANENT` and `RT_SCOPE_UNIVERSE`: what the specification wants preserved.
const PERMANENT: u32 = 0x80;
const UNIVERSE: u8 = 0;

/// A device that has been moved, and how it was: to give it back.
#[derive(Debug)]
pub struct Moved {
    there: OwnedFd,
    name_here: String,
    name_there: String,
    was_up: bool,
    addresses: Vec<Address>,
}

/// Moves a device of the runtime's network namespace into `namespace`, gives it `new_name` (in which `%d` stands for a number that is
/// free there) and its addresses, and brings it up.
pub fn move_device(namespace: &OwnedFd, name: &str, new_name: &str) -> Result<Moved> {
    let told = || format!("cannot move the network device \"{name}\" into the container");
    let mut here = Netlink::open().told(told)?;
    let device = here.link(name).told(told).map_err(|error| match error.errno {
        Some(Errno::ENODEV) => {
            error.cause(Code::NetDevice).hint("the runtime's network namespace has no device of this name: see `ip link`")
        }
        _ => error,
    })?;
    let addresses: Vec<Address> = here.addresses(device.index).told(told)?.into_iter().filter(is_kept).collect();
    let mut other = open_inside(namespace)?;
    let new_name = free_name(new_name, &other.links().told(told)?)
        .map_err(|text| Error::new(Kind::Config, format!("{}: {text}", told())))?;
    let there = namespace.try_clone().map_err(|error| Error::new(Kind::Kernel, format!("{}: {error}", told())))?;
    let moved = Moved { there, name_here: name.to_string(), name_there: new_name, was_up: device.is_up(), addresses };
    let done = here.move_link(device.index, namespace, &moved.name_there).told(told).map_err(explain);
    match done.and_then(|()| settle(&mut other, &moved.name_there, &moved.addresses, true)) {
        Ok(()) => Ok(moved),
        Err(error) => Err(match moved.give_back() {
            Ok(()) => error,
            Err(also) => error.hint(format!("and it could not be given back: {also}")),
        }),
    }
}

impl Moved {
    /// Moves the device back to where it was, as it was. A device that never left, or has gone, is no error.
    pub fn give_back(&self) -> Result<()> {
        let told = || format!("cannot move the network device \"{}\" back to the host", self.name_here);
        let mut other = open_inside(&self.there)?;
        // A move that failed half-way leaves it there under its old name.
        let found =
            other.links().told(told)?.into_iter().find(|link| link.name == self.name_there || link.name == self.name_here);
        let Some(device) = found else { return Ok(()) };
        let home = clone::own_namespace(Namespaces::NET).told(told)?;
        other.move_link(device.index, &home, &self.name_here).told(told)?;
        settle(&mut Netlink::open().told(told)?, &self.name_here, &self.addresses, self.was_up)
    }
}

/// Gives a device that has arrived its addresses, and brings it up.
fn settle(namespace: &mut Netlink, name: &str, addresses: &[Address], up: bool) -> Result<()> {
    let told = || format!("cannot set up the network device \"{name}\" after its move");
    let index = namespace.link(name).told(told)?.index;
    for address in addresses {
        match namespace.add_address(index, address) {
            // The kernel has kept it.
            Err(error) if error.errno == Errno::EEXIST => {}
            other => other.told(told)?,
        }
    }
    if up { namespace.set_up(index).told(told) } else { Ok(()) }
}

fn is_kept(address: &Address) -> bool {
    address.flags & PERMANENT != 0 && address.scope == UNIVERSE
}

/// The name that the device gets: as it is given, or with the least number for which `%d` makes it one that nobody has.
fn free_name(wanted: &str, links: &[Link]) -> std::result::Result<String, String> {
    let taken = |name: &str| links.iter().any(|link| link.name == name);
    match wanted.split_once("%d") {
        None if taken(wanted) => Err(format!("the container's network namespace has a device \"{wanted}\" already")),
        None => Ok(wanted.to_string()),
        Some((before, after)) => {
            let candidates = (0..=links.len()).map(|number| format!("{before}{number}{after}"));
            candidates.into_iter().find(|name| !taken(name)).ok_or_else(|| format!("no name like \"{wanted}\" is free"))
        }
    }
}

fn explain(error: Error) -> Error {
    match error.errno {
        Some(Errno::EINVAL) => error
            .cause(Code::NetDevice)
            .hint("the kernel lets some devices (loopback, bridges' own, tunnels) live in one namespace only"),
        Some(Errno::EPERM) => error.cause(Code::NetDevice).hint("it takes CAP_NET_ADMIN in both namespaces"),
        _ => error,
    }
}

/// An rtnetlink socket of another network namespace: opened there by a child, which ends at once, and handed over.
fn open_inside(namespace: &OwnedFd) -> Result<Netlink> {
    let told = || "cannot look into the container's network namespace".to_string();
    let (ours, theirs) = socket::pair(socket::Kind::SeqPacket).told(told)?;
    match clone3(&CloneArgs { clear_handlers: true, ..CloneArgs::default() }).told(told)? {
        Cloned::Child => {
            let opened = clone::setns(namespace, Namespaces::NET).and_then(|()| Netlink::open());
            // Where the message cannot be sent there is no answer, which the runtime sees.
            let _ = match opened {
                Ok(netlink) => socket::send(&theirs, &0i32.to_ne_bytes(), &[netlink.as_fd()]),
                Err(error) => socket::send(&theirs, &(error.errno as i32).to_ne_bytes(), &[]),
            };
            exit_now(0)
        }
        Cloned::Parent { pidfd, .. } => {
            drop(theirs);
            let mut answer = [0; 4];
            let received = socket::receive(&ours, &mut answer).told(told);
            pid::wait(&pidfd).told(told)?;
            let received = received?;
            match (received.length, i32::from_ne_bytes(answer), received.fds.into_iter().next()) {
                (4, 0, Some(socket)) => Ok(Netlink::from(socket)),
                (4, errno, None) => Err(Error::new(Kind::Kernel, told()).call("setns(CLONE_NEWNET)", Errno::from_raw(errno))),
                _ => Err(Error::new(Kind::Peer, told()).hint("the process that was to look into it died")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links(names: &[&str]) -> Vec<Link> {
        (1..).zip(names).map(|(index, name)| Link { index, flags: 0, name: name.to_string() }).collect()
    }

    #[test]
    fn a_name_is_free_or_made_so() {
        assert_eq!(free_name("eth0", &links(&["lo"])), Ok("eth0".into()));
        assert!(free_name("eth0", &links(&["lo", "eth0"])).unwrap_err().contains("\"eth0\" already"));
        assert_eq!(free_name("eth%d", &links(&["lo"])), Ok("eth0".into()));
        assert_eq!(free_name("eth%d", &links(&["eth1", "eth0", "eth3"])), Ok("eth2".into()));
        assert_eq!(free_name("a%db", &links(&["a0b"])), Ok("a1b".into()));
    }

    #[test]
    fn only_permanent_global_addresses_are_kept() {
        let address = |flags, scope| Address { family: 2, prefix: 8, scope, flags, local: vec![], peer: vec![], broadcast: None };
        assert!(is_kept(&address(0x80, 0)) && is_kept(&address(0x280, 0)));
        assert!(!is_kept(&address(0, 0)) && !is_kept(&address(0x80, 253)));
    }
}
