// SPDX-License-Identifier: Apache-2.0
//! What the runtime and the container's process say to each other, over one SOCK_SEQPACKET socket pair: one message per packet.
//! The runtime's side is [`crate::process::spawn`], the other one [`crate::process::init`].
//!
//! ```text
//!  runtime (plan.parent)                    container's process (plan.child)
//!  ─────────────────────                    ────────────────────────────────
//!  Clone            clone3(2) ────────────►
//!                   ◄──────────── Cloned    TwoClones only: the first process, of the one that it cloned
//!  OomScoreAdj, WriteIdMaps, MoveNetDevice  AwaitRuntime: waits
//!  ReleaseChild     Proceed ──────────────►
//!                                           … mounts …
//!   (copies a tree   ◄─────────── AskTree   where the kernel refuses a copy (process::sources): waits
//!    once more)     Tree + tree ──────────►
//!                                           … mounts …
//!  RuntimeHooks:    ◄────────── AskHooks    AskForRuntimeHooks: waits
//!    runs them      HooksDone ────────────►
//!                                           createContainer hooks, pivot_root(2), …
//!                   ◄── Console + master    Console, where no console socket takes it
//!                                           … identity, program …
//!  AwaitReady:      ◄───────────── Ready    Ready: dies with the runtime no more; waits
//!  SaveCreated, PidFile, SendPidfd
//!  ReleaseReady     Continue ─────────────►
//!   create: ends                            AwaitStart: waits at the start gate (process::gate)
//!   run: AwaitExec                          startContainer hooks, seccomp, execve(2)
//!                   ◄── end of file         the socket is close-on-exec: the program runs
//! ```
//!
//! Where step times are asked for, `Times` goes before `Ready`, before the seccomp filter or execve(2), and before `Failed`; nobody
//! waits for it. From the filter on there are none: a filter need not allow what would tell them.
//!
//! Instead of any message the container's process may send `Failed` (twice, when it has more to say), and exits. Either side's death is
//! an end of file for the other, because nobody else holds a copy of its end; nothing waits for the dead.
//!
//! Encoding: one byte of tag, then the fields in order; integers little endian, text as a u32 length and UTF-8, what may be absent
//! after a byte 0 or 1. A message that is cut, too long, or has something after its end is refused: both ends are this binary, but the
//! sender of `Failed` may hold text that an image chose.

use std::cell::RefCell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::error::{Code, Error, Kind, Side, readable};
use crate::linux::call::{self, CallError};
use crate::linux::socket;
use crate::linux::types::Errno;
use crate::trace::{Span, Times};

/// Longest message in bytes, well below the kernel's limit for a packet.
pub const MAX_MESSAGE: usize = 32 * 1024;
/// Longest text of a failure in bytes; longer ones are cut.
const MAX_TEXT: usize = 9 * 1024;

/// From the container's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToParent {
    /// The first of two processes has cloned the container's process, which is the runtime's child.
    Cloned {
        /// Its pid, as the runtime sees it.
        pid: u32,
    },
    /// Time for the hooks that the runtime runs.
    AskHooks,
    /// The host's tree that a step attaches has mount namespaces in it: it waits for a copy without them.
    AskTree {
        /// Which of its steps.
        step: u32,
    },
    /// The master of the container's terminal is with this message.
    Console,
    /// All is done that can be done before the start.
    Ready,
    /// When each step so far began; only where that was asked (`--debug`, `--trace`).
    Times(Times),
    /// It cannot go on. It has the same plan, so that the error says by itself which step of how many this was.
    Failed(Error),
}

/// From the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToChild {
    /// Id maps and devices are there.
    Proceed,
    /// The hooks have run.
    HooksDone,
    /// The tree that it asked for is with this message.
    Tree,
    /// The container is on record: go on to the start gate, or to the program.
    Continue {
        /// The process's own pid, as the runtime sees it.
        pid: u32,
    },
}

const KINDS: [Kind; 11] = [
    Kind::Config,
    Kind::Usage,
    Kind::NotFound,
    Kind::Exists,
    Kind::Status,
    Kind::Kernel,
    Kind::Unsupported,
    Kind::Program,
    Kind::Hook,
    Kind::State,
    Kind::Peer,
];

/// Instead of the number of a code.
const NO_CAUSE: u8 = u8::MAX;

/// A message type: how it becomes bytes and back.
pub trait Message: Sized {
    /// The most bytes of one.
    const MOST: usize;
    /// As bytes, at least one.
    fn encode(&self) -> Vec<u8>;
    /// From bytes; none where they are not such a message and nothing else.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

impl Message for ToParent {
    const MOST: usize = MAX_MESSAGE;

