// SPDX-License-Identifier: Apache-2.0
//! Network devices: the loopback device up, and a device moved into another network namespace with its addresses; rtnetlink(7). Used by
//! `process` and `netdev`.
//!
//! Every length that a message gives is checked before it is used, and every length written fits its field (CVE-2021-43784 was one that
//! did not).

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::call::{self, Call, CallError, Result, retry, syscall};
use super::types::Errno;

const IFF_UP: u32 = 1;

/// Brings up `lo` in this network namespace: one SIOCSIFFLAGS, netdevice(7).
pub fn loopback_up() -> Result<()> {
    const SIOCSIFFLAGS: u32 = 0x8914;
    /// struct ifreq with its flags.
    #[repr(C)]
    struct Request {
        name: [u8; 16],
        flags: i16,
        rest: [u8; 22],
    }
    let mut request = Request { name: [0; 16], flags: IFF_UP as i16, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    // Any socket will do; this family is always there.
    let raw = Errno::result(
        // SAFETY: no pointer.
        unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) },
    )
    .call(|| "socket(AF_UNIX, SOCK_DGRAM|SOCK_CLOEXEC, 0)".into())?;
    // SAFETY: the kernel just gave us this new descriptor.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: `request` is a struct ifreq (40 bytes) that lives until the call returns.
    unsafe { syscall!(libc::SYS_ioctl, socket.as_raw_fd(), SIOCSIFFLAGS, &raw mut request) }
        .call(|| format!("ioctl({raw}, SIOCSIFFLAGS, {{ifr_name=\"lo\", ifr_flags=IFF_UP}})"))?;
    Ok(())
}

/// Message types and flags of linux/rtnetlink.h and linux/netlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_MULTI: u16 = 0x2;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_EXCL: u16 = 0x200;
const NLM_F_CREATE: u16 = 0x400;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
/// struct nlmsghdr, struct ifinfomsg, struct ifaddrmsg.
const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;

/// The longest name of a device.
pub const NAME_MAX: usize = 15;

/// An rtnetlink socket: it belongs to the network namespace in which it was opened.
#[derive(Debug)]
pub struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl AsFd for Netlink {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl From<OwnedFd> for Netlink {
    /// A socket that another process opened in its own network namespace ([`Netlink::open`]) and handed over.
    fn from(socket: OwnedFd) -> Netlink {
        Netlink { socket, sequence: 0 }
    }
}

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: i32,
    /// `IFF_*`
    pub flags: u32,
    /// Its name.
    pub name: String,
}

impl Link {
    /// It is up.
    pub fn is_up(&self) -> bool {
        self.flags & IFF_UP != 0
    }
}

/// An address of a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// `AF_INET` or `AF_INET6`.
    pub family: u8,
    /// Bits of the network's prefix.
    pub prefix: u8,
    /// `RT_SCOPE_*`: 0 is universe, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*`: 0x80 is permanent.
    pub flags: u32,
    /// The address itself, 4 or 16 bytes.
    pub local: Vec<u8>,
    /// The peer's address on a point-to-point device; else the same as `local`.
    pub peer: Vec<u8>,
    /// The broadcast address, where there is one.
    pub broadcast: Option<Vec<u8>>,
}

/// A message being written.
struct Message(Vec<u8>);

impl Message {
    /// A request of this type, with the fixed part that its type begins with.
    fn new(kind: u16, flags: u16, fixed: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        bytes.extend(fixed);
        Message(bytes)
    }

    /// Appends an attribute; EINVAL where it does not fit the field for its length.
    fn attribute(mut self, kind: u16, value: &[u8]) -> Result<Message> {
        let length = u16::try_from(4 + value.len())
            .map_err(|_| CallError::new(format!("rtnetlink(attribute {kind} of {} bytes)", value.len()), Errno::EINVAL))?;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        Ok(self)
    }

