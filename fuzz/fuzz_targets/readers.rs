// SPDX-License-Identifier: Apache-2.0
//! Any bytes as what comes from others over a socket: D-Bus messages, answers of rtnetlink, CRIU's answers, and what our own processes say
//! to each other. Nothing panics, nothing is longer than what it was read from, and what was read as a message of our own is written as
//! the same bytes.
#![no_main]

use berth::cgroup::dbus::wire;
use berth::criu;
use berth::error::Error;
use berth::linux::netlink;
use berth::process::sync::{Message, ToChild, ToParent};
use libfuzzer_sys::fuzz_target;

fn own<M: Message + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Some(message) = M::decode(bytes) {
        let again = M::decode(&message.encode());
        assert_eq!(again.as_ref(), Some(&message), "not the same when it is sent on");
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some(length)) = wire::length(bytes)
        && let Some(whole) = bytes.get(..length)
        && let Ok(message) = wire::parse(whole)
    {
        let mut arguments = message.arguments();
        while let Some(text) = arguments.text() {
            assert!(text.len() < bytes.len());
        }
        let mut arguments = message.arguments();
        while arguments.u32().is_some() && arguments.text_variant().is_some() {}
    }
    if let Some(link) = netlink::parse_link(bytes) {
        assert!(link.name.len() <= 3 * bytes.len());
    }
    if let Some((_, address)) = netlink::parse_address(bytes) {
        let size = address.local.len();
        assert!([4, 16].contains(&size) && address.peer.len() == size);
        assert!(address.broadcast.is_none_or(|broadcast| broadcast.len() == size));
    }
    let _ = criu::wire::read(bytes);
    let _ = criu::message::response(bytes);
    own::<ToParent>(bytes);
    own::<ToChild>(bytes);
    own::<Error>(bytes);
});
