// SPDX-License-Identifier: Apache-2.0
//! Devices in network namespaces of the test's own, and messages that are wrong.

use super::*;
use crate::linux::clone::{own_namespace, setns, unshare};
use crate::linux::test_child::{in_child, is_root};
use crate::linux::types::Namespaces;

const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

/// Makes a device of a kind; false where this kernel has no such kind.
fn make(netlink: &mut Netlink, kind: &str, name: &str) -> bool {
    let info = Message(Vec::new()).attribute(IFLA_INFO_KIND, kind.as_bytes()).unwrap();
    let message = Message::new(RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &link_header(0, 0, 0));
    let message = message.name(name).unwrap().attribute(IFLA_LINKINFO, &info.0).unwrap();
    netlink.ask(message, 0, || format!("make {kind}")).is_ok()
}

fn address(text: &str, prefix: u8) -> Address {
    let ip: std::net::IpAddr = text.parse().unwrap();
    let (family, bytes) = match ip {
        std::net::IpAddr::V4(ip) => (libc::AF_INET as u8, ip.octets().to_vec()),
        std::net::IpAddr::V6(ip) => (libc::AF_INET6 as u8, ip.octets().to_vec()),
    };
    Address { family, prefix, scope: 0, flags: 0x80, local: bytes.clone(), peer: bytes, broadcast: None }
}

#[test]
fn brings_up_the_loopback_device() {
    if !is_root() {
        return;
    }
    in_child(|| {
        unshare(Namespaces::NET).unwrap();
        let mut netlink = Netlink::open().unwrap();
        let lo = netlink.link("lo").unwrap();
        assert!(lo.index == 1 && lo.name == "lo" && !lo.is_up());
        loopback_up().unwrap();
        assert!(netlink.link("lo").unwrap().is_up());
        let addresses = netlink.addresses(1).unwrap();
        assert!(addresses.iter().any(|one| one.local == [127, 0, 0, 1] && one.prefix == 8 && one.scope == 254), "{addresses:?}");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    });
}

#[test]
fn adds_addresses_and_says_what_is_wrong() {
    if !is_root() {
        return;
    }
    in_child(|| {
        unshare(Namespaces::NET).unwrap();
        let mut netlink = Netlink::open().unwrap();
        netlink.set_up(1).unwrap();
        assert!(netlink.link("lo").unwrap().is_up());
        netlink.add_address(1, &address("10.77.0.2", 24)).unwrap();
        assert_eq!(netlink.add_address(1, &address("10.77.0.2", 24)).unwrap_err().errno, Errno::EEXIST);
        assert!(netlink.addresses(1).unwrap().contains(&address("10.77.0.2", 24)));
        if std::path::Path::new("/proc/net/if_inet6").exists() {
            netlink.add_address(1, &address("fd00::77", 64)).unwrap();
            let found = netlink.addresses(1).unwrap();
            assert!(found.iter().any(|one| one.local == address("fd00::77", 64).local && one.prefix == 64), "{found:?}");
        }
        // More addresses than one datagram of the dump holds.
        for number in 0..1500u32 {
            let [_, _, high, low] = number.to_be_bytes();
            netlink.add_address(1, &address(&format!("10.99.{high}.{low}"), 32)).unwrap();
        }
        assert!(netlink.addresses(1).unwrap().len() > 1500);
        assert_eq!(netlink.addresses(77).unwrap(), Vec::new());
        let error = netlink.link("no-such-dev").unwrap_err();
        assert_eq!(error.to_string(), "rtnetlink(RTM_GETLINK, \"no-such-dev\") = ENODEV (no such device)");
        assert_eq!(netlink.set_up(77).unwrap_err().errno, Errno::ENODEV);
        let error = netlink.add_address(1, &address("10.77.0.3", 77)).unwrap_err();
        assert!(error.errno == Errno::EINVAL && error.call.contains(": ipv4: Invalid prefix length"), "{error}");
        for name in ["", "sixteen-bytes-xx", "a/b", "a\0b"] {
            assert_eq!(netlink.link(name).unwrap_err().errno, Errno::EINVAL, "{name:?}");
        }
    });
}

