// SPDX-License-Identifier: Apache-2.0
//! Who this process is: ids, groups, capabilities, keyring, and the prctl(2) switches around them. Used by `process`.
//!
//! Ids are set by raw calls, for this thread only: the C library's would signal other threads, which the runtime does not have.

use std::ffi::CStr;

use super::call::{Call, Result, syscall};
use super::pid::prctl;
use super::types::{CapSet, Errno};

/// The capability sets of capget(2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What is used for permission checks.
    pub effective: CapSet,
    /// What may be made effective.
    pub permitted: CapSet,
    /// What may survive execve(2) of a program with file capabilities.
    pub inheritable: CapSet,
}

/// struct __user_cap_header_struct, version 3.
#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

/// struct __user_cap_data_struct: the low or the high 32 capabilities.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// capget(2) of this process.
pub fn capget() -> Result<Capabilities> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: both live until the call returns; version 3 takes two halves.
    unsafe { syscall!(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) }.call(|| "capget({V3, 0})".into())?;
    let join = |half: fn(&Half) -> u32| CapSet(u64::from(half(&halves[0])) | u64::from(half(&halves[1])) << 32);
    Ok(Capabilities {
        effective: join(|half| half.effective),
        permitted: join(|half| half.permitted),
        inheritable: join(|half| half.inheritable),
    })
}

/// capset(2) of this process: exactly these sets.
pub fn capset(sets: &Capabilities) -> Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Half {
        effective: (sets.effective.0 >> shift) as u32,
        permitted: (sets.permitted.0 >> shift) as u32,
        inheritable: (sets.inheritable.0 >> shift) as u32,
    };
    let halves = [half(0), half(32)];
    // SAFETY: both live until the call returns; version 3 takes two halves.
    unsafe { syscall!(libc::SYS_capset, &raw mut header, halves.as_ptr()) }.call(|| {
        let Capabilities { effective, permitted, inheritable } = sets;
        format!("capset({{V3, 0}}, {{eff={:#x}, prm={:#x}, inh={:#x}}})", effective.0, permitted.0, inheritable.0)
    })?;
    Ok(())
}

/// The bounding set; PR_CAPBSET_READ.
pub fn bounding() -> Result<CapSet> {
    let mut set = 0;
    for number in 0..64 {
        match prctl(libc::PR_CAPBSET_READ, number, 0, "PR_CAPBSET_READ") {
            Ok(held) => set |= (held as u64 & 1) << number,
            Err(error) if error.errno == Errno::EINVAL => break, // The kernel knows no more.
            Err(error) => return Err(error),
        }
    }
    Ok(CapSet(set))
}

/// Drops every capability outside of `keep` from the bounding set, which has none after `last`; PR_CAPBSET_DROP. Needs CAP_SETPCAP where
/// there is one to drop.
pub fn limit_bounding(keep: CapSet, last: u8) -> Result<()> {
    for number in (0..=u64::from(last.min(63))).filter(|number| keep.0 >> number & 1 == 0) {
        match prctl(libc::PR_CAPBSET_DROP, number, 0, "PR_CAPBSET_DROP") {
            Ok(_) => {}
            Err(error) if error.errno == Errno::EINVAL => return Ok(()), // The kernel knows no more.
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// PR_CAP_AMBIENT_CLEAR_ALL
pub fn clear_ambient() -> Result<()> {
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0, "PR_CAP_AMBIENT, CLEAR_ALL").map(drop)
}

/// PR_CAP_AMBIENT_RAISE of each: they must be permitted and inheritable.
pub fn raise_ambient(set: CapSet) -> Result<()> {
    for number in (0..64u64).filter(|number| set.0 >> number & 1 == 1) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number, "PR_CAP_AMBIENT, RAISE")?;
    }
    Ok(())
}

