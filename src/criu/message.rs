// SPDX-License-Identifier: Apache-2.0
//! The messages of CRIU's RPC (images/rpc.proto of CRIU; criu.org, "RPC"): requests as they are sent, answers as they come.

use std::os::fd::RawFd;

use super::wire::{Value, Writer, read};
use crate::plan::criu::{Options, Version};

/// What is asked for: `criu_req_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Dump processes.
    Dump = 1,
    /// Restore them.
    Restore = 2,
    /// Dump their memory, and let them go on.
    PreDump = 4,
    /// An event of a dump or restore, and its answer.
    Notify = 6,
    /// What version this is.
    Version = 10,
}

/// Descriptors of ours that the options mean; CRIU opens the directories through /proc, and has inherited the others.
#[derive(Clone, Debug, Default)]
pub struct Descriptors {
    /// The directory of the images.
    pub images: RawFd,
    /// The directory of the logs.
    pub work: Option<RawFd>,
    /// What the restored process gets in place of something outside: its name and the descriptor.
    pub inherit: Vec<(String, RawFd)>,
}

/// How much CRIU writes to its log: everything, as whoever looks for the reason of a failure needs it.
const LOG_LEVEL: u64 = 4;

/// A request without options.
pub fn request(kind: Kind, keep_open: bool) -> Writer {
    let mut message = Writer::default();
    message.number(1, kind as u64);
    message.switch(4, keep_open);
    message
}

/// The answer to an event.
pub fn answer(success: bool) -> Writer {
    let mut message = request(Kind::Notify, false);
    message.number(3, u64::from(success));
    message
}

/// A dump or restore.
pub fn task(kind: Kind, options: &Options, descriptors: &Descriptors) -> Writer {
    let mut message = request(kind, false);
    message.message(2, &opts(options, descriptors));
    message
}

/// `criu_opts`
fn opts(options: &Options, descriptors: &Descriptors) -> Writer {
    let mut out = Writer::default();
    out.number(1, descriptors.images as u64);
    if let Some(pid) = options.pid {
        out.number(2, pid as u64);
    }
    if let Some(work) = descriptors.work {
        out.number(17, work as u64);
    }
    let switches = [
        (3, options.leave_running),
        (4, options.ext_unix_sk),
        (5, options.tcp_established),
        (6, options.evasive_devices),
        (7, options.shell_job),
        (8, options.file_locks),
        (12, true), // notify_scripts
        (15, options.track_mem),
        (16, options.auto_dedup),
        (18, options.link_remap),
        (24, true), // manage_cgroups
        (26, options.rst_sibling),
        (30, options.ext_masters),
        (46, options.tcp_skip_in_flight),
        (48, options.lazy_pages),
        (50, options.orphan_pts_master),
        (52, options.tcp_close),
    ];
    switches.into_iter().for_each(|(field, on)| out.switch(field, on));
    out.number(9, LOG_LEVEL);
    out.text(10, &options.log_file);
    out.text(13, &options.root);
    let texts = [
        (14, &options.parent_img),
        (44, &options.freeze_cgroup),
        (51, &options.config_file),
        (53, &options.lsm_profile),
        (63, &options.lsm_mount_context),
    ];
    texts.into_iter().for_each(|(field, text)| text.iter().for_each(|text| out.text(field, text)));
    lists(options, descriptors, &mut out);
    numbers(options, &mut out);
    out
}

fn lists(options: &Options, descriptors: &Descriptors, out: &mut Writer) {
    let pair = |first: &str, second: &str| {
        let mut inner = Writer::default();
        inner.text(1, first);
        inner.text(2, second);
        inner
    };
    options.ext_mnt.iter().for_each(|(key, value)| out.message(23, &pair(key, value)));
    options.external.iter().for_each(|name| out.text(37, name));
    options.join_ns.iter().for_each(|(kind, path)| out.message(39, &pair(kind, path)));
    for (key, fd) in &descriptors.inherit {
        let mut inner = Writer::default();
        inner.text(1, key);
        inner.number(2, *fd as u64);
        out.message(27, &inner);
    }
    if let Some(path) = &options.cg_root {
        let mut inner = Writer::default();
        inner.text(2, path);
        out.message(25, &inner);
    }
    if let Some((address, port)) = &options.page_server {
        let mut inner = Writer::default();
        inner.text(1, address);
        inner.number(2, u64::from(*port));
        out.message(11, &inner);
    }
}

fn numbers(options: &Options, out: &mut Writer) {
    if let Some(mode) = options.cgroups {
        out.number(34, mode.number());
    }
    if !options.empty_ns.is_empty() {
        out.number(38, options.empty_ns.bits());
    }
    if let Some(fd) = options.status_fd {
        out.number(49, fd as u64);
    }
    if let Some(lock) = options.network_lock {
        out.number(64, lock.number());
    }
}