    /// A device's name, as an attribute.
    fn name(self, name: &str) -> Result<Message> {
        if name.is_empty() || name.len() > NAME_MAX || name.contains(['/', '\0']) {
            return Err(CallError::new(format!("rtnetlink(IFLA_IFNAME={name:?})"), Errno::EINVAL));
        }
        let mut value = name.as_bytes().to_vec();
        value.push(0);
        self.attribute(IFLA_IFNAME, &value)
    }
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The attributes of a message, up to the first whose length is wrong.
fn attributes(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
    const TYPE_MASK: u16 = 0x3fff;
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (word16(bytes, 0), word16(bytes, 2)) {
        let length = usize::from(length);
        let Some(value) = bytes.get(4..length) else { break };
        found.push((kind & TYPE_MASK, value));
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    found
}

/// struct ifinfomsg: family u8, pad u8, type u16, index i32, flags u32, change u32.
fn link_header(index: i32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut fixed = [0; LINK_HEADER];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..16].copy_from_slice(&change.to_ne_bytes());
    fixed
}

/// An answer to RTM_GETLINK, without its header.
pub fn parse_link(body: &[u8]) -> Option<Link> {
    let (index, flags) = (word32(body, 4)? as i32, word32(body, 8)?);
    let attributes = attributes(body.get(LINK_HEADER..)?);
    let (_, name) = attributes.iter().find(|(kind, _)| *kind == IFLA_IFNAME)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some(Link { index, flags, name: String::from_utf8_lossy(name).into_owned() })
}

/// An answer to RTM_GETADDR, without its header: the device's index and its address. struct ifaddrmsg: family u8, prefixlen u8, flags u8,
/// scope u8, index u32.
pub fn parse_address(body: &[u8]) -> Option<(u32, Address)> {
    let [family, prefix, flags, scope] = *body.get(..4)? else { return None };
    let index = word32(body, 4)?;
    let attributes = attributes(body.get(ADDRESS_HEADER..)?);
    let get = |kind: u16| attributes.iter().find(|(one, _)| *one == kind).map(|(_, value)| value.to_vec());
    let size = if i32::from(family) == libc::AF_INET6 { 16 } else { 4 };
    let address = get(IFA_ADDRESS);
    let local = get(IFA_LOCAL).or_else(|| address.clone()).filter(|local| local.len() == size)?;
    let peer = address.filter(|peer| peer.len() == size).unwrap_or_else(|| local.clone());
    let flags = get(IFA_FLAGS).and_then(|value| word32(&value, 0)).unwrap_or(u32::from(flags));
    Some((
        index,
        Address { family, prefix, scope, flags, local, peer, broadcast: get(IFA_BROADCAST).filter(|one| one.len() == size) },
    ))
}

impl Netlink {
    /// A socket for this process's network namespace.
    pub fn open() -> Result<Netlink> {
        const NETLINK_CAP_ACK: libc::c_int = 10;
        const NETLINK_EXT_ACK: libc::c_int = 11;
        let raw = Errno::result(
            // SAFETY: no pointer.
            unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_ROUTE) },
        )
        .call(|| "socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, NETLINK_ROUTE)".into())?;
        // SAFETY: the kernel just gave us this new descriptor.
        let socket = unsafe { OwnedFd::from_raw_fd(raw) };
        for option in [NETLINK_EXT_ACK, NETLINK_CAP_ACK] {
            let on: libc::c_int = 1;
            // Only makes errors say more. SAFETY: `on` lives until the call returns; its size is given.
            let _ = unsafe {
                syscall!(libc::SYS_setsockopt, raw, libc::SOL_NETLINK, option, &raw const on, size_of::<libc::c_int>())
            };
        }
        Ok(Netlink { socket, sequence: 0 })
    }

    /// All devices of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        let what = || "rtnetlink(RTM_GETLINK, NLM_F_DUMP)".to_string();
        let answers = self.ask(Message::new(RTM_GETLINK, NLM_F_DUMP, &link_header(0, 0, 0)), RTM_NEWLINK, what)?;
        Ok(answers.iter().filter_map(|body| parse_link(body)).collect())
    }

    /// The device of this name; ENODEV where there is none.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        let what = || format!("rtnetlink(RTM_GETLINK, {name:?})");
        let answers = self.ask(Message::new(RTM_GETLINK, NLM_F_ACK, &link_header(0, 0, 0)).name(name)?, RTM_NEWLINK, what)?;
        answers.iter().find_map(|body| parse_link(body)).ok_or_else(|| CallError::new(what(), Errno::ENODEV))
    }

    /// Moves a device into the network namespace `netns` under a name that is free there. It is down afterwards, and its addresses are
    /// gone: read them before, and add them there. EEXIST where the name is taken there; the device may then be there all the same, under
    /// its old name, for the kernel moves first and renames then.
    pub fn move_link(&mut self, index: i32, netns: impl AsFd, name: &str) -> Result<()> {
        let fd = netns.as_fd().as_raw_fd();
        let message = Message::new(RTM_NEWLINK, NLM_F_ACK, &link_header(index, 0, 0))
            .attribute(IFLA_NET_NS_FD, &(fd as u32).to_ne_bytes())?
            .name(name)?;
        let what =
            || format!("rtnetlink(RTM_NEWLINK, {{index={index}}}, IFLA_NET_NS_FD={}, IFLA_IFNAME={name:?})", call::raw_fd(fd));
        self.ask(message, 0, what).map(drop)
    }

    /// Brings a device up.
    pub fn set_up(&mut self, index: i32) -> Result<()> {
        let message = Message::new(RTM_NEWLINK, NLM_F_ACK, &link_header(index, IFF_UP, IFF_UP));
        self.ask(message, 0, || format!("rtnetlink(RTM_NEWLINK, {{index={index}, flags=IFF_UP}})")).map(drop)
    }

    /// The addresses of a device.
    pub fn addresses(&mut self, index: i32) -> Result<Vec<Address>> {
        let what = || "rtnetlink(RTM_GETADDR, NLM_F_DUMP)".to_string();
        let answers = self.ask(Message::new(RTM_GETADDR, NLM_F_DUMP, &[0; ADDRESS_HEADER]), RTM_NEWADDR, what)?;
        let all = answers.iter().filter_map(|body| parse_address(body));
        Ok(all.filter(|(of, _)| *of == index as u32).map(|(_, address)| address).collect())
    }

    /// Adds an address to a device; EEXIST where it has it already.
    pub fn add_address(&mut self, index: i32, address: &Address) -> Result<()> {
        let mut fixed = [address.family, address.prefix, address.flags as u8, address.scope, 0, 0, 0, 0];
        fixed[4..].copy_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, &fixed)
            .attribute(IFA_LOCAL, &address.local)?
            .attribute(IFA_ADDRESS, &address.peer)?
            .attribute(IFA_FLAGS, &address.flags.to_ne_bytes())?;
        if let Some(broadcast) = &address.broadcast {
            message = message.attribute(IFA_BROADCAST, broadcast)?;
        }
        let what = || format!("rtnetlink(RTM_NEWADDR, {{index={index}}}, {:?}/{})", address.local, address.prefix);
        self.ask(message, 0, what).map(drop)
    }

    /// Sends a request and collects the bodies of all answers of the type `wanted`, up to the acknowledgement or the end of the dump.
    fn ask(&mut self, message: Message, wanted: u16, what: impl Fn() -> String) -> Result<Vec<Vec<u8>>> {
        const TRIES: u32 = 16;
        for _ in 0..TRIES {
            // A dump during which something changed may have holes: ask again.
            if let Some(answers) = self.ask_once(&message, wanted, &what)? {
                return Ok(answers);
            }
        }
        Err(CallError::new(format!("{}: interrupted each time", what()), Errno::EAGAIN))
    }

    fn ask_once(&mut self, message: &Message, wanted: u16, what: &impl Fn() -> String) -> Result<Option<Vec<Vec<u8>>>> {
        self.sequence += 1;
        let mut bytes = message.0.clone();
        let length = bytes.len() as u32;
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.sequence.to_ne_bytes());
        let fd = self.socket.as_raw_fd();
        // SAFETY: the message lives until the call returns; its length is given. Without an address it goes to the kernel.
        retry(|| unsafe { syscall!(libc::SYS_sendto, fd, bytes.as_ptr(), bytes.len(), 0, 0, 0) }).call(what)?;
        let mut answers = Vec::new();
        let mut whole = true;
        loop {
            let datagram = self.receive(what)?;
            let mut rest = datagram.as_slice();
            while let (Some(length), Some(kind), Some(flags), Some(sequence)) =
                (word32(rest, 0), word16(rest, 4), word16(rest, 6), word32(rest, 8))
            {
                let length = length as usize;
                let Some(body) = rest.get(HEADER..length) else {
                    return Err(CallError::new(format!("{}: message cut short", what()), Errno::EBADMSG));
                };
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
                if sequence != self.sequence {
                    continue; // The end of an earlier question.
                }
                whole &= flags & NLM_F_DUMP_INTR == 0;
                match kind {
                    NLMSG_DONE => return Ok(whole.then_some(answers)),
                    NLMSG_ERROR => return error_of(body, flags).call_or(what).map(|()| Some(answers)),
                    kind if kind == wanted => answers.push(body.to_vec()),
                    _ if flags & NLM_F_MULTI != 0 => {}
                    _ => return Err(CallError::new(format!("{}: answer of type {kind}", what()), Errno::EBADMSG)),
                }
            }
        }
    }

    /// The next datagram of the kernel.
    fn receive(&self, what: &impl Fn() -> String) -> Result<Vec<u8>> {
        // The kernel makes dump messages at most as large as the reader's buffer, and up to this.
        let mut buffer = vec![0u8; 32 << 10];
        // SAFETY: all zeroes is a valid struct sockaddr_nl.
        let mut from: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        let mut from_length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
        let fd = self.socket.as_raw_fd();
        loop {
            // SAFETY: buffer, address and its length live until the call returns, and their sizes are given.
            let length = retry(|| unsafe {
                let (bytes, room) = (buffer.as_mut_ptr(), buffer.len());
                syscall!(libc::SYS_recvfrom, fd, bytes, room, libc::MSG_TRUNC, &raw mut from, &raw mut from_length)
            })
            .call(|| format!("{}: recvfrom({fd})", what()))? as usize;
            if from.nl_pid != 0 {
                continue; // Not from the kernel.
            }
            if length > buffer.len() {
                return Err(CallError::new(format!("{}: answer of {length} bytes", what()), Errno::EMSGSIZE));
            }
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

/// What an NLMSG_ERROR says: nothing (an acknowledgement), or an errno and perhaps the kernel's words.
struct Verdict(Option<(Errno, String)>);

impl Verdict {
    fn call_or(self, what: &impl Fn() -> String) -> Result<()> {
        match self.0 {
            None => Ok(()),
            Some((errno, words)) => Err(CallError::new(format!("{}{words}", what()), errno)),
        }
    }
}

/// struct nlmsgerr: errno i32 and the header of the request (with its body unless capped), then attributes.
fn error_of(body: &[u8], flags: u16) -> Verdict {
    const NLM_F_CAPPED: u16 = 0x100;
    const NLM_F_ACK_TLVS: u16 = 0x200;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let Some(code) = word32(body, 0).map(|word| word as i32) else {
        return Verdict(Some((Errno::EBADMSG, ": error cut short".into())));
    };
    if code == 0 {
        return Verdict(None);
    }
    let request = if flags & NLM_F_CAPPED != 0 { HEADER } else { word32(body, 4).unwrap_or(0) as usize };
    let rest = if flags & NLM_F_ACK_TLVS == 0 { None } else { body.get(4usize.saturating_add(request.next_multiple_of(4))..) };
    let words = attributes(rest.unwrap_or(&[])).into_iter().find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG).map(|(_, text)| {
        let text = String::from_utf8_lossy(text);
        format!(": {}", text.trim_end_matches('\0').escape_debug())
    });
    Verdict(Some((Errno::from_raw(code.wrapping_neg()), words.unwrap_or_default())))
}

#[cfg(test)]
mod tests;