/// setgroups(2): exactly these supplementary groups.
pub fn setgroups(groups: &[u32]) -> Result<()> {
    // SAFETY: the list lives until the call returns.
    unsafe { syscall!(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }
        .call(|| format!("setgroups({}, {groups:?})", groups.len()))?;
    Ok(())
}

/// getgroups(2)
pub fn getgroups() -> Result<Vec<u32>> {
    let render = || "getgroups()".to_string();
    // Not the C library's way, which asks /proc for the most there can be: inside a container that may be anything.
    // SAFETY: with a size of 0 nothing is written.
    let count = unsafe { syscall!(libc::SYS_getgroups, 0, 0) }.call(render)?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut groups = vec![0u32; count as usize];
    // SAFETY: the kernel writes at most that many groups.
    let count = unsafe { syscall!(libc::SYS_getgroups, groups.len(), groups.as_mut_ptr()) }.call(render)?;
    groups.truncate(count as usize);
    Ok(groups)
}

/// setresuid(2): real, effective and saved user id, and with them the filesystem's.
pub fn setresuid(uid: u32) -> Result<()> {
    // SAFETY: no pointer.
    unsafe { syscall!(libc::SYS_setresuid, uid, uid, uid) }.call(|| format!("setresuid({uid}, {uid}, {uid})"))?;
    Ok(())
}

/// setresgid(2): real, effective and saved group id, and with them the filesystem's.
pub fn setresgid(gid: u32) -> Result<()> {
    // SAFETY: no pointer.
    unsafe { syscall!(libc::SYS_setresgid, gid, gid, gid) }.call(|| format!("setresgid({gid}, {gid}, {gid})"))?;
    Ok(())
}

/// Real and effective user id, real and effective group id.
pub fn ids() -> (u32, u32, u32, u32) {
    let (mut uid, mut gid) = ([0u32; 3], [0u32; 3]);
    // SAFETY: each pointer is to one number, which lives until the call returns. Neither call can fail then.
    unsafe {
        libc::getresuid(&raw mut uid[0], &raw mut uid[1], &raw mut uid[2]);
        libc::getresgid(&raw mut gid[0], &raw mut gid[1], &raw mut gid[2]);
    }
    (uid[0], uid[1], gid[0], gid[1])
}

/// PR_SET_KEEPCAPS: the permitted set survives the change from user 0 to another; cleared by execve(2).
pub fn set_keep_capabilities(on: bool) -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, u64::from(on), 0, "PR_SET_KEEPCAPS").map(drop)
}

/// PR_SET_SECUREBITS, `SECBIT_*` of capabilities(7).
pub fn set_securebits(bits: u32) -> Result<()> {
    prctl(libc::PR_SET_SECUREBITS, u64::from(bits), 0, "PR_SET_SECUREBITS").map(drop)
}

/// PR_SET_NO_NEW_PRIVS: execve(2) gives no privileges any more, for ever.
pub fn set_no_new_privileges() -> Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, "PR_SET_NO_NEW_PRIVS").map(drop)
}

/// PR_SET_DUMPABLE: whether other processes of the same user may look into this one (its memory, /proc/PID/fd, ...); set anew by
/// execve(2) and by changes of ids. Off before entering a container: CVE-2016-9962.
pub fn set_dumpable(on: bool) -> Result<()> {
    prctl(libc::PR_SET_DUMPABLE, u64::from(on), 0, "PR_SET_DUMPABLE").map(drop)
}

/// umask(2): sets it and tells the old one.
pub fn umask(mask: u32) -> u32 {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(mask)).bits()
}

/// setsid(2): a new session, without a controlling terminal.
pub fn setsid() -> Result<()> {
    nix::unistd::setsid().map(drop).call(|| "setsid()".into())
}

/// setpgid(2) of this process: a new process group of its own.
pub fn new_process_group() -> Result<()> {
    let own = nix::unistd::Pid::from_raw(0);
    nix::unistd::setpgid(own, own).call(|| "setpgid(0, 0)".into())
}

/// sethostname(2)
pub fn sethostname(name: &str) -> Result<()> {
    nix::unistd::sethostname(name).call(|| format!("sethostname({name:?})"))
}

/// setdomainname(2)
pub fn setdomainname(name: &str) -> Result<()> {
    // SAFETY: the name lives until the call returns; its length is given.
    unsafe { syscall!(libc::SYS_setdomainname, name.as_ptr(), name.len()) }.call(|| format!("setdomainname({name:?})"))?;
    Ok(())
}

const KEYCTL_JOIN_SESSION_KEYRING: u32 = 1;
const KEYCTL_SETPERM: u32 = 5;

/// keyctl(2) KEYCTL_JOIN_SESSION_KEYRING: a session keyring of this name, new unless one that this user may search is there already.
/// Returns its serial number. ENOSYS where the kernel has no keyrings; EDQUOT where the user has too many.
pub fn join_session_keyring(name: &CStr) -> Result<i32> {
    // SAFETY: `name` ends with NUL.
    let serial = unsafe { syscall!(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) }
        .call(|| format!("keyctl(KEYCTL_JOIN_SESSION_KEYRING, {name:?})"))?;
    Ok(serial as i32)
}