    fn encode(&self) -> Vec<u8> {
        match self {
            ToParent::Cloned { pid } => tagged(1, *pid),
            ToParent::AskHooks => vec![2],
            ToParent::AskTree { step } => tagged(7, *step),
            ToParent::Console => vec![3],
            ToParent::Ready => vec![4],
            ToParent::Times(times) => {
                let mut out = vec![6];
                out.extend(times.encode());
                out
            }
            ToParent::Failed(error) => {
                let mut out = vec![5];
                out.extend(error.encode());
                out
            }
        }
    }

    fn decode(bytes: &[u8]) -> Option<ToParent> {
        match bytes {
            [1, rest @ ..] => Some(ToParent::Cloned { pid: u32::from_le_bytes(rest.try_into().ok()?) }),
            [2] => Some(ToParent::AskHooks),
            [7, rest @ ..] => Some(ToParent::AskTree { step: u32::from_le_bytes(rest.try_into().ok()?) }),
            [3] => Some(ToParent::Console),
            [4] => Some(ToParent::Ready),
            [6, rest @ ..] => Some(ToParent::Times(Times::decode(rest)?)),
            [5, rest @ ..] => Some(ToParent::Failed(Error::decode(rest)?)),
            _ => None,
        }
    }
}

impl Message for ToChild {
    // A process that waits at the start gate keeps what it has touched.
    const MOST: usize = 8;

    fn encode(&self) -> Vec<u8> {
        match self {
            ToChild::Proceed => vec![1],
            ToChild::HooksDone => vec![2],
            ToChild::Continue { pid } => tagged(3, *pid),
            ToChild::Tree => vec![4],
        }
    }

    fn decode(bytes: &[u8]) -> Option<ToChild> {
        match bytes {
            [1] => Some(ToChild::Proceed),
            [2] => Some(ToChild::HooksDone),
            [3, rest @ ..] => Some(ToChild::Continue { pid: u32::from_le_bytes(rest.try_into().ok()?) }),
            [4] => Some(ToChild::Tree),
            _ => None,
        }
    }
}

impl Message for Error {
    const MOST: usize = MAX_MESSAGE;

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![KINDS.iter().position(|kind| *kind == self.kind).unwrap_or(0) as u8];
        out.push(self.cause.map_or(NO_CAUSE, Code::number));
        put_text(&mut out, &self.what);
        put_optional(&mut out, self.config.as_deref());
        let (number, total) = self.step.unwrap_or_default();
        out.extend(number.to_le_bytes());
        out.extend(total.to_le_bytes());
        put_optional(&mut out, self.call.as_deref());
        out.extend(self.errno.map_or(0, |errno| errno as i32).to_le_bytes());
        put_optional(&mut out, self.hint.as_deref());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Error> {
        let mut from = Reader(bytes);
        let error = Error {
            kind: *KINDS.get(usize::from(from.byte()?))?,
            cause: match from.byte()? {
                NO_CAUSE => None,
                number => Some(Code::from_number(number)?),
            },
            what: from.text()?,
            config: from.optional()?,
            step: Some((from.number()?, from.number()?)).filter(|step| *step != (0, 0)),
            // Only the process writes these, and knows only its own steps.
            side: Side::Process,
            call: from.optional()?,
            errno: Some(Errno::from_raw(from.number()? as i32)).filter(|errno| *errno != Errno::UnknownErrno),
            hint: from.optional()?,
        };
        from.0.is_empty().then_some(error)
    }
}

impl Message for Times {
    const MOST: usize = MAX_MESSAGE;

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![u8::from(self.closed)];
        let fit = self.marks.len().min(MAX_MESSAGE / 16);
        out.extend((fit as u32).to_le_bytes());
        out.extend(self.marks[..fit].iter().flat_map(|mark| mark.to_le_bytes()));
        for span in &self.spans {
            let before = out.len();
            out.extend(span.begin.to_le_bytes());
            out.extend(span.end.to_le_bytes());
            put_text(&mut out, &span.name);
            put_text(&mut out, &span.at);
            // What does not fit is not shown.
            if out.len() >= MAX_MESSAGE {
                out.truncate(before);
                break;
            }
        }
        out
    }

    fn decode(bytes: &[u8]) -> Option<Times> {
        let mut from = Reader(bytes);
        let mut times = Times { closed: from.byte()? == 1, ..Times::default() };
        for _ in 0..from.number()? {
            times.marks.push(from.long()?);
        }
        while !from.0.is_empty() {
            times.spans.push(Span { begin: from.long()?, end: from.long()?, name: from.text()?, at: from.text()? });
        }
        Some(times)
    }
}

