// SPDX-License-Identifier: Apache-2.0
//! seccomp(2): loading a filter, and what this kernel supports. Used by `process` and by `features`.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::call::{self, Call, CallError, Result, syscall};
use super::types::{Errno, SockFilter};

const SECCOMP_SET_MODE_FILTER: u32 = 1;
const SECCOMP_GET_ACTION_AVAIL: u32 = 2;

/// `SECCOMP_FILTER_FLAG_*`
pub mod flag {
    /// All threads get the filter.
    pub const TSYNC: u64 = 1;
    /// Actions but ALLOW are logged.
    pub const LOG: u64 = 2;
    /// Without the mitigation of Speculative Store Bypass.
    pub const SPEC_ALLOW: u64 = 4;
    /// Returns a listener for SECCOMP_RET_USER_NOTIF.
    pub const NEW_LISTENER: u64 = 8;
    /// With TSYNC: ESRCH, not a thread id, where a thread cannot have it.
    pub const TSYNC_ESRCH: u64 = 16;
    /// A call that the listener has received can only be interrupted by fatal signals (Linux 5.19).
    pub const WAIT_KILLABLE_RECV: u64 = 32;
}

/// The names of filter flags as strace(1) shows them.
const FLAGS: [(u64, &str); 6] = [
    (flag::TSYNC, "SECCOMP_FILTER_FLAG_TSYNC"),
    (flag::LOG, "SECCOMP_FILTER_FLAG_LOG"),
    (flag::SPEC_ALLOW, "SECCOMP_FILTER_FLAG_SPEC_ALLOW"),
    (flag::NEW_LISTENER, "SECCOMP_FILTER_FLAG_NEW_LISTENER"),
    (flag::TSYNC_ESRCH, "SECCOMP_FILTER_FLAG_TSYNC_ESRCH"),
    (flag::WAIT_KILLABLE_RECV, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
];

/// struct sock_fprog
#[repr(C)]
struct Program {
    length: u16,
    filter: *const SockFilter,
}

/// Loads a filter over those already loaded; it can never be removed. With [`flag::NEW_LISTENER`] the listener comes back, close-on-exec.
/// Needs CAP_SYS_ADMIN or no_new_privs (EACCES).
pub fn load(filter: &[SockFilter], flags: u64) -> Result<Option<OwnedFd>> {
    let render = || format!("seccomp(SECCOMP_SET_MODE_FILTER, {}, {{len={}}})", call::flags(flags, &FLAGS), filter.len());
    let length = u16::try_from(filter.len()).map_err(|_| CallError::new(render(), Errno::EINVAL))?;
    let program = Program { length, filter: filter.as_ptr() };
    // SAFETY: `program` and the instructions it points to live until the call returns; `SockFilter` is struct sock_filter.
    let answer = unsafe { syscall!(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) }.call(render)?;
    if flags & flag::NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: with this flag the answer is a new descriptor.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(answer as RawFd) }))
}

/// `SECCOMP_USER_NOTIF_FLAG_CONTINUE`
const CONTINUE: u32 = 1;

/// struct seccomp_notif
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    /// The call's number.
    pub number: u32,
    /// `AUDIT_ARCH_*`
    pub arch: u32,
    instruction_pointer: u64,
    args: [u64; 6],
}