/// keyctl(2) KEYCTL_SETPERM: gives a key these `KEY_*` permission bits.
pub fn set_key_permissions(serial: i32, bits: u32) -> Result<()> {
    // SAFETY: no pointer.
    unsafe { syscall!(libc::SYS_keyctl, KEYCTL_SETPERM, serial, bits) }
        .call(|| format!("keyctl(KEYCTL_SETPERM, {serial}, {bits:#x})"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::fd;
    use crate::linux::test_child::{in_child, is_root};

    const CHOWN: CapSet = CapSet(1);
    const KILL: CapSet = CapSet(1 << 5);
    const SETPCAP: CapSet = CapSet(1 << 8);

    fn status(field: &str) -> String {
        let text = String::from_utf8(fd::read_file_bounded("/proc/self/status", 1 << 16).unwrap()).unwrap();
        text.lines().find_map(|line| line.strip_prefix(field)).unwrap().trim().to_string()
    }

    #[test]
    fn reduces_capabilities() {
        if !is_root() {
            return;
        }
        in_child(|| {
            let before = capget().unwrap();
            assert_eq!(format!("{:016x}", before.effective.0), status("CapEff:"));
            assert_eq!(format!("{:016x}", bounding().unwrap().0), status("CapBnd:"));
            limit_bounding(CHOWN | KILL | SETPCAP, 63).unwrap();
            assert_eq!(bounding().unwrap(), (CHOWN | KILL | SETPCAP));
            limit_bounding(CHOWN | KILL, 7).unwrap();
            assert_eq!(bounding().unwrap(), (CHOWN | KILL | SETPCAP), "it is after the last");
            limit_bounding(CHOWN | KILL, 8).unwrap();
            assert_eq!(bounding().unwrap(), CHOWN | KILL);
            let sets = Capabilities { effective: CHOWN, permitted: CHOWN | KILL, inheritable: KILL };
            capset(&sets).unwrap();
            assert_eq!(capget().unwrap(), sets);
            raise_ambient(KILL).unwrap();
            assert_eq!(status("CapAmb:"), "0000000000000020");
            assert_eq!(raise_ambient(CHOWN).unwrap_err().errno, Errno::EPERM);
            clear_ambient().unwrap();
            assert_eq!(status("CapAmb:"), "0000000000000000");
            let error = capset(&Capabilities { permitted: SETPCAP, ..sets }).unwrap_err();
            assert_eq!(error.to_string(), "capset({V3, 0}, {eff=0x1, prm=0x100, inh=0x20}) = EPERM (operation not permitted)");
        });
    }

    #[test]
    fn becomes_somebody_else() {
        if !is_root() {
            return;
        }
        in_child(|| {
            setgroups(&[7, 11]).unwrap();
            setresgid(1234).unwrap();
            set_keep_capabilities(true).unwrap();
            setresuid(4321).unwrap();
            assert_eq!(ids(), (4321, 4321, 1234, 1234));
            assert_eq!(status("Uid:"), "4321\t4321\t4321\t4321");
            let mut groups = getgroups().unwrap();
            groups.sort();
            assert_eq!(groups, [7, 11]);
            let kept = capget().unwrap();
            assert!(kept.effective == CapSet(0) && kept.permitted.contains(KILL));
            assert_eq!(setgroups(&[]).unwrap_err().errno, Errno::EPERM);
        });
        in_child(|| {
            setgroups(&[]).unwrap();
            assert_eq!(getgroups().unwrap().len(), 0);
        });
    }

    #[test]
    fn switches() {
        if !is_root() {
            return;
        }
        in_child(|| {
            set_no_new_privileges().unwrap();
            assert_eq!(status("NoNewPrivs:"), "1");
            set_dumpable(false).unwrap();
            // SAFETY: no pointer.
            assert_eq!(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) }, 0);
            set_securebits(1 << 4).unwrap();
            umask(0o27);
            assert_eq!(umask(0), 0o27);
            setsid().unwrap();
            assert_eq!(nix::unistd::getsid(None).unwrap(), nix::unistd::getpid());
            assert_eq!(setsid().unwrap_err().errno, Errno::EPERM);
        });
    }

    #[test]
    fn names_the_machine() {
        if !is_root() {
            return;
        }
        in_child(|| {
            crate::linux::clone::unshare(crate::linux::types::Namespaces::UTS).unwrap();
            sethostname("berth-host").unwrap();
            setdomainname("berth-domain").unwrap();
            let names = nix::sys::utsname::uname().unwrap();
            assert_eq!((names.nodename(), names.domainname()), ("berth-host".as_ref(), "berth-domain".as_ref()));
            assert_eq!(sethostname(&"x".repeat(65)).unwrap_err().errno, Errno::EINVAL);
        });
    }

    #[test]
    fn session_keyring() {
        in_child(|| {
            let serial = match join_session_keyring(c"_ses.berth-test") {
                Err(error) if error.errno == Errno::ENOSYS => return eprintln!("skipped: this kernel has no keyrings"),
                other => other.unwrap(),
            };
            set_key_permissions(serial, 0x3f1b_0000).unwrap();
            let keys = String::from_utf8(fd::read_file_bounded("/proc/keys", 1 << 20).unwrap()).unwrap();
            let line = keys.lines().find(|line| line.starts_with(&format!("{serial:08x}"))).unwrap();
            let bits = u32::from_str_radix(line.split_whitespace().nth(4).unwrap(), 16).unwrap();
            assert!(bits & 0x0008_0000 != 0 && line.contains("_ses.berth-test"), "{line}");
            assert_eq!(set_key_permissions(i32::MAX, 1).unwrap_err().errno, Errno::ENOKEY);
        });
    }
}