fn tagged(tag: u8, number: u32) -> Vec<u8> {
    let mut out = vec![tag];
    out.extend(number.to_le_bytes());
    out
}

/// The text; where it is too long, with its long words cut short, and at last cut itself, at a character's boundary.
fn put_text(out: &mut Vec<u8>, text: &str) {
    let shorter = if text.len() > MAX_TEXT { readable(text, true) } else { String::new() };
    let text = if shorter.is_empty() { text } else { &shorter };
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.extend((end as u32).to_le_bytes());
    out.extend(&text.as_bytes()[..end]);
}

fn put_optional(out: &mut Vec<u8>, text: Option<&str>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        put_text(out, text);
    }
}

/// What is left of a message.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    fn long(&mut self) -> Option<u64> {
        let (first, rest) = self.0.split_first_chunk::<8>()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*first))
    }

    fn text(&mut self) -> Option<String> {
        let length = usize::try_from(self.number()?).ok().filter(|length| *length <= MAX_TEXT)?;
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        String::from_utf8(first.to_vec()).ok()
    }

    fn optional(&mut self) -> Option<Option<String>> {
        match self.byte()? {
            0 => Some(None),
            1 => Some(Some(self.text()?)),
            _ => None,
        }
    }
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
    /// Where messages are received: made once, because memory that was used before is zeroed by touching all of it.
    room: RefCell<Vec<u8>>,
}

/// A message, and the descriptor that came with it.
pub type Delivery<M> = (M, Option<OwnedFd>);

impl Channel {
    fn of(socket: OwnedFd) -> Channel {
        Channel { socket, room: RefCell::default() }
    }

    /// Two ends.
    pub fn pair() -> call::Result<(Channel, Channel)> {
        let (one, two) = socket::pair(socket::Kind::SeqPacket)?;
        Ok((Channel::of(one), Channel::of(two)))
    }

    /// Sends one message, with a descriptor where there is one. EPIPE where the other end is gone.
    pub fn send(&self, message: &impl Message, fd: Option<BorrowedFd<'_>>) -> call::Result<()> {
        socket::send(&self.socket, &message.encode(), fd.as_slice())
    }

    /// The next message; waits for it. None where the other end is gone and has left no more; EBADMSG where it is no message.
    pub fn receive<M: Message>(&self) -> call::Result<Option<Delivery<M>>> {
        let mut room = self.room.borrow_mut();
        if room.len() < M::MOST {
            *room = vec![0; M::MOST];
        }
        let buffer = &mut room[..M::MOST];
        let received = match socket::receive(&self.socket, buffer) {
            // Said once, before what is left to read, when the other end went without reading all that we sent.
            Err(error) if error.errno == Errno::ECONNRESET => socket::receive(&self.socket, buffer)?,
            other => other?,
        };
        if received.length == 0 {
            return Ok(None);
        }
        let refused = || CallError::new(format!("recvmsg(): {} bytes that are no message", received.length), Errno::EBADMSG);
        let message = M::decode(&buffer[..received.length]).ok_or_else(refused)?;
        Ok(Some((message, received.fds.into_iter().next())))
    }