/// struct seccomp_notif_resp
#[repr(C)]
struct Response {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

mod ioctl {
    use super::{Notification, Response};
    nix::ioctl_readwrite!(receive, b'!', 0, Notification);
    nix::ioctl_readwrite!(send, b'!', 1, Response);
}

/// SECCOMP_IOCTL_NOTIF_RECV: the next call that waits for an answer, waiting for one. None where its task has gone meanwhile, or a signal
/// came.
pub fn receive(listener: &OwnedFd) -> Result<Option<Notification>> {
    // The kernel wants it to be all zeroes.
    let mut noted = Notification::default();
    // SAFETY: it lives until the call returns, and is as large as the number of the request says.
    match unsafe { ioctl::receive(listener.as_raw_fd(), &raw mut noted) } {
        Ok(_) => Ok(Some(noted)),
        Err(Errno::ENOENT | Errno::EINTR) => Ok(None),
        Err(errno) => Err(CallError::new(format!("ioctl({}, SECCOMP_IOCTL_NOTIF_RECV)", call::fd(listener)), errno)),
    }
}

/// SECCOMP_IOCTL_NOTIF_SEND: the call goes on as if it had not been told of. It may be gone by now.
pub fn let_pass(listener: &OwnedFd, noted: &Notification) -> Result<()> {
    let mut answer = Response { id: noted.id, value: 0, error: 0, flags: CONTINUE };
    // SAFETY: it lives until the call returns, and is as large as the number of the request says.
    match unsafe { ioctl::send(listener.as_raw_fd(), &raw mut answer) } {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(CallError::new(format!("ioctl({}, SECCOMP_IOCTL_NOTIF_SEND)", call::fd(listener)), errno)),
    }
}

/// Whether this kernel knows the action, one of `SECCOMP_RET_*`; SECCOMP_GET_ACTION_AVAIL.
pub fn has_action(action: u32) -> bool {
    // SAFETY: the value lives until the call returns.
    unsafe { syscall!(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &raw const action) }.is_ok()
}

/// Whether this kernel knows the flag: with no filter it then stumbles over that (EFAULT), not over the flag (EINVAL). Loads nothing.
pub fn has_flag(flag: u64) -> bool {
    // The last flag is only valid beside the one for a listener.
    let flags = if flag == flag::WAIT_KILLABLE_RECV { flag | flag::NEW_LISTENER } else { flag };
    // SAFETY: a null program is refused before anything is loaded.
    let answer = unsafe { syscall!(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, 0) };
    answer == Err(Errno::EFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::cred;
    use crate::linux::test_child::{in_child, is_root};

    const RET: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;

    fn insn(code: u16, jt: u8, jf: u8, k: u32) -> SockFilter {
        SockFilter { code, jt, jf, k }
    }

    /// Load the call's number; where it is `number`, return `verdict`; allow all else.
    fn only(number: i64, verdict: u32) -> [SockFilter; 4] {
        [insn(0x20, 0, 0, 0), insn(0x15, 0, 1, number as u32), insn(RET, 0, 0, verdict), insn(RET, 0, 0, ALLOW)]
    }

    #[test]
    fn a_filter_takes_effect() {
        in_child(|| {
            cred::set_no_new_privileges().unwrap();
            assert!(load(&only(libc::SYS_personality, ERRNO | 77), 0).unwrap().is_none());
            // SAFETY: no pointer; 0xffffffff only asks.
            assert_eq!(Errno::result(unsafe { libc::personality(0xffff_ffff) }), Err(Errno::from_raw(77)));
            let listener = load(&only(libc::SYS_personality, 0x7fc0_0000), flag::NEW_LISTENER).unwrap().unwrap();
            assert_eq!(nix::fcntl::fcntl(&listener, nix::fcntl::FcntlArg::F_GETFD).unwrap(), libc::FD_CLOEXEC);
        });
    }

    #[test]
    fn refusals_are_told() {
        if !is_root() {
            return;
        }
        in_child(|| {
            let error = load(&[insn(0xffff, 0, 0, 0)], flag::LOG).unwrap_err();
            assert_eq!(
                error.to_string(),
                "seccomp(SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, {len=1}) = EINVAL (invalid argument)"
            );
            assert_eq!(load(&vec![insn(RET, 0, 0, ALLOW); 70_000], 0).unwrap_err().errno, Errno::EINVAL);
            cred::setresuid(1).unwrap();
            assert_eq!(load(&[insn(RET, 0, 0, ALLOW)], 0).unwrap_err().errno, Errno::EACCES);
        });
    }

    #[test]
    fn knows_what_is_supported() {
        assert!(has_action(ALLOW) && has_action(ERRNO) && !has_action(0x1234_0000));
        assert!(has_flag(flag::TSYNC) && has_flag(flag::LOG) && has_flag(flag::NEW_LISTENER) && !has_flag(1 << 20));
    }
}