#[test]
fn moves_a_device() {
    if !is_root() {
        return;
    }
    in_child(|| {
        unshare(Namespaces::NET).unwrap();
        let (here, mut netlink) = (own_namespace(Namespaces::NET).unwrap(), Netlink::open().unwrap());
        let kinds = ["dummy", "veth", "bridge", "ifb"];
        let Some(kind) = kinds.into_iter().find(|kind| make(&mut netlink, kind, "berth0")) else {
            return eprintln!("skipped: this kernel can make no network device to move");
        };
        let device = netlink.link("berth0").unwrap();
        netlink.add_address(device.index, &address("10.88.0.2", 16)).unwrap();
        netlink.set_up(device.index).unwrap();
        unshare(Namespaces::NET).unwrap();
        let (there, mut other) = (own_namespace(Namespaces::NET).unwrap(), Netlink::open().unwrap());
        setns(&here, Namespaces::NET).unwrap();
        let addresses = netlink.addresses(device.index).unwrap();
        netlink.move_link(device.index, &there, "eth0").unwrap();
        assert_eq!(netlink.link("berth0").unwrap_err().errno, Errno::ENODEV);
        let moved = other.link("eth0").unwrap();
        assert!(!moved.is_up());
        assert!(other.addresses(moved.index).unwrap().iter().all(|one| one.local != [10, 88, 0, 2]));
        for one in addresses.iter().filter(|one| one.scope == 0) {
            other.add_address(moved.index, one).unwrap();
        }
        other.set_up(moved.index).unwrap();
        assert!(other.link("eth0").unwrap().is_up());
        assert!(other.addresses(moved.index).unwrap().iter().any(|one| one.local == [10, 88, 0, 2] && one.prefix == 16));
        assert!(make(&mut netlink, kind, "berth1"));
        let second = netlink.link("berth1").unwrap().index;
        assert_eq!(netlink.move_link(second, &there, "eth0").unwrap_err().errno, Errno::EEXIST);
    });
}

#[test]
fn lengths_are_checked() {
    assert_eq!(attributes(&[8, 0, 1, 0, 1, 2, 3, 4]), [(1, &[1, 2, 3, 4][..])]);
    // A padded one, then one whose length goes beyond the end; shorter than its own header; nothing at all.
    assert_eq!(attributes(&[5, 0, 1, 0, 9, 0, 0, 0, 200, 0, 1, 0]), [(1, &[9][..])]);
    assert_eq!(attributes(&[3, 0, 1, 0, 1, 2, 3, 4]).len(), 0);
    assert_eq!(attributes(&[0, 0, 0, 0]).len() + attributes(&[8, 0, 1]).len() + attributes(&[]).len(), 0);
    let too_long = Message::new(RTM_NEWLINK, 0, &[]).attribute(1, &vec![0; 65_532]);
    assert_eq!(too_long.map(|message| message.0.len()).unwrap_err().errno, Errno::EINVAL);
    for length in 0..LINK_HEADER {
        assert_eq!(parse_link(&vec![0; length]), None);
    }
    for length in 0..ADDRESS_HEADER {
        assert_eq!(parse_address(&vec![0; length]), None);
    }
    let mut wrong_size = vec![libc::AF_INET6 as u8, 64, 0, 0, 1, 0, 0, 0];
    wrong_size.extend([8, 0, IFA_LOCAL as u8, 0, 10, 0, 0, 1]);
    assert_eq!(parse_address(&wrong_size), None);
    assert!(error_of(&[], 0).call_or(&|| "x".into()).is_err());
    assert!(error_of(&[0xff; 8], 0x200).call_or(&|| "x".into()).is_err());
    assert!(error_of(&[0; 4], 0).call_or(&|| "x".into()).is_ok());
}