    /// Whether the other end is gone and has left nothing to read.
    pub fn closed(&self) -> call::Result<bool> {
        socket::peer_closed(&self.socket)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::linux::fd;

    fn failure() -> Error {
        Error::new(Kind::Program, "exec: \"x\": no").call("execve(\"x\")", Errno::ENOENT).step(2, 9).hint("é")
    }

    fn kind() -> impl Strategy<Value = Kind> {
        (0..KINDS.len()).prop_map(|index| KINDS[index])
    }

    #[test]
    fn every_kind_has_a_number() {
        // A kind that is missing from the table would travel as the first one.
        let codes: std::collections::HashSet<_> = KINDS.iter().map(|kind| Error::new(*kind, "").code()).collect();
        assert_eq!(codes.len(), KINDS.len());
        for kind in KINDS {
            let sent = Error { kind, ..failure() };
            assert_eq!(Error::decode(&sent.encode()), Some(sent));
        }
        for entry in crate::error::codes::CODES.iter().map(|code| code.entry()) {
            let sent = failure().cause(entry.code);
            assert_eq!(Error::decode(&sent.encode()), Some(sent));
        }
    }

    proptest! {
        #[test]
        fn failures_survive_the_journey(
            step in proptest::option::of((1..100u32, 1..100u32)), kind in kind(), what in ".{0,200}", config in proptest::option::of(".{0,20}"),
            call in proptest::option::of(".{0,20}"), errno in proptest::option::of(1..=40i32), hint in proptest::option::of(".{0,20}"),
        ) {
            let sent = ToParent::Failed(Error { step, kind, what, config, call, errno: errno.map(Errno::from_raw), hint, ..failure() });
            prop_assert_eq!(ToParent::decode(&sent.encode()), Some(sent));
        }

        #[test]
        fn times_survive_the_journey(marks: Vec<u64>, closed: bool, begin: u64, name in ".{0,200}") {
            let spans = vec![Span { begin, name, ..Span::default() }; 3];
            let sent = ToParent::Times(Times { marks, closed, spans });
            prop_assert_eq!(ToParent::decode(&sent.encode()), Some(sent));
        }

        #[test]
        fn hostile_bytes_are_refused_or_read(bytes: Vec<u8>) {
            for tag in 0..8 {
                let mut message = vec![tag];
                message.extend(&bytes);
                if let Some(read) = ToParent::decode(&message) {
                    prop_assert_eq!(ToParent::decode(&read.encode()), Some(read));
                }
                let _ = ToChild::decode(&message);
            }
        }
    }

    #[test]
    fn a_message_cut_or_lengthened_anywhere_is_refused() {
        let whole = ToParent::Failed(failure()).encode();
        for end in 0..whole.len() {
            assert_eq!(ToParent::decode(&whole[..end]), None, "{end} bytes of {}", whole.len());
        }
        let mut longer = whole;
        longer.push(0);
        assert_eq!(ToParent::decode(&longer), None);
        // A length far beyond the end must not be believed.
        assert_eq!(Error::decode(&[5, 0xff, 0xff, 0xff, 0xff]), None);
        for message in [ToChild::Proceed, ToChild::HooksDone, ToChild::Continue { pid: 7 }] {
            assert_eq!(ToChild::decode(&message.encode()), Some(message));
        }
        assert_eq!(ToChild::decode(&[3, 0]), None);
    }

    #[test]
    fn times_of_very_many_steps_are_cut_and_still_fit() {
        let spans = vec![Span { name: "x".repeat(2000), ..Span::default() }; 100];
        let sent = ToParent::Times(Times { marks: vec![7; 100_000], closed: true, spans });
        let bytes = sent.encode();
        assert!(bytes.len() < MAX_MESSAGE, "{}", bytes.len());
        let Some(ToParent::Times(got)) = ToParent::decode(&bytes) else { panic!("refused") };
        assert!(got.marks.len() > 1000 && got.spans.len() > 5, "{} and {}", got.marks.len(), got.spans.len());
    }

    #[test]
    fn long_texts_are_cut_and_still_fit() {
        let long = "é ".repeat(MAX_TEXT);
        let sent = Error { what: long.clone(), call: Some(long.clone()), hint: Some(long), ..failure() };
        let bytes = ToParent::Failed(sent).encode();
        assert!(bytes.len() < MAX_MESSAGE, "{}", bytes.len());
        let Some(ToParent::Failed(got)) = ToParent::decode(&bytes) else { panic!("refused") };
        assert!(got.what.len() > 1000 && got.what.ends_with('…'), "{}", got.what.len());
    }

    #[test]
    fn messages_arrive_with_descriptors_and_end_with_the_peer() {
        let (here, there) = Channel::pair().unwrap();
        let null = fd::open("/dev/null", fd::OFlag::O_RDONLY).unwrap();
        there.send(&ToParent::Console, Some(null.as_fd())).unwrap();
        there.send(&ToParent::Ready, None).unwrap();
        let (message, with) = here.receive::<ToParent>().unwrap().unwrap();
        assert_eq!(message, ToParent::Console);
        assert!(fd::stat(with.unwrap()).unwrap().is_char_device(1, 3));
        // The other end goes without reading this: what it said before is still heard.
        here.send(&ToChild::Proceed, None).unwrap();
        drop(there);
        assert_eq!(here.receive::<ToParent>().unwrap().map(|(message, _)| message), Some(ToParent::Ready));
        assert!(here.receive::<ToParent>().unwrap().is_none());
        assert!(here.closed().unwrap());
        assert_eq!(here.send(&ToChild::Proceed, None).unwrap_err().errno, Errno::EPIPE);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        let (here, there) = Channel::pair().unwrap();
        socket::send(&there, b"nonsense", &[]).unwrap();
        assert_eq!(here.receive::<ToParent>().unwrap_err().errno, Errno::EBADMSG);
    }
}
