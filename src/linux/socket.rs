// SPDX-License-Identifier: Apache-2.0
//! Unix sockets: pairs between our processes, descriptors sent over them, and sockets at paths of any length. Used by `process` (sync,
//! console, seccomp listener, notify) and `cli` (logging).

use std::ffi::OsStr;
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
};

use super::call::{self, Call, CallError, Result, retry, text};
use super::fd;
use super::types::Errno;

/// How a unix socket carries data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A stream of bytes.
    Stream,
    /// Messages, in order, with an end.
    SeqPacket,
    /// Messages without a connection.
    Datagram,
}

impl Kind {
    fn raw(self) -> SockType {
        match self {
            Kind::Stream => SockType::Stream,
            Kind::SeqPacket => SockType::SeqPacket,
            Kind::Datagram => SockType::Datagram,
        }
    }
    fn name(self) -> &'static str {
        match self {
            Kind::Stream => "SOCK_STREAM",
            Kind::SeqPacket => "SOCK_SEQPACKET",
            Kind::Datagram => "SOCK_DGRAM",
        }
    }
}

/// socketpair(2)
pub fn pair(kind: Kind) -> Result<(OwnedFd, OwnedFd)> {
    nix::sys::socket::socketpair(AddressFamily::Unix, kind.raw(), None, SockFlag::SOCK_CLOEXEC)
        .call(|| format!("socketpair(AF_UNIX, {}|SOCK_CLOEXEC, 0)", kind.name()))
}

fn socket(kind: Kind) -> Result<OwnedFd> {
    nix::sys::socket::socket(AddressFamily::Unix, kind.raw(), SockFlag::SOCK_CLOEXEC, None)
        .call(|| format!("socket(AF_UNIX, {}|SOCK_CLOEXEC, 0)", kind.name()))
}

/// sendmsg(2): one message, with these descriptors (SCM_RIGHTS), at least one byte when there are any. A peer that is gone is EPIPE,
/// never SIGPIPE. For a stream, what the socket did not take at once follows.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &[][..] } else { &rights[..] };
    let socket = socket.as_fd().as_raw_fd();
    let render = || format!("sendmsg({}, {} bytes, {} descriptors)", call::raw_fd(socket), bytes.len(), raw.len());
    let mut sent = retry(|| sendmsg::<()>(socket, &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)).call(render)?;
    while sent < bytes.len() {
        sent += retry(|| nix::sys::socket::send(socket, &bytes[sent..], MsgFlags::MSG_NOSIGNAL)).call(render)?;
    }
    Ok(())
}

/// One message received.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer it filled: 0 where the peer has closed its end (or sent an empty datagram).
    pub length: usize,
    /// The descriptors it brought, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

/// The most descriptors that the kernel lets one message bring (SCM_MAX_FD), so none can be cut off and stay open unseen.
const MOST_FDS: usize = 253;

/// recvmsg(2): the next message (or bytes of a stream), and its descriptors. A message larger than `buffer` is EMSGSIZE.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> Result<Received> {
    let raw = socket.as_fd().as_raw_fd();
    let render = |room: usize| format!("recvmsg({}, {room} bytes)", call::raw_fd(raw));
    let room = buffer.len();
    let mut control = nix::cmsg_space!([RawFd; MOST_FDS]);
    let mut parts = [IoSliceMut::new(buffer)];
    let answer = loop {
        match recvmsg::<()>(raw, &mut parts, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            Err(errno) => break Err(errno),
            Ok(message) => {
                let messages = message.cmsgs().into_iter().flatten();
                let lists =
                    messages.filter_map(|one| if let ControlMessageOwned::ScmRights(list) = one { Some(list) } else { None });
                break Ok((message.bytes, message.flags, lists.flatten().collect::<Vec<RawFd>>()));
            }
        }
    };
    let (length, flags, found) = answer.call(|| render(room))?;
    // SAFETY: the kernel made these descriptors for us with this message; nobody else owns them.
    let fds = found.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }).collect();
    if flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(CallError::new(format!("{}: cut short", render(room)), Errno::EMSGSIZE));
    }
    Ok(Received { length, fds })
}

