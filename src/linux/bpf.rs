// SPDX-License-Identifier: Apache-2.0
//! bpf(2) for the device programs of cgroup2: load, attach, query, pin. Used by `cgroup`.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::call::{self, Call, CallError, Result, retry, syscall};
use super::types::{BpfInsn, Errno};

const BPF_PROG_LOAD: u32 = 5;
const BPF_OBJ_PIN: u32 = 6;
const BPF_OBJ_GET: u32 = 7;
const BPF_PROG_ATTACH: u32 = 8;
const BPF_PROG_DETACH: u32 = 9;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_OBJ_GET_INFO_BY_FD: u32 = 15;
const BPF_PROG_QUERY: u32 = 16;

const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// The part of union bpf_attr for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

/// The part for BPF_PROG_ATTACH and BPF_PROG_DETACH.
#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
    pad: u32,
}

/// The part for BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
}

/// The part for BPF_OBJ_PIN and BPF_OBJ_GET.
#[repr(C)]
#[derive(Default)]
struct Object {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The part for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
struct Info {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// bpf(2) with one of the structs above.
fn bpf<T>(command: u32, attribute: &mut T) -> nix::Result<i64> {
    // SAFETY: `attribute` is the part of union bpf_attr for this command, of the size given; what it points to is kept alive by the
    // caller. A kernel that knows a shorter union takes a longer one as long as the rest is zero.
    retry(|| unsafe { syscall!(libc::SYS_bpf, command, &raw mut *attribute, size_of::<T>()) })
}

fn new_fd(raw: i64) -> OwnedFd {
    // SAFETY: the kernel just gave us this new descriptor; bpf(2) makes all of them close-on-exec.
    unsafe { OwnedFd::from_raw_fd(raw as RawFd) }
}

/// BPF_PROG_LOAD of a device program under the name `name` (at most 15 letters, digits, `_` and `.`). Where the verifier refuses it, the
/// end of what it says is in the error.
pub fn load_device_program(name: &str, program: &[BpfInsn]) -> Result<OwnedFd> {
    let mut attribute = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64, // The program calls no helper that asks for another.
        ..Load::default()
    };
    for (to, from) in attribute.prog_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let render = || format!("bpf(BPF_PROG_LOAD, {{BPF_PROG_TYPE_CGROUP_DEVICE, insn_cnt={}}})", program.len());
    let errno = match bpf(BPF_PROG_LOAD, &mut attribute) {
        Ok(fd) => return Ok(new_fd(fd)),
        Err(errno @ (Errno::EINVAL | Errno::EACCES)) => errno,
        Err(errno) => return Err(errno).call(render),
    };
    // Once more, to hear why.
    let mut log = vec![0u8; 64 << 10];
    (attribute.log_level, attribute.log_size, attribute.log_buf) = (1, log.len() as u32, log.as_mut_ptr() as u64);
    match bpf(BPF_PROG_LOAD, &mut attribute) {
        Ok(fd) => Ok(new_fd(fd)),
        Err(_) => Err(CallError::new(format!("{}{}", render(), verifier_says(&log)), errno)),
    }
}

/// The last lines of the verifier's log, on one.
fn verifier_says(log: &[u8]) -> String {
    const LINES: usize = 4;
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    let mut lines: Vec<&str> =
        text.lines().rev().filter(|line| !line.is_empty() && !line.starts_with("processed ")).take(LINES).collect();
    lines.reverse();
    if lines.is_empty() { String::new() } else { format!(": {}", lines.join("; ").escape_debug()) }
}

/// BPF_PROG_ATTACH with BPF_F_ALLOW_MULTI: the program decides for this cgroup and all below, together with those of outer cgroups. In
/// place of `replaces` (one attached to this cgroup itself) without a moment between, where given.
pub fn attach(cgroup: impl AsFd, program: impl AsFd, replaces: Option<&OwnedFd>) -> Result<()> {
    let flags = BPF_F_ALLOW_MULTI | if replaces.is_some() { BPF_F_REPLACE } else { 0 };
    let mut attribute = Attach {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: flags,
        replace_bpf_fd: replaces.map_or(0, |fd| fd.as_raw_fd() as u32),
        pad: 0,
    };
    bpf(BPF_PROG_ATTACH, &mut attribute).call(|| {
        let flags = if replaces.is_some() { "BPF_F_ALLOW_MULTI|BPF_F_REPLACE" } else { "BPF_F_ALLOW_MULTI" };
        format!("bpf(BPF_PROG_ATTACH, {{{}, BPF_CGROUP_DEVICE, {flags}}})", call::fd(cgroup.as_fd()))
    })?;
    Ok(())
}

/// BPF_PROG_DETACH of a program that is attached to this cgroup itself.
pub fn detach(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let mut attribute = Attach {
        target_fd: cgroup.as_fd().as_raw_fd() as u32,
        attach_bpf_fd: program.as_fd().as_raw_fd() as u32,
        attach_type: BPF_CGROUP_DEVICE,
        ..Attach::default()
    };
    bpf(BPF_PROG_DETACH, &mut attribute)
        .call(|| format!("bpf(BPF_PROG_DETACH, {{{}, BPF_CGROUP_DEVICE}})", call::fd(cgroup.as_fd())))?;
    Ok(())
}

/// BPF_PROG_QUERY: the ids of the device programs attached to this cgroup itself.
pub fn query(cgroup: impl AsFd) -> Result<Vec<u32>> {
    let mut ids = vec![0u32; 64];
    loop {
        let mut attribute = Query {
            target_fd: cgroup.as_fd().as_raw_fd() as u32,
            attach_type: BPF_CGROUP_DEVICE,
            prog_ids: ids.as_mut_ptr() as u64,
            prog_cnt: ids.len() as u32,
            ..Query::default()
        };
        match bpf(BPF_PROG_QUERY, &mut attribute) {
            Ok(_) => {
                ids.truncate(attribute.prog_cnt as usize);
                return Ok(ids);
            }
            Err(Errno::ENOSPC) if ids.len() < 1 << 16 => ids.resize(ids.len() * 4, 0),
            Err(errno) => {
                return Err(errno).call(|| format!("bpf(BPF_PROG_QUERY, {{{}, BPF_CGROUP_DEVICE}})", call::fd(cgroup.as_fd())));
            }
        }
    }
}

/// BPF_PROG_GET_FD_BY_ID; needs CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> Result<OwnedFd> {
    let mut attribute = [id, 0, 0, 0];
    bpf(BPF_PROG_GET_FD_BY_ID, &mut attribute).map(new_fd).call(|| format!("bpf(BPF_PROG_GET_FD_BY_ID, {{{id}}})"))
}