/// What came from CRIU: `criu_resp`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// `criu_req_type`
    pub kind: u64,
    /// It was done.
    pub success: bool,
    /// An event, and the process that it is about, in CRIU's pid namespace.
    pub event: Option<(String, i32)>,
    /// The restored process.
    pub restored: Option<i32>,
    /// Why not.
    pub errno: i32,
    /// Why not, in words.
    pub message: String,
    /// CRIU's version.
    pub version: Option<Version>,
}

/// Reads a response; none where it is none.
pub fn response(bytes: &[u8]) -> Option<Response> {
    let mut response = Response::default();
    for (field, value) in read(bytes)? {
        match (field, value) {
            (1, Value::Number(kind)) => response.kind = kind,
            (2, Value::Number(done)) => response.success = done != 0,
            (4, Value::Block(inner)) => response.restored = Some(number(inner, 1)?),
            (5, Value::Block(inner)) => response.event = Some((text(inner, 1)?, number(inner, 2).unwrap_or(0))),
            (7, Value::Number(errno)) => response.errno = errno as i32,
            (9, Value::Block(text)) => response.message = String::from_utf8_lossy(text).into_owned(),
            (10, Value::Block(inner)) => response.version = Some(version(inner)?),
            _ => {}
        }
    }
    Some(response)
}

/// A field of an inner message: an int32, of which only the low half counts.
fn number(bytes: &[u8], wanted: u32) -> Option<i32> {
    let found = |(field, value): (u32, Value<'_>)| match value {
        Value::Number(number) if field == wanted => Some(number as i32),
        _ => None,
    };
    read(bytes)?.into_iter().find_map(found)
}

fn text(bytes: &[u8], wanted: u32) -> Option<String> {
    let found = |(field, value): (u32, Value<'_>)| match value {
        Value::Block(text) if field == wanted => Some(String::from_utf8_lossy(text).into_owned()),
        _ => None,
    };
    read(bytes)?.into_iter().find_map(found)
}

/// `criu_version`. One built from git between two releases counts as the next.
fn version(bytes: &[u8]) -> Option<Version> {
    let part = |field| number(bytes, field).and_then(|part| u32::try_from(part).ok());
    let (major, minor) = (part(1)?, part(2)?);
    let minor = minor.checked_add(u32::from(text(bytes, 3).is_some_and(|id| !id.is_empty() && id != "0")))?;
    let sublevel = part(4).unwrap_or(0);
    major.checked_mul(10000)?.checked_add(minor.checked_mul(100)?)?.checked_add(sublevel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::checkpoint::CgroupMode;

    #[test]
    fn options_have_the_numbers_of_rpc_proto() {
        let options = Options {
            pid: Some(7),
            root: "/r".into(),
            log_file: "dump.log".into(),
            shell_job: true,
            cgroups: Some(CgroupMode::Soft),
            page_server: Some(("::1".into(), 27)),
            ..Options::default()
        };
        let descriptors = Descriptors { images: 5, work: Some(6), inherit: vec![("pipe:[1]".into(), 1)] };
        let message = task(Kind::Dump, &options, &descriptors);
        let outer = read(message.bytes()).unwrap();
        assert_eq!(outer[0], (1, Value::Number(1)));
        let Value::Block(inner) = outer[1].1 else { panic!("{outer:?}") };
        let fields = read(inner).unwrap();
        for wanted in [
            (1, Value::Number(5)),
            (2, Value::Number(7)),
            (17, Value::Number(6)),
            (7, Value::Number(1)),
            (10, Value::Block(b"dump.log")),
            (13, Value::Block(b"/r")),
            (27, Value::Block(b"\x0a\x08pipe:[1]\x10\x01")),
            (11, Value::Block(b"\x0a\x03::1\x10\x1b")),
            (34, Value::Number(3)),
        ] {
            assert!(fields.contains(&wanted), "{wanted:?} in {fields:?}");
        }
        assert!(!fields.iter().any(|(field, _)| [3, 26, 44].contains(field)), "{fields:?}");
    }

    #[test]
    fn answers_are_read() {
        let event = response(b"\x08\x06\x10\x01\x2a\x10\x0a\x0cpost-restore\x10\x2a").unwrap();
        assert_eq!(event.event, Some(("post-restore".to_string(), 42)));
        let version = response(b"\x08\x0a\x10\x01\x52\x06\x08\x04\x10\x02\x20\x01").unwrap();
        assert_eq!((version.version, version.success), (Some(40201), true));
        let failed = response(b"\x08\x01\x10\x00\x38\x16\x4a\x02no").unwrap();
        assert_eq!((failed.success, failed.errno, failed.message.as_str()), (false, 22, "no"));
        assert_eq!(response(b"\x22\x00"), None);
        assert_eq!(response(b"\x0c"), None);
    }
}