/// Whether the peer has closed its end and nothing is left to read. Does not wait and takes nothing.
pub fn peer_closed(socket: impl AsFd) -> Result<bool> {
    let raw = socket.as_fd().as_raw_fd();
    let mut byte = [0];
    match retry(|| nix::sys::socket::recv(raw, &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)) {
        Ok(count) => Ok(count == 0),
        Err(Errno::EAGAIN) => Ok(false),
        Err(Errno::ECONNRESET) => Ok(true),
        Err(errno) => Err(errno).call(|| format!("recv({}, MSG_PEEK|MSG_DONTWAIT)", call::raw_fd(raw))),
    }
}

/// The address of a path and what keeps it valid: paths longer than an address holds (107 bytes) go through their directory's
/// descriptor, which must stay open until the call is made.
fn address(path: &OsStr) -> Result<(UnixAddr, Option<OwnedFd>)> {
    let whole = || format!("connect({})", text(path));
    if let Ok(address) = UnixAddr::new(path) {
        return Ok((address, None));
    }
    let path = Path::new(path);
    let leaf = path.file_name().ok_or_else(|| CallError::new(whole(), Errno::EINVAL))?;
    let parent = fd::open_dir_path(path.parent().unwrap_or(Path::new("/")))?;
    let mut short = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    short.extend(leaf.as_bytes());
    let address = UnixAddr::new(OsStr::from_bytes(&short)).call(whole)?;
    Ok((address, Some(parent)))
}

/// Connects to the socket at a path of the host; connect(2). ECONNREFUSED where nobody listens, EPROTOTYPE where it is of another kind.
pub fn connect(kind: Kind, path: impl AsRef<OsStr>) -> Result<OwnedFd> {
    connect_socket(socket(kind)?, path.as_ref())
}

/// As [`connect`], but a listener that does not accept is EAGAIN after a time, as is a later sending that makes no progress; unix(7),
/// SO_SNDTIMEO.
pub fn connect_within(kind: Kind, path: impl AsRef<OsStr>, patience: Duration) -> Result<OwnedFd> {
    let socket = socket(kind)?;
    let seconds = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
    let time = nix::sys::time::TimeVal::new(seconds, patience.subsec_micros().into());
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SendTimeout, &time)
        .call(|| format!("setsockopt({}, SOL_SOCKET, SO_SNDTIMEO, {patience:?})", socket.as_raw_fd()))?;
    connect_socket(socket, path.as_ref())
}

fn connect_socket(socket: OwnedFd, path: &OsStr) -> Result<OwnedFd> {
    let (address, _parent) = address(path)?;
    retry(|| nix::sys::socket::connect(socket.as_raw_fd(), &address))
        .call(|| format!("connect({}, {{AF_UNIX, {}}})", socket.as_raw_fd(), text(path)))?;
    Ok(socket)
}

/// Makes a socket at a path of the host that does not exist yet; bind(2), and listen(2) unless it is a datagram socket.
pub fn bind(kind: Kind, path: impl AsRef<OsStr>) -> Result<OwnedFd> {
    let path = path.as_ref();
    let socket = socket(kind)?;
    let (address, _parent) = address(path)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &address)
        .call(|| format!("bind({}, {{AF_UNIX, {}}})", socket.as_raw_fd(), text(path)))?;
    if kind != Kind::Datagram {
        nix::sys::socket::listen(&socket, Backlog::MAXCONN).call(|| format!("listen({})", call::fd(&socket)))?;
    }
    Ok(socket)
}

/// accept4(2)
pub fn accept(listener: impl AsFd) -> Result<OwnedFd> {
    let raw = listener.as_fd().as_raw_fd();
    let new = retry(|| nix::sys::socket::accept4(raw, SockFlag::SOCK_CLOEXEC))
        .call(|| format!("accept4({}, SOCK_CLOEXEC)", call::raw_fd(raw)))?;
    // SAFETY: the kernel just gave us this new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(new) })
}