/// The name that a program was loaded under; BPF_OBJ_GET_INFO_BY_FD.
pub fn program_name(program: impl AsFd) -> Result<String> {
    // struct bpf_prog_info up to `name`, its last member that is read: the kernel fills as much as it is given.
    let mut info = [0u8; 80];
    let mut attribute =
        Info { bpf_fd: program.as_fd().as_raw_fd() as u32, info_len: info.len() as u32, info: info.as_mut_ptr() as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attribute).call(|| format!("bpf(BPF_OBJ_GET_INFO_BY_FD, {{{}}})", attribute.bpf_fd))?;
    let name = &info[64..];
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// BPF_OBJ_PIN: keeps a program under a path of a bpffs.
pub fn pin(program: impl AsFd, path: impl AsRef<OsStr>) -> Result<()> {
    let path = path.as_ref();
    let c_path = call::c_path(path, "bpf")?;
    let bpf_fd = program.as_fd().as_raw_fd() as u32;
    let mut attribute = Object { pathname: c_path.as_ptr() as u64, bpf_fd, file_flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attribute).call(|| format!("bpf(BPF_OBJ_PIN, {{{}, {bpf_fd}}})", call::text(path)))?;
    Ok(())
}

/// BPF_OBJ_GET: the program kept under a path of a bpffs.
pub fn pinned(path: impl AsRef<OsStr>) -> Result<OwnedFd> {
    let path = path.as_ref();
    let c_path = call::c_path(path, "bpf")?;
    let mut attribute = Object { pathname: c_path.as_ptr() as u64, ..Object::default() };
    bpf(BPF_OBJ_GET, &mut attribute).map(new_fd).call(|| format!("bpf(BPF_OBJ_GET, {{{}}})", call::text(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::clone::unshare;
    use crate::linux::fd::{self, OFlag, tests::Scratch};
    use crate::linux::mount::{move_mount, new_mount, set_propagation};
    use crate::linux::test_child::{in_child, is_root};
    use crate::linux::types::{Namespaces, Propagation};

    /// `r0 = verdict; exit`
    fn constant(verdict: i32) -> [BpfInsn; 2] {
        [BpfInsn { code: 0xb7, regs: 0, off: 0, imm: verdict }, BpfInsn { code: 0x95, regs: 0, off: 0, imm: 0 }]
    }

    /// Runs `test` with a new cgroup below the root of cgroup2, removed afterwards; prints why where there is none.
    fn with_cgroup(name: &str, test: impl FnOnce(&OwnedFd)) {
        let root = match new_mount("cgroup2", [], 0) {
            Ok(root) => root,
            Err(error) => return eprintln!("skipped: no cgroup2 here: {error}"),
        };
        let name = format!("berth-test-{name}-{}", std::process::id());
        fd::mkdirat(&root, &name, 0o755).unwrap();
        let cgroup = fd::openat(&root, &name, OFlag::O_RDONLY | OFlag::O_DIRECTORY, 0).unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(&cgroup)));
        fd::rmdirat(&root, &name).unwrap();
        outcome.unwrap();
    }

    #[test]
    fn device_programs_of_a_cgroup() {
        with_cgroup("bpf", |cgroup| {
            assert_eq!(query(cgroup).unwrap().len(), 0);
            let allow = load_device_program("berth_test", &constant(1)).unwrap();
            let deny = load_device_program("berth_test", &constant(0)).unwrap();
            attach(cgroup, &allow, None).unwrap();
            let first = query(cgroup).unwrap();
            assert_eq!(first.len(), 1);
            let again = program_by_id(first[0]).unwrap();
            assert_eq!(program_name(&again).unwrap(), "berth_test");
            attach(cgroup, &deny, Some(&again)).unwrap();
            let second = query(cgroup).unwrap();
            assert!(second.len() == 1 && second != first);
            in_child(|| {
                fd::write_at(cgroup, "cgroup.procs", b"0").unwrap();
                assert_eq!(fd::open("/dev/null", OFlag::O_RDONLY).unwrap_err().errno, Errno::EPERM);
            });
            assert_eq!(detach(cgroup, &allow).unwrap_err().errno, Errno::ENOENT);
            detach(cgroup, &deny).unwrap();
            assert_eq!(query(cgroup).unwrap().len(), 0);
        });
    }

    #[test]
    fn the_verifier_is_quoted() {
        if !is_root() {
            return;
        }
        let error = load_device_program("berth_test", &constant(1)[..1]).unwrap_err();
        assert!(error.errno == Errno::EINVAL && error.call.contains("insn_cnt=1}): "), "{error}");
        let scratch = Scratch::new();
        let error = query(scratch.dir()).unwrap_err();
        assert!(error.errno == Errno::EBADF && error.call.starts_with("bpf(BPF_PROG_QUERY, {"), "{error}");
    }

    #[test]
    fn pins() {
        if !is_root() {
            return;
        }
        let scratch = Scratch::new();
        in_child(|| {
            unshare(Namespaces::MOUNT).unwrap();
            set_propagation("/", Propagation::Private, true).unwrap();
            move_mount(new_mount("bpf", [], 0).unwrap(), scratch.dir()).unwrap();
            let path = scratch.path().join("devices");
            assert_eq!(pinned(&path).unwrap_err().errno, Errno::ENOENT);
            pin(load_device_program("berth_test", &constant(1)).unwrap(), &path).unwrap();
            pinned(&path).unwrap();
        });
    }
}
