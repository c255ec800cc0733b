// SPDX-License-Identifier: Apache-2.0
//! New filesystem instances: fsopen(2), fsconfig(2), fsmount(2), fspick(2), Linux 5.2. Used by `rootfs` and [`crate::linux::proc`].

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::linux::call::{self, Call, CallError, Result, retry, syscall};

/// Commands of fsconfig(2).
const SET_FLAG: u32 = 0;
const SET_STRING: u32 = 1;
const CMD_CREATE: u32 = 6;
const CMD_RECONFIGURE: u32 = 7;

/// A new instance of `fstype` with these parameters (`None`: a flag without a value), as a detached mount with the `MOUNT_ATTR_*` bits
/// `attr`. It is nowhere until [`super::move_mount`], and gone when the descriptor is closed before. On failure the kernel's own words
/// follow the call: `fsconfig(4, FSCONFIG_SET_STRING, "mode", "9z"): tmpfs: Bad value for 'mode'`.
///
/// The kernel takes values of at most 255 bytes here (EINVAL); [`super::mount_classic`] takes longer ones.
pub fn new_mount<'a>(
    fstype: &str,
    parameters: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    attr: u64,
) -> Result<OwnedFd> {
    new_mount_and_context(fstype, parameters, attr).map(|(mount, _)| mount)
}

/// As [`new_mount`], with what it was made of, which is of no more use: for who closes many descriptors at once.
pub fn new_mount_and_context<'a>(
    fstype: &str,
    parameters: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
    attr: u64,
) -> Result<(OwnedFd, OwnedFd)> {
    let context = fsopen(fstype)?;
    for (key, value) in parameters {
        fsconfig(&context, if value.is_some() { SET_STRING } else { SET_FLAG }, key, value)?;
    }
    fsconfig(&context, CMD_CREATE, "", None)?;
    Ok((fsmount(&context, attr)?, context))
}

/// Changes parameters of the filesystem under a mount (all its mounts see it), as `mount -o remount` does for what is not a mount
/// attribute: fspick(2) and FSCONFIG_CMD_RECONFIGURE.
pub fn reconfigure<'a>(mount: impl AsFd, parameters: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Result<()> {
    const FSPICK_CLOEXEC: u32 = 1;
    const FSPICK_EMPTY_PATH: u32 = 8;
    let fd = mount.as_fd().as_raw_fd();
    // SAFETY: the path is a NUL-terminated constant.
    let context = unsafe { syscall!(libc::SYS_fspick, fd, c"".as_ptr(), FSPICK_CLOEXEC | FSPICK_EMPTY_PATH) }
        .call(|| format!("fspick({}, \"\", FSPICK_CLOEXEC|FSPICK_EMPTY_PATH)", call::raw_fd(fd)))?;
    // SAFETY: the kernel just gave us this new descriptor.
    let context = unsafe { OwnedFd::from_raw_fd(context as RawFd) };
    for (key, value) in parameters {
        fsconfig(&context, if value.is_some() { SET_STRING } else { SET_FLAG }, key, value)?;
    }
    fsconfig(&context, CMD_RECONFIGURE, "", None)
}

fn fsopen(fstype: &str) -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    let name = call::c_path(OsStr::new(fstype), "fsopen")?;
    // SAFETY: `name` ends with NUL.
    let fd = unsafe { syscall!(libc::SYS_fsopen, name.as_ptr(), FSOPEN_CLOEXEC) }
        .call(|| format!("fsopen({fstype:?}, FSOPEN_CLOEXEC)"))?;
    // SAFETY: the kernel just gave us this new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn fsconfig(context: &OwnedFd, command: u32, key: &str, value: Option<&str>) -> Result<()> {
    let c_key = call::c_path(OsStr::new(key), "fsconfig")?;
    let c_value: Option<CString> = value.map(|value| call::c_path(OsStr::new(value), "fsconfig")).transpose()?;
    // The two commands take no key at all, not an empty one.
    let key_pointer = if command >= CMD_CREATE { std::ptr::null() } else { c_key.as_ptr() };
    let value_pointer = c_value.as_ref().map_or(std::ptr::null(), |value| value.as_ptr());
    let fd = context.as_raw_fd();
    // SAFETY: both strings end with NUL and live until the call returns.
    let done = retry(|| unsafe { syscall!(libc::SYS_fsconfig, fd, command, key_pointer, value_pointer, 0) });
    done.map(drop).map_err(|errno| {
        let call = match (command, value) {
            (SET_FLAG, _) => format!("FSCONFIG_SET_FLAG, {key:?}, NULL, 0"),
            (SET_STRING, value) => format!("FSCONFIG_SET_STRING, {key:?}, {}, 0", call::text(OsStr::new(value.unwrap_or("")))),
            (CMD_CREATE, _) => "FSCONFIG_CMD_CREATE, NULL, NULL, 0".into(),
            _ => "FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0".into(),
        };
        CallError::new(format!("fsconfig({fd}, {call}){}", kernel_says(context)), errno)
    })
}

fn fsmount(context: &OwnedFd, attr: u64) -> Result<OwnedFd> {
    const FSMOUNT_CLOEXEC: u32 = 1;
    let fd = context.as_raw_fd();
    // SAFETY: no pointer.
    let mount = unsafe { syscall!(libc::SYS_fsmount, fd, FSMOUNT_CLOEXEC, attr) }
        .call(|| format!("fsmount({fd}, FSMOUNT_CLOEXEC, {}){}", super::attr_names(attr), kernel_says(context)))?;
    // SAFETY: the kernel just gave us this new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(mount as RawFd) })
}

/// The messages that the kernel left in a filesystem context, one for each read(2) until ENODATA: `: message; message`, or nothing.
fn kernel_says(context: &OwnedFd) -> String {
    const MOST: usize = 8;
    let mut said = String::new();
    let mut buffer = [0; 512];
    for _ in 0..MOST {
        let Ok(length) = retry(|| nix::unistd::read(context, &mut buffer)) else { break };
        if length == 0 {
            break;
        }
        // "e " error, "w " warning, "i " information.
        let message = String::from_utf8_lossy(&buffer[..length]);
        let message = message.get(2..).unwrap_or(&message).trim();
        said.push_str(if said.is_empty() { ": " } else { "; " });
        said.extend(message.chars().flat_map(char::escape_debug));
    }
    said.replace("\\'", "'")
}