/// Sends one datagram to the socket at a path of the host (`@name`: in the abstract namespace), for sd_notify(3) and journald. Never
/// waits: EAGAIN where the receiver's queue is full.
pub fn send_datagram(path: impl AsRef<OsStr>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let socket = socket(Kind::Datagram)?;
    let (address, _parent) = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => (UnixAddr::new_abstract(name).call(|| format!("sendto({})", text(path)))?, None),
        None => address(path)?,
    };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    retry(|| nix::sys::socket::sendto(socket.as_raw_fd(), bytes, &address, flags))
        .call(|| format!("sendto({}, {} bytes, {{AF_UNIX, {}}})", socket.as_raw_fd(), bytes.len(), text(path)))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::fd::tests::Scratch;

    #[test]
    fn messages_with_descriptors() {
        let (one, two) = pair(Kind::SeqPacket).unwrap();
        let null = fd::open("/dev/null", fd::OFlag::O_RDONLY).unwrap();
        let zero = fd::open("/dev/zero", fd::OFlag::O_RDONLY).unwrap();
        send(&one, b"hello", &[null.as_fd(), zero.as_fd()]).unwrap();
        send(&one, b"plain", &[]).unwrap();
        let mut buffer = [0; 64];
        let first = receive(&two, &mut buffer).unwrap();
        assert_eq!((&buffer[..first.length], first.fds.len()), (&b"hello"[..], 2));
        assert!(fd::stat(&first.fds[1]).unwrap().is_char_device(1, 5));
        let flags = nix::fcntl::fcntl(&first.fds[0], nix::fcntl::FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags, libc::FD_CLOEXEC);
        let second = receive(&two, &mut buffer).unwrap();
        assert_eq!((&buffer[..second.length], second.fds.len()), (&b"plain"[..], 0));
        assert!(!peer_closed(&two).unwrap());
        drop(one);
        assert!(peer_closed(&two).unwrap());
        assert_eq!(receive(&two, &mut buffer).unwrap().length, 0);
        assert_eq!(send(&two, b"x", &[]).unwrap_err().errno, Errno::EPIPE);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let (one, two) = pair(Kind::SeqPacket).unwrap();
        send(&one, b"too long", &[]).unwrap();
        assert_eq!(receive(&two, &mut [0; 4]).unwrap_err().errno, Errno::EMSGSIZE);
        let null = fd::open("/dev/null", fd::OFlag::O_RDONLY).unwrap();
        send(&one, b"x", &[null.as_fd(); MOST_FDS]).unwrap();
        assert_eq!(receive(&two, &mut [0; 4]).unwrap().fds.len(), MOST_FDS);
        assert_eq!(send(&one, b"x", &[null.as_fd(); MOST_FDS + 1]).unwrap_err().errno, Errno::EINVAL);
        assert_eq!(send(&one, &vec![0; 4 << 20], &[]).unwrap_err().errno, Errno::EMSGSIZE);
    }

    #[test]
    fn long_streams_arrive_whole() {
        let (one, two) = pair(Kind::Stream).unwrap();
        let bytes: Vec<u8> = (0..2_000_000u32).map(|n| n as u8).collect();
        let sent = bytes.clone();
        let sender = std::thread::spawn(move || send(&one, &sent, &[]).unwrap());
        assert_eq!(fd::read_bounded(&two, bytes.len()).unwrap(), bytes);
        sender.join().unwrap();
    }

    #[test]
    fn sockets_at_long_paths() {
        let scratch = Scratch::new();
        let long = scratch.path().join("d".repeat(100)).join("e".repeat(100));
        std::fs::create_dir_all(&long).unwrap();
        let path = long.join("console.sock");
        let listener = bind(Kind::Stream, &path).unwrap();
        let client = connect(Kind::Stream, &path).unwrap();
        let server = accept(&listener).unwrap();
        send(&client, b"hi", &[]).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(receive(&server, &mut buffer).unwrap().length, 2);
        assert_eq!(connect(Kind::SeqPacket, &path).unwrap_err().errno, Errno::EPROTOTYPE);
        let error = connect(Kind::Stream, long.join("none")).unwrap_err();
        assert!(error.errno == Errno::ENOENT && error.call.contains("AF_UNIX"), "{error}");
        std::fs::write(long.join("file"), "").unwrap();
        assert_eq!(connect(Kind::Stream, long.join("file")).unwrap_err().errno, Errno::ECONNREFUSED);
        assert_eq!(connect(Kind::Stream, long.join("x".repeat(120))).unwrap_err().errno, Errno::ENAMETOOLONG);
        assert_eq!(bind(Kind::Stream, &path).unwrap_err().errno, Errno::EADDRINUSE);
    }

    #[test]
    fn datagrams() {
        let scratch = Scratch::new();
        let path = scratch.path().join("notify");
        let socket = bind(Kind::Datagram, &path).unwrap();
        send_datagram(&path, b"READY=1").unwrap();
        let mut buffer = [0; 64];
        let length = receive(&socket, &mut buffer).unwrap().length;
        assert_eq!(&buffer[..length], b"READY=1");
        assert_eq!(send_datagram("@berth-nobody-listens", b"x").unwrap_err().errno, Errno::ECONNREFUSED);
    }
}
